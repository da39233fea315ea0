//! A mesh, seen from a program that hosts nothing: a client over one link.
//!
//! *Is:* the short way to ask agents, tell and send them messages, give them tasks and call these off from another
//! process. The link is made again by itself when it was lost; requests wait for it. *Is not:* a member of the mesh,
//! nor a retry: a request that may have had its effect is never sent twice, unless its caller does so, with an
//! idempotency key.

mod arrivals;
mod error;
mod latest;
mod recipient;
mod subscription;

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use bytes::Bytes;
use pelago_core::{
    id::{BootId, Destination, Incarnation, Name, NodeId, SignalId, TaskId},
    link::{Ended, Hello, LANE_BYTES_MIN, Lane, NoReply, Pauses, PerLane, Refusal, Role, Versions, feature},
};
use pelago_net::{Config, Dial, Handle, Links, RequestError, SendError, State};
use pelago_node::{InSession, TaskRequest};
use pelago_wire::{
    client::{self as wire, answer::Answer, ended::How, kind},
    headers,
    mesh::signal_bytes,
};
use tokio::{sync::watch, time::Instant};
use tokio_util::task::AbortOnDropHandle;

use arrivals::Arrivals;
pub use error::Error;
pub use latest::Latest;
pub use pelago_core::{
    connection::{Branch, Cut, Outcome},
    link::Account,
    message::{Content, ContentType, Headers, Priority, TraceContext},
};
pub use pelago_node::handle::{AskOptions, Enqueued, Published, Reached, SignalOptions, Trace};
pub use recipient::Recipient;
pub use subscription::Subscription;

/// How long a message or a task may take to become durable.
const DURABLE_MAX: Duration = Duration::from_secs(30);
/// How long something may wait to be told.
const TELL_MAX: Duration = Duration::from_secs(5);
/// How much longer a node has to answer than it waits for the end of a signal.
const SIGNAL_ANSWER_MAX: Duration = Duration::from_secs(10);
/// How long a broadcast may take: nodes that say nothing are waited for for half of it.
const BROADCAST_MAX: Duration = Duration::from_secs(10);
/// The longest pause between two dials.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// What the node may send in each lane before any of it is consumed, in bytes.
const LANE_BYTES: u32 = 4 * LANE_BYTES_MIN;

/// A mesh, by a link with one of its nodes: any of them answers for all. Cheap to clone; clones share the link, which
/// ends with the last of them.
///
/// ```no_run
/// use std::time::Duration;
/// use pelago::{Mesh, TaskRequest};
///
/// # async fn example() -> Result<(), pelago::mesh::Error> {
/// let mesh = Mesh::connect("127.0.0.1:50051").await?;
/// let count = mesh.ask("counter:alice", "1", Duration::from_secs(5)).await?;
/// mesh.send("counter:alice", "2", None).await?;
/// mesh.tell("counter:alice", "3").await?;
/// let task = mesh.enqueue("echo", r#"{"text": "hello"}"#, TaskRequest::default()).await?.task;
/// let result = mesh.result(task, Duration::from_secs(60)).await?;
/// # drop((count, result));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Mesh {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    address: String,
    dialled: watch::Receiver<State>,
    arrivals: Arrivals,
    _dial: AbortOnDropHandle<()>,
}

impl Mesh {
    /// Makes a link with the node whose mesh address is `address`, as `host:port`.
    ///
    /// # Errors
    /// [`Error::Unreachable`], or [`Error::NoRoom`], if there is none at the first try.
    ///
    /// # Cancel safety
    /// Dropped before it is done, there is no link.
    pub async fn connect(address: &str) -> Result<Self, Error> {
        let unreachable = |why: String| Error::Unreachable { address: address.to_owned(), why };
        let found = tokio::net::lookup_host(address).await.map_err(|error| unreachable(error.to_string()))?;
        // `localhost` has two addresses, and nodes listen on the older one.
        let at = found.min_by_key(|at| at.is_ipv6()).ok_or_else(|| unreachable("the name has no address".into()))?;
        let mut config = Config::default();
        config.pauses = Pauses { max: PAUSE_MAX, ..config.pauses };
        let arrivals = Arrivals::default();
        let of_links = arrivals.clone();
        let links = Links::new(config, hello(), move |link| of_links.begin(link));
        let (dial, mut dialled) = Dial::new(&links, at, Role::Client);
        let _dial = AbortOnDropHandle::new(tokio::spawn(dial.run()));
        // The sender lives in the dial, which goes on as long as its handle is kept.
        let first = dialled.wait_for(|state| !matches!(state, State::Dialling)).await.map(|state| state.clone());
        let mesh = Self { shared: Arc::new(Shared { address: address.to_owned(), dialled, arrivals, _dial }) };
        match first {
            Ok(State::Up(_)) => Ok(mesh),
            Ok(State::Dialling | State::Unreachable(_) | State::Ended(_)) | Err(_) => Err(mesh.unreachable()),
        }
    }

