//! What can be proposed: one op an item, up to 1,024 items an entry of the log.
//!
//! An op carries everything it needs, randomness included (ids, jitter), because every voter must decide it alike.

use std::{collections::BTreeMap, fmt, sync::Arc};

use bytes::Bytes;

use super::{
    Outcome,
    row::{IdempotencyKey, MessageId, Offer, Placement},
};
use crate::{
    connection::Filter,
    id::{
        Address, AgentId, BootId, DirectoryId, Epoch, FencingToken, Holder, Incarnation, Name, NodeId, SessionId,
        TaskId, TimerName, TurnId, Version,
    },
    message::TraceContext,
    time::LogTime,
};

/// One item of a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// A node's process introduces itself.
    Register(Register),
    /// A node's process is given up for dead, or takes leave.
    Expire(Expire),
    /// A node that is gone for good is forgotten.
    Remove(Remove),
    /// A node takes an agent.
    Claim(Claim),
    /// An agent's turn, or a run of them, commits.
    Turn(Turn),
    /// A node puts an idle agent away.
    Release(Release),
    /// A message from outside any turn.
    Send(Send),
    /// A new task.
    Enqueue(Enqueue),
    /// A queued task goes to a node.
    Assign(Assign),
    /// An attempt at a task of an agent without durable state ends.
    Finish(Finish),
    /// A running attempt reports progress.
    Progress(Progress),
    /// A task is called off.
    Cancel(Cancel),
    /// A dead or cancelled task starts afresh.
    Retry(Retry),
    /// A running attempt is past its limit.
    TimeOut(TimeOut),
    /// Old tasks and replies are forgotten.
    Sweep(Sweep),
    /// Dead messages of an agent are forgotten.
    Dismiss(Dismiss),
    /// A connection is added, changed or taken away.
    Connect(Connect),
    /// A turn of a session without another commit adds to the session's history.
    Append(Append),
    /// A session ends.
    EndSession(EndSession),
}

impl Op {
    /// Whether it has its effect once, however often it is proposed. Not so a message without a key, which nothing
    /// remembers once it was handled; nor a cancel or a retry, which counts as a new wish if the other came in between;
    /// nor a dismissal, which would take what died in between; nor a connection, which may have been changed in
    /// between; nor the end of a session, which may have begun anew.
    #[must_use]
    pub fn is_recognised(&self) -> bool {
        match self {
            Self::Send(send) => send.idempotency.is_some(),
            Self::Cancel(_) | Self::Retry(_) | Self::Dismiss(_) | Self::Connect(_) | Self::EndSession(_) => false,
            Self::Register(_)
            | Self::Expire(_)
            | Self::Remove(_)
            | Self::Claim(_)
            | Self::Turn(_)
            | Self::Release(_)
            | Self::Enqueue(_)
            | Self::Assign(_)
            | Self::Finish(_)
            | Self::Progress(_)
            | Self::TimeOut(_)
            | Self::Sweep(_)
            | Self::Append(_) => true,
        }
    }

    /// Whether its proposer may go on without reading what it wrote, if this is its outcome. Who was refused has to read.
    #[must_use]
    pub fn needs_no_reading(&self, outcome: &Outcome) -> bool {
        outcome.is_success() && self.changes_only_its_agent()
    }

    /// Whether no node begins anything with it: a task that nobody is to do yet, or is not to do any more.
    #[must_use]
    pub fn begins_nothing(&self) -> bool {
        matches!(self, Self::Enqueue(Enqueue { assign: None, .. }) | Self::Cancel(_))
    }

    /// Whether it is a turn that changes nothing but its agent's state, which whoever holds the agent knows.
    #[must_use]
    pub fn changes_only_its_agent(&self) -> bool {
        let Self::Turn(turn) = self else { return false };
        let Turn {
            agent: _,
            epoch: _,
            holder: _,
            version: _,
            turns: _,
            turn: _,
            state: _,
            consumed,
            buried,
            replies,
            finishes,
            sends,
            enqueues,
            timers,
            appends,
        } = turn;
        let takes_nothing = consumed.is_empty() && buried.is_empty() && timers.is_empty() && appends.is_empty();
        let tells_nobody = replies.is_empty() && finishes.is_empty() && sends.is_empty() && enqueues.is_empty();
        takes_nothing && tells_nobody
    }
}

