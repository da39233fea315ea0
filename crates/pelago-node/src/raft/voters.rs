//! Keeps the number of voters: carries out, on the leader, what `core::voters` chooses.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use openraft::async_runtime::watch::WatchReceiver as _;
use pelago_core::{
    id::Name,
    voters::{self, Member, Standing},
};
use tokio::time::Instant;

use super::{ANSWER_MAX, Consensus};

/// How often it is looked whether somebody should vote or vote no more.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How many entries one who begins to vote may lack.
const BEHIND_MAX: u64 = 1_000;

/// A node that may keep the log, as the mesh knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) name: Name,
    /// Its label `zone`.
    pub(crate) zone: Option<String>,
    /// Whether the mesh counts it as up.
    pub(crate) live: bool,
}

impl Consensus {
    /// Raises the number of voters, and replaces one that is away for long. Runs until it is dropped.
    pub(crate) async fn keep_voters(self: Arc<Self>, candidates: impl Fn() -> Vec<Candidate> + Send + 'static) {
        let mut away_since = BTreeMap::new();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let candidates = candidates();
            // Also while another leads: whoever leads next knows for how long a voter has been away.
            note(&mut away_since, &candidates);
            self.look_after(&candidates, &away_since).await;
        }
    }

    async fn look_after(&self, candidates: &[Candidate], away_since: &BTreeMap<Name, Instant>) {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let Some(matched) = metrics.replication else { return };
        let membership = metrics.membership_config.membership();
        let configs = membership.get_joint_config();
        let next = match configs.as_slice() {
            // A leader was lost between the two halves of a change: it is finished.
            [_, .., last] => last.clone(),
            [_] | [] => {
                let caught_up_from = metrics.last_log_index.unwrap_or(0).saturating_sub(BEHIND_MAX);
                let named = |name: &str| candidates.iter().find(|candidate| candidate.name.as_str() == name);
                let known = membership.nodes().filter_map(|(id, member)| Some((*id, named(&member.0)?)));
                let members = known.map(|(id, candidate)| Member {
                    id,
                    zone: candidate.zone.clone(),
                    is_caught_up: matched
                        .get(&id)
                        .copied()
                        .flatten()
                        .is_some_and(|matched| matched.index >= caught_up_from),
                    away: away_since.get(&candidate.name).map_or(Duration::ZERO, Instant::elapsed),
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
fn note(away_since: &mut BTreeMap<Name, Instant>, candidates: &[Candidate]) {
    away_since.retain(|name, _| candidates.iter().any(|candidate| candidate.name == *name && !candidate.live));
    for candidate in candidates.iter().filter(|candidate| !candidate.live) {
        away_since.entry(candidate.name.clone()).or_insert_with(Instant::now);
    }
}
