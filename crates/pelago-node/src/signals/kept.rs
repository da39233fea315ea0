//! Signals that this node took: those under way, and for a while what became of the others.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pelago_core::{
    connection::Branch,
    id::{Address, Name, SignalId},
    time::LogTime,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::handle::Error;

/// How many may be under way that one node took.
const UNDER_WAY_MAX: usize = 1_024;
/// How many that have ended are kept, …
const ENDED_MAX: usize = 1_024;
/// … with how many bytes of replies together, …
const ENDED_BYTES_MAX: usize = 64 << 20;
/// … and how long.
const ENDED_MAX_AGE: Duration = Duration::from_mins(10);

/// A signal as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// Its id.
    pub id: SignalId,
    /// The node that took it.
    pub node: Name,
    /// Who started it.
    pub from: String,
    /// Whom it was for.
    pub to: Address,
    /// How many hops a path may have.
    pub hops_max: u32,
    /// When it was taken.
    pub started: LogTime,
    /// What became of it, once it has ended.
    pub tree: Option<Branch>,
}

#[derive(Default)]
pub(super) struct Kept {
    /// A short-lived lock: nothing is awaited under it.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    all: HashMap<SignalId, Entry>,
    /// Those that have ended, the oldest first: when, and the size of their replies.
    ended: VecDeque<(SignalId, Instant, usize)>,
    bytes: usize,
}

struct Entry {
    trace: watch::Sender<Trace>,
    off: CancellationToken,
}

impl Kept {
    /// A signal begins that `off` calls off.
    ///
    /// # Errors
    /// [`Error::Busy`] if too many are under way.
    pub(super) fn begin(&self, now: Instant, trace: Trace, off: CancellationToken) -> Result<(), Error> {
        let mut state = self.lock();
        state.tidy(now);
        if state.all.len() - state.ended.len() >= UNDER_WAY_MAX {
            return Err(Error::Busy(format!("{UNDER_WAY_MAX} signals are under way that this node took")));
        }
        state.all.insert(trace.id, Entry { trace: watch::Sender::new(trace), off });
        Ok(())
    }

    /// It has ended.
    pub(super) fn end(&self, now: Instant, id: SignalId, tree: Branch) {
        let bytes = tree.all().filter_map(|branch| branch.outcome.reply()).map(bytes::Bytes::len).sum();
        let mut state = self.lock();
        let Some(entry) = state.all.get(&id) else { return };
        entry.trace.send_modify(|trace| trace.tree = Some(tree));
        state.ended.push_back((id, now, bytes));
        state.bytes += bytes;
        state.tidy(now);
    }

    /// It was called off: nothing is known of it any more.
    pub(super) fn forget(&self, id: SignalId) {
        self.lock().all.remove(&id);
    }

    pub(super) fn call_off(&self, id: SignalId) {
        if let Some(entry) = self.lock().all.get(&id) {
            entry.off.cancel();
        }
    }

    /// A signal once it has ended, or as it stands after `wait`.
    pub(super) async fn trace(&self, now: Instant, id: SignalId, wait: Duration) -> Option<Trace> {
        let mut trace = {
            let mut state = self.lock();
            state.tidy(now);
            state.all.get(&id)?.trace.subscribe()
        };
        // If it is called off nobody changes it any more.
        let _late = timeout(wait, trace.wait_for(|trace| trace.tree.is_some())).await.map(|ended| ended.is_ok());
        Some(trace.borrow().clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change under the lock leaves it whole enough: what a panic leaves behind is forgotten with age.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Forgets those that are too many, too large together or too old.
    fn tidy(&mut self, now: Instant) {
        while let Some((id, ended, bytes)) = self.ended.front().copied() {
            let is_old = now.saturating_duration_since(ended) >= ENDED_MAX_AGE;
            if !is_old && self.ended.len() <= ENDED_MAX && self.bytes <= ENDED_BYTES_MAX {
                break;
            }
            self.ended.pop_front();
            self.bytes -= bytes;
            self.all.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pelago_core::connection::Outcome;

    use super::*;

    #[tokio::test]
    async fn an_ended_signal_is_kept_for_a_while() {
        let (kept, now) = (Kept::default(), Instant::now());
        begin(&kept, now, 1).expect("there is room");
        let tree_at = async |now| kept.trace(now, SignalId(1), Duration::ZERO).await.map(|trace| trace.tree);
        assert_eq!(tree_at(now + ENDED_MAX_AGE).await, Some(None));
        kept.end(now, SignalId(1), tree(10));
        assert_eq!(tree_at(now + ENDED_MAX_AGE - Duration::from_millis(1)).await, Some(Some(tree(10))));
        assert_eq!(tree_at(now + ENDED_MAX_AGE).await, None);
    }

    #[tokio::test]
    async fn only_so_many_are_under_way_and_kept() {
        let (kept, now) = (Kept::default(), Instant::now());
        for n in 0..UNDER_WAY_MAX as u128 {
            begin(&kept, now, n).expect("there is room");
        }
        assert!(matches!(begin(&kept, now, 9_999), Err(Error::Busy(_))));
        kept.forget(SignalId(0));
        begin(&kept, now, 9_999).expect("there is room again");
        for n in 1..UNDER_WAY_MAX as u128 {
            kept.end(now, SignalId(n), tree(1));
        }
        // Each of these takes as much room as 64 do.
        let large = ENDED_BYTES_MAX / 64;
        for n in 2_000..2_065 {
            begin(&kept, now, n).expect("those that have ended do not count");
            kept.end(now, SignalId(n), tree(large));
        }
        let is_known = async |n| kept.trace(now, SignalId(n), Duration::ZERO).await.is_some();
        assert_eq!([is_known(1).await, is_known(2_000).await], [false, false]);
        assert_eq!([is_known(2_001).await, is_known(9_999).await], [true, true]);
        assert_eq!(kept.lock().bytes, ENDED_BYTES_MAX);
    }

    fn begin(kept: &Kept, now: Instant, id: u128) -> Result<(), Error> {
        let (id, started) = (SignalId(id), LogTime::ZERO);
        let node = Name::new("n1").expect("valid");
        let trace = Trace { id, node, from: "client".into(), to: to(), hops_max: 16, started, tree: None };
        kept.begin(now, trace, CancellationToken::new())
    }

    fn tree(bytes: usize) -> Branch {
        let reply = Some(Bytes::from(vec![0; bytes]));
        Branch::leaf(to(), None, Outcome::Replied { reply }, Duration::ZERO)
    }

    fn to() -> Address {
        Address::parse(&Name::default_namespace(), "main").expect("valid")
    }
}
