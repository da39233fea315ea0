//! What a node does for whoever holds its [`Handle`]: the API, and programs that embed it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use pelago_core::{
    id::{AgentId, Holder, Invalid, MeshId, Name, NodeId, TaskId},
    link::Role,
    record::{self, BodyHash, IdempotencyKey, MessageBody, Offer, Op, Outcome, Placement, TaskEvent, TaskState},
    time::LogTime,
};
use pelago_net::Links;
use pelago_store::{
    ProposeError,
    sqlite::{self, Reader, View},
};
use tokio::time::Instant;

pub use pelago_wire::client::Why;

use crate::{
    committer,
    host::TaskRequest,
    ids,
    mesh::{Forward, Held, Removal},
    metrics::Metrics,
    raft::Consensus,
    scheduler,
    services::{self, NodeServices},
    view,
    waiters::{End, TaskWaiters},
};

/// The most rows of one page.
const PAGE_MAX: usize = 1_000;

/// How an agent is asked.
#[derive(Debug, Clone)]
pub struct AskOptions {
    /// How long to wait for the reply.
    pub wait: Duration,
    /// The same key with the same question gets the same reply, without a second turn.
    pub idempotency_key: Option<String>,
}

impl From<Duration> for AskOptions {
    fn from(wait: Duration) -> Self {
        Self { wait, idempotency_key: None }
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
}

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
    /// A part is too large. Nothing was done.
    #[error("{0}")]
    TooLarge(String),
    /// A list's cursor is not one that was given out.
    #[error("the cursor is not valid")]
    BadCursor,
    /// A queue or mailbox is full. Nothing was done; try again later.
    #[error("{0}")]
    Busy(String),
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
    #[error("the control log does not answer")]
    NoQuorum,
    /// The leader's disk is full. Nothing was done.
    #[error("no space is left on the disk of the leader")]
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
            Self::TooLarge(_) => Why::TooLarge,
            Self::BadCursor => Why::BadCursor,
            Self::Busy(_) => Why::Busy,
            Self::AgentFailed { hopeless: false, .. } => Why::AgentFailed,
            Self::AgentFailed { hopeless: true, .. } => Why::AgentRefused,
            Self::Timeout { .. } => Why::Timeout,
            Self::NoQuorum => Why::NoQuorum,
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

/// What a node does for others. Cheap to clone.
///
/// Reads are strict: they see all that was acknowledged anywhere before they began. [`Handle::stale`] reads what this
/// node knows, which is all that a node without a majority can do.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    stale: bool,
}

struct Shared {
    parts: Parts,
    stopping: AtomicBool,
    disk_full: AtomicBool,
}

/// What a handle is made of.
pub(crate) struct Parts {
    pub(crate) mesh: MeshId,
    pub(crate) mesh_name: Name,
    pub(crate) name: Name,
    pub(crate) holder: Holder,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) services: Arc<NodeServices>,
    pub(crate) scheduler: scheduler::Handle,
    pub(crate) waiters: Arc<TaskWaiters>,
    pub(crate) reader: Arc<Reader>,
    pub(crate) view: view::Reader,
    pub(crate) consensus: Arc<Consensus>,
    pub(crate) committer: committer::Handle,
    pub(crate) forward: Forward,
    pub(crate) removal: Removal,
    pub(crate) lease: Held,
    pub(crate) links: Links,
}

impl Handle {
    pub(crate) fn new(parts: Parts) -> Self {
        let shared = Shared { parts, stopping: AtomicBool::new(false), disk_full: AtomicBool::new(false) };
        Self { shared: Arc::new(shared), stale: false }
    }

