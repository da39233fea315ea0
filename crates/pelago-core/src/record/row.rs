//! The rows of the store: what is durable, and nothing else.
//!
//! Large values (an agent's state, a task's input and result) are not part of the structs: no rule looks at them, so
//! deciding never reads them.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use super::{
    chain::Chain,
    op::{BodyHash, PartOf, RetryPolicy, Sender},
};
use crate::{
    connection::Connection,
    id::{
        Address, AgentId, BootId, DirectoryId, Epoch, FencingToken, Holder, Incarnation, Name, NodeId, SessionId,
        TaskId, TimerName, TurnId, Version,
    },
    time::LogTime,
};

/// How an agent is placed in the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Placement {
    /// Lives and dies with its node.
    Resident,
    /// Stateless copies on every eligible node.
    Pool,
    /// One activation per key in the mesh, durable, placed by the mesh.
    Keyed,
}

/// What a node offers for one agent name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// How the agent is placed.
    pub placement: Placement,
    /// How many of its tasks may run on this node at a time.
    pub tasks_max: u32,
    /// The layer that its configuration puts it in: a note for people.
    pub layer: Option<Name>,
    /// Where signals go on that it handles on this node, as its configuration says, in order.
    pub connections: Vec<Connection>,
}

impl Offer {
    /// An offer of an agent without layer and connections.
    #[must_use]
    pub fn new(placement: Placement, tasks_max: u32) -> Self {
        Self { placement, tasks_max, layer: None, connections: Vec::new() }
    }
}

/// Whether a node takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeState {
    /// Takes work.
    Up,
    /// Its last run was given up, since it was not heard; the node may register again.
    Expired,
    /// Its last run ended in order; the node may register again.
    Left,
}

/// A node that was admitted to the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: Name,
    /// The data directory that was admitted.
    pub directory: DirectoryId,
    /// Its present run.
    pub incarnation: Incarnation,
    /// The process of that run.
    pub boot: BootId,
    /// Whether it takes part.
    pub state: NodeState,
    /// Where other nodes reach it.
    pub mesh_address: String,
    /// Where clients reach it; empty when it serves none.
    pub http_address: String,
    /// Zone, region, capabilities.
    pub labels: BTreeMap<String, String>,
    /// What it hosts.
    pub offers: BTreeMap<Name, Offer>,
    /// When its present run registered.
    pub registered: LogTime,
}

impl Node {
    /// Its present run.
    #[must_use]
    pub fn holder(&self) -> Holder {
        Holder { node: self.id, incarnation: self.incarnation }
    }

    /// Whether `incarnation` is a run of this node that may still act.
    #[must_use]
    pub fn is_live(&self, incarnation: Incarnation) -> bool {
        self.state == NodeState::Up && self.incarnation == incarnation
    }
}

/// Whether somebody holds an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Nobody does.
    Free,
    /// Its holder may commit turns.
    Active,
}

/// A keyed agent, without its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// Who it is.
    pub id: AgentId,
    /// Index of the entry that created it; never reused, so messages from before a re-creation are recognised.
    pub generation: u64,
    /// Number of its ownership.
    pub epoch: Epoch,
    /// Whether somebody holds it.
    pub phase: Phase,
    /// Its last holder.
    pub holder: Holder,
    /// Turns committed.
    pub version: Version,
    /// The last commit.
    pub last_turn: TurnId,
    /// Hash over the history of its commits.
    pub chain: Chain,
}

/// The id of a message: the same however often it is sent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId {
    /// Who sent it.
    pub sender: Sender,
    /// The sender's generation.
    pub generation: u64,
    /// Grows with each message of the sender.
    pub seq: u64,
}

/// A message that waits in an agent's inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who gets it.
    pub to: AgentId,
    /// Its id.
    pub id: MessageId,
    /// What it says.
    pub payload: Bytes,
    /// When it was committed.
    pub sent: LogTime,
    /// Why it could not be handled; `None` while it waits.
    pub buried: Option<String>,
}

impl MessageId {
    /// The id of what a timer says that was set by the commit after which its agent had the version `set`.
    #[must_use]
    pub fn of_timer(name: TimerName, set: Version) -> Self {
        Self { sender: Sender::Timer(name), generation: 0, seq: set.0 }
    }

