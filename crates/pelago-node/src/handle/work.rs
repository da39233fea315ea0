//! What a node does on request: questions, messages, tasks.

use std::time::Duration;

use bytes::Bytes;
use pelago_core::{
    agent::Failure,
    id::{Address, Name, TaskId},
    message::Content,
    pattern::Pattern,
    record::{self, BodyHash, IdempotencyKey, MessageBody, Op, Outcome, Placement, TaskEvent, TaskState},
};
use pelago_store::sqlite;
use tokio::time::Instant;

use super::{AskOptions, Enqueued, Error, Handle, Reached, Subscription, TaskDetail, lists::page_rows};
use crate::{
    agents::AskedTurn,
    host::TaskRequest,
    ids,
    mesh::{Among, TELL_MAX},
    services,
    waiters::End,
};

impl Handle {
    /// Asks an agent and waits for its reply.
    ///
    /// # Errors
    /// [`Error`] says what became of the question.
    ///
    /// # Cancel safety
    /// Dropping the future gives the reply up; the turn may still happen.
    pub async fn ask(
        &self,
        to: &str,
        question: impl Into<Content> + std::marker::Send,
        options: AskOptions,
    ) -> Result<Bytes, Error> {
        self.takes_work()?;
        let content = question.into();
        // Nobody wants a reply for longer than the question.
        let within = content.headers().within.unwrap_or(Duration::MAX);
        let options = AskOptions { wait: options.wait.min(within), ..options };
        if options.wait.is_zero() {
            return Err(Error::Timeout { waited_ms: 0 });
        }
        let services = &self.parts().services;
        let (address, placement) = services.find(&Name::default_namespace(), to)?;
        let among = Among::of(options.session, options.affinity)?;
        let Some(key) = options.idempotency_key else {
            return services.question(address, placement, content, options.wait, None, among).await;
        };
        if placement != Placement::Keyed {
            let name = &address.agent.name;
            return Err(Error::WrongKey(format!(
                "agent {name} keeps no replies: an idempotency key needs a keyed agent"
            )));
        }
        let key = IdempotencyKey { namespace: address.agent.namespace.clone(), key };
        let request = among.hash(&address.agent, &content.payload);
        let lookup = key.clone();
        let (now, known) = (self.log_time(), self.read(move |view| view.reply(&lookup)).await?);
        match known.filter(|reply| reply.expires > now) {
            Some(reply) if reply.request == request => Ok(reply.reply),
            Some(_) => Err(Error::Conflict { key: key.key }),
            None => services.question(address, placement, content, options.wait, Some(key), among).await,
        }
    }

    /// A turn of an agent that is asked, if it is one that can run wherever it is asked for.
    pub(crate) fn quick_turn(&self, to: &str, content: Content) -> Option<AskedTurn> {
        self.takes_work().ok()?;
        let (address, placement) = self.find(to).ok()?;
        services::fits("the question", &content.payload).ok()?;
        if placement == Placement::Pool { self.router().quick_turn(address, content) } else { None }
    }

    /// Waits for a turn that can run wherever it is asked for, and may take so long.
    pub(crate) async fn within(&self, wait: Duration, turn: AskedTurn) -> Result<Bytes, Error> {
        self.parts().services.within(Instant::now() + wait, wait, false, turn).await
    }

    /// Tells an agent something, or, as `#topic`, all who subscribe to a topic: a message that nobody answers, with at
    /// most one effect. What one sender tells one agent is handled in order, unless it is a pool. It is on its way when
    /// this returns, which waits for room; nobody hears what becomes of it.
    ///
    /// # Errors
    /// [`Error::Busy`] if there is no room, or the node that has the agent cannot be reached; [`Error`] says what is
    /// wrong with the message. It has no effect.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it open whether the message is told.
    pub async fn tell(&self, to: &str, message: impl Into<Content> + std::marker::Send) -> Result<(), Error> {
        let message = message.into();
        self.takes_work()?;
        let whom = self.whom(to)?;
        services::fits("the message", &message.payload)?;
        let told = self.told(vec![message]);
        let deadline = Instant::now() + TELL_MAX;
        let tell = self.router().tell(&whom, told.into(), deadline);
        tokio::time::timeout_at(deadline, tell).await.unwrap_or_else(|_late| Err(Failure::Busy.into()))
    }

    /// Tells every agent in memory, on any node, whose name meets the pattern `to` (`cart`, `prod.*`, `prod.**`):
    /// residents, pools (each once a node) and keyed agents that are active. Says whom that reached.
    ///
    /// # Errors
    /// [`Error`] says what is wrong with the message. It has no effect.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it open who is told.
    pub async fn broadcast(&self, to: &str, message: impl Into<Content> + std::marker::Send) -> Result<Reached, Error> {
        let message = message.into();
        self.takes_work()?;
        let pattern = Pattern::new(to)?;
        if let Ok(name) = Name::new(to) {
            self.parts().services.placement(&name)?;
        }
        services::fits("the message", &message.payload)?;
        Ok(self.router().broadcast(&pattern, message).await)
    }

