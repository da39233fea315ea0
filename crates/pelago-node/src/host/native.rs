//! Agents written in Rust, in this very process.
//!
//! ```
//! use pelago_node::{Agent, Fault, Turn};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Default, Serialize, Deserialize)]
//! struct Counter {
//!     count: i64,
//! }
//!
//! impl Agent for Counter {
//!     type Input = i64;
//!     type Output = i64;
//!
//!     async fn handle(&mut self, by: i64, _turn: &mut Turn) -> Result<i64, Fault> {
//!         self.count += by;
//!         Ok(self.count)
//!     }
//! }
//!
//! let kind = pelago_node::keyed::<Counter>("counter");
//! ```

use std::{
    future::Future,
    marker::PhantomData,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use pelago_core::{
    agent::Work,
    connection::Signal,
    id::{Address, AgentId, Destination, FencingToken, Name, TaskId, TimerName},
    message::{Content, Headers, ToTell, TraceContext},
    record::{MessageBody, NewTask, PAYLOAD_BYTES_MAX, Placement, SessionEntry, SessionTurn, SetTimer, TimerChange},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{Behaviour, Kind, Living, pace::Pace, seal};
use crate::{
    agents::Told,
    sessions::InSession,
    traces::{Recorded, Traces},
};

/// A behaviour with its state. The type's fields are the state: they are stored as JSON when a turn commits, and come
/// back on whichever node holds the agent next.
pub trait Agent: Serialize + DeserializeOwned + Default + Send + 'static {
    /// What it is asked, sent or tasked with. An absent body reads as JSON `null`, so `()` takes it.
    type Input: Input;
    /// What it replies.
    type Output: Serialize;

    /// Handles one message. State, sends, tasks, timers and the reply take effect together once the turn is committed;
    /// if it fails or its node dies first, none of them does, and the same message may be handled again.
    fn handle(
        &mut self,
        input: Self::Input,
        turn: &mut Turn,
    ) -> impl Future<Output = Result<Self::Output, Fault>> + Send;
}

/// What an agent can be asked, sent, tasked with or told: whatever serde reads from JSON, or the bytes as they came
/// ([`Raw`]).
pub trait Input: Sized + Send {
    /// Reads it.
    ///
    /// # Errors
    /// [`Fault::hopeless`]: the payload is something else.
    fn read(payload: Bytes) -> Result<Self, Fault>;
}

impl<T: DeserializeOwned + Send> Input for T {
    fn read(payload: Bytes) -> Result<Self, Fault> {
        let text: &[u8] = if payload.is_empty() { b"null" } else { &payload };
        serde_json::from_slice(text).map_err(|error| {
            Fault::hopeless(match error.is_data() {
                true => format!("the input does not fit the agent: {error}"),
                false => format!("the input is no JSON, which is all that the agent reads: {error}"),
            })
        })
    }
}

/// A payload as it came: for agents that read something else than JSON, or count more than they read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw(pub Bytes);

impl Input for Raw {
    fn read(payload: Bytes) -> Result<Self, Fault> {
        Ok(Self(payload))
    }
}

/// An agent with one activation per key in the mesh; its state is durable.
#[must_use]
pub fn keyed<A: Agent>(name: &str) -> Kind {
    Kind::new(name, Placement::Keyed, Native::<A>::behaviour())
}

/// Copies of an agent without state of its own, several turns at a time on every node: for work that only reads.
#[must_use]
pub fn pool<A: Agent>(name: &str) -> Kind {
    Kind::new(name, Placement::Pool, Native::<A>::behaviour())
}

/// One agent on each node, which lives and dies with it; its state is in memory only.
#[must_use]
pub fn resident<A: Agent>(name: &str) -> Kind {
    Kind::new(name, Placement::Resident, Native::<A>::behaviour())
}

/// Why a turn failed: any error turns into one with `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub(crate) reason: String,
    pub(crate) hopeless: bool,
}

impl Fault {
    /// A failure that another attempt may mend.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), hopeless: false }
    }

    /// A failure that no attempt can mend: a task ends as dead at once.
    pub fn hopeless(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), hopeless: true }
    }

    /// What went wrong.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl<E: std::error::Error> From<E> for Fault {
    fn from(error: E) -> Self {
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            reason.push_str(": ");
            reason.push_str(&cause.to_string());
            source = cause.source();
        }
        Self::new(reason)
    }
}

