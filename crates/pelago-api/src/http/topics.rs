//! `/api/v1/topics`

use std::{convert::Infallible, sync::Arc};

use axum::{
    extract::{RawQuery, Request, State},
    response::{
        IntoResponse,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::stream;
use pelago_core::id::Destination;
use pelago_node::handle::Subscription;
use tokio_util::sync::CancellationToken;

use super::{
    answer::{self, Answer},
    app::App,
    body,
    path::Segment,
    query::Query,
    traces,
};
use crate::model::{Published, Told};

/// POST: tells the body to all who subscribe to the topic.
pub(super) async fn publish(
    State(app): State<Arc<App>>,
    Segment(topic): Segment,
    RawQuery(query): RawQuery,
    request: Request,
) -> Answer {
    let mut message = body::message(query.as_deref(), request).await?;
    let to = format!("{}{topic}", Destination::TOPIC);
    let recorded = app.handle.record(&mut message, || format!("publish {topic}"));
    traces::ended(recorded, app.handle.tell(&to, message).await)?;
    Ok(answer::accepted(false, &Told { to }))
}

/// GET: what is published under topics that meet the pattern, from now on, as server-sent events.
pub(super) async fn tail(State(app): State<Arc<App>>, Segment(pattern): Segment, RawQuery(query): RawQuery) -> Answer {
    Query::parse(query.as_deref(), &[])?;
    let heard = (app.handle.subscribe(&pattern)?, app.stop.clone());
    let events = stream::unfold(heard, next);
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}

type Heard = (Subscription, CancellationToken);

async fn next((mut subscription, stop): Heard) -> Option<(Result<Event, Infallible>, Heard)> {
    let published = tokio::select! {
        biased;
        () = stop.cancelled() => return None,
        published = subscription.next() => published?,
    };
    let text = serde_json::to_string(&Published::from(published)).expect("a document is JSON");
    Some((Ok(Event::default().data(text)), (subscription, stop)))
}
