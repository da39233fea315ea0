//! `/api/v1/sessions`

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use pelago_core::id::Name;
use pelago_node::handle::SessionFilter;

use super::{
    answer::{self, Answer},
    app::App,
    failure::{Failure, excerpt},
    path::Segments,
    query::Query,
};
use crate::{
    model::{EndedSession, Said, Session, SessionHistory, SessionList},
    problem::Code,
};

/// GET: part of the list, by agent and name.
pub(super) async fn list(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Answer {
    let query = Query::parse(query.as_deref(), &["agent", "cursor", "limit", "stale"])?;
    let filter = SessionFilter {
        agent: query.text("agent").map(str::to_owned),
        cursor: query.text("cursor").map(str::to_owned),
        limit: query.limit()?,
    };
    let page = app.reading(&query)?.sessions(filter).await?;
    let items = page.items.into_iter().map(Session::from).collect();
    Ok(answer::document(&SessionList { items, next: page.next }))
}

/// GET: one session, and its turns after number `after`.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Segments([agent, session]): Segments<2>,
    RawQuery(query): RawQuery,
) -> Answer {
    let name = session_name(&session)?;
    let query = Query::parse(query.as_deref(), &["after", "limit", "stale"])?;
    let after = query.number("after")?.unwrap_or(0);
    let (session, entries) = app.reading(&query)?.session(&agent, &name, after, query.limit()?).await?;
    let last = entries.last().map(|entry| entry.n).filter(|last| *last < session.session.entries);
    let mut items = Vec::with_capacity(entries.len());
    for entry in entries {
        let node = app.name_of(entry.node);
        items.push(Said::of_entry(entry, node));
    }
    Ok(answer::document(&SessionHistory { session: session.into(), items, next: last }))
}

/// DELETE: ends a session, and forgets its history.
pub(super) async fn end(
    State(app): State<Arc<App>>,
    Segments([agent, session]): Segments<2>,
    RawQuery(query): RawQuery,
) -> Answer {
    let name = session_name(&session)?;
    Query::parse(query.as_deref(), &[])?;
    app.handle.end_session(&agent, &name).await?;
    Ok(answer::document(&EndedSession { agent, session }))
}

fn session_name(text: &str) -> Result<Name, Failure> {
    Name::new(text).map_err(|invalid| {
        let detail = format!("{:?} is not the name of a session", excerpt(text));
        Failure::new(Code::BadAddress, detail, invalid.why)
    })
}