    /// The timer whose message this is.
    #[must_use]
    pub fn timer(&self) -> Option<&TimerName> {
        if let Sender::Timer(name) = &self.sender { Some(name) } else { None }
    }
}

/// A timer of a keyed agent, without its payload. It is handled like a message of its agent to itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timer {
    /// Whose it is.
    pub agent: AgentId,
    /// Its name: an agent has one of a name.
    pub name: TimerName,
    /// The agent's version after the commit that set it, which tells it from others of its name.
    pub set: Version,
    /// Not to be handled before this.
    pub due: LogTime,
    /// Why it could not be handled; `None` while it waits.
    pub buried: Option<String>,
}

/// A client's idempotency key, within a namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdempotencyKey {
    /// The namespace.
    pub namespace: Name,
    /// The client's text.
    pub key: String,
}

/// A reply that is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Under which key.
    pub key: IdempotencyKey,
    /// Hash of the request it answers.
    pub request: BodyHash,
    /// The reply.
    pub reply: Bytes,
    /// When it is forgotten.
    pub expires: LogTime,
}

/// A session, without its entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Which.
    pub id: SessionId,
    /// When its first entry was appended.
    pub created: LogTime,
    /// When its last entry was appended.
    pub used: LogTime,
    /// How long it is kept after that, in milliseconds.
    pub ttl_ms: u64,
    /// Entries so far, those included that were dropped.
    pub entries: u64,
    /// Number of the first entry that is kept, from 1.
    pub first: u64,
    /// Bytes of the entries that are kept.
    pub bytes: u64,
    /// The last entry.
    pub last: TurnId,
    /// Where the last entry was made.
    pub holder: Holder,
}

impl Session {
    /// When it ends, if nobody uses it.
    #[must_use]
    pub fn expires(&self) -> LogTime {
        self.used.plus_millis(self.ttl_ms)
    }

    /// Whether nobody used it for too long, though it may not be forgotten yet.
    #[must_use]
    pub fn has_ended(&self, now: LogTime) -> bool {
        self.expires() <= now
    }
}

/// One entry of a session's history: a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionEntry {
    /// Whose it is.
    pub session: SessionId,
    /// Its number, from 1.
    pub n: u64,
    /// Tells it from any other.
    pub turn: TurnId,
    /// When it was appended.
    pub at: LogTime,
    /// The node that the turn ran on.
    pub node: NodeId,
    /// What the agent was given.
    pub said: Bytes,
    /// What it replied.
    pub replied: Bytes,
}

impl SessionEntry {
    /// What it counts for in its session.
    pub(super) fn bytes(&self) -> u64 {
        (self.said.len() + self.replied.len()) as u64
    }
}

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TaskState {
    /// Waits for a node, or for its time.
    Queued,
    /// A node works on it.
    Running,
    /// It has its one result.
    Done,
    /// Its attempts are used up, or no retry can help.
    Dead,
    /// It was called off.
    Cancelled,
}

impl TaskState {
    /// Whether nothing more happens to it by itself.
    #[must_use]
    pub fn is_ended(self) -> bool {
        match self {
            Self::Queued | Self::Running => false,
            Self::Done | Self::Dead | Self::Cancelled => true,
        }
    }
}

/// A task, without its input and result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// Who does it.
    pub agent: AgentId,
    /// How that agent is placed.
    pub placement: Placement,
    /// The node it is pinned to.
    pub node: Option<NodeId>,
    /// Where it stands.
    pub state: TaskState,
    /// 0 is the most urgent.
    pub priority: u8,
    /// Not to be assigned before this.
    pub run_at: LogTime,
    /// What to do when an attempt fails.
    pub policy: RetryPolicy,
    /// Attempts begun.
    pub attempt: u32,
    /// The present attempt, or the last one if it ended by itself. `None` once an attempt was taken away, so that
    /// its late result is refused.
    pub token: Option<FencingToken>,
    /// Who works on it; `None` unless it is running.
    pub holder: Option<Holder>,
    /// The key under which the same request is the same task.
    pub idempotency: Option<IdempotencyKey>,
    /// Hash of agent and input.
    pub body: BodyHash,
    /// What it is part of, if anything.
    pub part_of: Option<Arc<PartOf>>,
    /// When it was enqueued.
    pub created: LogTime,
    /// When it changed its state.
    pub changed: LogTime,
    /// Events so far.
    pub events: u64,
    /// Progress notes of the present attempt so far.
    pub notes: u64,
    /// Why the last attempt failed, or why it was called off.
    pub reason: Option<String>,
}