/// The turn under way, as its agent sees it.
pub struct Turn {
    agent: AgentId,
    work: Work,
    headers: Option<Box<Headers>>,
    /// What follows from it is part of this trace, once it has a span.
    trace: Option<TraceContext>,
    services: Arc<dyn Services>,
    effects: Effects,
    progress: u64,
    told: Counts,
    /// What the turns wanted that count.
    counts: [usize; 4],
    stopped: bool,
    /// Whom it told something last, as its agent wrote it and as it was found: who tells much tells few.
    last_told: Option<(String, Destination)>,
    /// Where messages are written before it is known how long they are.
    scratch: Vec<u8>,
}

/// How many messages a turn was told that had their effect, and how many had none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) done: u64,
    pub(crate) failed: u64,
}

/// What a turn wants besides its reply and state.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) sends: Vec<MessageBody>,
    pub(crate) enqueues: Vec<NewTask>,
    pub(crate) timers: Vec<TimerChange>,
    pub(crate) tells: ToTell,
}

impl Effects {
    fn lengths(&self) -> [usize; 4] {
        [self.sends.len(), self.enqueues.len(), self.timers.len(), self.tells.len()]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lengths() == [0; 4]
    }

    /// Adds what later turns want.
    pub(crate) fn append(&mut self, later: Self) {
        let Self { sends, enqueues, timers, tells } = later;
        self.sends.extend(sends);
        self.enqueues.extend(enqueues);
        self.timers.extend(timers);
        self.tells.append(tells);
    }

    /// Takes back what came after there were so many.
    fn cut(&mut self, [sends, enqueues, timers, tells]: [usize; 4]) {
        self.sends.truncate(sends);
        self.enqueues.truncate(enqueues);
        self.timers.truncate(timers);
        self.tells.truncate(tells);
    }
}

/// What a turn needs of its node.
pub(crate) trait Services: Send + Sync {
    fn traces(&self) -> &Traces;
    fn resolve(&self, namespace: &Name, to: &str) -> Result<Address, Fault>;
    fn destination(&self, namespace: &Name, to: &str) -> Result<Destination, Fault>;
    fn new_task(&self, to: Address, input: Bytes, request: TaskRequest) -> Result<NewTask, Fault>;
    fn ask(&self, to: Address, content: Content, wait: Duration) -> BoxFuture<'_, Result<Bytes, Fault>>;
    fn progress(&self, task: TaskId, token: FencingToken, n: u64, note: Bytes) -> BoxFuture<'_, Result<(), Fault>>;
    /// The last entries of a session before this turn.
    fn history(&self, turn: SessionTurn, entries_max: usize) -> BoxFuture<'_, Result<Vec<SessionEntry>, Fault>>;
    /// Tells agents things, in order; what there is no room for in time is lost.
    fn tell(&self, tells: ToTell) -> BoxFuture<'_, ()>;
}

/// The priority of a task that everything else comes before.
pub const PRIORITY_MAX: u8 = 9;

/// Options of a task; unset ones come from the configuration.
#[derive(Debug, Clone, Default)]
pub struct TaskRequest {
    /// 0 is the most urgent, [`PRIORITY_MAX`] the least; 4 unless set.
    pub priority: Option<u8>,
    /// How long to wait before the first attempt.
    pub delay: Duration,
    /// The most attempts.
    pub attempts_max: Option<u32>,
    /// How long one attempt may take.
    pub attempt_max: Option<Duration>,
    /// The pause after the first failure; doubles with each further one.
    pub backoff: Option<Duration>,
    /// The same key with the same agent and input is the same task.
    pub idempotency_key: Option<String>,
    /// The trace that it is part of; in a turn that of the turn unless set.
    pub trace: Option<TraceContext>,
    /// The session that it is a turn of: it runs where the session is, sees what was said before, and its input and
    /// result are part of the history. While another turn of the session runs it waits, whatever the agent's rule is.
    pub session: Option<InSession>,
    /// Tasks and questions to an agent with the same text here go to the same host of it, as long as that is there: 1 to
    /// 256 bytes. Not together with a session, which has a place of its own.
    pub affinity: Option<String>,
}

/// How long an agent handles what it was told before others of its thread, or what is more urgent, have their turn.
const TOLD_MAX: Duration = Duration::from_micros(300);
/// How many messages it handles before it looks how long that took.
const TOLD_PER_LOOK: u64 = 32;

/// How far ahead a timer may be set: ten years.
const TIMER_AFTER_MAX: Duration = Duration::from_hours(24 * 3_653);

/// How long an ask within a turn waits for its reply.
const ASK_WAIT: Duration = Duration::from_secs(30);

