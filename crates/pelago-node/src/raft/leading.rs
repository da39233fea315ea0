//! Who leads, for the parts of a node that act only where it does.

use std::sync::Arc;

use openraft::{async_runtime::watch::WatchReceiver as _, metrics::RaftServerMetrics};
use pelago_store::ProposeError;
use prometheus_client::metrics::counter::Counter;

use super::{ANSWER_MAX, Consensus, types::Types};

/// Who leads in which term, as this node knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Lead {
    /// Its Raft id.
    leader: Option<u64>,
    /// Its name.
    name: String,
    term: u64,
}

impl Consensus {
    /// Resolves once this node leads, or does not, as wanted.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(crate) async fn until_leading(&self, leads: bool) {
        // Not all of the metrics: those change with every commit.
        let mut metrics = self.raft.server_metrics();
        loop {
            if metrics.borrow_watched().state.is_leader() == leads {
                return;
            }
            if metrics.changed().await.is_err() {
                // Consensus has ended: nothing changes any more.
                return std::future::pending().await;
            }
        }
    }

    /// Tells whenever another leads, and counts it in `changes`. Runs until it is dropped.
    pub(crate) async fn tell_leaders(self: Arc<Self>, changes: Counter) {
        let me = *self.raft.node_id();
        let mut metrics = self.raft.server_metrics();
        // The last one that was known, whether it still leads or not.
        let mut before = Lead::default();
        loop {
            let lead = Lead::of(&metrics.borrow_watched());
            if lead.leader.is_some() && (lead.leader, lead.term) != (before.leader, before.term) {
                changes.inc();
                lead.tell(&before, me);
                before = lead;
            } else if lead.leader.is_none() && before.leader == Some(me) {
                tracing::info!(
                    term = lead.term,
                    "this node leads no more: a later term has begun, and nobody leads yet"
                );
                before.leader = None;
            }
            if metrics.changed().await.is_err() {
                // Consensus has ended: nothing changes any more.
                return std::future::pending().await;
            }
        }
    }

    /// Waits, if this node leads, until it has applied all that was acknowledged before, and the log's time goes on.
    ///
    /// # Errors
    /// As [`Self::read_index`].
    pub(crate) async fn catch_up(&self) -> Result<(), ProposeError> {
        let index = self.read_index().await?;
        if !self.applied(index, ANSWER_MAX).await {
            return Err(ProposeError::Unknown);
        }
        self.stamp().await.map(drop)
    }
}

impl Lead {
    fn of(metrics: &RaftServerMetrics<Types>) -> Self {
        let leader = metrics.current_leader;
        let member = leader.and_then(|id| metrics.membership_config.membership().get_node(&id));
        Self {
            leader,
            name: member.map(|member| member.0.clone()).unwrap_or_default(),
            term: metrics.vote.leader_id.term,
        }
    }

    fn tell(&self, before: &Self, me: u64) {
        let Self { leader, name, term } = self;
        let after = if before.name.is_empty() { "nobody" } else { &before.name };
        match (*leader == Some(me), before.leader == Some(me)) {
            (true, _) => tracing::info!(term, after, "this node was elected: it leads the mesh"),
            (false, true) => tracing::info!(term, leader = name, "this node leads no more: another was elected"),
            (false, false) => tracing::info!(term, leader = name, after, "another node leads the mesh"),
        }
    }
}
