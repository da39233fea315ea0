//! Batches and strict reads go to whoever leads: here when this node does, else over the link with the leader.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use pelago_core::{
    id::Name,
    link::{Lane, NoReply, Role},
    record::{Op, Outcome},
};
use pelago_net::{Links, RequestError, SendError};
use pelago_store::{Propose, ProposeError};
use pelago_wire::{mesh::kind, record};
use tokio::time::Instant;

use super::answer::{self, Applied};
use crate::raft::Consensus;

/// How long a batch waits for a leader and its answer: about as long as a node lease.
const LEADER_MAX: Duration = Duration::from_secs(6);
/// The pause before a leader is looked for again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long the leader may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(6);

/// Reaches the leader. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Forward {
    consensus: Arc<Consensus>,
    links: Links,
}

/// What the leader is wanted for.
enum Wanted<'b> {
    Outcomes { batch: &'b [Op], encoded: Option<Bytes> },
    ReadIndex,
}

impl Wanted<'_> {
    fn may_be_repeated(&self) -> bool {
        match self {
            Self::Outcomes { batch, .. } => batch.iter().all(Op::is_recognised),
            Self::ReadIndex => true,
        }
    }

    /// Whether whoever wanted it reads what was decided.
    fn must_be_seen(&self, outcomes: &[Outcome]) -> bool {
        match self {
            Self::Outcomes { batch, .. } => {
                !batch.iter().zip(outcomes).all(|(op, outcome)| op.needs_no_reading(outcome))
            }
            Self::ReadIndex => true,
        }
    }
}

impl Propose for Forward {
    /// Waits while nobody leads, and proposes again what a leader that was lost may have appended. Outcomes come once
    /// this node has applied the batch too: what was written is read here. Turns that wrote only their agent's state do
    /// not wait for that (see [`Op::needs_no_reading`]): whoever claims the agent next notices rows that are older.
    async fn propose(&self, batch: &[Op]) -> Result<Vec<Outcome>, ProposeError> {
        self.get(Wanted::Outcomes { batch, encoded: None }).await
    }
}

impl Forward {
    pub(crate) fn new(consensus: Arc<Consensus>, links: Links) -> Self {
        Self { consensus, links }
    }

    /// Waits until this node has applied all that was acknowledged anywhere before the call.
    ///
    /// # Errors
    /// When nobody leads, or no majority says so.
    pub(crate) async fn catch_up(&self) -> Result<(), ProposeError> {
        self.get(Wanted::ReadIndex).await.map(drop)
    }

    /// Tries until somebody leads, and waits until what was decided is applied here, if it must be.
    async fn get(&self, mut wanted: Wanted<'_>) -> Result<Vec<Outcome>, ProposeError> {
        let deadline = Instant::now() + LEADER_MAX;
        loop {
            let attempt = tokio::time::timeout_at(deadline, self.attempt(&mut wanted)).await;
            match attempt.unwrap_or(Err(ProposeError::Unknown)) {
                Ok(Applied { outcomes, index }) => {
                    // It has its effect; only this node does not see it yet.
                    let is_seen = !wanted.must_be_seen(&outcomes) || self.consensus.applied(index, ANSWER_MAX).await;
                    return if is_seen { Ok(outcomes) } else { Err(ProposeError::Unknown) };
                }
                // It was never appended.
                Err(ProposeError::NotLeader) if Instant::now() < deadline => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                // It may have been: whoever leads next decides the very same once more, or for the first time.
                Err(ProposeError::Unknown) if wanted.may_be_repeated() && Instant::now() < deadline => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn attempt(&self, wanted: &mut Wanted<'_>) -> Result<Applied, ProposeError> {
        match wanted {
            Wanted::Outcomes { batch, encoded } => match self.consensus.propose(batch).await {
                Err(ProposeError::NotLeader) => {
                    let encoded = encoded.get_or_insert_with(|| record::encode_batch(batch));
                    self.at_leader(kind::PROPOSE, encoded).await
                }
                here => here.map(|outcomes| Applied { outcomes, index: 0 }),
            },
            Wanted::ReadIndex => match self.consensus.read_index().await {
                Err(ProposeError::NotLeader) => self.at_leader(kind::READ_INDEX, &Bytes::new()).await,
                here => here.map(|index| Applied { outcomes: Vec::new(), index }),
            },
        }
    }

    /// Sends the leader a request about which this node cannot decide.
    pub(super) async fn at_leader(&self, kind: u16, payload: &Bytes) -> Result<Applied, ProposeError> {
        let leader = self.consensus.leader_name().ok_or(ProposeError::NotLeader)?;
        self.at(&leader, kind, payload).await
    }

    async fn at(&self, leader: &Name, kind: u16, payload: &Bytes) -> Result<Applied, ProposeError> {
        let not_sent = ProposeError::NotLeader;
        let link = self.links.get(leader, Role::Main).ok_or(not_sent.clone())?;
        match link.request(Lane::Requests, kind, payload, ANSWER_MAX).await {
            Ok(reply) => answer::decode_proposed(reply),
            Err(RequestError::NotSent(error @ SendError::TooLarge { .. })) => {
                Err(ProposeError::Malformed { why: error.to_string() })
            }
            Err(RequestError::NotSent(_) | RequestError::NoReply(NoReply::Busy | NoReply::UnknownKind)) => {
                Err(not_sent)
            }
            Err(RequestError::Deadline | RequestError::Unknown | RequestError::NoReply(NoReply::Dropped)) => {
                Err(ProposeError::Unknown)
            }
        }
    }
}