impl Turn {
    pub(crate) fn new(agent: AgentId, work: Work, headers: Option<Box<Headers>>, services: Arc<dyn Services>) -> Self {
        Self {
            agent,
            work,
            headers,
            trace: None,
            services,
            effects: Effects::default(),
            progress: 0,
            told: Counts::default(),
            counts: [0; 4],
            stopped: false,
            last_told: None,
            scratch: Vec::new(),
        }
    }

    /// Begins the span of what it handles, if that is part of a trace which is recorded. It ends when it is dropped.
    pub(crate) fn record(&mut self) -> Option<Recorded> {
        let of = self.headers.as_ref()?.trace.as_ref()?;
        let recorded = self.services.traces().follow(Some(of), || format!("turn {}", self.agent.name));
        self.trace = Some(recorded.as_ref().map_or(of, Recorded::context).clone());
        let mut recorded = recorded?;
        recorded.say("pelago.agent", self.agent.to_string());
        recorded.say("pelago.work", work_name(&self.work));
        Some(recorded)
    }

    /// A message that follows from what it handles, and says no more about itself.
    fn following(&self, payload: Bytes) -> Content {
        match &self.trace {
            Some(trace) => Headers { trace: Some(trace.clone()), ..Headers::NONE }.of(payload),
            None => Content::from(payload),
        }
    }

    pub(crate) fn into_effects(self) -> Effects {
        self.effects
    }

    /// Takes back what a turn wanted that failed.
    pub(crate) fn take_back(&mut self) {
        self.effects.cut(self.counts);
    }

    pub(crate) fn told(&self) -> Counts {
        self.told
    }

    /// The signal that it handles, if it is one: its id, how many hops it made, whom it passed and where.
    #[must_use]
    pub fn signal(&self) -> Option<&Signal> {
        if let Work::Signal(signal) = &self.work { Some(signal) } else { None }
    }

    /// Keeps the signal that it handles from going on along the agent's connections: the reply is its end. Does nothing
    /// in a turn that handles none.
    pub fn stop_signal(&mut self) {
        self.stopped = true;
    }

    /// Its reply, and whether the signal goes on, if it handles one.
    pub(crate) fn sealed(&self, reply: Bytes) -> Bytes {
        if self.signal().is_some() { seal(reply, self.stopped) } else { reply }
    }