/// Registers one run of a node. Must be the only item of its entry, since the entry's index becomes an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Register {
    /// The node's name.
    pub name: Name,
    /// The data directory: only the one that was admitted under a name may register under it again.
    pub directory: DirectoryId,
    /// This run of the process.
    pub boot: BootId,
    /// Where other nodes reach it.
    pub mesh_address: String,
    /// Where clients reach it; empty when it serves none.
    pub http_address: String,
    /// Zone, region, capabilities.
    pub labels: BTreeMap<String, String>,
    /// What it hosts.
    pub offers: BTreeMap<Name, Offer>,
    /// The node that the directory is of, unless it is of none yet.
    pub node: Option<NodeId>,
    /// The run before, if it ended itself and nobody could be told: its attempts do not count.
    pub left: Option<Incarnation>,
}

/// Gives up one run of a node, for ever. Its tasks become free in the same apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expire {
    /// The run.
    pub holder: Holder,
    /// Whether the run says so itself, after it has ended whatever it had begun. Attempts that it still has, such as
    /// one that was on its way to it meanwhile, do not count.
    pub left: bool,
}

/// Forgets a node whose run is over: its name is free, and its data directory is no node's any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remove {
    /// The node.
    pub node: NodeId,
}

/// Takes an agent that is free, new, or held by a run that has expired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The agent.
    pub agent: AgentId,
    /// The epoch the claimant read; 0 when there was no row.
    pub seen: Epoch,
    /// The claimant.
    pub holder: Holder,
}

/// Commits `turns` turns of one agent together: state, consumed messages, replies, sends, tasks and results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// The agent.
    pub agent: AgentId,
    /// The epoch under which it ran.
    pub epoch: Epoch,
    /// Where it ran.
    pub holder: Holder,
    /// The agent's version before.
    pub version: Version,
    /// How many turns this is; at least 1.
    pub turns: u64,
    /// Names this commit, so that it is recognised when sent twice.
    pub turn: TurnId,
    /// The state after, or `None` when it did not change.
    pub state: Option<Bytes>,
    /// Messages that these turns handled, each exactly once.
    pub consumed: Vec<MessageId>,
    /// Messages that could not be handled, with the reason; kept apart from the inbox.
    pub buried: Vec<(MessageId, String)>,
    /// Replies to remember under their idempotency keys.
    pub replies: Vec<Remember>,
    /// Attempts at tasks that these turns ended.
    pub finishes: Vec<Finish>,
    /// Messages to other agents.
    pub sends: Vec<MessageBody>,
    /// New tasks.
    pub enqueues: Vec<NewTask>,
    /// Timers that are set or cancelled, in order: of one name only the last change counts.
    pub timers: Vec<TimerChange>,
    /// What these turns add to sessions, each to another one.
    pub appends: Vec<Append>,
}

/// Sets or cancels a timer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimerChange {
    /// Which.
    pub name: TimerName,
    /// What it is set to; `None` cancels it.
    pub set: Option<SetTimer>,
}

/// What a timer is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetTimer {
    /// How long after the commit it is due, in milliseconds.
    pub after_ms: u64,
    /// What the agent is given then.
    pub payload: Bytes,
}

/// Puts an idle agent away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The agent.
    pub agent: AgentId,
    /// The epoch under which it was held.
    pub epoch: Epoch,
    /// Who held it.
    pub holder: Holder,
}

/// One message to an agent's inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageBody {
    /// Who gets it.
    pub to: AgentId,
    /// What it says.
    pub payload: Bytes,
}

/// Who a message is from, so that its id is the same however often it is sent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sender {
    /// An agent's turn.
    Agent(AgentId),
    /// An attempt's result.
    Task(TaskId),
    /// A client, which chose the number.
    Client(u128),
    /// The receiver itself, by a timer: the message waits as a row of its own until it is due.
    Timer(TimerName),
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(agent) => write!(f, "agent {agent}"),
            Self::Task(task) => write!(f, "task {task}"),
            Self::Client(id) => write!(f, "client {id:032x}"),
            Self::Timer(name) => write!(f, "timer {name}"),
        }
    }
}

/// A durable message from a client. Sent twice it arrives once if it has an idempotency key; else a second delivery
/// is recognised only while the first still waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Send {
    /// A random number for this message.
    pub id: u128,
    /// The client's key, remembered so that the message is sent once.
    pub idempotency: Option<(IdempotencyKey, BodyHash)>,
    /// The message.
    pub body: MessageBody,
}

