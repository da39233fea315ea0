//! The seam between a store and what orders its batches: Raft on a real node, direct apply in tests.

use std::future::Future;

use pelago_core::record::{Op, Outcome};

/// Orders batches of ops, makes them durable and applies them.
pub trait Propose: Send + Sync + 'static {
    /// Proposes `batch` as one entry of the log and waits for its outcomes, one an item, in order.
    ///
    /// # Errors
    /// See [`ProposeError`]: each variant says whether the batch may still take effect.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the batch in doubt, like [`ProposeError::Unknown`].
    fn propose(&self, batch: &[Op]) -> impl Future<Output = Result<Vec<Outcome>, ProposeError>> + Send;
}

/// Why a batch has no outcomes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// It was never appended: propose it where the mesh is led.
    #[error("this node does not lead the mesh")]
    NotLeader,
    /// It may or may not take effect, now or later. Propose identical bytes again until there is an answer.
    #[error("the control log did not answer; whether the write happened is not known")]
    Unknown,
    /// It was never appended: no space is left on the disk. Writes go on once there is.
    #[error("no space is left on the disk of the leader")]
    DiskFull,
    /// It was never appended, and never can be: something in it is outside what the log carries.
    #[error("the log cannot carry this: {why}")]
    Malformed {
        /// What, and where in the batch.
        why: String,
    },
    /// This node takes part in the log no more. Whether the batch takes effect is not known here.
    #[error("this node's part in the control log has ended")]
    Stopped,
}
