//! `/api/v1/signals` and `/api/v1/connections`

use std::sync::Arc;

use axum::{
    extract::{RawQuery, Request, State},
    http::{HeaderValue, StatusCode, header::LOCATION},
};
use bytes::Bytes;
use pelago_core::{id::SignalId, message::Headers};
use pelago_node::Filter;

use super::{
    answer::{self, Answer},
    app::{App, WAIT_MAX},
    body,
    failure::{Failure, excerpt},
    headers,
    path::Segment,
    query::Query,
    traces,
};
use crate::{
    model::{Connection, ConnectionList, Disconnected, NewConnection, NewSignal, Signal},
    problem::Code,
};

const NEW_SIGNAL: &[&str] = &["from", "to", "content", "timeout_ms", "hops_max"];
const NEW_CONNECTION: &[&str] = &["from", "to", "only"];

/// POST: starts a signal; with `wait` answers once it has ended.
pub(super) async fn forward(State(app): State<Arc<App>>, RawQuery(query): RawQuery, request: Request) -> Answer {
    let wait = Query::parse(query.as_deref(), &["wait"])?.duration("wait")?;
    let (head, body) = request.into_parts();
    let body = body::read(&head.headers, body).await?;
    let new: NewSignal<'_> = body::parse(&body, NEW_SIGNAL)?;
    let content = new.content.map_or(Bytes::new(), |content| body.slice_ref(content.get().as_bytes()));
    let options = new.options();
    let mut content = Headers { trace: headers::trace(&head.headers), ..Headers::NONE }.of(content);
    let recorded = app.handle.record(&mut content, || traces::name("signal", &new.to));
    let started = app.handle.signal(&new.to, content, options, wait.map(|wait| wait.min(WAIT_MAX))).await;
    let trace = traces::ended(recorded, started)?;
    let location = HeaderValue::try_from(format!("/api/v1/signals/{}", trace.id));
    let status = if trace.tree.is_some() { StatusCode::OK } else { StatusCode::ACCEPTED };
    let mut response = answer::with_status(status, &Signal::of_trace(trace));
    response.headers_mut().insert(LOCATION, location.expect("an id is hexadecimal"));
    Ok(response)
}

/// GET: one signal; `wait` until it has ended.
pub(super) async fn show(State(app): State<Arc<App>>, Segment(id): Segment, RawQuery(query): RawQuery) -> Answer {
    let id = signal_id(&id)?;
    let wait = Query::parse(query.as_deref(), &["wait"])?.duration("wait")?;
    let trace = app.watch(wait, |wait| app.handle.trace(id, wait)).await?;
    Ok(answer::document(&Signal::of_trace(trace)))
}

/// GET: all connections, or those that lead on from one agent.
pub(super) async fn connections(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Answer {
    let query = Query::parse(query.as_deref(), &["from"])?;
    let from = query.name("from")?;
    let all = app.handle.connections().into_iter().filter(|one| from.as_ref().is_none_or(|from| one.from == *from));
    Ok(answer::document(&ConnectionList { items: all.map(Connection::from).collect() }))
}

/// POST: adds a connection, or changes its filter.
pub(super) async fn connect(State(app): State<Arc<App>>, RawQuery(query): RawQuery, request: Request) -> Answer {
    Query::parse(query.as_deref(), &[])?;
    let (head, body) = request.into_parts();
    let body = body::read(&head.headers, body).await?;
    let NewConnection { from, to, only } = body::parse(&body, NEW_CONNECTION)?;
    let only = only
        .map(|only| only.parse::<Filter>())
        .transpose()
        .map_err(|no_filter| body::bad_field("field `only` is no filter", &no_filter.to_string()))?;
    Ok(answer::document(&Connection::from(app.handle.connect(&from, &to, only).await?)))
}

/// DELETE: takes a connection away that was added.
pub(super) async fn disconnect(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Answer {
    let query = Query::parse(query.as_deref(), &["from", "to"])?;
    let given = |name: &str| {
        query.text(name).map(str::to_owned).ok_or_else(|| {
            let detail = format!("parameter `{name}` is missing");
            Failure::new(Code::BadParameter, detail, "a connection is named by its ends: ?from=NAME&to=ADDRESS")
        })
    };
    let (from, to) = (given("from")?, given("to")?);
    app.handle.disconnect(&from, &to).await?;
    Ok(answer::document(&Disconnected { from, to }))
}

fn signal_id(text: &str) -> Result<SignalId, Failure> {
    text.parse().map_err(|_invalid| {
        let detail = format!("{:?} is not a signal id", excerpt(text));
        Failure::new(Code::BadSignalId, detail, "a signal id has 32 hexadecimal digits")
    })
}
