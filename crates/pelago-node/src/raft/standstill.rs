//! A node whose agents and links stand still must not lead.
//!
//! Consensus has a thread of its own, so that its signs of life go on whatever the rest of the node does. But a leader
//! that takes no writes and grants no leases is none: while the rest stands still, this node sends no signs of life to
//! its followers and stands for no election, so that another leads.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use openraft::Raft;

use super::{Consensus, machine::Machine, types::Types};

/// How often the rest of the node shows that it goes on, and is looked after.
const SIGN_EVERY: Duration = Duration::from_millis(500);
/// After so many looks without a sign it stands still: five seconds. By looks, and not by a clock: a process that was
/// suspended as a whole stood still nowhere.
const LOOKS_MAX: u32 = 10;

/// How often the rest of the node has shown that it goes on; 0 before it has begun.
#[derive(Debug, Clone, Default)]
pub(super) struct Signs(Arc<AtomicU64>);

impl Signs {
    pub(super) fn give(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Consensus {
    /// Shows that the runtime it is driven by goes on. Runs until it is dropped.
    pub(crate) async fn show_life(self: Arc<Self>) {
        loop {
            self.signs.give();
            tokio::time::sleep(SIGN_EVERY).await;
        }
    }
}

/// Has another lead while the rest of the node stands still. Driven by consensus, until that ends.
pub(super) async fn watch(raft: Raft<Types, Machine>, signs: Signs) {
    let (mut seen, mut looks) = (0, 0);
    loop {
        tokio::time::sleep(SIGN_EVERY).await;
        let count = signs.count();
        let goes_on = count != seen || count == 0;
        if goes_on && looks >= LOOKS_MAX {
            tracing::warn!("this node goes on");
            lead(&raft, true);
        }
        (seen, looks) = (count, if goes_on { 0 } else { looks.saturating_add(1) });
        if looks == LOOKS_MAX {
            tracing::warn!("the agents and links of this node have stood still for five seconds: it leads no more");
            lead(&raft, false);
        }
    }
}

fn lead(raft: &Raft<Types, Machine>, may: bool) {
    raft.runtime_config().heartbeat(may);
    raft.runtime_config().elect(may);
}
