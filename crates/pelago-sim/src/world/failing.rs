//! Faults in the world: how they come, and how they all end.

use std::time::Duration;

use super::{Event, World};
use crate::{client::Client, faults::Fault, network::Weather};

impl World {
    pub(super) fn fault(&mut self, fault: Fault) {
        if self.healed {
            return;
        }
        self.trace.note(self.now, || format!("fault: {fault:?}"));
        let kind = fault.kind();
        let installed = match fault {
            Fault::Crash { node, down } => {
                self.nodes[node].paused_until = self.now;
                self.after(down, Event::Start { node });
                self.nodes[node].process.take().is_some()
            }
            Fault::Pause { node, still } => {
                self.nodes[node].paused_until = self.now + still;
                self.nodes[node].process.is_some()
            }
            Fault::LoseLeader { election, clock_ahead_ms } => {
                let lost = self.leader.is_some();
                if lost {
                    self.lose_leader(election, clock_ahead_ms);
                }
                lost
            }
            // Counted when a batch meets it.
            Fault::FailBatch { .. } => {
                self.batch_fault = Some(fault);
                return;
            }
            Fault::Storm { weather, lasts } => {
                self.network.weather = weather;
                self.after(lasts, Event::CalmDown);
                true
            }
            Fault::Cut { from, to, lasts } => {
                self.after(lasts, Event::Mend { from, to });
                self.network.cut.insert((from, to))
            }
        };
        if installed {
            self.tally.count(kind);
        }
    }

    /// What was begun is over, or is waited for a little longer. Then what is asked must succeed.
    pub(super) fn settled(&mut self) {
        if self.log.rows.is_at_rest() {
            self.clients.iter_mut().for_each(Client::probe);
        } else {
            self.after(Duration::from_secs(1), Event::Settled);
        }
    }

    pub(super) fn heal(&mut self) {
        self.trace.note(self.now, || "all faults end".to_owned());
        self.healed = true;
        self.rest_after = self.network.last_arrival;
        self.network.weather = Weather::default();
        self.network.cut.clear();
        self.batch_fault = None;
        self.elect(0);
        for node in 0..self.nodes.len() {
            self.nodes[node].paused_until = self.now;
            self.start(node);
        }
    }
}
