//! `/api/v1/nodes` and `/api/v1/status`

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use pelago_core::id::Name;
use pelago_node::handle;

use super::{
    answer::{self, Answer},
    app::App,
    path::Segment,
    query::Query,
};
use crate::model::{NodeList, RemovedNode, Status};

/// GET: all nodes.
pub(super) async fn nodes(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Answer {
    Query::parse(query.as_deref(), &[])?;
    let status = Status::from(app.handle.status().await?);
    Ok(answer::document(&NodeList::from(status)))
}

/// DELETE: forgets a node that is gone for good.
pub(super) async fn remove(State(app): State<Arc<App>>, Segment(name): Segment, RawQuery(query): RawQuery) -> Answer {
    Query::parse(query.as_deref(), &[])?;
    let name = Name::new(&name).map_err(handle::Error::from)?;
    let row = app.handle.remove_node(&name).await?;
    Ok(answer::document(&RemovedNode::new(&row, &app.handle.status().await?)))
}

/// GET: how the mesh stands.
pub(super) async fn status(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Answer {
    Query::parse(query.as_deref(), &[])?;
    Ok(answer::document(&Status::from(app.handle.status().await?)))
}