/// What happened to a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// It waits.
    Queued,
    /// An attempt began.
    Running {
        /// The node.
        node: NodeId,
    },
    /// The attempt had something to say.
    Progress(Bytes),
    /// The attempt failed or was lost; another will follow.
    Retried {
        /// Why.
        reason: String,
    },
    /// It has its result.
    Done,
    /// It failed for good.
    Dead {
        /// Why.
        reason: String,
    },
    /// It was called off.
    Cancelled {
        /// Why.
        reason: String,
    },
}

/// One numbered event of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskEvent {
    /// The task.
    pub task: TaskId,
    /// Its number, from 1, across attempts.
    pub n: u64,
    /// When.
    pub at: LogTime,
    /// During which attempt.
    pub attempt: u32,
    /// What.
    pub kind: EventKind,
}

/// One change to the rows. Applied in order, within the transaction of its batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Puts a node.
    Node(Node),
    /// Deletes a node.
    NodeGone(NodeId),
    /// Puts an agent, and its state when there is a new one.
    Agent {
        /// The agent.
        agent: Agent,
        /// The new state.
        state: Option<Bytes>,
    },
    /// Puts a message.
    Message(Message),
    /// Deletes a message.
    MessageGone {
        /// Whose inbox.
        to: AgentId,
        /// Which message.
        id: MessageId,
    },
    /// Puts a timer, in the place of any of its name.
    Timer {
        /// The timer.
        timer: Timer,
        /// What its agent is given when it is due.
        payload: Bytes,
    },
    /// Says why a timer could not be handled.
    TimerBuried {
        /// Whose it is.
        agent: AgentId,
        /// Which.
        name: TimerName,
        /// Why.
        reason: String,
    },
    /// Deletes a timer.
    TimerGone {
        /// Whose it was.
        agent: AgentId,
        /// Which.
        name: TimerName,
    },
    /// Puts a reply.
    Reply(Reply),
    /// Deletes a reply.
    ReplyGone(IdempotencyKey),
    /// Inserts a task with its input.
    NewTask {
        /// The task.
        task: Arc<Task>,
        /// Its input.
        input: Bytes,
    },
    /// Updates a task, and sets its result when it is done.
    Task {
        /// The task.
        task: Arc<Task>,
        /// Its result.
        result: Option<Bytes>,
    },
    /// Adds an event.
    Event(TaskEvent),
    /// Deletes a task with its input, result and events.
    TaskGone(TaskId),
    /// Inserts or replaces a connection that was added while the mesh runs.
    Connection {
        /// The agent that it leads on from.
        from: Name,
        /// Where it leads.
        connection: Connection,
    },
    /// Deletes such a connection.
    ConnectionGone {
        /// The agent that it led on from.
        from: Name,
        /// Where it led.
        to: Address,
    },
    /// Inserts or replaces a session. It is new if this is its first entry.
    Session(Session),
    /// Adds an entry to a session.
    SessionEntry(SessionEntry),
    /// Deletes the oldest entries of a session.
    SessionEntriesGone {
        /// Whose.
        session: SessionId,
        /// Number of the first that stays.
        before: u64,
    },
    /// Deletes a session with its entries.
    SessionGone(SessionId),
}

impl Write {
    /// Whether this write changes that task.
    pub(super) fn is_of_task(&self, id: TaskId) -> bool {
        matches!(self, Self::NewTask { task, .. } | Self::Task { task, .. } if task.id == id)
    }

    /// Whether this write takes that message out of its inbox, or from among the timers.
    pub(super) fn takes_message(&self, id: &MessageId) -> bool {
        match self {
            Self::MessageGone { id: gone, .. } => gone == id,
            Self::Message(message) => message.buried.is_some() && message.id == *id,
            Self::TimerBuried { name, .. } | Self::TimerGone { name, .. } => id.timer() == Some(name),
            Self::Node(_)
            | Self::NodeGone(_)
            | Self::Agent { .. }
            | Self::Timer { .. }
            | Self::Reply(_)
            | Self::ReplyGone(_)
            | Self::NewTask { .. }
            | Self::Task { .. }
            | Self::Event(_)
            | Self::TaskGone(_)
            | Self::Connection { .. }
            | Self::ConnectionGone { .. }
            | Self::Session(_)
            | Self::SessionEntry(_)
            | Self::SessionEntriesGone { .. }
            | Self::SessionGone(_) => false,
        }
    }

