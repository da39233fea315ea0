//! Why a request to a mesh came to nothing.

use pelago_api::problem::{Code, Problem};
use pelago_core::link::PAYLOAD_BYTES_MAX;
use pelago_node::handle::Why;
use pelago_wire::client::Failed;

/// Why a request came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The node refused the request, or failed at it. The code says which, and what still holds.
    #[error("{text}")]
    Refused {
        /// The stable code.
        code: Code,
        /// What happened this time.
        text: String,
    },
    /// There is no link with the node. Nothing was done; it is dialled on.
    #[error("no link with {address}: {why}")]
    Unreachable {
        /// The node.
        address: String,
        /// What the network, or the node, says.
        why: String,
    },
    /// All connections that the node has for clients are taken. Nothing was done; it is dialled on.
    #[error("no link with {address}: {why}")]
    NoRoom {
        /// The node.
        address: String,
        /// What the node says.
        why: String,
    },
    /// The link has no room, or the node is only starting. Nothing was done; try again later.
    #[error("the node takes no more requests for the moment")]
    Busy,
    /// The request fits no frame. Nothing was done.
    #[error("a request of {bytes} bytes does not fit a frame ({PAYLOAD_BYTES_MAX})")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// No answer in time. The request may still take effect.
    #[error("no answer within {waited_ms} ms")]
    Timeout {
        /// How long was waited.
        waited_ms: u64,
    },
    /// The link ended, or the node dropped the request. It may or may not take effect.
    #[error("the link ended before an answer came")]
    Unknown,
    /// The link that a subscription heard over has ended. What was published since then, and is until it is subscribed
    /// anew, is missed, and nobody knows how much that is.
    #[error("the link with {address} has ended")]
    Parted {
        /// The node.
        address: String,
    },
    /// The node does not know the request, or its answer cannot be read: it is of another version.
    #[error("the node's answer is not one to this request")]
    BadAnswer,
    /// The task ended without a result.
    #[error("the task is dead: {reason}")]
    Dead {
        /// Why.
        reason: String,
    },
    /// The task was called off.
    #[error("the task was cancelled: {reason}")]
    Cancelled {
        /// Why.
        reason: String,
    },
}

impl Error {
    /// What a node says.
    pub(super) fn of(failed: Failed) -> Self {
        let why = failed.why();
        Self::Refused { code: code(why), text: failed.text }
    }

    /// The stable code: the same that the HTTP API has for it.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Refused { code, .. } => *code,
            Self::Unreachable { .. } | Self::Parted { .. } | Self::Unknown => Code::Unreachable,
            Self::NoRoom { .. } => Code::NoRoom,
            Self::Busy => Code::Busy,
            Self::TooLarge { .. } => Code::TooLarge,
            Self::Timeout { .. } => Code::Timeout,
            Self::BadAnswer => Code::BadAnswer,
            Self::Dead { .. } | Self::Cancelled { .. } => Code::WrongState,
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let hint = match &error {
            Error::Refused { code: Code::BadAddress, .. } => {
                "a name is like `orders` or `orders.eu`; in a pattern `*` is any part of one, and `**` any parts at its end"
            }
            Error::Refused { .. } => "the node says what is wrong",
            Error::Unreachable { .. } => "is the node running, and is this its mesh address (not the HTTP one)?",
            Error::NoRoom { .. } => "nothing was done; try again in a second, or ask another node",
            Error::Busy => "try again in a second",
            Error::TooLarge { .. } => "keep large data elsewhere and pass its address",
            Error::Timeout { .. } | Error::Unknown => {
                "the request may or may not take effect; repeat it with the same idempotency key"
            }
            Error::Parted { .. } => "subscribe anew, here or at another node: what was published meanwhile is missed",
            Error::BadAnswer => "the node is of another version",
            Error::Dead { .. } | Error::Cancelled { .. } => "its events tell more",
        };
        Self::new(error.code(), error.to_string(), hint)
    }
}

fn code(why: Why) -> Code {
    match why {
        // A reason that only a later version knows.
        Why::Unspecified => Code::BadAnswer,
        Why::Malformed => Code::BadField,
        Why::Invalid => Code::BadAddress,
        Why::UnknownAgent => Code::UnknownAgent,
        Why::WrongKey => Code::WrongKey,
        Why::UnknownNode => Code::UnknownNode,
        Why::UnknownTask => Code::UnknownTask,
        Why::NoState => Code::NoState,
        Why::Conflict => Code::Conflict,
        Why::WrongState => Code::WrongState,
        Why::TooLarge | Why::AnswerTooLarge => Code::TooLarge,
        Why::BadCursor => Code::BadCursor,
        Why::Busy => Code::Busy,
        Why::BreakerOpen => Code::BreakerOpen,
        Why::SessionBusy => Code::SessionBusy,
        Why::Interrupted => Code::Interrupted,
        Why::UnknownSession => Code::UnknownSession,
        Why::UnknownSignal => Code::UnknownSignal,
        Why::SignalAway => Code::SignalAway,
        Why::AgentFailed => Code::AgentFailed,
        Why::AgentRefused => Code::AgentRefused,
        Why::Timeout => Code::Timeout,
        Why::NoQuorum => Code::NoQuorum,
        Why::InDoubt => Code::InDoubt,
        Why::DiskFull => Code::DiskFull,
        Why::Stopping => Code::Stopping,
        Why::Store => Code::Store,
    }
}

#[cfg(test)]
mod tests {
    use pelago_core::id::{Name, SignalId, TaskId};

    use super::*;

    #[test]
    fn every_reason_of_a_node_has_the_code_that_http_gives_it() {
        use pelago_node::handle::Error as Node;
        let errors = [
            Node::WrongKey("k".into()),
            Node::UnknownTask(TaskId(1)),
            Node::Conflict { key: "k".into() },
            Node::WrongState("s".into()),
            Node::BadOption("o".into()),
            Node::TooLarge("l".into()),
            Node::BadCursor,
            Node::Busy("b".into()),
            Node::BreakerOpen(Name::default_namespace()),
            Node::UnknownSignal(SignalId(1)),
            Node::SignalAway { id: SignalId(1), node: Name::default_namespace() },
            Node::AgentFailed { reason: "r".into(), hopeless: false },
            Node::AgentFailed { reason: "r".into(), hopeless: true },
            Node::Timeout { waited_ms: 1 },
            Node::NoQuorum,
            Node::InDoubt,
            Node::DiskFull,
            Node::Stopping,
            Node::Store("s".into()),
        ];
        for error in errors {
            let over_a_link = code(error.why());
            assert_eq!(Some(over_a_link), Problem::from(error.clone()).code(), "{error:?}");
        }
    }
}
