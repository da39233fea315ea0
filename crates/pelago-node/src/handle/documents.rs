//! What a node is asked for and tells.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    time::Duration,
};

use bytes::Bytes;
use pelago_core::{
    connection::Connection,
    id::{Holder, MeshId, Name, NodeId, TaskId},
    record::{self, Offer, TaskState},
    time::LogTime,
};

use crate::{gossip::Sight, sessions::InSession};

/// How an agent is asked.
#[derive(Debug, Clone)]
pub struct AskOptions {
    /// How long to wait for the reply.
    pub wait: Duration,
    /// The same key with the same question gets the same reply, without a second turn.
    pub idempotency_key: Option<String>,
    /// The session that the question belongs to.
    pub session: Option<InSession>,
    /// Questions to an agent with the same text here go to the same host of it, as long as that is there: 1 to 256 bytes.
    pub affinity: Option<String>,
}

impl From<Duration> for AskOptions {
    fn from(wait: Duration) -> Self {
        Self { wait, idempotency_key: None, session: None, affinity: None }
    }
}

/// A task as it stands, with what it was given and made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskDetail {
    /// The task.
    pub task: record::Task,
    /// Name of the node that works on it.
    pub node: Option<Name>,
    /// Its input.
    pub input: Bytes,
    /// Its result, once it is done.
    pub result: Option<Bytes>,
}

/// An agent as it stands, with its state and timers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentDetail {
    /// The agent.
    pub agent: record::Agent,
    /// Name of its present or last holder.
    pub node: Option<Name>,
    /// Its state; `None` before its first change.
    pub state: Option<Bytes>,
    /// Its timers, in the order of their names. Lists leave them out.
    pub timers: Vec<record::Timer>,
}

/// A connection along which signals go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// The agent that it leads on from.
    pub from: Name,
    /// Where it leads, and what it takes.
    pub connection: Connection,
    /// The node whose configuration declares it; `None` if it was added while the mesh runs.
    pub declared_by: Option<Name>,
}

/// What was made of a request for a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enqueued {
    /// The task.
    pub task: TaskId,
    /// Whether an earlier request with the same key made it.
    pub existing: bool,
}

/// Part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next part begins; `None` at the end.
    pub next: Option<String>,
}

/// Which tasks to list. Newest first.
#[derive(Debug, Clone, Default)]
pub struct TaskFilter {
    /// Only in this state.
    pub state: Option<TaskState>,
    /// Only of this agent name.
    pub agent: Option<Name>,
    /// Only with such an id.
    pub ids: Option<RangeInclusive<TaskId>>,
    /// Where to go on.
    pub cursor: Option<String>,
    /// At most so many; 1 to 1,000.
    pub limit: usize,
}

/// Which agents to list, in the order of their names.
#[derive(Debug, Clone, Default)]
pub struct AgentFilter {
    /// Only of this name.
    pub name: Option<Name>,
    /// Where to go on.
    pub cursor: Option<String>,
    /// At most so many; 1 to 1,000.
    pub limit: usize,
}

/// A session as it stands, without its entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionDetail {
    /// The session.
    pub session: record::Session,
    /// Name of the node that its last turn ran on.
    pub node: Option<Name>,
}

/// Which sessions to list, in the order of their agents and names.
#[derive(Debug, Clone, Default)]
pub struct SessionFilter {
    /// Only those with the agent at this address.
    pub agent: Option<String>,
    /// Where to go on.
    pub cursor: Option<String>,
    /// At most so many; 1 to 1,000.
    pub limit: usize,
}

/// Which messages to list that could not be handled, in the order of their receivers.
#[derive(Debug, Clone, Default)]
pub struct BuriedFilter {
    /// Only those to the agent at this address.
    pub to: Option<String>,
    /// Where to go on.
    pub cursor: Option<String>,
    /// At most so many; 1 to 1,000.
    pub limit: usize,
}

/// A kind that some node of the mesh hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// Its name.
    pub name: Name,
    /// Its placement and room, per node.
    pub nodes: BTreeMap<Name, Offer>,
}

/// How the mesh and this node stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The mesh.
    pub mesh: MeshId,
    /// The mesh's name.
    pub mesh_name: Name,
    /// This node.
    pub node: Name,
    /// This run of it.
    pub holder: Holder,
    /// The node that leads, while a majority answers this one.
    pub leader: Option<Name>,
    /// Raft's term.
    pub term: u64,
    /// How often this process saw another leader, or the same one in another term.
    pub leader_changes: u64,
    /// Whether a majority of voters answers.
    pub quorum: bool,
    /// Nodes by name.
    pub nodes: Vec<record::Node>,
    /// How gossip sees them, and others that the log does not know here.
    pub sights: BTreeMap<NodeId, Sight>,
    /// Names of the voters.
    pub voters: Vec<Name>,
    /// How many nodes the mesh can lose right now without losing its majority: voters that this node has no link with
    /// count as lost.
    pub can_lose: u32,
    /// Names of the nodes that this one has a link with.
    pub linked: BTreeSet<Name>,
    /// Last entry of the log, as far as this node knows.
    pub last_index: u64,
    /// Last entry applied here.
    pub applied_index: u64,
    /// Time of that entry.
    pub log_time: LogTime,
    /// When a majority was last heard of: now, if it answers.
    pub heard: LogTime,
    /// Keyed agents in memory here.
    pub agents_active: u64,
    /// Tasks by state.
    pub tasks: BTreeMap<&'static str, u64>,
    /// Undelivered messages.
    pub messages_waiting: u64,
    /// Messages that could not be handled.
    pub messages_buried: u64,
    /// Turns ever committed.
    pub turns: u64,
    /// Whether this node is stopping.
    pub draining: bool,
    /// Whether this node takes no new work because its disk is full, or nearly.
    pub disk_full: bool,
}
