//! What clients ask of this node over their links: what the [`Handle`] does, no more.
//!
//! A client is no member: nothing here takes part in the log. Whatever it sends is answered, with a value or with the
//! reason why there is none.

use std::{pin::pin, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use pelago_core::{id::Name, link::PAYLOAD_BYTES_MAX, message::Content};
use pelago_wire::{
    client::{self as wire, Answer, Ended, Failed, Why, answer, ended::How, kind},
    headers,
    mesh::signal_of,
};

use super::at_once::{self, AtOnce};
use crate::{
    Handle,
    handle::{AskOptions, Error, Reached, SignalOptions},
    host::TaskRequest,
    services,
    sessions::{InSession, WhenBusy},
    waiters::End,
};

/// Why a client's request has no value.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoValue {
    #[error(transparent)]
    Malformed(#[from] wire::Malformed),
    #[error(transparent)]
    NotHeaders(#[from] headers::NotHeaders),
    #[error("a task's id has 16 bytes")]
    NoTaskId,
    #[error("a signal's id has 16 bytes")]
    NoSignalId,
    #[error(transparent)]
    Node(#[from] Error),
    #[error("the request took effect, but its answer of {bytes} bytes does not fit a frame ({PAYLOAD_BYTES_MAX})")]
    TooLarge { bytes: usize },
}

/// What this node answers to a request of a client that waits so long. `None` if it knows none of its kind.
pub(super) fn answer(handle: Handle, kind: u16, payload: Bytes, wait: Duration) -> Option<BoxFuture<'static, Bytes>> {
    Some(match kind {
        kind::ASK => Box::pin(async move { encoded(ask(&handle, payload, wait).await) }),
        kind::CONVERSE => Box::pin(async move { encoded(converse(&handle, payload, wait).await) }),
        kind::SEND => Box::pin(async move { encoded(within(wait, pin!(send(&handle, payload))).await) }),
        kind::ENQUEUE => Box::pin(async move { encoded(within(wait, pin!(enqueue(&handle, payload))).await) }),
        kind::RUN => Box::pin(async move { encoded(run(&handle, payload, wait).await) }),
        kind::RESULT => Box::pin(async move { encoded(result(&handle, payload, wait).await) }),
        kind::CANCEL => Box::pin(async move { encoded(within(wait, pin!(cancel(&handle, payload))).await) }),
        kind::BROADCAST => Box::pin(async move { encoded(within(wait, pin!(broadcast(&handle, payload))).await) }),
        kind::SIGNAL => Box::pin(async move { encoded(signal(&handle, payload).await) }),
        kind::TRACE => Box::pin(async move { encoded(trace(&handle, payload).await) }),
        kind::FIND => Box::pin(async move { encoded(find(&handle, payload)) }),
        _unknown => return None,
    })
}

/// Puts a question to its agent where it is read, if that is here and known to be quick.
pub(super) fn ask_at_once(handle: &Handle, payload: &Bytes, wait: Duration) -> Option<AtOnce> {
    let ask = wire::decode("question", payload.clone()).ok()?;
    let wire::Ask { to, payload, idempotency: None, headers, affinity: None } = ask else { return None };
    let content = content(headers, payload).ok().filter(|content| content.headers().within.is_none())?;
    let replied = |reply: Result<Bytes, Error>| encoded(reply.map(answer::Answer::Reply).map_err(NoValue::from));
    Some(match at_once::begin(handle.quick_turn(&to, content)?) {
        Ok(reply) => AtOnce::Answered(replied(reply.map_err(Error::from))),
        Err(turn) => {
            let handle = handle.clone();
            AtOnce::Waits(Box::pin(async move { replied(handle.within(wait, turn).await) }))
        }
    })
}

async fn ask(handle: &Handle, payload: Bytes, wait: Duration) -> Result<answer::Answer, NoValue> {
    asked(handle, wire::decode("question", payload)?, None, wait).await
}

async fn converse(handle: &Handle, payload: Bytes, wait: Duration) -> Result<answer::Answer, NoValue> {
    let wire::Converse { ask, session, busy, ttl_ms } = wire::decode("question within a session", payload)?;
    let name = Name::new(&session).map_err(Error::from)?;
    let busy = busy.map(|busy| busy.parse::<WhenBusy>()).transpose();
    let busy = busy.map_err(|no_choice| Error::BadOption(format!("what becomes of the question: {no_choice}")))?;
    let within = InSession { name, busy, ttl: ttl_ms.map(Duration::from_millis) };
    asked(handle, ask.unwrap_or_default(), Some(within), wait).await
}

async fn asked(
    handle: &Handle,
    ask: wire::Ask,
    session: Option<InSession>,
    wait: Duration,
) -> Result<answer::Answer, NoValue> {
    let wire::Ask { to, payload, idempotency, headers, affinity } = ask;
    let options = AskOptions { wait, idempotency_key: idempotency, session, affinity };
    Ok(answer::Answer::Reply(handle.ask(&to, content(headers, payload)?, options).await?))
}

async fn send(handle: &Handle, payload: Bytes) -> Result<answer::Answer, NoValue> {
    let wire::Send { to, payload, idempotency } = wire::decode("message", payload)?;
    let duplicate = handle.send(&to, payload, idempotency).await?;
    Ok(answer::Answer::Sent(wire::Sent { duplicate }))
}

async fn enqueue(handle: &Handle, payload: Bytes) -> Result<answer::Answer, NoValue> {
    let (to, input, request) = task(payload)?;
    let enqueued = handle.enqueue(&to, input, request).await?;
    let task = wire::task_bytes(enqueued.task);
    Ok(answer::Answer::Enqueued(wire::Enqueued { task, existing: enqueued.existing }))
}

async fn run(handle: &Handle, payload: Bytes, wait: Duration) -> Result<answer::Answer, NoValue> {
    let (to, input, request) = task(payload)?;
    Ok(ended(handle.run(&to, input, request, wait).await?))
}

async fn result(handle: &Handle, payload: Bytes, wait: Duration) -> Result<answer::Answer, NoValue> {
    let wire::TaskResult { task } = wire::decode("question for a result", payload)?;
    let id = wire::task_of(&task).ok_or(NoValue::NoTaskId)?;
    Ok(ended(handle.end(id, wait).await?))
}

async fn cancel(handle: &Handle, payload: Bytes) -> Result<answer::Answer, NoValue> {
    let wire::Cancel { task, reason } = wire::decode("wish to call a task off", payload)?;
    let id = wire::task_of(&task).ok_or(NoValue::NoTaskId)?;
    handle.cancel(id, reason).await?;
    Ok(answer::Answer::Cancelled(wire::Cancelled {}))
}

async fn broadcast(handle: &Handle, payload: Bytes) -> Result<answer::Answer, NoValue> {
    let wire::Broadcast { to, payload, headers } = wire::decode("broadcast", payload)?;
    let Reached { nodes, agents, missed } = handle.broadcast(&to, content(headers, payload)?).await?;
    let missed = missed.iter().map(Name::to_string).collect();
    Ok(answer::Answer::Reached(wire::Reached { nodes, agents, missed }))
}

async fn signal(handle: &Handle, payload: Bytes) -> Result<answer::Answer, NoValue> {
    let wire::Signal { to, payload, headers, from, timeout_ms, hops_max, wait_ms } = wire::decode("signal", payload)?;
    let options = SignalOptions { from, timeout: Duration::from_millis(timeout_ms), hops_max };
    let wait = wait_ms.map(Duration::from_millis);
    Ok(answer::Answer::Taken(handle.signal(&to, content(headers, payload)?, options, wait).await?.encode()))
}

async fn trace(handle: &Handle, payload: Bytes) -> Result<answer::Answer, NoValue> {
    let wire::Trace { id, wait_ms } = wire::decode("question for a signal", payload)?;
    let id = signal_of(&id).ok_or(NoValue::NoSignalId)?;
    Ok(answer::Answer::Taken(handle.trace(id, Some(Duration::from_millis(wait_ms))).await?.encode()))
}

fn content(headers: Option<headers::Form>, payload: Bytes) -> Result<Content, NoValue> {
    Ok(Content { headers: headers::of_field(headers)?, payload })
}

fn find(handle: &Handle, payload: Bytes) -> Result<answer::Answer, NoValue> {
    let wire::Find { to } = wire::decode("address", payload)?;
    handle.whom(&to)?;
    Ok(answer::Answer::Found(wire::Found {}))
}

fn task(payload: Bytes) -> Result<(String, Bytes, TaskRequest), NoValue> {
    let enqueue: wire::Enqueue = wire::decode("task", payload)?;
    let wire::Enqueue {
        to,
        input,
        priority,
        delay_ms,
        attempts_max,
        attempt_ms_max,
        backoff_ms,
        idempotency,
        trace,
        session,
        session_ttl_ms,
        affinity,
    } = enqueue;
    let session = session.map(|name| Name::new(&name)).transpose().map_err(Error::from)?;
    let ttl = session_ttl_ms.map(Duration::from_millis);
    let request = TaskRequest {
        priority: priority.map(services::priority).transpose()?,
        delay: Duration::from_millis(delay_ms),
        attempts_max,
        attempt_max: attempt_ms_max.map(Duration::from_millis),
        backoff: backoff_ms.map(Duration::from_millis),
        idempotency_key: idempotency,
        session: session.map(|name| InSession { ttl, ..InSession::named(name) }),
        affinity,
        trace: trace.map(|trace| headers::trace_value(trace).ok_or(headers::NotHeaders)).transpose()?,
    };
    Ok((to, input, request))
}

fn ended(end: End) -> answer::Answer {
    let how = match end {
        End::Done(result) => How::Done(result),
        End::Dead(reason) => How::Dead(reason),
        End::Cancelled(reason) => How::Cancelled(reason),
    };
    answer::Answer::Ended(Ended { how: Some(how) })
}

async fn within(
    wait: Duration,
    answer: impl Future<Output = Result<answer::Answer, NoValue>>,
) -> Result<answer::Answer, NoValue> {
    tokio::time::timeout(wait, answer).await.unwrap_or_else(|_| Err(timeout(wait).into()))
}

fn timeout(wait: Duration) -> Error {
    Error::Timeout { waited_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX) }
}

pub(super) fn encoded(answer: Result<answer::Answer, NoValue>) -> Bytes {
    let bytes = encode(answer.unwrap_or_else(|error| failed(&error)));
    if bytes.len() <= PAYLOAD_BYTES_MAX as usize {
        return bytes;
    }
    encode(failed(&NoValue::TooLarge { bytes: bytes.len() }))
}

fn encode(answer: answer::Answer) -> Bytes {
    wire::encode(&Answer { answer: Some(answer) })
}

fn failed(error: &NoValue) -> answer::Answer {
    let why = match error {
        NoValue::Malformed(_) | NoValue::NotHeaders(_) | NoValue::NoTaskId | NoValue::NoSignalId => Why::Malformed,
        NoValue::Node(error) => error.why(),
        NoValue::TooLarge { .. } => Why::AnswerTooLarge,
    };
    answer::Answer::Failed(Failed { why: why.into(), text: text(error) })
}

/// The error with whatever its own words leave out.
fn text(error: &NoValue) -> String {
    match error {
        NoValue::Node(Error::UnknownAgent { nearest, .. }) if !nearest.is_empty() => {
            let nearest: Vec<&str> = nearest.iter().map(|name| name.as_str()).collect();
            format!("{error}; the nearest names are {}", nearest.join(", "))
        }
        NoValue::Malformed(_)
        | NoValue::NotHeaders(_)
        | NoValue::NoTaskId
        | NoValue::NoSignalId
        | NoValue::Node(_)
        | NoValue::TooLarge { .. } => error.to_string(),
    }
}