    /// Hears what is told to topics that meet the pattern `to` (`orders.eu`, `orders.*`, `orders.**`), on any node, from
    /// now on.
    ///
    /// # Errors
    /// [`Error::Invalid`]: it is no pattern. [`Error::Busy`]: the node has as many subscriptions as it may.
    pub fn subscribe(&self, to: &str) -> Result<Subscription, Error> {
        self.takes_work()?;
        let subscription = self.router().topics.subscribe(Pattern::new(to)?);
        subscription.map_err(|too_many| Error::Busy(too_many.to_string()))
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
        if let Some(node) = &address.node {
            let agent = &address.agent;
            return Err(Error::WrongKey(format!(
                "a message has no pin: {agent} gets it wherever it is, not at {node}"
            )));
        }
        services::fits("the message", &payload)?;
        let namespace = address.agent.namespace.clone();
        let request = BodyHash::of_message(&address.agent, &payload);
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
        // Boxed, as it seldom comes to this: every request takes as much memory as its largest part.
        Box::pin(self.end(earlier.unwrap_or(id), deadline.saturating_duration_since(Instant::now()))).await
    }

    /// Calls a task off, a dead one too. The reason is for whoever looks at it later.
    ///
    /// # Errors
    /// [`Error::UnknownTask`], [`Error::WrongState`] when it is done, or why the log does not answer.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the task in doubt; it can be called off again.
    pub async fn cancel(&self, id: TaskId, reason: Option<String>) -> Result<(), Error> {
        let reason = reason.unwrap_or_else(|| "called off by a client".to_owned());
        self.commit(Op::Cancel(record::Cancel { task: id, reason, dead_too: true })).await
    }

    /// Starts a dead or cancelled task afresh.
    ///
    /// # Errors
    /// [`Error::UnknownTask`], [`Error::WrongState`] when it is neither, or why the log does not answer.
    pub async fn retry(&self, id: TaskId) -> Result<(), Error> {
        self.takes_work()?;
        self.commit(Op::Retry(record::Retry { task: id })).await
    }

    /// Forgets the dead messages of one agent, whether or not anybody hosts it any more. Says how many there were.
    ///
    /// # Errors
    /// [`Error::Invalid`]; [`Error::UnknownAgent`] or [`Error::WrongKey`] if there is none and the address leads
    /// nowhere; or why the log does not answer. Some may be forgotten then.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the dismissal in doubt.
    pub async fn dismiss(&self, of: &str) -> Result<u64, Error> {
        let Address { node: _, agent } = Address::parse(&Name::default_namespace(), of)?;
        let mut dismissed = 0;
        loop {
            let outcome = self.propose(Op::Dismiss(record::Dismiss { agent: agent.clone() })).await?.not_refused()?;
            let rows = if let Outcome::Swept { rows } = outcome { rows } else { 0 };
            dismissed += rows;
            if rows < u64::from(record::DISMISSED_MAX) {
                break;
            }
        }
        if dismissed == 0 {
            self.parts().services.find(&Name::default_namespace(), of)?;
        }
        Ok(dismissed)
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

    /// A task as it stands. With `wait`, waits at most so long for it to end.
    ///
    /// # Errors
    /// [`Error::UnknownTask`], [`Error::Store`].
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn task(&self, id: TaskId, wait: Option<Duration>) -> Result<TaskDetail, Error> {
        let mut deadline = wait.map(|wait| Instant::now() + wait);
        loop {
            let end = self.parts().waiters.ended.next(id);
            let whole = self.read(move |view| view.task(id)).await?.ok_or(Error::UnknownTask(id))?;
            match deadline {
                Some(until) if !whole.task.state.is_ended() => {
                    if end.before(until).await.is_none() {
                        // It is read once more: much may have come of it meanwhile.
                        deadline = None;
                    }
                }
                Some(_) | None => {
                    let sqlite::TaskWhole { task, input, result } = whole;
                    let node = task.holder.and_then(|holder| self.parts().view.get().name_of(holder.node));
                    return Ok(TaskDetail { task, node, input, result });
                }
            }
        }
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
}

impl AskOptions {
    /// Whether a question can be asked so.
    ///
    /// # Errors
    /// [`Error::BadOption`] says why not.
    pub fn check(&self) -> Result<(), Error> {
        Among::of(self.session.clone(), self.affinity.clone()).map(drop)
    }
}
