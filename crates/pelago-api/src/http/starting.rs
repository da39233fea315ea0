//! What is answered before there is a node to ask: one that starts waits for its mesh, which may take a while.

use axum::{Router, http::StatusCode, response::Response, routing::get};

use super::{answer, failure::Failure, health, listener::last};
use crate::{model::Readiness, problem::Code};

pub(super) fn router() -> Router {
    // A connection ends with its answer: the next request shall find the node.
    let last = axum::middleware::map_response(async |response: Response| last(response));
    Router::new().route("/livez", get(health::livez)).route("/readyz", get(readyz)).fallback(starting).layer(last)
}

async fn readyz() -> Response {
    let readiness = Readiness { status: "not ready".to_owned(), checks: [("joined".to_owned(), false)].into() };
    answer::with_status(StatusCode::SERVICE_UNAVAILABLE, &readiness)
}

async fn starting() -> Failure {
    let hint = "nothing was done. It takes part once a majority of the mesh's voters answers it and its disk has room: \
                start the other nodes, or look into its log, which says what it waits for";
    Failure::new(Code::Starting, "the node is starting and takes no part in its mesh yet", hint)
}