    /// The node that the link is with, by its name. `None` while there is no link.
    #[must_use]
    pub fn node(&self) -> Option<Name> {
        self.link_now().map(|link| link.terms().other.node_name.clone())
    }

    /// Asks an agent and waits for its reply: `name`, `name:key`, or `node/name[:key]` to pin it to a node. How long
    /// to wait, or [`AskOptions`] with an idempotency key, a session or an affinity too.
    ///
    /// # Errors
    /// [`Error`] says what became of the question.
    ///
    /// # Cancel safety
    /// Dropping the future gives the reply up; the turn may still happen.
    pub async fn ask(
        &self,
        to: &str,
        question: impl Into<Content>,
        options: impl Into<AskOptions>,
    ) -> Result<Bytes, Error> {
        let AskOptions { wait, idempotency_key, session, affinity } = options.into();
        let Content { headers, payload } = question.into();
        let headers = headers::field(headers.as_deref());
        let ask = wire::Ask { to: to.to_owned(), payload, idempotency: idempotency_key, headers, affinity };
        let answer = match session {
            None => self.request(kind::ASK, &wire::encode(&ask), wait).await?,
            Some(InSession { name, busy, ttl }) => {
                let (session, busy) = (name.to_string(), busy.map(|busy| busy.name().to_owned()));
                let within = wire::Converse { ask: Some(ask), session, busy, ttl_ms: ttl.map(millis) };
                self.request(kind::CONVERSE, &wire::encode(&within), wait).await?
            }
        };
        let Answer::Reply(reply) = answer else { return Err(Error::BadAnswer) };
        Ok(reply)
    }

    /// Tells an agent something, or, as `#topic`, all who subscribe to a topic: a message that nobody answers, with at
    /// most one effect. It is on its way when this returns. Whoever tells one agent much keeps its [`Recipient`].
    ///
    /// # Errors
    /// Like [`Self::recipient`] and [`Recipient::tell`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves it open whether the message is told.
    pub async fn tell(&self, to: &str, message: impl Into<Content>) -> Result<(), Error> {
        let Content { headers, payload } = message.into();
        let mut recipient = self.recipient(to).await?;
        match headers {
            Some(headers) => recipient.tell_with(&headers, payload).await,
            None => recipient.tell(payload).await,
        }
    }

