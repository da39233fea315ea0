//! What became of an op.

use bytes::Bytes;

use crate::id::{AgentId, Epoch, FencingToken, Holder, NodeId, TaskId, Version};

/// The answer to one op. Not a success means that nothing was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It took effect, by this delivery or an earlier one of the same bytes.
    Committed,
    /// The run is registered.
    Registered {
        /// The node and its incarnation.
        holder: Holder,
        /// Tasks of the node's previous run, which wait again.
        freed: Vec<TaskId>,
    },
    /// The run is given up.
    Expired {
        /// Its tasks, which wait again.
        freed: Vec<TaskId>,
    },
    /// The agent is the claimant's.
    Claimed {
        /// Under this epoch.
        epoch: Epoch,
        /// At this version.
        version: Version,
    },
    /// The task is in the store.
    Enqueued {
        /// The attempt, when it was assigned too.
        token: Option<FencingToken>,
    },
    /// The task is assigned.
    Assigned {
        /// The attempt.
        token: FencingToken,
        /// Its number.
        attempt: u32,
    },
    /// Rows were forgotten.
    Swept {
        /// How many.
        rows: u64,
    },
    /// The key stands for an earlier request with the same body; nothing was done again.
    Existing {
        /// The task that request made.
        task: TaskId,
    },
    /// The request was handled before.
    Duplicate {
        /// Position of its reply among the op's replies.
        position: u32,
        /// The reply of then.
        reply: Bytes,
    },
    /// Refused, with the reason.
    Refused(Refusal),
}

impl Outcome {
    /// The outcome, unless it is a refusal.
    ///
    /// # Errors
    /// Why the op was refused.
    pub fn not_refused(self) -> Result<Self, Refusal> {
        if let Self::Refused(refusal) = self { Err(refusal) } else { Ok(self) }
    }

    /// Whether the op took effect. If not, it wrote nothing.
    #[must_use]
    pub fn is_success(&self) -> bool {
        match self {
            Self::Committed
            | Self::Registered { .. }
            | Self::Expired { .. }
            | Self::Claimed { .. }
            | Self::Enqueued { .. }
            | Self::Assigned { .. }
            | Self::Swept { .. } => true,
            Self::Existing { .. } | Self::Duplicate { .. } | Self::Refused(_) => false,
        }
    }
}

/// Why an op was refused. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Somebody else holds the agent, or it moved on. Memory of it is stale: drop it and read again.
    #[error("the agent is at epoch {epoch}, version {version}, held by {holder}")]
    Fenced {
        /// The present epoch; 0 when there is no such agent.
        epoch: Epoch,
        /// The present version.
        version: Version,
        /// The present or last holder.
        holder: Holder,
        /// Whether that holder may still act.
        live: bool,
    },
    /// The run that proposed this was given up. It must register again.
    #[error("{0} was given up")]
    HolderGone(Holder),
    /// Another attempt has the task now, or it ended. The result is not wanted.
    #[error("attempt {token} at task {task} is not the present one")]
    StaleToken {
        /// The task.
        task: TaskId,
        /// The attempt.
        token: FencingToken,
    },
    /// The message or timer was handled before, or never was; a timer may also have been cancelled or set anew.
    #[error("message {position} of the turn is not in the inbox")]
    MessageGone {
        /// Its position among the op's messages.
        position: u32,
    },
    /// Another turn of the session came between. Read the session again.
    #[error("another turn of the session came before entry {position} of the commit")]
    Overtaken {
        /// The entry's position among the op's.
        position: u32,
    },
    /// The inbox is full. Send later.
    #[error("the inbox of {0} is full")]
    Full(AgentId),
    /// A part is larger than its limit.
    #[error("{what} has {bytes} bytes, more than {bytes_max}")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// The idempotency key stands for another request.
    #[error("the idempotency key {key:?} was used for another request")]
    Conflict {
        /// The key.
        key: String,
    },
    /// There is no such task.
    #[error("there is no task {0}")]
    NoTask(TaskId),
    /// The task is not in a state that allows this.
    #[error("task {task} is {state}")]
    WrongState {
        /// The task.
        task: TaskId,
        /// Its state.
        state: &'static str,
    },
    /// The time of the task or timer has not come, or it is not over.
    #[error("it is too early")]
    TooEarly,
    /// Another data directory was admitted under this name: another node, or this one before it was wiped.
    #[error("the name is taken by node {0}, which has another data directory")]
    NameTaken(NodeId),
    /// The node takes part: only one that was stopped or lost can be removed.
    #[error("node {0} is up")]
    NodeUp(NodeId),
    /// The data directory is of a node that was removed.
    #[error("node {0} was removed")]
    NodeRemoved(NodeId),
    /// The op must stand alone in its entry.
    #[error("the op must be the only item of its entry")]
    NotAlone,
}
