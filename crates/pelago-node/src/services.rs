//! What a turn may ask of its node, and what requests from outside need too: names, new tasks, questions.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use pelago_core::{
    id::{Address, Destination, FencingToken, Name, TaskId},
    message::{Content, ToTell, TraceContext},
    record::{
        BodyHash, IdempotencyKey, NewTask, Op, PAYLOAD_BYTES_MAX, PartOf, Placement, Progress, RetryPolicy,
        SESSION_ENTRY_BYTES_MAX, SessionEntry, SessionTurn, TaskSession,
    },
    route,
};
use prometheus_client::metrics::counter::Counter;

use crate::{
    agents::Told,
    committer,
    handle::Error,
    host::{Fault, PRIORITY_MAX, Services, TaskRequest},
    ids,
    mesh::{Among, Held, Router, TELL_MAX, Whom},
    raft::Consensus,
    sessions::{InSession, WhenBusy},
    traces::Traces,
    view,
};

/// The longest time that a task may be told to wait or to work: ten years.
const TASK_TIME_MAX: Duration = Duration::from_hours(10 * 365 * 24);
/// The priority of a task that names none. 0 is the most urgent.
const PRIORITY: u8 = 4;
/// How long what needs a majority outlasts the node's lease: a new leader may be found meanwhile.
pub(crate) const LAPSED_MAX: Duration = Duration::from_secs(1);

/// The shared part. Agents hold it and it reaches back to them, hence the weak reference.
pub(crate) struct NodeServices {
    pub(crate) view: view::Reader,
    pub(crate) committer: committer::Handle,
    pub(crate) consensus: Arc<Consensus>,
    pub(crate) lease: Held,
    pub(crate) router: Router,
    pub(crate) policy: RetryPolicy,
    pub(crate) told_lost: Counter,
    pub(crate) traces: Traces,
}

impl NodeServices {
    /// Parses an address and checks that somebody in the mesh can be meant.
    ///
    /// # Errors
    /// [`Error`] says what is wrong with it.
    pub(crate) fn find(&self, namespace: &Name, to: &str) -> Result<(Address, Placement), Error> {
        let address = Address::parse(namespace, to)?;
        let placement = self.placed(&address)?;
        Ok((address, placement))
    }

    /// Checks that somebody in the mesh can be meant, and says how agents of that name are placed.
    ///
    /// # Errors
    /// [`Error`] says what is wrong with the address.
    pub(crate) fn placed(&self, address: &Address) -> Result<Placement, Error> {
        let placement = self.placement(&address.agent.name)?;
        let name = &address.agent.name;
        match (placement, &address.agent.key) {
            (Placement::Keyed, None) => {
                return Err(Error::WrongKey(format!("agent {name} is keyed: address one of them as {name}:KEY")));
            }
            (Placement::Pool | Placement::Resident, Some(_)) => {
                return Err(Error::WrongKey(format!("agent {name} has no keys: address it as {name}")));
            }
            (Placement::Keyed, Some(_)) | (Placement::Pool | Placement::Resident, None) => {}
        }
        if let Some(node) = &address.node {
            self.router.find_node(node)?;
        }
        Ok(placement)
    }

    /// Whom something is to be told: an agent as [`Self::find`] finds it, or a topic.
    ///
    /// # Errors
    /// [`Error`] says what is wrong with it.
    pub(crate) fn whom(&self, namespace: &Name, to: &str) -> Result<Whom, Error> {
        if let Some(topic) = to.strip_prefix(Destination::TOPIC) {
            return Ok(Whom::Topic(Name::new(topic)?));
        }
        let (address, placement) = self.find(namespace, to)?;
        Ok(Whom::Agent(address, placement))
    }

    /// How agents of this name are placed: as the log says, or, of those that live without it, gossip.
    ///
    /// # Errors
    /// [`Error::UnknownAgent`] with the nearest names when no node hosts any.
    pub(crate) fn placement(&self, name: &Name) -> Result<Placement, Error> {
        self.router.homes.placement(name)
    }

    /// Asks an agent and waits for its reply.
    ///
    /// # Errors
    /// [`Error`] says what became of the question.
    pub(crate) async fn question(
        &self,
        to: Address,
        placement: Placement,
        content: Content,
        wait: Duration,
        remember: Option<IdempotencyKey>,
        among: Among,
    ) -> Result<Bytes, Error> {
        fits("the question", &content.payload)?;
        let remember = remember.map(|key| (key, among.hash(&to.agent, &content.payload)));
        let deadline = tokio::time::Instant::now() + wait;
        let turn = self.router.ask(&to, placement, content, remember, &among, deadline);
        let is_durable = placement == Placement::Keyed || matches!(among, Among::Session(_));
        self.within(deadline, wait, is_durable, turn).await
    }

