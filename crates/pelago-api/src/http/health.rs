//! `/health`, `/livez`, `/readyz` and `/metrics`: for probes, load balancers and collectors.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    extract::{RawQuery, State},
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};

use super::{
    answer::{self, Answer},
    app::App,
    query::Query,
};
use crate::model::{Health, Liveness, Readiness};

/// GET: how the node is; 503 unless it is well.
pub(super) async fn health(State(app): State<Arc<App>>) -> Answer {
    let status = app.handle.status().await?;
    let heard = status.heard.into();
    let health = Health::of(&status.into(), heard, app.is_ready());
    Ok(answer::with_status(ok_if(health.is_healthy()), &health))
}

/// GET: the process answers. Says nothing of the mesh: restarting a node does not mend it.
pub(super) async fn livez() -> Response {
    answer::document(&Liveness { status: "alive".to_owned() })
}

/// GET: whether the node should be sent requests; `verbose` tells the single checks.
pub(super) async fn readyz(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Answer {
    let verbose = Query::parse(query.as_deref(), &["verbose"])?.flag("verbose")?;
    let ready = app.is_ready();
    let status = if ready { "ready" } else { "not ready" };
    let checks = if verbose { checks(&app).await } else { BTreeMap::new() };
    Ok(answer::with_status(ok_if(ready), &Readiness { status: status.to_owned(), checks }))
}

/// GET: all counters, in OpenMetrics text.
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let mut response = app.handle.metrics().render().into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(OPEN_METRICS));
    response
}

async fn checks(app: &App) -> BTreeMap<String, bool> {
    let status = app.handle.status().await.ok();
    let checks = [
        ("not_stopping", !app.is_stopping()),
        ("joined", app.handle.is_ready()),
        ("store", status.is_some()),
        ("leader", status.as_ref().is_some_and(|status| status.leader.is_some())),
        ("quorum", status.as_ref().is_some_and(|status| status.quorum)),
    ];
    checks.into_iter().map(|(name, passed)| (name.to_owned(), passed)).collect()
}

fn ok_if(well: bool) -> StatusCode {
    if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
