//! Faults in the world: how they come, and how they all end.

use std::time::Duration;

use super::{Event, World};
use crate::{
    client::Client,
    faults::Fault,
    invariants::Violation,
    network::{Place, Weather},
    node::Process,
};

/// Milliseconds of a day.
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

impl World {
    pub(super) fn fault(&mut self, fault: Fault) {
        if self.healed {
            return;
        }
        self.trace.note(self.now, || format!("fault: {fault:?}"));
        let kind = fault.kind();
        let installed = match fault {
            Fault::Crash { node, down } => self.crash(node, down),
            Fault::CrashLeader { down } => self.leading().is_some_and(|node| self.crash(node, down)),
            // Counted when a batch or a flush meets it.
            Fault::CrashAt { .. } => {
                self.crash_at = Some(fault);
                return;
            }
            Fault::FailFlush { node, down } => {
                self.nodes[node].flush_fails = Some(down);
                return;
            }
            // Counted when it has stopped.
            Fault::Stop { node, down } => return self.stop(node, down),
            Fault::PowerCut { down, days } => {
                for seat in &mut self.nodes {
                    seat.clock.wall_ahead_ms += days * DAY_MS;
                }
                let all = 0..self.nodes.len();
                // They do not come back in the same order each time.
                all.fold(false, |cut, node| {
                    let down = down + Duration::from_millis(self.dice.below(2_000));
                    self.crash(node, down) || cut
                })
            }
            Fault::Pause { node, still } => {
                self.nodes[node].paused_until = self.now + still;
                self.lose_link_to(node);
                self.nodes[node].process.is_some()
            }
            Fault::SlowDisk { node, flush, lasts } => {
                self.nodes[node].slow_flush = Some(flush);
                self.after(lasts, Event::DiskRecovers { node });
                true
            }
            Fault::TurnClock { node, ahead_ms } => {
                self.nodes[node].clock.wall_ahead_ms = ahead_ms;
                true
            }
            Fault::Storm { weather, lasts } => {
                self.network.weather = weather;
                self.after(lasts, Event::CalmDown);
                true
            }
            Fault::Cut { from, to, lasts } => self.cut(from, to, lasts),
            Fault::Isolate { node, lasts } => {
                node.or_else(|| self.leading()).is_some_and(|node| self.isolate(node, lasts))
            }
        };
        if installed {
            self.tally.count(kind);
        }
    }

    fn leading(&self) -> Option<usize> {
        let leads = |node: &usize| self.nodes[*node].voter.leads();
        (0..self.nodes.len()).filter(|node| leads(node).is_some()).max_by_key(leads)
    }

    pub(super) fn crash(&mut self, node: usize, down: Duration) -> bool {
        let process = self.end_process(node, down);
        let was_up = process.is_some();
        self.lose_link(process.and_then(|process| process.holder));
        was_up
    }

    /// Takes a node's process away, and leaves what a crash leaves.
    fn end_process(&mut self, node: usize, down: Duration) -> Option<Process> {
        let seat = &mut self.nodes[node];
        seat.paused_until = self.now;
        seat.leader = None;
        seat.flush_fails = None;
        seat.stops_for = None;
        seat.voter.crash();
        let process = seat.process.take();
        if process.is_some() {
            self.trace.note(self.now, || format!("node {node} is down"));
            self.after(down, Event::Start { node });
        }
        process
    }

    /// Tells a node to stop. One that stands still does not hear it.
    fn stop(&mut self, node: usize, down: Duration) {
        let seat = &mut self.nodes[node];
        if seat.process.is_some() && seat.paused_until <= self.now && seat.stops_for.is_none() {
            seat.stops_for = Some(down);
            self.in_process(node, Process::stop);
        }
    }

    /// A process has stopped by itself, and took leave of the others.
    pub(super) fn stopped(&mut self, node: usize) {
        let down = self.nodes[node].stops_for.filter(|_| !self.healed).unwrap_or_default();
        let Some(process) = self.end_process(node, down) else { return };
        self.tally.count(Fault::Stop { node, down }.kind());
        self.nodes[node].left = process.holder.map(|holder| holder.incarnation);
        if process.holder.is_some_and(|holder| self.ledger.rows.holds_nothing(holder)) {
            self.sightings.count("node left with nothing in its hands");
        }
    }

    fn lose_link_to(&mut self, node: usize) {
        self.lose_link(self.nodes[node].process.as_ref().and_then(|process| process.holder));
    }

    fn isolate(&mut self, node: usize, lasts: Duration) -> bool {
        let others = (0..self.nodes.len()).filter(|other| *other != node);
        others.fold(false, |cut, other| {
            let (out, back) = (self.cut(node, other, lasts), self.cut(other, node, lasts));
            cut || out || back
        })
    }

    fn cut(&mut self, from: usize, to: usize, lasts: Duration) -> bool {
        self.lose_link_to(from);
        let (from, to) = (Place::Node(from), Place::Node(to));
        self.after(lasts, Event::Mend { from, to });
        from != to && self.network.cut.insert((from, to))
    }

    /// What was begun is over, or is waited for a little longer. Then what is asked must succeed.
    pub(super) fn settled(&mut self) {
        if self.ledger.rows.is_at_rest() {
            self.clients.iter_mut().for_each(Client::probe);
        } else {
            self.after(Duration::from_secs(1), Event::Settled);
        }
    }

    pub(super) fn heal(&mut self) -> Result<(), Violation> {
        self.trace.note(self.now, || "all faults end".to_owned());
        self.healed = true;
        self.rest_after = self.network.last_arrival;
        self.network.weather = Weather::default();
        self.network.cut.clear();
        self.crash_at = None;
        for node in 0..self.nodes.len() {
            let seat = &mut self.nodes[node];
            seat.paused_until = self.now;
            seat.slow_flush = None;
            seat.flush_fails = None;
            self.start(node)?;
        }
        Ok(())
    }
}
