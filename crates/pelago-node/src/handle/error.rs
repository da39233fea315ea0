//! Why a request to a node came to nothing, and what of the inside that is.

use pelago_core::{
    agent::Failure,
    id::{Address, AgentId, Invalid, Name, SessionId, SignalId, TaskId},
    record::Refusal,
};
use pelago_store::ProposeError;
use pelago_wire::client::Why;

/// Why a request came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The address is malformed. Nothing was done.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// No node hosts an agent of this name. Nothing was done.
    #[error("agent {name} not found")]
    UnknownAgent {
        /// The name.
        name: Name,
        /// Names that are close to it.
        nearest: Vec<Name>,
    },
    /// The address lacks a key, or has one too many. Nothing was done.
    #[error("{0}")]
    WrongKey(String),
    /// No node of this name takes part. Nothing was done.
    #[error("node {0} not found")]
    UnknownNode(Name),
    /// The node takes part. Nothing was done.
    #[error("node {0} is up")]
    NodeUp(Name),
    /// There is no such task; it may have been forgotten.
    #[error("task {0} not found")]
    UnknownTask(TaskId),
    /// There is no such signal; it may have been forgotten.
    #[error("signal {0} not found")]
    UnknownSignal(SignalId),
    /// The node that took the signal, and alone knows what became of it, does not answer.
    #[error("node {node}, which took signal {id}, does not answer")]
    SignalAway {
        /// Its id.
        id: SignalId,
        /// The node that took it.
        node: Name,
    },
    /// There is no such connection.
    #[error("there is no connection from {from} to {to}")]
    UnknownConnection {
        /// The agent that it would lead on from.
        from: Name,
        /// Where it would lead.
        to: Address,
    },
    /// There is no such agent: it never had a turn.
    #[error("agent {0} has no state yet")]
    NoState(AgentId),
    /// The key was used with another body. Nothing was done.
    #[error("idempotency key {key:?} was used for another request")]
    Conflict {
        /// The key.
        key: String,
    },
    /// The request does not fit the state of its object. Nothing was done.
    #[error("{0}")]
    WrongState(String),
    /// An option of a task makes no sense. Nothing was done.
    #[error("{0}")]
    BadOption(String),
    /// A part is too large. Nothing was done.
    #[error("{0}")]
    TooLarge(String),
    /// A list's cursor is not one that was given out.
    #[error("the cursor is not valid")]
    BadCursor,
    /// A queue or mailbox is full. Nothing was done; try again later.
    #[error("{0}")]
    Busy(String),
    /// Another message of the session is being handled, and this one was not to wait. Nothing was done.
    #[error("another message of the session is being handled")]
    SessionBusy,
    /// Another message of the session interrupted this one. Nothing of its turn is kept.
    #[error("another message of the session interrupted this one")]
    Interrupted,
    /// There is no such session: it never began, or has ended.
    #[error("there is no session {0}")]
    UnknownSession(SessionId),
    /// The agent failed too often of late on every node that hosts it. Nothing was done; one of them is tried again soon.
    #[error("agent {0} failed too often of late on every node that hosts it")]
    BreakerOpen(Name),
    /// The agent answered with an error. Its turn had no effect.
    #[error("the agent failed: {reason}")]
    AgentFailed {
        /// What it said.
        reason: String,
        /// Whether the same request can ever succeed.
        hopeless: bool,
    },
    /// No reply in time. The request may still take effect.
    #[error("no reply within {waited_ms} ms")]
    Timeout {
        /// How long was waited.
        waited_ms: u64,
    },
    /// No majority answers: the write may or may not take effect.
    #[error("no majority of the voters answers")]
    NoQuorum,
    /// The node that was asked was lost before it answered: the turn may or may not take effect.
    #[error("the node that was asked was lost before it answered")]
    InDoubt,
    /// The disk of this node, or of the leader, is full. Nothing was done.
    #[error("no space is left on the disk of this node, or of the leader")]
    DiskFull,
    /// The node is stopping. Ask another.
    #[error("the node is stopping")]
    Stopping,
    /// The store cannot be read.
    #[error("the store cannot be read: {0}")]
    Store(String),
}

