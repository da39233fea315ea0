//! Taking a node out of the mesh that is gone for good.
//!
//! The leader takes its place in consensus away first, and then its row: nobody of that name is admitted before, so
//! that no log of a new node is ever taken for the lost one's. A failure in between leaves a node that is given up and
//! keeps no log; asked again, the rest follows.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use pelago_core::{
    id::NodeId,
    record::{Node, NodeState, Op, Outcome, Refusal, Remove},
};
use pelago_store::{Propose as _, ProposeError, sqlite::Reader};
use pelago_wire::{mesh::kind, record};
use tokio::time::Instant;

use super::{answer::Applied, forward::Forward};
use crate::{
    raft::{Candidate, Consensus},
    view,
};

/// How long a removal waits for a leader.
const LEADER_MAX: Duration = Duration::from_secs(6);
/// The pause before a leader is looked for again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Removes nodes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Removal {
    pub(crate) consensus: Arc<Consensus>,
    pub(crate) forward: Forward,
    pub(crate) reader: Arc<Reader>,
    pub(crate) view: view::Reader,
}

impl Removal {
    /// Has the leader remove a node; returns once this node sees it too.
    ///
    /// # Errors
    /// [`ProposeError`] when nobody leads, or no majority answers: the node may be removed all the same.
    pub(crate) async fn remove(&self, node: NodeId) -> Result<Outcome, ProposeError> {
        let deadline = Instant::now() + LEADER_MAX;
        let batch = record::encode_batch(&[Op::Remove(Remove { node })]);
        loop {
            let removed = match self.here(node).await {
                Err(ProposeError::NotLeader) => self.forward.at_leader(kind::REMOVE, &batch).await,
                here => here,
            };
            match removed {
                Ok(Applied { outcomes, index }) => {
                    let is_seen = self.consensus.applied(index, LEADER_MAX).await;
                    return outcomes.into_iter().next().filter(|_| is_seen).ok_or(ProposeError::Unknown);
                }
                Err(ProposeError::NotLeader) if Instant::now() < deadline => tokio::time::sleep(LOOK_AGAIN).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes a node as the leader, on behalf of another.
    pub(super) async fn asked(&self, payload: Bytes) -> Result<Applied, ProposeError> {
        let batch =
            record::decode_batch(payload).map_err(|error| ProposeError::Malformed { why: error.to_string() })?;
        match batch.as_slice() {
            [Op::Remove(Remove { node })] => self.here(*node).await,
            _ => Err(ProposeError::Malformed { why: "a node is removed by its removal alone".into() }),
        }
    }

    async fn here(&self, node: NodeId) -> Result<Applied, ProposeError> {
        self.consensus.catch_up().await?;
        let lost = self.row(node).await?;
        if lost.as_ref().is_some_and(|row| row.state == NodeState::Up) {
            // Proposed all the same it might take effect, if the node is given up in this moment, and its vote would stay.
            let outcomes = vec![Outcome::Refused(Refusal::NodeUp(node))];
            return Ok(Applied { outcomes, index: self.consensus.progress().index() });
        }
        let dismissed = match &lost {
            Some(row) => self.consensus.dismiss(&row.name, &candidates(&self.view)).await?,
            None => None,
        };
        let outcomes = self.consensus.propose(&[Op::Remove(Remove { node })]).await?;
        if let (Some(row), Some(raft_id), [Outcome::Refused(Refusal::NodeUp(_))]) =
            (lost, dismissed, outcomes.as_slice())
        {
            // It came back in this moment.
            self.consensus.admit(raft_id, &row.name).await?;
        }
        Ok(Applied { outcomes, index: self.consensus.progress().index() })
    }

    async fn row(&self, id: NodeId) -> Result<Option<Node>, ProposeError> {
        let reader = Arc::clone(&self.reader);
        let read = tokio::task::spawn_blocking(move || reader.view(|view| view.nodes())).await;
        let nodes = read.map_err(|_stopping| ProposeError::Stopped)?.map_err(|error| {
            tracing::error!(%error, "the nodes cannot be read");
            ProposeError::Unknown
        })?;
        Ok(nodes.into_iter().find(|node| node.id == id))
    }
}

/// Who may become a voter, as this node sees it now.
pub(crate) fn candidates(view: &view::Reader) -> Vec<Candidate> {
    let candidate = |node: &Node| Candidate {
        name: node.name.clone(),
        zone: node.labels.get("zone").cloned(),
        live: node.is_live(node.incarnation),
    };
    view.get().nodes().map(candidate).collect()
}
