//! What is delivered to an activation, and what becomes of it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    connection::Signal,
    id::{FencingToken, Holder, TaskId, TimerName, TurnId, Version},
    message::{Content, ToTell},
    record::{BodyHash, IdempotencyKey, MessageBody, MessageId, NewTask, Refusal, SessionTurn, TimerChange},
};

/// Names a delivery within its node, so that the answer finds who waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Something for the agent to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Names the delivery.
    pub ticket: Ticket,
    /// What it is.
    pub work: Work,
    /// What it says.
    pub content: Content,
}

impl Envelope {
    /// Whether the store recognises a second commit of this delivery, so that it may run again when nobody knows
    /// whether it was committed.
    pub(super) fn is_recognised(&self) -> bool {
        match &self.work {
            Work::Ask { remember, session: _ } => remember.is_some(),
            Work::Tell | Work::Signal(_) => false,
            Work::Message { .. } | Work::Task { .. } => true,
        }
    }

    /// Whether both are deliveries of the same thing.
    pub(super) fn repeats(&self, other: &Self) -> bool {
        match (&self.work, &other.work) {
            (Work::Ask { remember: Some((key, _)), .. }, Work::Ask { remember: Some((other, _)), .. }) => key == other,
            (Work::Message { id, .. }, Work::Message { id: other, .. }) => id == other,
            (Work::Task { task, .. }, Work::Task { task: other, .. }) => task == other,
            (Work::Tell | Work::Signal(_) | Work::Ask { .. } | Work::Message { .. } | Work::Task { .. }, _) => false,
        }
    }

    pub(super) fn has_token(&self, of: FencingToken) -> bool {
        matches!(&self.work, Work::Task { token, .. } if *token == of)
    }

    pub(super) fn has_key(&self, of: &IdempotencyKey) -> bool {
        matches!(&self.work, Work::Ask { remember: Some((key, _)), .. } if key == of)
    }

    /// The timer that this is a delivery of, and when that was set.
    pub(super) fn timer(&self) -> Option<(&TimerName, Version)> {
        if let Work::Message { id, .. } = &self.work { Some((id.timer()?, Version(id.seq))) } else { None }
    }

    pub(super) fn is_turn_of_session(&self, of: TurnId) -> bool {
        self.work.session().is_some_and(|turn| turn.id == of)
    }

    pub(super) fn is_message(&self, of: &MessageId) -> bool {
        matches!(&self.work, Work::Message { id, .. } if id == of)
    }
}

/// What a delivery is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// A message that nobody waits for: it has its effect once, or not at all.
    Tell,
    /// A signal; its reply goes on with it.
    Signal(Arc<Signal>),
    /// A question; its reply is remembered when it came with an idempotency key.
    Ask {
        /// The key, and the hash of the request.
        remember: Option<(IdempotencyKey, BodyHash)>,
        /// Which session it belongs to, if any.
        session: Option<Arc<SessionTurn>>,
    },
    /// A durable message from the inbox, or a timer that is due.
    Message {
        /// Its id.
        id: MessageId,
        /// How often it was tried before.
        attempts: u32,
    },
    /// An attempt at a task.
    Task {
        /// The task.
        task: TaskId,
        /// The attempt.
        token: FencingToken,
        /// How long it may take.
        limit: Duration,
        /// Which session it belongs to, if any.
        session: Option<Arc<SessionTurn>>,
    },
}

impl Work {
    /// The turn of a session that it is.
    #[must_use]
    pub fn session(&self) -> Option<&Arc<SessionTurn>> {
        match self {
            Self::Ask { session, .. } | Self::Task { session, .. } => session.as_ref(),
            Self::Tell | Self::Signal(_) | Self::Message { .. } => None,
        }
    }
}

/// What a turn made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Produced {
    /// The state after it, or `None` when it did not change.
    pub state: Option<Bytes>,
    /// The reply, or the task's result.
    pub reply: Bytes,
    /// Messages to other agents.
    pub sends: Vec<MessageBody>,
    /// New tasks.
    pub enqueues: Vec<NewTask>,
    /// Timers that are set or cancelled, in order.
    pub timers: Vec<TimerChange>,
    /// What other agents are told, in order; nothing of it is stored.
    pub tells: ToTell,
}

/// Why a delivery has no reply. Only after [`Failure::Unknown`] may it have had its effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The behaviour returned an error. Another try may help.
    #[error("{0}")]
    Failed(String),
    /// The behaviour returned an error that no retry can mend.
    #[error("{0}")]
    Hopeless(String),
    /// The behaviour cannot read the stored state: no fault of the delivery, and another program may do better.
    #[error("the agent's stored state cannot be read: {0}")]
    Unreadable(String),
    /// The mailbox is full. Try later.
    #[error("the agent's mailbox is full")]
    Busy,
    /// The turn took too long and was stopped.
    #[error("the turn took longer than {limit_ms} ms")]
    TimedOut {
        /// Its limit.
        limit_ms: u64,
    },
    /// Another message of the session is being handled, and this one was not to wait for it.
    #[error("another message of the session is being handled")]
    SessionBusy,
    /// As many messages of the session wait as may. Try later.
    #[error("{waiting} messages of the session wait already")]
    SessionFull {
        /// How many.
        waiting: u64,
    },
    /// Another message of the session interrupted the turn. Nothing of it is kept.
    #[error("another message of the session interrupted it")]
    Interrupted,
    /// The store refused what the turn made.
    #[error("{0}")]
    Refused(Refusal),
    /// Another node holds the agent: ask there.
    #[error("the agent is held by {0}")]
    Elsewhere(Holder),
    /// The activation ended first. Deliver it again, to whoever holds the agent then.
    #[error("the agent was put away")]
    Stopped,
    /// The node's lease has lapsed: another may be given its agents. Ask again once it reaches the mesh.
    #[error("the node has lost contact with the mesh")]
    Lapsed,
    /// No space is left on the disk of this node, or of the leader: what the turn wanted to send was not sent.
    #[error("no space is left on the disk of its node, or of the leader")]
    DiskFull,
    /// Its turn ran, and only the store knows whether it was committed.
    #[error("nobody knows whether the turn was committed")]
    Unknown,
}