impl Error {
    /// What kind of reason it is, as those who are told over a link know it.
    #[must_use]
    pub fn why(&self) -> Why {
        match self {
            Self::Invalid(_) => Why::Invalid,
            Self::UnknownAgent { .. } => Why::UnknownAgent,
            Self::WrongKey(_) => Why::WrongKey,
            Self::UnknownNode(_) => Why::UnknownNode,
            Self::UnknownTask(_) => Why::UnknownTask,
            Self::NoState(_) => Why::NoState,
            Self::Conflict { .. } => Why::Conflict,
            Self::WrongState(_) | Self::NodeUp(_) => Why::WrongState,
            Self::UnknownSignal(_) => Why::UnknownSignal,
            Self::SignalAway { .. } => Why::SignalAway,
            // Clients over links do not change connections.
            Self::UnknownConnection { .. } => Why::Malformed,
            Self::BadOption(_) => Why::Malformed,
            Self::TooLarge(_) => Why::TooLarge,
            Self::BadCursor => Why::BadCursor,
            Self::Busy(_) => Why::Busy,
            Self::SessionBusy => Why::SessionBusy,
            Self::Interrupted => Why::Interrupted,
            Self::UnknownSession(_) => Why::UnknownSession,
            Self::BreakerOpen(_) => Why::BreakerOpen,
            Self::AgentFailed { hopeless: false, .. } => Why::AgentFailed,
            Self::AgentFailed { hopeless: true, .. } => Why::AgentRefused,
            Self::Timeout { .. } => Why::Timeout,
            Self::NoQuorum => Why::NoQuorum,
            Self::InDoubt => Why::InDoubt,
            Self::DiskFull => Why::DiskFull,
            Self::Stopping => Why::Stopping,
            Self::Store(_) => Why::Store,
        }
    }
}

impl From<ProposeError> for Error {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::NotLeader | ProposeError::Unknown => Self::NoQuorum,
            ProposeError::DiskFull => Self::DiskFull,
            ProposeError::Malformed { .. } => Self::WrongState(error.to_string()),
            ProposeError::Stopped => Self::Stopping,
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Failed(reason) => Self::AgentFailed { reason, hopeless: false },
            Failure::Unreadable(_) => Self::AgentFailed { reason: failure.to_string(), hopeless: false },
            Failure::Hopeless(reason) => Self::AgentFailed { reason, hopeless: true },
            Failure::Busy | Failure::SessionFull { .. } => Self::Busy(failure.to_string()),
            Failure::SessionBusy => Self::SessionBusy,
            Failure::Interrupted => Self::Interrupted,
            Failure::TimedOut { limit_ms } => {
                Self::AgentFailed { reason: format!("its turn took longer than {limit_ms} ms"), hopeless: false }
            }
            Failure::Refused(refusal) => refusal.into(),
            Failure::Elsewhere(_) => Self::Busy(failure.to_string()),
            Failure::Stopped => Self::Stopping,
            Failure::DiskFull => Self::DiskFull,
            Failure::Lapsed => Self::NoQuorum,
            Failure::Unknown => Self::InDoubt,
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Conflict { key } => Self::Conflict { key },
            Refusal::NoTask(task) => Self::UnknownTask(task),
            Refusal::Full(_) => Self::Busy(refusal.to_string()),
            Refusal::TooLarge { .. } => Self::TooLarge(refusal.to_string()),
            Refusal::Overtaken { .. } => Self::SessionBusy,
            Refusal::Fenced { .. }
            | Refusal::HolderGone(_)
            | Refusal::StaleToken { .. }
            | Refusal::MessageGone { .. }
            | Refusal::WrongState { .. }
            | Refusal::TooEarly
            | Refusal::NameTaken(_)
            | Refusal::NodeUp(_)
            | Refusal::NodeRemoved(_)
            | Refusal::NotAlone => Self::WrongState(refusal.to_string()),
        }
    }
}