    /// An agent that is to be told much. What one recipient is told is handled in order, unless it is a pool; a
    /// question to the same agent may overtake it.
    ///
    /// # Errors
    /// [`Error::Refused`] if nobody in the mesh can be meant by the address; else [`Error`] says why that is not known.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn recipient(&self, to: &str) -> Result<Recipient, Error> {
        let answer = self.request(kind::FIND, &wire::encode(&wire::Find { to: to.to_owned() }), TELL_MAX).await?;
        let Answer::Found(wire::Found {}) = answer else { return Err(Error::BadAnswer) };
        Ok(Recipient::new(self.clone(), to))
    }

    /// An agent, or as `#topic` a topic, that is told what is new by whoever never waits: of what there is no room for,
    /// `waiting_max` messages wait, and the oldest give way.
    ///
    /// # Errors
    /// Like [`Self::recipient`].
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn latest(&self, to: &str, waiting_max: NonZeroUsize) -> Result<Latest, Error> {
        Latest::begin(self, to, waiting_max).await
    }

    /// Tells every agent in memory, on any node, whose name meets the pattern (`cart`, `prod.*`, `prod.**`): residents,
    /// pools (each once a node) and keyed agents that are active. Says whom that reached; nobody answers it.
    ///
    /// # Errors
    /// [`Error`] says what became of the message.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it open who is told.
    pub async fn broadcast(&self, to: &str, message: impl Into<Content>) -> Result<Reached, Error> {
        let Content { headers, payload } = message.into();
        let headers = headers::field(headers.as_deref());
        let broadcast = wire::Broadcast { to: to.to_owned(), payload, headers };
        let answer = self.request(kind::BROADCAST, &wire::encode(&broadcast), BROADCAST_MAX).await?;
        let Answer::Reached(wire::Reached { nodes, agents, missed }) = answer else { return Err(Error::BadAnswer) };
        let missed =
            missed.iter().map(|name| Name::new(name)).collect::<Result<_, _>>().map_err(|_| Error::BadAnswer)?;
        Ok(Reached { nodes, agents, missed })
    }

    /// Tells something to all who subscribe to a topic at that moment, on any node: `tell` to `#topic`. Whoever publishes
    /// much keeps the [`Recipient`] of `#topic`.
    ///
    /// # Errors
    /// Like [`Self::tell`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves it open whether the message is published.
    pub async fn publish(&self, topic: &str, message: impl Into<Content>) -> Result<(), Error> {
        self.tell(&format!("{}{topic}", Destination::TOPIC), message).await
    }

    /// Hears what is published under topics that meet the pattern `to` (`orders.eu`, `orders.*`, `orders.**`), on any
    /// node, from now on.
    ///
    /// # Errors
    /// [`Error`]: it is no pattern, or there is no link.
    ///
    /// # Cancel safety
    /// Dropping the future subscribes to nothing.
    pub async fn subscribe(&self, to: &str) -> Result<Subscription, Error> {
        Subscription::begin(self, to).await
    }

    /// What became of all that was told so far, by all recipients of this mesh. What was under way when a link ended
    /// counts as lost, though some of it may have been handled.
    #[must_use]
    pub fn account(&self) -> Account {
        self.shared.arrivals.account()
    }

    /// Sends a durable message to a keyed agent. Says whether an earlier one had the same key, and so was this one.
    ///
    /// # Errors
    /// [`Error`] says what became of the message.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the message in doubt.
    pub async fn send(
        &self,
        to: &str,
        payload: impl Into<Bytes>,
        idempotency_key: Option<String>,
    ) -> Result<bool, Error> {
        let send = wire::Send { to: to.to_owned(), payload: payload.into(), idempotency: idempotency_key };
        let answer = self.request(kind::SEND, &wire::encode(&send), DURABLE_MAX).await?;
        let Answer::Sent(wire::Sent { duplicate }) = answer else { return Err(Error::BadAnswer) };
        Ok(duplicate)
    }

    /// Enqueues a task.
    ///
    /// # Errors
    /// [`Error`] says what became of it.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the task in doubt; with an idempotency key it can be enqueued again.
    pub async fn enqueue(&self, to: &str, input: impl Into<Bytes>, request: TaskRequest) -> Result<Enqueued, Error> {
        let enqueue = task(to, input.into(), request);
        let answer = self.request(kind::ENQUEUE, &wire::encode(&enqueue), DURABLE_MAX).await?;
        let Answer::Enqueued(wire::Enqueued { task, existing }) = answer else { return Err(Error::BadAnswer) };
        Ok(Enqueued { task: wire::task_of(&task).ok_or(Error::BadAnswer)?, existing })
    }

    /// Waits for the end of a task, and gives its result.
    ///
    /// # Errors
    /// [`Error::Dead`] and [`Error::Cancelled`] when it ended without one; [`Error::Timeout`] when it goes on.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn result(&self, task: TaskId, wait: Duration) -> Result<Bytes, Error> {
        let question = wire::TaskResult { task: wire::task_bytes(task) };
        ended(self.request(kind::RESULT, &wire::encode(&question), wait).await?)
    }

    /// Enqueues a task and waits for its result: one request, and one answer.
    ///
    /// # Errors
    /// Like [`Self::enqueue`] and [`Self::result`]. After [`Error::Timeout`] or [`Error::Unknown`] the task may go on:
    /// with an idempotency key the same call waits for the same task.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the task in doubt.
    pub async fn run(
        &self,
        to: &str,
        input: impl Into<Bytes>,
        request: TaskRequest,
        wait: Duration,
    ) -> Result<Bytes, Error> {
        let enqueue = task(to, input.into(), request);
        ended(self.request(kind::RUN, &wire::encode(&enqueue), wait).await?)
    }

    /// Calls a task off, a dead one too; with a reason, for whoever looks at it later. A task that was called off
    /// before stays so.
    ///
    /// # Errors
    /// [`Error::Refused`]: there is no such task, or it is done. Else [`Error`] says what became of the request; in
    /// doubt it can be repeated.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the task in doubt; it can be called off again.
    pub async fn cancel(&self, task: TaskId, reason: Option<&str>) -> Result<(), Error> {
        let cancel = wire::Cancel { task: wire::task_bytes(task), reason: reason.map(str::to_owned) };
        let answer = self.request(kind::CANCEL, &wire::encode(&cancel), DURABLE_MAX).await?;
        let Answer::Cancelled(wire::Cancelled {}) = answer else { return Err(Error::BadAnswer) };
        Ok(())
    }

    /// Starts a signal, which goes from its first agent on along connections. With `wait` it is waited so long for its
    /// end, and [`Trace::tree`] says then who handled it; without, it is only sent, and [`Self::trace`] tells later.
    ///
    /// ```no_run
    /// # async fn example(mesh: pelago::Mesh) -> Result<(), pelago::mesh::Error> {
    /// use std::time::Duration;
    /// use pelago::mesh::SignalOptions;
    ///
    /// let options = SignalOptions { from: "planner".into(), hops_max: Some(4), ..SignalOptions::default() };
    /// let signal = mesh.signal("strategic-main", "\"Design a task system\"", options, Some(Duration::from_secs(30))).await?;
    /// for branch in signal.tree.iter().flat_map(|tree| tree.all()) {
    ///     println!("{} {}", branch.to, branch.outcome.word());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error`] says why it was not started, or that nobody knows whether it was.
    ///
    /// # Cancel safety
    /// Dropping the future while it waits calls the signal off: what its turns did stays done. Without `wait` it is left
    /// open whether it is started.
    pub async fn signal(
        &self,
        to: &str,
        content: impl Into<Content>,
        options: SignalOptions,
        wait: Option<Duration>,
    ) -> Result<Trace, Error> {
        let Content { headers, payload } = content.into();
        let SignalOptions { from, timeout, hops_max } = options;
        let signal = wire::Signal {
            to: to.to_owned(),
            payload,
            headers: headers::field(headers.as_deref()),
            from,
            timeout_ms: millis(timeout),
            hops_max,
            wait_ms: wait.map(millis),
        };
        self.taken(kind::SIGNAL, &wire::encode(&signal), wait.unwrap_or_default()).await
    }

    /// A signal, whichever node took it: once it has ended, or as it stands after `wait`.
    ///
    /// # Errors
    /// [`Error::Refused`] with [`Code::UnknownSignal`] if it was forgotten, and with [`Code::SignalAway`] if the node that
    /// took it does not answer; else [`Error`] says why that is not known.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    ///
    /// [`Code::UnknownSignal`]: pelago_api::problem::Code::UnknownSignal
    /// [`Code::SignalAway`]: pelago_api::problem::Code::SignalAway
    pub async fn trace(&self, id: SignalId, wait: Duration) -> Result<Trace, Error> {
        let trace = wire::Trace { id: signal_bytes(id), wait_ms: millis(wait) };
        self.taken(kind::TRACE, &wire::encode(&trace), wait).await
    }

    async fn taken(&self, kind: u16, payload: &[u8], wait: Duration) -> Result<Trace, Error> {
        let Answer::Taken(taken) = self.request(kind, payload, wait + SIGNAL_ANSWER_MAX).await? else {
            return Err(Error::BadAnswer);
        };
        Trace::decode(taken).ok_or(Error::BadAnswer)
    }

    async fn request(&self, kind: u16, payload: &[u8], wait: Duration) -> Result<Answer, Error> {
        self.request_over(kind, payload, wait).await.map(|(answer, _)| answer)
    }

    /// Sends a request over the link that is there within `wait`, and waits for the answer for the rest of it.
    async fn request_over(&self, kind: u16, payload: &[u8], wait: Duration) -> Result<(Answer, Handle), Error> {
        let deadline = Instant::now() + wait;
        loop {
            let link = self.link(deadline).await?;
            let left = deadline.saturating_duration_since(Instant::now());
            return match link.request(Lane::Requests, kind, payload, left).await {
                Ok(answer) => read(answer).map(|answer| (answer, link)),
                // The link had ended by then: nothing was sent, and there may be another.
                Err(RequestError::NotSent(SendError::Down)) => continue,
                Err(RequestError::NotSent(SendError::Busy)) | Err(RequestError::NoReply(NoReply::Busy)) => {
                    Err(Error::Busy)
                }
                Err(RequestError::NotSent(SendError::TooLarge { bytes })) => Err(Error::TooLarge { bytes }),
                Err(RequestError::Deadline) => Err(Error::Timeout { waited_ms: millis(wait) }),
                Err(RequestError::Unknown | RequestError::NoReply(NoReply::Dropped)) => Err(Error::Unknown),
                Err(RequestError::NoReply(NoReply::UnknownKind)) => Err(Error::BadAnswer),
            };
        }
    }

    /// The link, if there is one.
    fn link_now(&self) -> Option<Handle> {
        self.shared.dialled.borrow().up().filter(|link| link.has_ended().is_none()).cloned()
    }

    /// The link, once there is one.
    async fn link(&self, deadline: Instant) -> Result<Handle, Error> {
        let is_up = |state: &State| state.up().is_some_and(|link| link.has_ended().is_none());
        let mut dialled = self.shared.dialled.clone();
        match tokio::time::timeout_at(deadline, dialled.wait_for(is_up)).await {
            Ok(Ok(state)) => state.up().cloned().ok_or(Error::Unknown),
            Ok(Err(_)) | Err(_) => Err(self.unreachable()),
        }
    }

    fn unreachable(&self) -> Error {
        let address = self.shared.address.clone();
        let why = match &*self.shared.dialled.borrow() {
            State::Dialling | State::Up(_) => "the link has just been lost".to_owned(),
            State::Unreachable(error) => error.to_string(),
            State::Ended(ended @ Ended::RefusedThere(Refusal::TooManyLinks { .. })) => {
                return Error::NoRoom { address, why: ended.to_string() };
            }
            State::Ended(ended) => ended.to_string(),
        };
        Error::Unreachable { address, why }
    }
}

