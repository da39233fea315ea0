//! `/api/v1/agents` and `/api/v1/messages`

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{RawQuery, Request, State},
    http::StatusCode,
};
use pelago_node::{
    InSession,
    handle::{self, AgentFilter, AskOptions, BuriedFilter},
};

use super::{
    answer::{self, Answer},
    app::{App, WAIT_MAX},
    body,
    failure::Failure,
    path::Segment,
    query::{self, Query},
    traces,
};
use crate::{
    model::{Agent, AgentList, DeadMessage, DeadMessageList, Dismissed, Reached, SendReceipt, Told},
    problem::Code,
};

/// How long an ask waits unless told.
const ASK_WAIT: Duration = Duration::from_secs(30);

/// GET: part of the list, by name and key.
pub(super) async fn list(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Answer {
    let query = Query::parse(query.as_deref(), &["name", "cursor", "limit", "stale"])?;
    let filter = AgentFilter {
        name: query.name("name")?,
        cursor: query.text("cursor").map(str::to_owned),
        limit: query.limit()?,
    };
    let page = app.reading(&query)?.agents(filter).await?;
    let items = page.items.into_iter().map(Agent::from).collect();
    Ok(answer::document(&AgentList { items, next: page.next }))
}

/// GET: one agent with its state.
pub(super) async fn show(State(app): State<Arc<App>>, Segment(address): Segment, RawQuery(query): RawQuery) -> Answer {
    let query = Query::parse(query.as_deref(), &["stale"])?;
    let detail = app.reading(&query)?.agent(&address).await?;
    Ok(answer::document(&Agent::from(detail)))
}

/// GET: part of the list of messages that could not be handled, of all agents or of one.
pub(super) async fn dead_messages(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Answer {
    let query = Query::parse(query.as_deref(), &["agent", "cursor", "limit", "stale"])?;
    let filter = BuriedFilter {
        to: query.text("agent").map(str::to_owned),
        cursor: query.text("cursor").map(str::to_owned),
        limit: query.limit()?,
    };
    let page = app.reading(&query)?.buried(filter).await?;
    let items = page.items.into_iter().map(DeadMessage::from).collect();
    Ok(answer::document(&DeadMessageList { items, next: page.next }))
}

/// DELETE: forgets the messages that one agent could not handle.
pub(super) async fn dismiss(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Answer {
    let query = Query::parse(query.as_deref(), &["agent"])?;
    let Some(agent) = query.text("agent") else {
        let hint = "dead messages are dismissed agent by agent: ?agent=ADDRESS";
        return Err(Failure::new(Code::BadParameter, "parameter `agent` is missing", hint));
    };
    let messages = app.handle.dismiss(agent).await?;
    Ok(answer::document(&Dismissed { agent: agent.to_owned(), messages }))
}

/// POST: asks; the body is the question and the answer is the reply.
pub(super) async fn ask(
    State(app): State<Arc<App>>,
    Segment(address): Segment,
    RawQuery(query): RawQuery,
    request: Request,
) -> Answer {
    let query = Query::parse(query.as_deref(), &["wait", "session", "session_busy", "session_ttl", "affinity"])?;
    let wait = query.duration("wait")?.unwrap_or(ASK_WAIT).min(WAIT_MAX);
    let options = options(&query, wait)?;
    let (head, body) = request.into_parts();
    let idempotency_key = body::idempotency_key(&head.headers)?;
    let mut question = body::content(&head.headers, body).await?;
    let recorded = app.handle.record(&mut question, || traces::name("ask", &address));
    let options = AskOptions { idempotency_key, ..options };
    let reply = traces::ended(recorded, app.handle.ask(&address, question, options).await)?;
    Ok(answer::json(StatusCode::OK, reply))
}

/// What says what a question belongs to: a session, or other questions with the same text.
pub(super) const AMONG: [&str; 4] = ["session", "session_busy", "session_ttl", "affinity"];

/// How a question is asked that waits so long for its reply.
pub(super) fn options(query: &Query<'_>, wait: Duration) -> Result<AskOptions, Failure> {
    let affinity = query.text("affinity").map(str::to_owned);
    let options = AskOptions { session: session(query)?, affinity, ..AskOptions::from(wait) };
    let refused =
        |error: handle::Error| Failure::new(Code::BadParameter, error.to_string(), "change it, or leave it out");
    options.check().map_err(refused)?;
    Ok(options)
}

fn session(query: &Query<'_>) -> Result<Option<InSession>, Failure> {
    let name = query.name("session")?;
    let busy = query.read(
        "session_busy",
        |text| text.parse().ok(),
        "queue, reject or interrupt",
        "it says what becomes of the question while another of the session is being handled",
    )?;
    let ttl = query.read(
        "session_ttl",
        query::duration,
        "a time like 30s or 1h",
        "a plain number counts seconds; a session is kept for 1 s to 720h without being used",
    )?;
    match name {
        Some(name) => Ok(Some(InSession { name, busy, ttl })),
        None if busy.is_some() || ttl.is_some() => {
            let detail = "parameter `session` is missing";
            Err(Failure::new(Code::BadParameter, detail, "name the session, or leave out what is said of it"))
        }
        None => Ok(None),
    }
}

/// POST: tells the agent the body, which nobody answers.
pub(super) async fn tell(
    State(app): State<Arc<App>>,
    Segment(address): Segment,
    RawQuery(query): RawQuery,
    request: Request,
) -> Answer {
    let mut message = body::message(query.as_deref(), request).await?;
    let recorded = app.handle.record(&mut message, || traces::name("tell", &address));
    traces::ended(recorded, app.handle.tell(&address, message).await)?;
    Ok(answer::accepted(false, &Told { to: address }))
}

/// POST: tells the body to every agent whose name meets the pattern.
pub(super) async fn broadcast(
    State(app): State<Arc<App>>,
    Segment(to): Segment,
    RawQuery(query): RawQuery,
    request: Request,
) -> Answer {
    let mut message = body::message(query.as_deref(), request).await?;
    let recorded = app.handle.record(&mut message, || traces::name("broadcast", &to));
    let reached = traces::ended(recorded, app.handle.broadcast(&to, message).await)?;
    let handle::Reached { nodes, agents, missed } = reached;
    let missed = missed.iter().map(ToString::to_string).collect();
    Ok(answer::accepted(false, &Reached { to, nodes, agents, missed }))
}

/// POST: sends a durable message, which is the body.
pub(super) async fn send(
    State(app): State<Arc<App>>,
    Segment(address): Segment,
    RawQuery(query): RawQuery,
    request: Request,
) -> Answer {
    Query::parse(query.as_deref(), &[])?;
    let (head, body) = request.into_parts();
    let idempotency_key = body::idempotency_key(&head.headers)?;
    let message = body::read(&head.headers, body).await?;
    body::check_json(&message)?;
    let existing = app.handle.send(&address, message, idempotency_key).await?;
    Ok(answer::accepted(existing, &SendReceipt { to: address, existing }))
}