    /// Waits for the turn of a question, as long as it can count.
    ///
    /// # Errors
    /// [`Error`] says what became of the question.
    pub(crate) async fn within(
        &self,
        deadline: tokio::time::Instant,
        wait: Duration,
        is_durable: bool,
        turn: impl Future<Output = Result<Bytes, impl Into<Error>>>,
    ) -> Result<Bytes, Error> {
        let waited_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        tokio::select! {
            biased;
            reply = turn => reply.map_err(Into::into),
            () = tokio::time::sleep_until(deadline) => Err(Error::Timeout { waited_ms }),
            // Without a majority no turn can be committed, whoever runs it. Those of others need not be.
            () = self.lease.missing(LAPSED_MAX), if is_durable => Err(Error::NoQuorum),
        }
    }

    /// A task as it will be enqueued.
    ///
    /// # Errors
    /// When nobody can do it, or an option makes no sense.
    pub(crate) fn task(&self, to: Address, input: Bytes, request: TaskRequest) -> Result<NewTask, Error> {
        fits("the task's input", &input)?;
        let view = self.view.get();
        let placement = self.placement(&to.agent.name)?;
        let node = to.node.as_ref().and_then(|name| view.named(name)).map(|node| node.id);
        if request.attempts_max == Some(0) {
            return Err(Error::BadOption("a task needs at least one attempt".into()));
        }
        let times = [Some(request.delay), request.attempt_max, request.backoff];
        if times.into_iter().flatten().any(|time| time > TASK_TIME_MAX) {
            return Err(Error::BadOption("a task waits or works for at most ten years".into()));
        }
        let options = [
            node.map(|node| node.0),
            request.priority.map(u64::from),
            Some(millis(request.delay)).filter(|delay| *delay > 0),
            request.attempts_max.map(u64::from),
            request.attempt_max.map(millis),
            request.backoff.map(millis),
        ];
        let body = BodyHash::of(&to.agent, &input).with_options(&options);
        let namespace = to.agent.namespace.clone();
        let part_of = part_of(request.trace, request.session, request.affinity)?;
        let session = part_of.as_ref().and_then(|part_of| part_of.session.as_ref());
        if let Some(session) = session
            && input.len() > SESSION_ENTRY_BYTES_MAX
        {
            let (bytes, name) = (input.len(), &session.name);
            return Err(Error::TooLarge(format!(
                "the input has {bytes} bytes, more than an entry of session {name} may have ({SESSION_ENTRY_BYTES_MAX})"
            )));
        }
        let session = session.map(|session| route::key_of(session.name.as_str().as_bytes()));
        let body = body.with_options(&[session]);
        let idempotency = request.idempotency_key.map(|key| IdempotencyKey { namespace, key });
        Ok(NewTask {
            id: ids::task(self.consensus.log_time()),
            agent: to.agent,
            placement,
            node,
            input,
            priority: priority(request.priority.unwrap_or(PRIORITY).into())?,
            delay_ms: millis(request.delay),
            policy: RetryPolicy {
                attempts_max: request.attempts_max.unwrap_or(self.policy.attempts_max),
                attempt_ms_max: request.attempt_max.map_or(self.policy.attempt_ms_max, millis),
                backoff_ms: request.backoff.map_or(self.policy.backoff_ms, millis),
                backoff_ms_max: self.policy.backoff_ms_max,
            },
            idempotency,
            body,
            part_of,
        })
    }
}

/// What a task is part of.
///
/// # Errors
/// [`Error::BadOption`].
fn part_of(
    trace: Option<TraceContext>,
    session: Option<InSession>,
    affinity: Option<String>,
) -> Result<Option<Arc<PartOf>>, Error> {
    if trace.is_none() && session.is_none() && affinity.is_none() {
        return Ok(None);
    }
    let (session, affinity) = match Among::of(session, affinity)? {
        Among::Any => (None, None),
        Among::Alike(text) => (None, Some(text)),
        Among::Session(InSession { busy: Some(WhenBusy::Reject | WhenBusy::Interrupt), .. }) => {
            let rule = "a task waits for its turn in its session: it can neither be rejected nor interrupt another";
            return Err(Error::BadOption(rule.into()));
        }
        Among::Session(InSession { name, busy: Some(WhenBusy::Queue) | None, ttl }) => {
            (Some(TaskSession { name, ttl_ms: ttl.map(millis) }), None)
        }
    };
    Ok(Some(Arc::new(PartOf { trace, session, affinity })))
}

