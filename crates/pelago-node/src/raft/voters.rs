//! Keeps the number of voters: carries out, on the leader, what `core::voters` chooses.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use openraft::async_runtime::watch::WatchReceiver as _;
use pelago_core::{
    id::Name,
    voters::{self, Member, Standing},
};
use tokio::{sync::watch, time::Instant};

use super::{ANSWER_MAX, Consensus};

/// How often it is looked whether somebody should vote or vote no more.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How many entries one who begins to vote may lack.
const BEHIND_MAX: u64 = 1_000;

/// A node that may keep the log, as the mesh knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) raft_id: u64,
    pub(crate) name: Name,
    /// Its label `zone`.
    pub(crate) zone: Option<String>,
    /// Whether the mesh counts it as up.
    pub(crate) live: bool,
}

impl Consensus {
    /// Raises the number of voters, and replaces one that is away for long. Runs until it is dropped.
    pub(crate) async fn keep_voters(self: Arc<Self>, candidates: watch::Receiver<Vec<Candidate>>) {
        let mut away_since = BTreeMap::new();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let candidates = candidates.borrow().clone();
            // Also while another leads: whoever leads next knows for how long a voter has been away.
            note(&mut away_since, &candidates);
            self.look_after(&candidates, &away_since).await;
        }
    }

    async fn look_after(&self, candidates: &[Candidate], away_since: &BTreeMap<u64, Instant>) {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let Some(matched) = metrics.replication else { return };
        let membership = metrics.membership_config.membership();
        let configs = membership.get_joint_config();
        let next = match configs.as_slice() {
            // A leader was lost between the two halves of a change: it is finished.
            [_, .., last] => last.clone(),
            [_] | [] => {
                let caught_up_from = metrics.last_log_index.unwrap_or(0).saturating_sub(BEHIND_MAX);
                let known = candidates.iter().filter(|candidate| membership.get_node(&candidate.raft_id).is_some());
                let members = known.map(|candidate| Member {
                    id: candidate.raft_id,
                    zone: candidate.zone.clone(),
                    is_caught_up: matched
                        .get(&candidate.raft_id)
                        .copied()
                        .flatten()
                        .is_some_and(|matched| matched.index >= caught_up_from),
                    away: away_since.get(&candidate.raft_id).map_or(Duration::ZERO, Instant::elapsed),
                });
                let standing = Standing { voters: membership.voter_ids().collect(), members: members.collect() };
                let Some(next) = voters::next(&standing) else { return };
                next
            }
        };
        tracing::info!(voters = ?next, "the voters of the control log change");
        // Whoever votes no more keeps the log.
        let changing = tokio::time::timeout(ANSWER_MAX, self.raft.change_membership(next, true));
        if let Err(error) = self.changed(changing.await.ok().map(|done| done.map(drop))) {
            tracing::warn!(%error, "the voters could not be changed; it is tried again");
        }
    }
}

/// Remembers since when candidates are away.
fn note(away_since: &mut BTreeMap<u64, Instant>, candidates: &[Candidate]) {
    away_since.retain(|id, _| candidates.iter().any(|candidate| candidate.raft_id == *id && !candidate.live));
    for candidate in candidates.iter().filter(|candidate| !candidate.live) {
        away_since.entry(candidate.raft_id).or_insert_with(Instant::now);
    }
}