    /// What the message that it handles says about itself: its type, what its payload is, how urgent it is.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        self.headers.as_deref().unwrap_or(&Headers::NONE)
    }

    /// The turn of a session that it is: the session's name, and how many turns of it there were so far.
    #[must_use]
    pub fn session(&self) -> Option<&SessionTurn> {
        self.work.session().map(|turn| &**turn)
    }

    /// What was said in the session before this turn, and what this agent replied: the last `entries_max` turns, oldest
    /// first, as far as they are kept ([`record::SESSION_ENTRIES_MAX`](pelago_core::record::SESSION_ENTRIES_MAX)). Empty
    /// in a turn that is of no session.
    ///
    /// # Errors
    /// When the store of this node cannot be read.
    pub async fn history(&self, entries_max: usize) -> Result<Vec<SessionEntry>, Fault> {
        match self.session() {
            Some(turn) if turn.seen > 0 => self.services.history(turn.clone(), entries_max).await,
            Some(_) | None => Ok(Vec::new()),
        }
    }

    /// Whether it was told something, and nobody waits for a reply.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.work == Work::Tell
    }

    /// The agent's address.
    #[must_use]
    pub fn agent(&self) -> &AgentId {
        &self.agent
    }

    /// The agent's key; empty for an agent without one.
    #[must_use]
    pub fn key(&self) -> &str {
        self.agent.key_str()
    }

    /// The task this turn is an attempt at. Use it as the idempotency key of what the turn does outside the mesh.
    #[must_use]
    pub fn task(&self) -> Option<TaskId> {
        match &self.work {
            Work::Task { task, .. } => Some(*task),
            Work::Tell | Work::Signal(_) | Work::Ask { .. } | Work::Message { .. } => None,
        }
    }

    /// The timer this turn is of, by its name.
    #[must_use]
    pub fn timer(&self) -> Option<&str> {
        match &self.work {
            Work::Message { id, .. } => id.timer().map(TimerName::as_str),
            Work::Tell | Work::Signal(_) | Work::Ask { .. } | Work::Task { .. } => None,
        }
    }

    /// Sets a timer: `after` the commit of this turn, or soon after that, this agent is given `input` in a turn that
    /// [`Turn::timer`] names. It takes the place of a timer of the same name, and is durable as the agent's state is.
    /// An agent that wants to be woken again and again sets it anew in that turn.
    ///
    /// # Errors
    /// When the agent is not keyed, the name has not 1 to 128 bytes or has control characters, `after` is more than ten
    /// years, or `input` cannot be written as JSON.
    pub fn set_timer(&mut self, name: &str, after: Duration, input: &impl Serialize) -> Result<(), Fault> {
        if after > TIMER_AFTER_MAX {
            return Err(Fault::hopeless(format!("timer {name:?} would be due in more than ten years")));
        }
        let payload = Bytes::from(serde_json::to_vec(input)?);
        // A part of a millisecond counts as a whole one: never early.
        let after_ms = u64::try_from(after.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        self.change_timer(name, Some(SetTimer { after_ms, payload }))
    }

    /// Cancels a timer: once this turn is committed it does not fire any more. One that is not set is no error.
    ///
    /// # Errors
    /// When the agent is not keyed, or no timer can have that name.
    pub fn cancel_timer(&mut self, name: &str) -> Result<(), Fault> {
        self.change_timer(name, None)
    }

    fn change_timer(&mut self, name: &str, set: Option<SetTimer>) -> Result<(), Fault> {
        if self.agent.key.is_none() {
            let agent = &self.agent;
            return Err(Fault::hopeless(format!("agent {agent} cannot have timers: only keyed agents are durable")));
        }
        let name = TimerName::new(name).map_err(|invalid| Fault::hopeless(invalid.to_string()))?;
        self.effects.timers.push(TimerChange { name, set });
        Ok(())
    }

    /// Sends a durable message. It leaves when the turn commits, and is handled exactly once.
    ///
    /// # Errors
    /// When nobody in the mesh has that name, or `message` cannot be written as JSON.
    pub fn send(&mut self, to: &str, message: &impl Serialize) -> Result<(), Fault> {
        let to = self.services.resolve(&self.agent.namespace, to)?;
        let payload = Bytes::from(serde_json::to_vec(message)?);
        self.effects.sends.push(MessageBody { to: to.agent, payload });
        Ok(())
    }

    /// Tells another agent something, or, as `#topic`, all who subscribe to a topic: a message that nobody answers, with
    /// at most one effect. It leaves when the turn counts, and is stored nowhere; what one keyed agent or resident tells
    /// another is handled in order.
    ///
    /// # Errors
    /// When nobody in the mesh has that name, or `message` cannot be written as JSON.
    pub fn tell(&mut self, to: &str, message: &impl Serialize) -> Result<(), Fault> {
        self.scratch.clear();
        serde_json::to_writer(&mut self.scratch, message)?;
        self.push(to, self.following(Bytes::copy_from_slice(&self.scratch)))
    }

    /// Tells something that says more about itself, or is no JSON.
    ///
    /// # Errors
    /// When nobody in the mesh has that name.
    pub fn tell_with(&mut self, to: &str, headers: Headers, payload: Bytes) -> Result<(), Fault> {
        let trace = headers.trace.or_else(|| self.trace.clone());
        self.push(to, Headers { trace, ..headers }.of(payload))
    }

    fn push(&mut self, to: &str, message: Content) -> Result<(), Fault> {
        if message.payload.len() > PAYLOAD_BYTES_MAX {
            let bytes = message.payload.len();
            return Err(Fault::hopeless(format!("a message has {bytes} bytes, more than {PAYLOAD_BYTES_MAX}")));
        }
        let to = match &mut self.last_told {
            Some((last, found)) if last == to => found,
            last => {
                let found = self.services.destination(&self.agent.namespace, to)?;
                &mut last.insert((to.to_owned(), found)).1
            }
        };
        self.effects.tells.push(to, message);
        Ok(())
    }

    /// Enqueues a task. It exists when the turn commits.
    ///
    /// # Errors
    /// When nobody in the mesh has that name, or `input` cannot be written as JSON.
    pub fn enqueue(&mut self, to: &str, input: &impl Serialize, request: TaskRequest) -> Result<TaskId, Fault> {
        let to = self.services.resolve(&self.agent.namespace, to)?;
        let request = TaskRequest { trace: request.trace.or_else(|| self.trace.clone()), ..request };
        let task = self.services.new_task(to, Bytes::from(serde_json::to_vec(input)?), request)?;
        let id = task.id;
        self.effects.enqueues.push(task);
        Ok(id)
    }

    /// Asks another agent and waits for its reply. The question leaves at once, so it may be asked again if this turn
    /// does not commit.
    ///
    /// # Errors
    /// When the other agent is unknown, fails or does not reply in time.
    ///
    /// # Cancel safety
    /// Dropping the future gives the reply up; the other agent may still handle the question.
    pub async fn ask<T: DeserializeOwned>(&mut self, to: &str, question: &impl Serialize) -> Result<T, Fault> {
        let to = self.services.resolve(&self.agent.namespace, to)?;
        let payload = Bytes::from(serde_json::to_vec(question)?);
        let reply = self.services.ask(to, self.following(payload), ASK_WAIT).await?;
        Ok(serde_json::from_slice(&reply)?)
    }

    /// Adds to the numbered events of the task under way; does nothing in a turn that is not part of one.
    ///
    /// # Errors
    /// When the attempt was taken away, or the store does not answer.
    pub async fn progress(&mut self, note: &impl Serialize) -> Result<(), Fault> {
        let Work::Task { task, token, .. } = &self.work else {
            return Ok(());
        };
        let note = Bytes::from(serde_json::to_vec(note)?);
        self.services.progress(*task, *token, self.progress, note).await?;
        self.progress += 1;
        Ok(())
    }
}

