//! Where agents were found on other nodes, so that not every question begins by reading a row.
//!
//! Only a hint: whoever is asked in vain says so, and the row is read then.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use pelago_core::id::{AgentId, Holder};

/// How many are remembered. When there are more all are forgotten, which costs each of them a read.
const PLACES_MAX: usize = 16_384;

#[derive(Debug, Default)]
pub(crate) struct Places {
    /// A short-lived lock: nothing is awaited under it.
    last: Mutex<HashMap<AgentId, Holder>>,
}

impl Places {
    pub(super) fn get(&self, agent: &AgentId) -> Option<Holder> {
        self.lock().get(agent).copied()
    }

    /// The agent answered there.
    pub(super) fn found(&self, agent: &AgentId, holder: Holder) {
        let mut last = self.lock();
        if last.get(agent) == Some(&holder) {
            return;
        }
        if last.len() >= PLACES_MAX {
            last.clear();
        }
        last.insert(agent.clone(), holder);
    }

    /// The agent is not there, or nobody knows.
    pub(super) fn missed(&self, agent: &AgentId) {
        self.lock().remove(agent);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AgentId, Holder>> {
        // Every change under the lock leaves it whole.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
