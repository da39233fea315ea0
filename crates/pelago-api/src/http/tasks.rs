//! `/api/v1/tasks`

use std::{borrow::Cow, ops::RangeInclusive, sync::Arc, time::Duration};

use axum::{
    extract::{RawQuery, Request, State},
    http::{HeaderValue, header::LOCATION},
};
use bytes::Bytes;
use pelago_core::{
    id::{Name, TaskId},
    record::{self, EventKind},
};
use pelago_node::{
    Handle, InSession, TaskRequest,
    handle::{self, TaskFilter},
};

use super::{
    answer::{self, Answer},
    app::App,
    body,
    failure::{Failure, excerpt},
    headers,
    path::Segment,
    query::Query,
    traces,
};
use crate::{
    model::{ATTEMPTS_MAX, Cancel, Enqueued, NewTask, PRIORITY_MAX, Task, TaskEvent, TaskEventList, TaskList, words},
    problem::Code,
};

/// A day: what works longer is better cut into tasks.
const WORK_MS: RangeInclusive<u64> = 1..=86_400_000;
/// A year.
const DELAY_MS: RangeInclusive<u64> = 0..=31_536_000_000;
const ATTEMPTS: RangeInclusive<u32> = 1..=ATTEMPTS_MAX;
const PRIORITIES: RangeInclusive<u8> = 0..=PRIORITY_MAX;

const NEW_TASK: &[&str] = &[
    "agent",
    "input",
    "prompt",
    "priority",
    "delay_ms",
    "attempts_max",
    "attempt_ms_max",
    "backoff_ms",
    "session",
    "session_ttl_ms",
    "affinity",
];

/// POST: enqueues a task.
pub(super) async fn enqueue(State(app): State<Arc<App>>, RawQuery(query): RawQuery, request: Request) -> Answer {
    Query::parse(query.as_deref(), &[])?;
    let (head, body) = request.into_parts();
    let idempotency_key = body::idempotency_key(&head.headers)?;
    let body = body::read(&head.headers, body).await?;
    let new: NewTask<'_> = body::parse(&body, NEW_TASK)?;
    let mut request = TaskRequest { idempotency_key, trace: headers::trace(&head.headers), ..options(&new)? };
    let input = input(&body, &new)?;
    let recorded = app.handle.record_task(&mut request, || traces::name("task", &new.agent));
    let enqueued: Enqueued = traces::ended(recorded, app.handle.enqueue(&new.agent, input, request).await)?.into();
    let mut response = answer::accepted(enqueued.existing, &enqueued);
    let location = HeaderValue::try_from(format!("/api/v1/tasks/{}", enqueued.id));
    response.headers_mut().insert(LOCATION, location.expect("an id is hexadecimal"));
    Ok(response)
}

/// GET: one task; `wait` until it has ended.
pub(super) async fn show(State(app): State<Arc<App>>, Segment(id): Segment, RawQuery(query): RawQuery) -> Answer {
    let id = task_id(&id)?;
    let query = Query::parse(query.as_deref(), &["wait", "stale"])?;
    stand(&app.reading(&query)?, &app, id, query.duration("wait")?).await
}

/// GET: part of the list, newest first.
pub(super) async fn list(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Answer {
    let query = Query::parse(query.as_deref(), &["state", "agent", "id", "cursor", "limit", "stale"])?;
    let states = words::task_state::ALL.join(", ");
    let filter = TaskFilter {
        state: query.read(
            "state",
            words::task_state::parse,
            &format!("one of {states}"),
            "states are in lower case",
        )?,
        agent: query.name("agent")?,
        ids: query.read("id", beginning_with, "the beginning of a task id", "a task id has 32 hexadecimal digits")?,
        cursor: query.text("cursor").map(str::to_owned),
        limit: query.limit()?,
    };
    let page = app.reading(&query)?.tasks(filter).await?;
    let mut items = Vec::with_capacity(page.items.len());
    for row in page.items {
        items.push(listed(&app, row));
    }
    Ok(answer::document(&TaskList { items, next: page.next }))
}

/// POST: calls a task off, a dead one too.
pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    RawQuery(query): RawQuery,
    request: Request,
) -> Answer {
    let id = task_id(&id)?;
    Query::parse(query.as_deref(), &[])?;
    let (head, body) = request.into_parts();
    let body = body::read(&head.headers, body).await?;
    let cancel: Cancel<'_> = if body.is_empty() { Cancel::default() } else { body::parse(&body, &["reason"])? };
    app.handle.cancel(id, cancel.reason.map(Cow::into_owned)).await.map_err(|error| with_task(error, id))?;
    stand(&app.handle, &app, id, None).await
}

/// POST: starts a dead or cancelled task afresh.
pub(super) async fn retry(State(app): State<Arc<App>>, Segment(id): Segment, RawQuery(query): RawQuery) -> Answer {
    let id = task_id(&id)?;
    Query::parse(query.as_deref(), &[])?;
    app.handle.retry(id).await.map_err(|error| with_task(error, id))?;
    stand(&app.handle, &app, id, None).await
}