fn work_name(work: &Work) -> &'static str {
    match work {
        Work::Tell => "tell",
        Work::Signal(_) => "signal",
        Work::Ask { .. } => "ask",
        Work::Message { .. } => "message",
        Work::Task { .. } => "task",
    }
}

struct Native<A> {
    pace: Arc<Pace>,
    agent: PhantomData<fn() -> A>,
}

struct InMemory<A> {
    agent: A,
    pace: Arc<Pace>,
}

impl<A: Agent> Native<A> {
    fn behaviour() -> Arc<dyn Behaviour> {
        Arc::new(Self { pace: Arc::new(Pace::new()), agent: PhantomData })
    }
}

impl<A: Agent> Behaviour for Native<A> {
    fn hydrate(&self, state: Option<&[u8]>) -> Result<Box<dyn Living>, Fault> {
        let agent = match state {
            Some(bytes) => self.pace.run(|| serde_json::from_slice(bytes))?,
            None => A::default(),
        };
        Ok(Box::new(InMemory { agent, pace: Arc::clone(&self.pace) }))
    }

    fn is_quick(&self) -> bool {
        self.pace.is_quick()
    }
}

impl<A: Agent> Living for InMemory<A> {
    fn run<'a>(&'a mut self, payload: Bytes, turn: &'a mut Turn) -> BoxFuture<'a, Result<Bytes, Fault>> {
        let Self { agent, pace } = self;
        Box::pin(pace.run_all(async move {
            let output = agent.handle(A::Input::read(payload)?, turn).await?;
            Ok(Bytes::from(serde_json::to_vec(&output)?))
        }))
    }

    fn run_some<'a>(&'a mut self, told: &'a mut Told, anew: bool, turn: &'a mut Turn) -> BoxFuture<'a, ()> {
        let Self { agent, pace } = self;
        Box::pin(pace.run_all(async move {
            let since = Instant::now();
            for n in 1_u64.. {
                let Some(Content { headers, payload }) = told.next() else { return };
                (turn.headers, turn.trace) = (headers, None);
                let mut recorded = turn.record();
                if anew {
                    *agent = A::default();
                }
                // Counted first: a panic takes the rest of this round with it.
                turn.told.failed += 1;
                let ended = match A::Input::read(payload) {
                    Ok(input) => agent.handle(input, turn).await.map(drop),
                    Err(fault) => Err(fault),
                };
                match ended {
                    Ok(()) => {
                        turn.told.failed -= 1;
                        turn.told.done += 1;
                        turn.counts = turn.effects.lengths();
                    }
                    Err(fault) => {
                        turn.take_back();
                        recorded.iter_mut().for_each(|recorded| recorded.fail(fault.reason()));
                    }
                }
                drop(recorded);
                // A clock is read too slowly to ask it after each; one that is slow shows early.
                if (n.is_power_of_two() || n.is_multiple_of(TOLD_PER_LOOK)) && since.elapsed() > TOLD_MAX {
                    return;
                }
            }
        }))
    }

    fn state(&self) -> Result<Bytes, Fault> {
        Ok(Bytes::from(self.pace.run(|| serde_json::to_vec(&self.agent))?))
    }
}