    /// Whether this write deletes a timer.
    pub(super) fn is_end_of_timer(&self) -> bool {
        matches!(self, Self::TimerGone { .. })
    }

    /// Whether this write remembers a reply under that key.
    pub(super) fn is_reply_to(&self, key: &IdempotencyKey) -> bool {
        matches!(self, Self::Reply(reply) if reply.key == *key)
    }

    /// The task that this write inserts.
    pub(super) fn new_task(&self) -> Option<&Arc<Task>> {
        if let Self::NewTask { task, .. } = self { Some(task) } else { None }
    }
}

/// The rows as they are, earlier items of the same batch included.
pub trait Rows {
    /// Why a read failed. Never part of an outcome: the voters would diverge.
    type Error;

    /// The node with this id.
    ///
    /// # Errors
    /// When the store cannot be read; so for all methods.
    fn node(&self, id: NodeId) -> Result<Option<Arc<Node>>, Self::Error>;
    /// The node with this name.
    fn node_named(&self, name: &Name) -> Result<Option<Arc<Node>>, Self::Error>;
    /// An agent, without its state.
    fn agent(&self, id: &AgentId) -> Result<Option<Agent>, Self::Error>;
    /// One message of an inbox.
    fn message(&self, to: &AgentId, id: &MessageId) -> Result<Option<Message>, Self::Error>;
    /// How many messages wait in an inbox.
    fn inbox_len(&self, to: &AgentId) -> Result<u64, Self::Error>;
    /// Up to `rows_max` messages that an agent could not handle, in the same order in every store.
    fn messages_buried(&self, to: &AgentId, rows_max: u32) -> Result<Vec<MessageId>, Self::Error>;
    /// A timer of an agent.
    fn timer(&self, agent: &AgentId, name: &TimerName) -> Result<Option<Timer>, Self::Error>;
    /// How many timers an agent has, buried ones included.
    fn timers_len(&self, agent: &AgentId) -> Result<u64, Self::Error>;
    /// A remembered reply.
    fn reply(&self, key: &IdempotencyKey) -> Result<Option<Reply>, Self::Error>;
    /// Up to `rows_max` keys of replies that expire before `before`, in the order of their expiry and key.
    fn replies_expired(&self, before: LogTime, rows_max: u32) -> Result<Vec<IdempotencyKey>, Self::Error>;
    /// A task.
    fn task(&self, id: TaskId) -> Result<Option<Arc<Task>>, Self::Error>;
    /// The task enqueued under this key.
    fn task_keyed(&self, key: &IdempotencyKey) -> Result<Option<Arc<Task>>, Self::Error>;
    /// The tasks that this run of a node works on, in the order of their ids.
    fn tasks_held_by(&self, incarnation: Incarnation) -> Result<Vec<Arc<Task>>, Self::Error>;
    /// Up to `rows_max` tasks that ended before `before`, with or without an idempotency key, in the order of their
    /// last change and id.
    fn tasks_ended(&self, before: LogTime, keyed: bool, rows_max: u32) -> Result<Vec<TaskId>, Self::Error>;
    /// The connections of an agent that were added while the mesh runs, in the order of where they lead, as text.
    fn connections(&self, namespace: &Name, from: &Name) -> Result<Vec<Connection>, Self::Error>;
    /// A session, one that has ended and is not forgotten yet included.
    fn session(&self, id: &SessionId) -> Result<Option<Session>, Self::Error>;
    /// How many sessions there are.
    fn sessions_len(&self) -> Result<u64, Self::Error>;
    /// An entry of a session.
    fn session_entry(&self, id: &SessionId, n: u64) -> Result<Option<SessionEntry>, Self::Error>;
    /// Up to `rows_max` sessions that end before `before`, in the order of their end and id.
    fn sessions_ended(&self, before: LogTime, rows_max: u32) -> Result<Vec<Session>, Self::Error>;
}