/// GET: what happened to a task after event number `after`; `wait` until something did.
pub(super) async fn events(State(app): State<Arc<App>>, Segment(id): Segment, RawQuery(query): RawQuery) -> Answer {
    let id = task_id(&id)?;
    let query = Query::parse(query.as_deref(), &["after", "limit", "wait", "stale"])?;
    let after = query.number("after")?.unwrap_or(0);
    let (limit, wait) = (query.limit()?, query.duration("wait")?);
    let handle = app.reading(&query)?;
    let rows = app.watch(wait, |wait| handle.events(id, after, limit, wait)).await?;
    let mut items = Vec::with_capacity(rows.len());
    for row in rows {
        items.push(event(&app, row));
    }
    let next = items.last().map_or(after, |event| event.n);
    Ok(answer::document(&TaskEventList { items, next }))
}

/// A task as it stands, once it has ended or `wait` is over.
async fn stand(handle: &Handle, app: &App, id: TaskId, wait: Option<Duration>) -> Answer {
    let detail = app.watch(wait, |wait| handle.task(id, wait)).await?;
    let pinned = pinned(app, &detail.task);
    Ok(answer::document(&Task::of_detail(detail, pinned)))
}

fn listed(app: &App, row: record::Task) -> Task {
    let node = row.holder.map(|holder| app.name_of(holder.node));
    let pinned = pinned(app, &row);
    Task::of_row(row, node, pinned)
}

fn pinned(app: &App, row: &record::Task) -> Option<String> {
    row.node.map(|node| app.name_of(node))
}

fn event(app: &App, row: record::TaskEvent) -> TaskEvent {
    let node = match row.kind {
        EventKind::Running { node } => Some(app.name_of(node)),
        EventKind::Queued
        | EventKind::Progress(_)
        | EventKind::Retried { .. }
        | EventKind::Done
        | EventKind::Dead { .. }
        | EventKind::Cancelled { .. } => None,
    };
    TaskEvent::of_row(row, node)
}

/// The ids that begin like `text`.
fn beginning_with(text: &str) -> Option<RangeInclusive<TaskId>> {
    let first = format!("{text:0<32}").parse().ok()?;
    let last = format!("{text:f<32}").parse().ok()?;
    Some(first..=last)
}

fn task_id(text: &str) -> Result<TaskId, Failure> {
    text.parse().map_err(|_invalid| {
        let detail = format!("{:?} is not a task id", excerpt(text));
        Failure::new(Code::BadTaskId, detail, "a task id has 32 hexadecimal digits").with_next("pelago task ls")
    })
}

/// The input, cut out of `body` as it was written.
fn input(body: &Bytes, new: &NewTask<'_>) -> Result<Bytes, Failure> {
    match (new.input, &new.prompt) {
        (Some(_), Some(_)) => Err(body::bad_field("`input` and `prompt` are both given", "give one of them")),
        (Some(input), None) => Ok(body.slice_ref(input.get().as_bytes())),
        (None, Some(prompt)) => Ok(serde_json::to_vec(prompt).expect("a text is JSON").into()),
        (None, None) => Ok(Bytes::new()),
    }
}

fn options(new: &NewTask<'_>) -> Result<TaskRequest, Failure> {
    let delay = within("delay_ms", new.delay_ms, &DELAY_MS)?;
    Ok(TaskRequest {
        priority: within("priority", new.priority, &PRIORITIES)?,
        delay: Duration::from_millis(delay.unwrap_or(0)),
        attempts_max: within("attempts_max", new.attempts_max, &ATTEMPTS)?,
        attempt_max: within("attempt_ms_max", new.attempt_ms_max, &WORK_MS)?.map(Duration::from_millis),
        backoff: within("backoff_ms", new.backoff_ms, &WORK_MS)?.map(Duration::from_millis),
        session: session(new)?,
        affinity: new.affinity.as_deref().map(str::to_owned),
        ..TaskRequest::default()
    })
}

fn session(new: &NewTask<'_>) -> Result<Option<InSession>, Failure> {
    let ttl = new.session_ttl_ms.map(Duration::from_millis);
    match new.session.as_deref().map(Name::new).transpose() {
        Ok(Some(name)) => Ok(Some(InSession { ttl, ..InSession::named(name) })),
        Ok(None) if ttl.is_some() => {
            Err(body::bad_field("`session_ttl_ms` is given without `session`", "name the session, or leave it out"))
        }
        Ok(None) => Ok(None),
        Err(invalid) => Err(body::bad_field("field `session` is no name", &invalid.to_string())),
    }
}

fn within<T>(name: &str, value: Option<T>, range: &RangeInclusive<T>) -> Result<Option<T>, Failure>
where
    T: PartialOrd + std::fmt::Display,
{
    match value {
        Some(value) if !range.contains(&value) => {
            let hint = format!("it may be from {} to {}", range.start(), range.end());
            Err(body::bad_field(&format!("field `{name}` may not be {value}"), &hint))
        }
        Some(_) | None => Ok(value),
    }
}

/// Points to the one task rather than to the list.
fn with_task(error: handle::Error, id: TaskId) -> Failure {
    let failure = Failure::from(error);
    if failure.is(Code::WrongState) { failure.with_next(format!("pelago task show {id}")) } else { failure }
}