/// Remembers a reply under its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remember {
    /// The key.
    pub key: IdempotencyKey,
    /// Hash of the request, to refuse another request under the same key.
    pub request: BodyHash,
    /// The reply.
    pub reply: Bytes,
}

/// A hash of a request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BodyHash(pub [u8; 16]);

impl BodyHash {
    /// Hashes the address and the body of a question or a task.
    #[must_use]
    pub fn of(agent: &AgentId, body: &[u8]) -> Self {
        Self::hash(blake3::Hasher::new(), agent, body)
    }

    /// The same of a message: who asks under the key of a message gets no reply of it.
    #[must_use]
    pub fn of_message(to: &AgentId, payload: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"message");
        Self::hash(hasher, to, payload)
    }

    fn hash(mut hasher: blake3::Hasher, agent: &AgentId, body: &[u8]) -> Self {
        for part in [agent.namespace.as_str().as_bytes(), agent.name.as_str().as_bytes(), agent.key_str().as_bytes()] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        hasher.update(body);
        Self::first_of(&hasher)
    }

    /// The same request with options, each at its place. Without any it is the request as it was.
    #[must_use]
    pub fn with_options(self, options: &[Option<u64>]) -> Self {
        if options.iter().all(Option::is_none) {
            return self;
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0);
        for option in options {
            hasher.update(&[u8::from(option.is_some())]);
            hasher.update(&option.unwrap_or_default().to_le_bytes());
        }
        Self::first_of(&hasher)
    }

    fn first_of(hasher: &blake3::Hasher) -> Self {
        let mut hash = [0; 16];
        hash.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self(hash)
    }
}

/// What to do when an attempt fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The most attempts; at least 1.
    pub attempts_max: u32,
    /// How long one attempt may take, in milliseconds.
    pub attempt_ms_max: u64,
    /// The pause after the first failure, in milliseconds; doubles with each further one.
    pub backoff_ms: u64,
    /// The longest pause, in milliseconds.
    pub backoff_ms_max: u64,
}

impl RetryPolicy {
    /// The pause after `attempt` failed, before jitter.
    #[must_use]
    pub fn backoff(&self, attempt: u32) -> u64 {
        let doublings = attempt.saturating_sub(1).min(32);
        self.backoff_ms.saturating_mul(1 << doublings).min(self.backoff_ms_max)
    }
}

/// A task to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTask {
    /// Its id, chosen by whoever proposes it.
    pub id: TaskId,
    /// Who does it.
    pub agent: AgentId,
    /// How that agent is placed.
    pub placement: Placement,
    /// Pins it to a node.
    pub node: Option<NodeId>,
    /// What it is about.
    pub input: Bytes,
    /// 0 is the most urgent.
    pub priority: u8,
    /// How long to wait before the first attempt, in milliseconds.
    pub delay_ms: u64,
    /// What to do when an attempt fails.
    pub policy: RetryPolicy,
    /// The key under which the same request is the same task.
    pub idempotency: Option<IdempotencyKey>,
    /// Hash of agent and input.
    pub body: BodyHash,
    /// What it is part of, if anything.
    pub part_of: Option<Arc<PartOf>>,
}

/// What a task is part of. Most are part of nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PartOf {
    /// The trace that it was enqueued in. Each attempt follows from it.
    pub trace: Option<TraceContext>,
    /// The session that it is a turn of.
    pub session: Option<TaskSession>,
    /// Tasks and questions to the agent with the same text go to the same host of it, as long as that is there; not
    /// together with a session, which has a place of its own.
    pub affinity: Option<String>,
}

/// The session that a task is a turn of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskSession {
    /// The session with the task's agent.
    pub name: Name,
    /// How long it is kept after the task if nobody uses it, in milliseconds; as before if not given.
    pub ttl_ms: Option<u64>,
}

/// Enqueues a task, and assigns it in the same apply when a node has room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enqueue {
    /// The task.
    pub task: NewTask,
    /// The node that has room for it.
    pub assign: Option<Holder>,
}

/// Gives a queued task to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assign {
    /// The task.
    pub task: TaskId,
    /// The node.
    pub holder: Holder,
}

