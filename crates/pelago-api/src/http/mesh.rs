//! `/api/v1/nodes` and `/api/v1/status`

use std::sync::Arc;

use axum::extract::{RawQuery, State};

use super::{
    answer::{self, Answer},
    app::App,
    query::Query,
};
use crate::model::{NodeList, Status};

/// GET: all nodes.
pub(super) async fn nodes(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Answer {
    Query::parse(query.as_deref(), &[])?;
    let status = Status::from(app.handle.status().await?);
    Ok(answer::document(&NodeList::from(status)))
}

/// GET: how the mesh stands.
pub(super) async fn status(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Answer {
    Query::parse(query.as_deref(), &[])?;
    Ok(answer::document(&Status::from(app.handle.status().await?)))
}
