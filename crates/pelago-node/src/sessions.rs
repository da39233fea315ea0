//! Sessions: what is asked within one, and whose turn it is on this node.
//!
//! A session is a conversation with an agent. Its history is in the store, where an entry is appended by a turn that
//! saw the one before it (`core::record`). Here one message of a session is handled after the other ([`Gates`]); two
//! nodes that both believe to have a session are told apart by the store alone.

mod gates;

use std::{str::FromStr, time::Duration};

use pelago_core::{
    id::{AgentId, Name, SessionId},
    record::SESSION_TTL_MS_MAX,
};

pub(crate) use gates::{Gates, Pass};

/// The shortest time that a session may be kept unused.
pub(crate) const TTL_MIN: Duration = Duration::from_secs(1);
/// The longest.
pub(crate) const TTL_MAX: Duration = Duration::from_millis(SESSION_TTL_MS_MAX);

/// Which session of its agent a question belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InSession {
    /// Its name: whoever begins the session chooses.
    pub name: Name,
    /// What becomes of the question while another of the session is being handled; as its agent's rule says unless set.
    pub busy: Option<WhenBusy>,
    /// How long the session is kept from now on if nobody uses it: 1 s to 30 days. Unless set it stays as it is, and is
    /// as its agent's rule says in a new session.
    pub ttl: Option<Duration>,
}

impl InSession {
    /// The session of this name, by its agent's rule.
    #[must_use]
    pub fn named(name: Name) -> Self {
        Self { name, busy: None, ttl: None }
    }

    pub(crate) fn with(&self, agent: &AgentId) -> SessionId {
        SessionId { agent: agent.clone(), name: self.name.clone() }
    }
}

/// What becomes of a message while another of its session is being handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenBusy {
    /// It waits for its turn, in the order of arrival.
    #[default]
    Queue,
    /// It is refused.
    Reject,
    /// The turn that runs is stopped, and nothing of it is kept. What else waits comes after this one.
    Interrupt,
}

impl WhenBusy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Queue, Self::Reject, Self::Interrupt];

    /// Its name in requests and configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Reject => "reject",
            Self::Interrupt => "interrupt",
        }
    }
}

/// Not the name of anything that may become of a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is queue, reject or interrupt")]
pub struct NoWhenBusy;

impl FromStr for WhenBusy {
    type Err = NoWhenBusy;

    fn from_str(text: &str) -> Result<Self, NoWhenBusy> {
        Self::ALL.into_iter().find(|busy| busy.name() == text).ok_or(NoWhenBusy)
    }
}

/// How sessions with one agent are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionRule {
    /// What becomes of a message that comes too early, unless it says so itself.
    pub busy: WhenBusy,
    /// How long a new session is kept if nobody uses it: 1 s to 30 days.
    pub ttl: Duration,
}

impl Default for SessionRule {
    fn default() -> Self {
        Self { busy: WhenBusy::Queue, ttl: Duration::from_hours(1) }
    }
}
