//! The documents that the API and the command line show: one struct each.
//!
//! They are the versioned outside of the node's types, so each is filled in one place, by taking the inner type apart
//! field by field: a new field there does not compile until somebody decides whether it is shown. Fields are only
//! ever added. What has no value is left out. The API sends a document as it is; the command line puts a `kind`
//! before it ([`Tagged`]), since there it stands alone.

mod agent;
mod node;
mod payload;
mod session;
mod signal;
mod task;
mod time;
mod topic;
pub mod words;

use serde::Serialize;

pub use agent::{Agent, AgentList, DeadMessage, DeadMessageList, Dismissed, Reached, SendReceipt, Timer, Told};
pub use node::{
    Health, HealthAgents, HealthMesh, Liveness, Load, Node, NodeList, Offer, Readiness, RemovedNode, Seen, Status,
};
pub use payload::Payload;
pub use session::{EndedSession, Said, Session, SessionHistory, SessionList};
pub use signal::{Branch, Connection, ConnectionList, Disconnected, NewConnection, NewSignal, Signal};
pub use task::{
    ATTEMPTS_MAX, Cancel, Enqueued, Happening, NewTask, PRIORITY_MAX, Task, TaskEvent, TaskEventList, TaskList,
};
pub use time::Timestamp;
pub use topic::{Moved, Published};

pub use crate::problem::Problem;

/// Something that is shown as one JSON object.
pub trait Document: Serialize {
    /// What it is called where it stands alone.
    const KIND: &'static str;
}

macro_rules! documents {
    ($($name:ident),* $(,)?) => {
        $(impl Document for $name { const KIND: &'static str = stringify!($name); })*
    };
}

documents![
    Agent,
    AgentList,
    Connection,
    ConnectionList,
    DeadMessageList,
    Disconnected,
    Dismissed,
    EndedSession,
    Enqueued,
    Health,
    Liveness,
    Moved,
    Node,
    NodeList,
    Problem,
    Published,
    Reached,
    Readiness,
    RemovedNode,
    SendReceipt,
    Session,
    SessionHistory,
    SessionList,
    Signal,
    Status,
    Task,
    TaskEvent,
    TaskEventList,
    TaskList,
    Told,
];

/// A document that says what it is: `{"kind":"Task","id":…}`.
#[derive(Debug, Serialize)]
pub struct Tagged<'a, D> {
    kind: &'static str,
    #[serde(flatten)]
    document: &'a D,
}

impl<'a, D: Document> Tagged<'a, D> {
    /// Puts the kind before `document`.
    pub fn new(document: &'a D) -> Self {
        Self { kind: D::KIND, document }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tagged_document_begins_with_its_kind() {
        let receipt = SendReceipt { to: "cart:alice".into(), existing: false };
        let text = serde_json::to_string(&Tagged::new(&receipt)).expect("a document is JSON");
        assert_eq!(text, r#"{"kind":"SendReceipt","to":"cart:alice","existing":false}"#);
    }
}
