//! Keeps the number of voters: carries out, on the leader, what `core::voters` chooses.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use openraft::{ChangeMembers, RaftMetrics, async_runtime::watch::WatchReceiver as _};
use pelago_core::{
    id::Name,
    voters::{self, Member, Standing},
};
use pelago_store::ProposeError;
use tokio::time::Instant;

use super::{ANSWER_MAX, Consensus, types::Types};

/// How often it is looked whether somebody should vote or vote no more.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The pause before a change of the members is tried again: only one goes on at a time.
const CHANGE_AGAIN: Duration = Duration::from_millis(50);
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
        let Ok(_alone) = self.member_changes.try_acquire() else { return };
        let metrics = self.raft.metrics().borrow_watched().clone();
        let away = |candidate: &Candidate| away_since.get(&candidate.name).map_or(Duration::ZERO, Instant::elapsed);
        let Some(next) = wanted(&metrics, candidates, away) else { return };
        tracing::info!(voters = ?next, "the voters of the control log change");
        // Whoever votes no more keeps the log.
        let changing = tokio::time::timeout(ANSWER_MAX, self.raft.change_membership(next, true));
        if let Err(error) = self.changed(changing.await.ok().map(|done| done.map(drop))) {
            tracing::warn!(%error, "the voters could not be changed; it is tried again");
        }
    }

    /// Takes a node out of consensus for good, as the leader. Its vote passes on to another that is ready, if there is
    /// one; if not, there is one voter less. Returns the Raft id that it had; `None` if it took no part.
    ///
    /// That this commits means that a majority of those who vote agreed, and so there is one among those who are left:
    /// the node that goes is not up, and without it the others need no more votes than before.
    ///
    /// # Errors
    /// As [`Propose::propose`](pelago_store::Propose::propose); after [`ProposeError::Unknown`] ask again.
    pub(crate) async fn dismiss(&self, name: &Name, candidates: &[Candidate]) -> Result<Option<u64>, ProposeError> {
        let deadline = Instant::now() + ANSWER_MAX;
        let mut dismissed = None;
        loop {
            let turn = tokio::time::timeout_at(deadline, self.member_changes.acquire()).await;
            let Ok(Ok(_alone)) = turn else { return Err(ProposeError::Unknown) };
            let metrics = self.raft.metrics().borrow_watched().clone();
            let away = |candidate: &Candidate| if candidate.live { Duration::ZERO } else { Duration::MAX };
            let standing = standing(&metrics, candidates, away).ok_or(ProposeError::NotLeader)?;
            let member = metrics.membership_config.membership().nodes().find(|(_, member)| member.0 == name.as_str());
            let Some((&raft_id, _)) = member else { return Ok(dismissed) };
            dismissed = Some(raft_id);
            let done = match (unfinished(&metrics), standing.voters.contains(&raft_id)) {
                (Some(next), _) => self.raft.change_membership(next, true).await,
                (None, true) => self.raft.change_membership(voters::without(&standing, raft_id), false).await,
                (None, false) => {
                    let gone = ChangeMembers::RemoveNodes(BTreeSet::from([raft_id]));
                    self.raft.change_membership(gone, false).await
                }
            };
            match self.changed(Some(done.map(drop))) {
                Ok(()) => tracing::info!(node = %name, "a node takes part in the control log no more"),
                // The voters keeper changes them in this moment.
                Err(ProposeError::Unknown) if Instant::now() < deadline => tokio::time::sleep(CHANGE_AGAIN).await,
                Err(error) => return Err(error),
            }
        }
    }
}

/// Who should vote, if a change is due; `None` where another leads.
fn wanted(
    metrics: &RaftMetrics<Types>,
    candidates: &[Candidate],
    away: impl Fn(&Candidate) -> Duration,
) -> Option<BTreeSet<u64>> {
    // Others see a change that is under way too, and would be refused.
    let standing = standing(metrics, candidates, away)?;
    unfinished(metrics).or_else(|| voters::next(&standing))
}

/// The second half of a change whose leader was lost after the first: it is finished before anything else.
fn unfinished(metrics: &RaftMetrics<Types>) -> Option<BTreeSet<u64>> {
    match metrics.membership_config.membership().get_joint_config().as_slice() {
        [_, .., last] => Some(last.clone()),
        [_] | [] => None,
    }
}

/// How the members stand; `None` where another leads.
fn standing(
    metrics: &RaftMetrics<Types>,
    candidates: &[Candidate],
    away: impl Fn(&Candidate) -> Duration,
) -> Option<Standing> {
    let matched = metrics.replication.as_ref()?;
    let membership = metrics.membership_config.membership();
    let caught_up_from = metrics.last_log_index.unwrap_or(0).saturating_sub(BEHIND_MAX);
    let named = |name: &str| candidates.iter().find(|candidate| candidate.name.as_str() == name);
    let known = membership.nodes().filter_map(|(id, member)| Some((*id, named(&member.0)?)));
    let members = known.map(|(id, candidate)| Member {
        id,
        zone: candidate.zone.clone(),
        is_caught_up: matched.get(&id).copied().flatten().is_some_and(|matched| matched.index >= caught_up_from),
        away: away(candidate),
    });
    Some(Standing { voters: membership.voter_ids().collect(), members: members.collect() })
}

/// Remembers since when candidates are away.
fn note(away_since: &mut BTreeMap<Name, Instant>, candidates: &[Candidate]) {
    away_since.retain(|name, _| candidates.iter().any(|candidate| candidate.name == *name && !candidate.live));
    for candidate in candidates.iter().filter(|candidate| !candidate.live) {
        away_since.entry(candidate.name.clone()).or_insert_with(Instant::now);
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::types::{Member as Node, Membership, StoredMembership},
        *,
    };

    #[test]
    fn a_change_under_way_is_finished_by_the_leader_and_nobody_else() {
        let nodes = BTreeMap::from([(1, Node("n1".into())), (2, Node("n2".into()))]);
        let both = BTreeSet::from([1, 2]);
        let joint = Membership::new(vec![BTreeSet::from([1]), both.clone()], nodes).expect("all voters are members");
        let mut metrics = RaftMetrics::<Types>::new_initial(2);
        metrics.membership_config = Arc::new(StoredMembership::new(None, joint));
        assert_eq!(wanted(&metrics, &[], |_| Duration::ZERO), None);
        metrics.replication = Some(BTreeMap::new());
        assert_eq!(wanted(&metrics, &[], |_| Duration::ZERO), Some(both));
    }
}