    /// The same, but its reads answer with what this node has applied, however old that is.
    #[must_use]
    pub fn stale(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), stale: true }
    }

    /// The node's name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.parts().name
    }

    /// The name of a node, once this one has heard of it.
    #[must_use]
    pub fn name_of(&self, node: NodeId) -> Option<Name> {
        self.parts().view.get().name_of(node)
    }

    /// What the node counts, as of now.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        let Parts { metrics, consensus, .. } = self.parts();
        let standing = consensus.standing();
        metrics.leads.set(i64::from(standing.leads));
        metrics.consensus_term.set(standing.term);
        metrics.applied_index.set(consensus.progress().index());
        metrics.log_flushes.inc_by(consensus.flushes().saturating_sub(metrics.log_flushes.get()));
        metrics
    }

    /// Whether the node takes requests: a majority answers it, and it is not stopping.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.is_stopping() && self.has_quorum()
    }

    fn has_quorum(&self) -> bool {
        self.parts().lease.is_valid() && self.parts().consensus.leader_name().is_some()
    }

    /// Whether the node takes no more work.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::Acquire)
    }

    /// The kinds that nodes of the mesh host.
    #[must_use]
    pub fn declared(&self) -> Vec<Declared> {
        self.parts().view.get().declared()
    }

    /// How the mesh and this node stand, as this node knows.
    ///
    /// # Errors
    /// [`Error::Store`] when the rows cannot be read.
    pub async fn status(&self) -> Result<Status, Error> {
        let (totals, nodes) = self.stale().read(|view| Ok((view.totals()?, view.nodes()?))).await?;
        let parts = self.parts();
        let standing = parts.consensus.standing();
        let voters = standing.voters.iter().filter_map(|name| Name::new(name).ok()).collect::<Vec<_>>();
        let majority = voters.len() / 2 + 1;
        let links = parts.links.all();
        let links = links.iter().map(pelago_net::Handle::terms).filter(|terms| terms.other.role == Role::Main);
        let linked: BTreeSet<Name> = links.map(|terms| terms.other.node_name.clone()).collect();
        let there = voters.iter().filter(|name| **name == parts.name || linked.contains(name)).count();
        Ok(Status {
            mesh: parts.mesh,
            mesh_name: parts.mesh_name.clone(),
            node: parts.name.clone(),
            holder: parts.holder,
            // Who led before is not who leads.
            leader: standing.leader.as_deref().filter(|_| self.has_quorum()).and_then(|name| Name::new(name).ok()),
            term: standing.term,
            leader_changes: parts.metrics.leader_changes.get(),
            quorum: self.has_quorum(),
            nodes,
            can_lose: u32::try_from(there.saturating_sub(majority)).unwrap_or(u32::MAX),
            voters,
            linked,
            last_index: standing.last_index,
            applied_index: parts.consensus.progress().index(),
            log_time: parts.consensus.log_time(),
            agents_active: u64::try_from(parts.metrics.agents_active.get()).unwrap_or(0),
            tasks: BTreeMap::from([
                (TaskState::Queued.name(), totals.tasks_queued),
                (TaskState::Running.name(), totals.tasks_running),
                (TaskState::Done.name(), totals.tasks_done),
                (TaskState::Dead.name(), totals.tasks_dead),
                (TaskState::Cancelled.name(), totals.tasks_cancelled),
            ]),
            messages_waiting: totals.messages_waiting,
            messages_buried: totals.messages_buried,
            turns: totals.turns,
            draining: self.is_stopping(),
        })
    }

    /// Removes a node that is gone for good: it has no vote any more, its name is free, and its data directory is refused.
    /// Returns what it was.
    ///
    /// # Errors
    /// [`Error::UnknownNode`]; [`Error::NodeUp`] as long as it takes part; [`Error::NoQuorum`] when the others are no
    /// majority, and it may be removed all the same: ask again.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the removal in doubt.
    pub async fn remove_node(&self, name: &Name) -> Result<record::Node, Error> {
        let nodes = self.read(|view| view.nodes()).await?;
        let row = nodes.into_iter().find(|node| node.name == *name).ok_or_else(|| Error::UnknownNode(name.clone()))?;
        match self.parts().removal.remove(row.id).await?.not_refused() {
            Ok(_) => Ok(row),
            Err(record::Refusal::NodeUp(_)) => Err(Error::NodeUp(name.clone())),
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Asks an agent and waits for its reply.
    ///
    /// # Errors
    /// [`Error`] says what became of the question.
    ///
    /// # Cancel safety
    /// Dropping the future gives the reply up; the turn may still happen.
    pub async fn ask(&self, to: &str, payload: Bytes, options: AskOptions) -> Result<Bytes, Error> {
        self.takes_work()?;
        let services = &self.parts().services;
        let (address, placement) = services.find(&Name::default_namespace(), to)?;
        let Some(key) = options.idempotency_key else {
            return services.question(address, placement, payload, options.wait, None).await;
        };
        if placement != Placement::Keyed {
            let name = &address.agent.name;
            return Err(Error::WrongKey(format!(
                "agent {name} keeps no replies: an idempotency key needs a keyed agent"
            )));
        }
        let key = IdempotencyKey { namespace: address.agent.namespace.clone(), key };
        let request = BodyHash::of(&address.agent, &payload);
        let lookup = key.clone();
        let (now, known) = (self.log_time(), self.read(move |view| view.reply(&lookup)).await?);
        match known.filter(|reply| reply.expires > now) {
            Some(reply) if reply.request == request => Ok(reply.reply),
            Some(_) => Err(Error::Conflict { key: key.key }),
            None => services.question(address, placement, payload, options.wait, Some(key)).await,
        }
    }

    /// Sends a durable message to a keyed agent. Says whether an earlier one had the same key, and so was this one.
    ///
    /// # Errors
    /// [`Error`] says what became of the message.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the message in doubt.
    pub async fn send(&self, to: &str, payload: Bytes, idempotency_key: Option<String>) -> Result<bool, Error> {
        self.takes_work()?;
        let (address, placement) = self.parts().services.find(&Name::default_namespace(), to)?;
        if placement != Placement::Keyed {
            let name = &address.agent.name;
            return Err(Error::WrongKey(format!("agent {name} has no inbox: ask it, or give it a task")));
        }
        services::fits("the message", &payload)?;
        let namespace = address.agent.namespace.clone();
        let request = BodyHash::of(&address.agent, &payload);
        let idempotency = idempotency_key.map(|key| (IdempotencyKey { namespace, key }, request));
        let body = MessageBody { to: address.agent, payload };
        let op = Op::Send(record::Send { id: ids::random(), idempotency, body });
        let outcome = self.propose(op).await?.not_refused()?;
        Ok(matches!(outcome, Outcome::Duplicate { .. }))
    }

    /// Enqueues a task.
    ///
    /// # Errors
    /// [`Error`] says what became of it.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the task in doubt; with an idempotency key it can be enqueued again.
    pub async fn enqueue(&self, to: &str, input: Bytes, request: TaskRequest) -> Result<Enqueued, Error> {
        self.takes_work()?;
        let services = &self.parts().services;
        let (address, _) = services.find(&Name::default_namespace(), to)?;
        let task = services.task(address, input, request)?;
        let id = task.id;
        let outcome = self.parts().scheduler.enqueue(task).await?.not_refused()?;
        let earlier = if let Outcome::Existing { task } = outcome { Some(task) } else { None };
        Ok(Enqueued { task: earlier.unwrap_or(id), existing: earlier.is_some() })
    }

    /// A task as it stands. With `wait`, waits at most so long for it to end.
    ///
    /// # Errors
    /// [`Error::UnknownTask`], [`Error::Store`].
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn task(&self, id: TaskId, wait: Option<Duration>) -> Result<TaskDetail, Error> {
        let deadline = wait.map(|wait| Instant::now() + wait);
        loop {
            let end = self.parts().waiters.ended.next(id);
            let whole = self.read(move |view| view.task(id)).await?.ok_or(Error::UnknownTask(id))?;
            let over = match deadline {
                Some(deadline) if !whole.task.state.is_ended() => end.before(deadline).await.is_none(),
                Some(_) | None => true,
            };
            if over {
                let sqlite::TaskWhole { task, input, result } = whole;
                let node = task.holder.and_then(|holder| self.parts().view.get().name_of(holder.node));
                return Ok(TaskDetail { task, node, input, result });
            }
        }
    }

    /// Enqueues a task and waits at most `wait` for its end. What the commits of both say is enough: no row is read.
    ///
    /// # Errors
    /// [`Error`] says what became of it; [`Error::Timeout`] when it goes on, or may do so.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the task in doubt; with an idempotency key it can be run again.
    pub(crate) async fn run(&self, to: &str, input: Bytes, request: TaskRequest, wait: Duration) -> Result<End, Error> {
        self.takes_work()?;
        let deadline = Instant::now() + wait;
        let waited_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let services = &self.parts().services;
        let (address, _) = services.find(&Name::default_namespace(), to)?;
        let task = services.task(address, input, request)?;
        let id = task.id;
        let end = self.parts().waiters.ended.next(id);
        let enqueued = tokio::time::timeout_at(deadline, self.parts().scheduler.enqueue(task)).await;
        let outcome = enqueued.map_err(|_| Error::Timeout { waited_ms })??.not_refused()?;
        let earlier = if let Outcome::Existing { task } = outcome { Some(task) } else { None };
        if earlier.is_none() {
            match end.before(deadline).await {
                Some(Some(end)) => return Ok(end),
                // The rows tell.
                Some(None) => {}
                None => return Err(Error::Timeout { waited_ms }),
            }
        }
        self.end(earlier.unwrap_or(id), deadline.saturating_duration_since(Instant::now())).await
    }

    /// Waits at most `wait` for the end of a task.
    ///
    /// # Errors
    /// [`Error::Timeout`] when it goes on, [`Error::UnknownTask`], [`Error::Store`].
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(crate) async fn end(&self, id: TaskId, wait: Duration) -> Result<End, Error> {
        let deadline = Instant::now() + wait;
        let end = self.parts().waiters.ended.next(id);
        // Rows that are behind are enough to know that a task is done, or that its end will be told: what a majority
        // has to say matters only for one that this node knows not, or that may have been retried.
        let here = self.stale().read(move |view| view.task(id)).await?;
        match here.as_ref().map(|whole| (whole.task.state, End::of(&whole.task, whole.result.as_ref()))) {
            Some((TaskState::Done, Some(end))) => return Ok(end),
            Some((TaskState::Queued | TaskState::Running, _)) => {
                if let Some(Some(end)) = end.before(deadline).await {
                    return Ok(end);
                }
            }
            Some((TaskState::Done | TaskState::Dead | TaskState::Cancelled, _)) | None => {}
        }
        let TaskDetail { task, result, .. } =
            self.task(id, Some(deadline.saturating_duration_since(Instant::now()))).await?;
        let waited_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        End::of(&task, result.as_ref()).ok_or(Error::Timeout { waited_ms })
    }

    /// Lists tasks, the newest first.
    ///
    /// # Errors
    /// [`Error::BadCursor`], [`Error::Store`].
    pub async fn tasks(&self, filter: TaskFilter) -> Result<Page<record::Task>, Error> {
        let TaskFilter { state, agent, cursor, limit } = filter;
        let (after, rows) = (parse_cursor(cursor)?, page_rows(limit));
        let filter = sqlite::TaskFilter { namespace: Name::default_namespace(), state, agent };
        let page = self.read(move |view| view.tasks(&filter, after.as_ref(), rows)).await?;
        Ok(Page { items: page.rows, next: page.next.map(|cursor| cursor.to_string()) })
    }

    /// Events of a task after number `after`. With `wait`, waits at most so long for one.
    ///
    /// # Errors
    /// [`Error::UnknownTask`], [`Error::Store`].
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn events(
        &self,
        id: TaskId,
        after: u64,
        limit: usize,
        wait: Option<Duration>,
    ) -> Result<Vec<TaskEvent>, Error> {
        let deadline = wait.map(|wait| Instant::now() + wait);
        let rows = page_rows(limit);
        loop {
            let event = self.parts().waiters.told.next(id);
            let (task, events) = self.read(move |view| Ok((view.task(id)?, view.events(id, after, rows)?))).await?;
            let ended = task.ok_or(Error::UnknownTask(id))?.task.state.is_ended();
            let over = match deadline {
                Some(deadline) if events.is_empty() && !ended => event.before(deadline).await.is_none(),
                Some(_) | None => true,
            };
            if over {
                return Ok(events);
            }
        }
    }

    /// Calls a task off.
    ///
    /// # Errors
    /// [`Error::UnknownTask`], [`Error::WrongState`] when it has ended, or why the log does not answer.
    pub async fn cancel(&self, id: TaskId, reason: String) -> Result<(), Error> {
        self.commit(Op::Cancel(record::Cancel { task: id, reason })).await
    }

    /// Starts a dead or cancelled task afresh.
    ///
    /// # Errors
    /// [`Error::UnknownTask`], [`Error::WrongState`] when it is neither, or why the log does not answer.
    pub async fn retry(&self, id: TaskId) -> Result<(), Error> {
        self.takes_work()?;
        self.commit(Op::Retry(record::Retry { task: id })).await
    }

    /// Lists keyed agents, in the order of their names, without their states.
    ///
    /// # Errors
    /// [`Error::BadCursor`], [`Error::Store`].
    pub async fn agents(&self, filter: AgentFilter) -> Result<Page<AgentDetail>, Error> {
        let AgentFilter { name, cursor, limit } = filter;
        let (after, rows) = (parse_cursor(cursor)?, page_rows(limit));
        let name = name.map_or(sqlite::NameFilter::Any, sqlite::NameFilter::Is);
        let filter = sqlite::AgentFilter { namespace: Name::default_namespace(), name, held_by: None };
        let page = self.read(move |view| view.agents(&filter, after.as_ref(), rows)).await?;
        let items = page.rows.into_iter().map(|agent| self.detail(agent, None, Vec::new())).collect();
        Ok(Page { items, next: page.next.map(|cursor| cursor.to_string()) })
    }

    /// Lists messages that failed too often and are tried no more.
    ///
    /// # Errors
    /// [`Error::Invalid`] or [`Error::UnknownAgent`] for the address, [`Error::BadCursor`], [`Error::Store`].
    pub async fn buried(&self, filter: BuriedFilter) -> Result<Page<record::Message>, Error> {
        let BuriedFilter { to, cursor, limit } = filter;
        let (after, rows) = (parse_cursor(cursor)?, page_rows(limit));
        let find = |to: String| self.parts().services.find(&Name::default_namespace(), &to);
        let to = to.map(find).transpose()?.map(|(address, _)| address.agent);
        let read = self.read(move |view| match view.buried(to.as_ref(), after.as_ref(), rows) {
            Err(sqlite::Error::Cursor(_)) => Ok(None),
            page => page.map(Some),
        });
        let page = read.await?.ok_or(Error::BadCursor)?;
        Ok(Page { items: page.rows, next: page.next.map(|cursor| cursor.to_string()) })
    }

    /// A keyed agent with its state and timers.
    ///
    /// # Errors
    /// [`Error::NoState`] when it never was, [`Error::UnknownAgent`], [`Error::Store`].
    pub async fn agent(&self, to: &str) -> Result<AgentDetail, Error> {
        let (address, placement) = self.parts().services.find(&Name::default_namespace(), to)?;
        let id = address.agent;
        if placement != Placement::Keyed {
            return Err(Error::WrongKey(format!("agent {} has no durable state", id.name)));
        }
        let wanted = id.clone();
        let (whole, timers) = self.read(move |view| Ok((view.agent(&wanted)?, view.timers(&wanted)?))).await?;
        let sqlite::AgentWhole { agent, state } = whole.ok_or(Error::NoState(id))?;
        Ok(self.detail(agent, state, timers))
    }

    /// The time of the log.
    pub(crate) fn log_time(&self) -> LogTime {
        self.parts().consensus.log_time()
    }

    pub(crate) async fn propose(&self, op: Op) -> Result<Outcome, Error> {
        Ok(self.parts().committer.propose(op).await?)
    }

    /// This run of the node.
    pub(crate) fn holder(&self) -> Holder {
        self.parts().holder
    }

    /// Whether another node takes part.
    pub(crate) fn has_others(&self) -> bool {
        let parts = self.parts();
        parts.view.get().live().any(|node| node.id != parts.holder.node)
    }

    /// Whether this node leads the mesh.
    pub(crate) fn leads(&self) -> bool {
        self.parts().consensus.standing().leads
    }

    /// Lets another voter lead. Says whether one does.
    pub(crate) async fn hand_over(&self) -> bool {
        self.parts().consensus.hand_over().await
    }

    /// Sees to it that no more tasks are given to this node.
    pub(crate) async fn take_no_tasks(&self) {
        self.parts().lease.drain();
        self.parts().scheduler.node_gone(self.parts().holder).await;
    }

    pub(crate) fn begin_to_stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
    }

    pub(crate) fn set_disk_full(&self, full: bool) {
        if self.shared.disk_full.swap(full, Ordering::AcqRel) != full {
            tracing::warn!(full, "free space of the data directory crossed store.disk_free_bytes_min");
        }
    }

    fn parts(&self) -> &Parts {
        &self.shared.parts
    }

    fn takes_work(&self) -> Result<(), Error> {
        if self.is_stopping() {
            return Err(Error::Stopping);
        }
        if self.shared.disk_full.load(Ordering::Acquire) {
            return Err(Error::DiskFull);
        }
        Ok(())
    }

    async fn commit(&self, op: Op) -> Result<(), Error> {
        self.propose(op).await?.not_refused()?;
        Ok(())
    }

    fn detail(&self, agent: record::Agent, state: Option<Bytes>, timers: Vec<record::Timer>) -> AgentDetail {
        let node = self.parts().view.get().name_of(agent.holder.node);
        AgentDetail { agent, node, state, timers }
    }

    /// Runs a query where blocking is allowed, once this node knows what it has to.
    async fn read<T: std::marker::Send + 'static>(
        &self,
        query: impl FnOnce(&View<'_>) -> Result<T, sqlite::Error> + std::marker::Send + 'static,
    ) -> Result<T, Error> {
        if !self.stale {
            self.parts().forward.catch_up().await?;
        }
        let reader = Arc::clone(&self.parts().reader);
        let read = tokio::task::spawn_blocking(move || reader.view(query)).await;
        read.map_err(|_stopping| Error::Stopping)?.map_err(|error| Error::Store(error.to_string()))
    }
}

fn parse_cursor(cursor: Option<String>) -> Result<Option<sqlite::Cursor>, Error> {
    cursor.map(|text| text.parse().map_err(|_| Error::BadCursor)).transpose()
}

fn page_rows(limit: usize) -> u32 {
    u32::try_from(limit.clamp(1, PAGE_MAX)).unwrap_or(u32::MAX)
}
