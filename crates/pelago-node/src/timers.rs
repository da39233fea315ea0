//! Wakes agents when their timers are due: those that are held here, and those that belong here and nobody holds.
//!
//! It only says when to look. Whether a timer is due the log decides when its turn is committed, and whoever is woken
//! in vain finds nothing. So it may look too often, and after a miss (an agent that was busy, or has moved here since)
//! it looks again soon.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use pelago_core::{id::AgentId, time::LogTime};
use pelago_store::sqlite::{self, Reader};
use tokio::{sync::Notify, time::Instant};

use crate::{agents::Agents, mesh::Homes, raft::Consensus, view};

/// How often timers are looked for that were due before and are still there.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The least time between two looks, so that many timers one after the other are found a few at a time.
const LOOK_PAUSE: Duration = Duration::from_millis(2);
/// The most agents that one look wakes; the next one goes on behind them.
const AGENTS_MAX: usize = 1_000;
/// The pause before a look that begins where the one before began: more agents are due at one moment than it wakes.
const CROWD_PAUSE_MS: u64 = 100;
/// Later than every timer.
const NEVER: LogTime = LogTime::from_millis(u64::MAX);

/// What was heard of timers that were set. There is one listener.
pub(crate) struct Set {
    /// When the earliest of them is due that the listener has not taken note of, in milliseconds.
    earliest_ms: AtomicU64,
    bell: Notify,
}

impl Default for Set {
    fn default() -> Self {
        Self { earliest_ms: AtomicU64::new(NEVER.as_millis()), bell: Notify::new() }
    }
}

impl Set {
    /// A timer was set that is due then.
    pub(crate) fn heard(&self, due: LogTime) {
        if self.earliest_ms.fetch_min(due.as_millis(), Ordering::AcqRel) > due.as_millis() {
            self.bell.notify_one();
        }
    }

    fn take(&self) -> LogTime {
        LogTime::from_millis(self.earliest_ms.swap(NEVER.as_millis(), Ordering::AcqRel))
    }
}

pub(crate) struct Timers {
    pub(crate) agents: Arc<Agents>,
    pub(crate) homes: Homes,
    pub(crate) view: view::Reader,
    pub(crate) reader: Arc<Reader>,
    pub(crate) consensus: Arc<Consensus>,
    pub(crate) set: Arc<Set>,
}

/// What a look found.
struct Found {
    here: Vec<AgentId>,
    /// From when on timers were not looked at.
    from: LogTime,
    /// When there is something to look at.
    next: LogTime,
}

impl Timers {
    /// Runs until the node closes.
    pub(crate) async fn run(mut self) {
        let (mut from, mut next) = (LogTime::ZERO, LogTime::ZERO);
        let mut again = Instant::now() + LOOK_EVERY;
        loop {
            let heard = self.set.take();
            (from, next) = (from.min(heard), next.min(heard));
            let now = self.consensus.log_time();
            if next <= now {
                match self.look(from, now).await {
                    Ok(found) => {
                        found.here.iter().for_each(|agent| self.agents.look_into_inbox(agent));
                        (from, next) = (found.from, found.next);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the timers cannot be read");
                        next = now.plus_millis(1_000);
                    }
                }
                tokio::time::sleep(LOOK_PAUSE).await;
            }
            let wait = Duration::from_millis(next.as_millis().saturating_sub(self.consensus.log_time().as_millis()));
            tokio::select! {
                () = tokio::time::sleep(wait.min(again.saturating_duration_since(Instant::now()))) => {}
                () = self.set.bell.notified() => {}
                // The agents of a node that was lost may belong here now.
                () = self.view.changed() => again = Instant::now(),
            }
            if again <= Instant::now() {
                (from, next) = (LogTime::ZERO, LogTime::ZERO);
                again = Instant::now() + LOOK_EVERY;
            }
        }
    }

    /// Looks for timers due between two points in time.
    async fn look(&self, from: LogTime, now: LogTime) -> Result<Found, sqlite::Error> {
        let (reader, homes) = (Arc::clone(&self.reader), self.homes.clone());
        let read = move || reader.view(|view| look(view, &homes, from, now));
        tokio::task::spawn_blocking(read).await.expect("a query does not panic, and the runtime outlives it")
    }
}

fn look(view: &sqlite::View<'_>, homes: &Homes, from: LogTime, now: LogTime) -> Result<Found, sqlite::Error> {
    let mut found = Found { here: Vec::new(), from: now.plus_millis(1), next: NEVER };
    view.agents_with_timers_due(from, now, |agent, due| {
        if found.here.len() >= AGENTS_MAX {
            found.from = due;
            found.next = if due > from { due } else { now.plus_millis(CROWD_PAUSE_MS) };
            return Ok(false);
        }
        let row = view.agent_row(&agent)?;
        if found.here.last() != Some(&agent) && homes.place(&agent, row.as_ref()) == Some(homes.me()) {
            found.here.push(agent);
        }
        Ok(true)
    })?;
    if found.next == NEVER {
        found.next = view.next_timer(now)?.unwrap_or(NEVER);
    }
    Ok(found)
}