/// A priority that a task may have.
///
/// # Errors
/// [`Error::BadOption`].
pub(crate) fn priority(number: u32) -> Result<u8, Error> {
    let allowed = u8::try_from(number).ok().filter(|priority| *priority <= PRIORITY_MAX);
    let refused = || format!("a task's priority is 0 (the most urgent) to {PRIORITY_MAX}, and not {number}");
    allowed.ok_or_else(|| Error::BadOption(refused()))
}

/// The rules refuse what is larger than this too; but what is much larger does not even fit an entry of the log.
///
/// # Errors
/// [`Error::TooLarge`].
pub(crate) fn fits(what: &str, payload: &Bytes) -> Result<(), Error> {
    match payload.len() {
        0..=PAYLOAD_BYTES_MAX => Ok(()),
        bytes => Err(Error::TooLarge(format!("{what} has {bytes} bytes, more than {PAYLOAD_BYTES_MAX}"))),
    }
}

impl Services for NodeServices {
    fn traces(&self) -> &Traces {
        &self.traces
    }

    fn resolve(&self, namespace: &Name, to: &str) -> Result<Address, Fault> {
        Ok(self.find(namespace, to)?.0)
    }

    fn new_task(&self, to: Address, input: Bytes, request: TaskRequest) -> Result<NewTask, Fault> {
        Ok(self.task(to, input, request)?)
    }

    fn ask(&self, to: Address, content: Content, wait: Duration) -> BoxFuture<'_, Result<Bytes, Fault>> {
        Box::pin(async move {
            let placement = self.placement(&to.agent.name)?;
            fits("the question", &content.payload)?;
            if placement == Placement::Pool
                && let Some(turn) = self.router.quick_turn(to.clone(), content.clone())
            {
                return Ok(self.within(tokio::time::Instant::now() + wait, wait, false, turn).await?);
            }
            // Boxed, as it is large, and moved about before it begins.
            Ok(Box::pin(self.question(to, placement, content, wait, None, Among::Any)).await?)
        })
    }

    fn destination(&self, namespace: &Name, to: &str) -> Result<Destination, Fault> {
        Ok(self.whom(namespace, to)?.into())
    }

    fn tell(&self, tells: ToTell) -> BoxFuture<'_, ()> {
        // At once, so that whatever is not told counts as lost, also if nobody waits for this to end.
        let told = |(to, messages)| (to, Told::new(messages, None, &self.told_lost));
        let tells: Vec<(Destination, Told)> = tells.into_iter().map(told).collect();
        Box::pin(async move {
            let deadline = tokio::time::Instant::now() + TELL_MAX;
            for (to, told) in tells {
                let whom = match to.clone() {
                    Destination::Agent(address) => match self.placement(&address.agent.name) {
                        Ok(placement) => Whom::Agent(address, placement),
                        Err(_unknown) => continue,
                    },
                    Destination::Topic(topic) => Whom::Topic(topic),
                };
                let Err(told) = self.router.try_tell(&whom, told) else { continue };
                let tell = self.router.tell(&whom, told, deadline);
                if tokio::time::timeout_at(deadline, tell).await.is_ok_and(|told| told.is_ok()) {
                    continue;
                }
                tracing::debug!(%to, "what an agent was told is lost");
            }
        })
    }

    fn history(&self, turn: SessionTurn, entries_max: usize) -> BoxFuture<'_, Result<Vec<SessionEntry>, Fault>> {
        let reader = Arc::clone(&self.router.reader);
        let entries_max = u32::try_from(entries_max).unwrap_or(u32::MAX);
        Box::pin(async move {
            let after = turn.seen.saturating_sub(u64::from(entries_max));
            let read = move || reader.view(|view| view.session_entries(&turn.session, after, entries_max));
            tokio::task::spawn_blocking(read)
                .await?
                .map_err(|error| Fault::new(format!("the history is unread: {error}")))
        })
    }

    fn progress(&self, task: TaskId, token: FencingToken, n: u64, note: Bytes) -> BoxFuture<'_, Result<(), Fault>> {
        let op = Op::Progress(Progress { task, token, first: n, notes: vec![note] });
        Box::pin(async move {
            self.committer.propose(op).await?.not_refused()?;
            Ok(())
        })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
