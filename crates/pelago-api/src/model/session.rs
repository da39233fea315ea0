//! Sessions as the store has them.

use pelago_core::{id::SessionId, record};
use pelago_node::handle::SessionDetail;
use serde::{Deserialize, Serialize};

use super::{Payload, Timestamp};

/// A session as it stands, without its history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The address of the agent.
    pub agent: String,
    /// Its name.
    pub session: String,
    /// The node that its last turn ran on, and the next one will, if that is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// When its first turn was appended.
    pub created: Timestamp,
    /// When its last turn was appended.
    pub used: Timestamp,
    /// When it ends, if nobody uses it.
    pub expires: Timestamp,
    /// Turns so far.
    pub entries: u64,
    /// How many of them are kept: the latest.
    pub kept: u64,
    /// Bytes of what is kept.
    pub bytes: u64,
}

impl From<SessionDetail> for Session {
    fn from(detail: SessionDetail) -> Self {
        let SessionDetail { session, node } = detail;
        let expires = session.expires().into();
        let record::Session { id, created, used, ttl_ms: _, entries, first, bytes, last: _, holder: _ } = session;
        let SessionId { agent, name } = id;
        Self {
            agent: agent.to_string(),
            session: name.to_string(),
            node: node.map(|name| name.to_string()),
            created: created.into(),
            used: used.into(),
            expires,
            entries,
            kept: entries + 1 - first,
            bytes,
        }
    }
}

/// Sessions, in the order of their agents and names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionList {
    /// The sessions.
    pub items: Vec<Session>,
    /// The `cursor` of the next part; none at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// One turn of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Its number, from 1.
    pub n: u64,
    /// When it was appended.
    pub at: Timestamp,
    /// The node that it ran on.
    pub node: String,
    /// What the agent was asked.
    pub said: Payload,
    /// What it replied.
    pub replied: Payload,
}

impl Said {
    /// The turn of this entry, which ran on the node of this name.
    #[must_use]
    pub fn of_entry(entry: record::SessionEntry, node: String) -> Self {
        let record::SessionEntry { session: _, n, turn: _, at, node: _, said, replied } = entry;
        Self { n, at: at.into(), node, said: said.into(), replied: replied.into() }
    }
}

/// A session with part of its history, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionHistory {
    /// The session.
    #[serde(flatten)]
    pub session: Session,
    /// The turns.
    pub items: Vec<Said>,
    /// The `after` of the next part; none at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// A session has ended, and its history is forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedSession {
    /// The address of the agent, as it was given.
    pub agent: String,
    /// Its name.
    pub session: String,
}