/// Ends an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finish {
    /// The task.
    pub task: TaskId,
    /// The attempt's fencing token.
    pub token: FencingToken,
    /// How it ended.
    pub verdict: Verdict,
    /// Messages that go out with the result. Empty within a turn, which carries its own.
    pub sends: Vec<MessageBody>,
    /// Tasks that go out with the result. Empty within a turn, which carries its own.
    pub enqueues: Vec<NewTask>,
    /// What a result adds to the task's session. `None` within a turn, which carries its own.
    pub append: Option<Box<Append>>,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// With a result.
    Done(Bytes),
    /// With an error; another attempt follows after `retry_after_ms` (jitter included) if any is left.
    Failed {
        /// What went wrong.
        reason: String,
        /// The pause before the next attempt, in milliseconds.
        retry_after_ms: u64,
    },
    /// With an error that no retry can mend.
    Hopeless {
        /// What went wrong.
        reason: String,
    },
    /// Not at all. The attempt does not count.
    Returned(Return),
}

/// Why an attempt came to nothing that does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Return {
    /// The node could not take it.
    NotTaken,
    /// Others of its session had their turn for so long that it waited in vain.
    SessionBusy,
    /// A question of its session interrupted it. It keeps its place in the queue.
    Interrupted,
}

/// Adds to a running task's numbered events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The task.
    pub task: TaskId,
    /// The attempt's fencing token.
    pub token: FencingToken,
    /// Number of the first note within the attempt, from 0, so that notes sent twice are told once.
    pub first: u64,
    /// What there is to say.
    pub notes: Vec<Bytes>,
}

/// Calls a task off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancel {
    /// The task.
    pub task: TaskId,
    /// Why.
    pub reason: String,
    /// Whether a dead task is called off too, by somebody who has seen that it is dead; else it stays dead.
    pub dead_too: bool,
}

/// Starts a dead or cancelled task afresh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// The task.
    pub task: TaskId,
}

/// Ends an attempt that is past its limit. The log's time decides whether it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeOut {
    /// The task.
    pub task: TaskId,
    /// The attempt's fencing token.
    pub token: FencingToken,
    /// The pause before the next attempt, in milliseconds, jitter included.
    pub retry_after_ms: u64,
}

/// Forgets ended tasks, expired replies and sessions that nobody used for too long, at most `rows_max` of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sweep {
    /// Tasks without an idempotency key that ended before this.
    pub ended_before: LogTime,
    /// Tasks with an idempotency key that ended before this.
    pub keyed_ended_before: LogTime,
    /// The most rows to delete of each kind.
    pub rows_max: u32,
}

/// Forgets messages that an agent could not handle, the first [`super::DISMISSED_MAX`] of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dismiss {
    /// The agent.
    pub agent: AgentId,
}

/// Adds a connection of an agent, changes its filter, or takes it away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// The agent that it leads on from: all keys of that name.
    pub from: Name,
    /// Where it leads; of one address there is one.
    pub to: Address,
    /// What is to be.
    pub change: ConnectionChange,
}

/// Adds an entry to a session's history. The first begins the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// Which session, and what the turn saw of it.
    pub turn: SessionTurn,
    /// Where the turn ran. The session is there from now on.
    pub holder: Holder,
    /// What the agent was given.
    pub said: Bytes,
    /// What it replied.
    pub replied: Bytes,
    /// Messages that go out with the reply. Empty within a turn, which carries its own.
    pub sends: Vec<MessageBody>,
    /// Tasks that go out with the reply. Empty within a turn, which carries its own.
    pub enqueues: Vec<NewTask>,
}

/// A turn of a session, and what it saw of the session when it began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionTurn {
    /// The session.
    pub session: SessionId,
    /// Names the turn, so that its entry is recognised when sent twice.
    pub id: TurnId,
    /// How many entries there were so far; 0 if the session was new, or had ended.
    pub seen: u64,
    /// The turn that made the last of them; 0 if there was none.
    pub after: TurnId,
    /// How long the session is kept after this turn if nobody uses it, in milliseconds.
    pub ttl_ms: u64,
}

/// Ends a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndSession {
    /// The session.
    pub session: SessionId,
}

/// What becomes of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectionChange {
    /// It is there, and takes what its filter takes.
    Set(Option<Filter>),
    /// It is gone.
    Gone,
}
