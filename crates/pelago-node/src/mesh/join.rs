//! Asking to be admitted, when the data directory is new.

use std::time::Duration;

use pelago_core::{
    id::{Holder, MeshId, Name, NodeId},
    link::{Ended, Lane, Role},
    record::{Op, Outcome, Refusal, Register},
};
use pelago_net::{Handle, Links};
use pelago_store::ProposeError;
use pelago_wire::{mesh::kind, record};
use tokio::{sync::watch, time::Instant};

use super::answer;

/// The pause before other nodes are asked again.
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// How long a node may take to answer: it asks the leader, who makes the admission durable.
const ANSWER_MAX: Duration = Duration::from_secs(6);

/// Why a node was not admitted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No node of the mesh answered in time.
    #[error(
        "no node of mesh {mesh} was met after {} s at {}: is one running there? Start the first node of a new mesh \
         with --found",
        after.as_secs(), addresses.join(", ")
    )]
    NobodyMet {
        /// The mesh's name.
        mesh: Name,
        /// Where they were looked for.
        addresses: Vec<String>,
        /// For how long.
        after: Duration,
    },
    /// Whoever answered wants no link with this node.
    #[error("{0}")]
    NoLink(Ended),
    /// A node answered, but the mesh could not decide.
    #[error("the mesh was met but admits nobody now: {0}")]
    NotNow(ProposeError),
    /// Another data directory has the name.
    #[error(
        "the name {name} belongs to node {node} of the mesh, which has another data directory. If that one is gone \
         for good, run `pelago node remove {name}` and start this node again; else give this one another name"
    )]
    NameTaken {
        /// The name.
        name: Name,
        /// Who has it.
        node: NodeId,
    },
    /// The mesh said no.
    #[error("the mesh refused this node: {0}")]
    Refused(Refusal),
}

/// Waits until a node is met that belongs to a mesh. `None` if none is within `max`.
///
/// # Errors
/// [`Error::NoLink`] when those who answer want no link, and will not.
pub(crate) async fn mesh_of(
    links: &Links,
    refused: &watch::Receiver<Option<Ended>>,
    max: Duration,
) -> Result<Option<MeshId>, Error> {
    let deadline = Instant::now() + max;
    loop {
        let met = links.all().iter().find_map(|link| link.terms().other.mesh);
        if met.is_some() || Instant::now() >= deadline {
            return Ok(met);
        }
        if let Some(ended) = refused.borrow().clone() {
            return Err(Error::NoLink(ended));
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// Asks the nodes that are met to be admitted. The node's id becomes its id in the control log too.
///
/// # Errors
/// See [`Error`]. Asked again, the same directory gets the same answer.
pub(crate) async fn join(links: &Links, registration: &Register, max: Duration) -> Result<Holder, Error> {
    let deadline = Instant::now() + max;
    let batch = record::encode_batch(&[Op::Register(registration.clone())]);
    let mut last = ProposeError::NotLeader;
    loop {
        for link in links.all().iter().filter(|link| link.terms().other.role == Role::Main) {
            match ask(link, &batch).await {
                Ok(Outcome::Registered { holder, .. }) => return Ok(holder),
                Ok(Outcome::Refused(Refusal::NameTaken(node))) => {
                    return Err(Error::NameTaken { name: registration.name.clone(), node });
                }
                Ok(Outcome::Refused(refusal)) => return Err(Error::Refused(refusal)),
                // Nothing that a registration is answered with.
                Ok(_) => last = ProposeError::Unknown,
                Err(error) => last = error,
            }
        }
        if Instant::now() >= deadline {
            return Err(Error::NotNow(last));
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

async fn ask(link: &Handle, batch: &[u8]) -> Result<Outcome, ProposeError> {
    let reply = link.request(Lane::Requests, kind::JOIN, batch, ANSWER_MAX).await.map_err(|_| ProposeError::Unknown)?;
    let applied = answer::decode_proposed(reply)?;
    applied.outcomes.into_iter().next().ok_or(ProposeError::Unknown)
}