/// How a client introduces itself. It needs a name of its own, which nobody will ever use.
fn hello() -> Hello {
    let boot = BootId(rand::random());
    Hello {
        versions: Versions::HERE,
        mesh: None,
        mesh_name: Name::new("client").expect("made of letters"),
        node_name: Name::new(&format!("client-{boot}")).expect("made of letters and digits"),
        node: NodeId(0),
        boot,
        incarnation: Incarnation(0),
        role: Role::Client,
        features: feature::HERE,
        credit: PerLane::all(LANE_BYTES),
        // Nodes ask clients nothing; a link needs to grant one all the same.
        requests_max: 1,
    }
}

fn task(to: &str, input: Bytes, request: TaskRequest) -> wire::Enqueue {
    let TaskRequest { priority, delay, attempts_max, attempt_max, backoff, idempotency_key, trace, session, affinity } =
        request;
    wire::Enqueue {
        to: to.to_owned(),
        input,
        priority: priority.map(u32::from),
        delay_ms: millis(delay),
        attempts_max,
        attempt_ms_max: attempt_max.map(millis),
        backoff_ms: backoff.map(millis),
        idempotency: idempotency_key,
        trace: trace.as_ref().map(headers::trace_form),
        session_ttl_ms: session.as_ref().and_then(|session| session.ttl).map(millis),
        session: session.map(|session| session.name.to_string()),
        affinity,
    }
}

/// The result of a task, if it has one.
fn ended(answer: Answer) -> Result<Bytes, Error> {
    let Answer::Ended(ended) = answer else { return Err(Error::BadAnswer) };
    match ended.how.ok_or(Error::BadAnswer)? {
        How::Done(result) => Ok(result),
        How::Dead(reason) => Err(Error::Dead { reason }),
        How::Cancelled(reason) => Err(Error::Cancelled { reason }),
    }
}

fn read(answer: Bytes) -> Result<Answer, Error> {
    let read = wire::decode::<wire::Answer>("answer", answer).map_err(|_| Error::BadAnswer)?;
    let answer = read.answer.ok_or(Error::BadAnswer)?;
    if let Answer::Failed(failed) = answer { Err(Error::of(failed)) } else { Ok(answer) }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
