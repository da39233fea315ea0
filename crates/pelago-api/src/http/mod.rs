//! The resources, and the listener that serves them.
//!
//! ```text
//!   listener ── guard (Host, Origin) ── admission (503 once stopping) ── router ── one file a resource ── Handle
//! ```
//!
//! | path | methods | |
//! |---|---|---|
//! | `/api/v1/tasks` | GET, POST | list, `?id=` the beginning of one; enqueue (202 and `Location`) |
//! | `/api/v1/tasks/{id}` | GET | one task; `?wait=30s` until it has ended |
//! | `/api/v1/tasks/{id}/cancel`, `…/retry` | POST | call off, a dead task too; start afresh |
//! | `/api/v1/tasks/{id}/events` | GET | what happened; `?after=3&wait=30s` |
//! | `/api/v1/agents` | GET | list of keyed agents |
//! | `/api/v1/agents/{address}` | GET | one agent with its state |
//! | `/api/v1/agents/{address}/ask`, `…/send`, `…/tell` | POST | a question and its reply; a durable message; one that may be lost |
//! | `/api/v1/agents/{pattern}/broadcast` | POST | tells all agents whose names meet a pattern |
//! | `/api/v1/topics/{topic}` | POST | tells all who subscribe to a topic |
//! | `/api/v1/topics/{pattern}` | GET | what is told to topics that meet a pattern, as server-sent events |
//! | `/api/v1/socket` | GET | a WebSocket: ask, tell, broadcast, publish and subscribe over one connection |
//! | `/api/v1/messages/dead` | GET | messages that could not be handled; `?agent=ADDRESS` |
//! | `/api/v1/messages/dead?agent=ADDRESS` | DELETE | forget those of one agent |
//! | `/api/v1/sessions` | GET | list of conversations; `?agent=ADDRESS` |
//! | `/api/v1/sessions/{address}/{name}` | GET, DELETE | one with its history, `?after=3`; end it |
//! | `/api/v1/signals` | POST | start a signal; `?wait=30s` until it has ended |
//! | `/api/v1/signals/{id}` | GET | what became of it; `?wait=30s` |
//! | `/api/v1/connections` | GET, POST | where signals go on, `?from=NAME`; add one |
//! | `/api/v1/connections?from=NAME&to=ADDRESS` | DELETE | take one away |
//! | `/api/v1/nodes`, `/api/v1/status` | GET | the mesh |
//! | `/api/v1/nodes/{name}` | DELETE | forget a node that is gone for good |
//! | `/api/tasks` | POST | as `/api/v1/tasks` |
//! | `/health`, `/livez`, `/readyz`, `/metrics` | GET | for probes and collectors |
//!
//! `{address}` is one segment: a `/` within it (`node/name`, or a key with slashes) is written `%2F`. Times to wait are
//! written `30s`, `500ms`, `2m`, `1h`, or as a number of seconds; the API waits a minute at most. Bodies have 1 MiB at
//! most. Every refusal is a [`Problem`](crate::problem::Problem). Who comes when all connections are taken is answered
//! as a probe, or with 503; who comes before the node has met its mesh, by `starting`.

mod agents;
mod answer;
mod app;
mod body;
mod failure;
mod guard;
pub(crate) mod headers;
mod health;
mod listener;
mod mesh;
mod path;
mod query;
mod sessions;
mod signals;
mod socket;
mod starting;
mod tasks;
mod topics;
mod traces;

use std::sync::Arc;

use axum::{
    Router,
    extract::Request,
    routing::{delete, get, post},
};

use self::{app::App, failure::Failure};
use crate::problem::{Code, Problem};

pub(crate) use app::WAIT_MAX;
pub use listener::{Limits, serve, serve_starting};
pub(crate) use query::duration;

fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/api/v1/tasks", get(tasks::list).post(tasks::enqueue))
        .route("/api/v1/tasks/{id}", get(tasks::show))
        .route("/api/v1/tasks/{id}/cancel", post(tasks::cancel))
        .route("/api/v1/tasks/{id}/retry", post(tasks::retry))
        .route("/api/v1/tasks/{id}/events", get(tasks::events))
        .route("/api/v1/agents", get(agents::list))
        .route("/api/v1/agents/{address}", get(agents::show))
        .route("/api/v1/agents/{address}/ask", post(agents::ask))
        .route("/api/v1/agents/{address}/send", post(agents::send))
        .route("/api/v1/agents/{address}/tell", post(agents::tell))
        .route("/api/v1/agents/{address}/broadcast", post(agents::broadcast))
        .route("/api/v1/socket", get(socket::open))
        .route("/api/v1/topics/{topic}", get(topics::tail).post(topics::publish))
        .route("/api/v1/messages/dead", get(agents::dead_messages).delete(agents::dismiss))
        .route("/api/v1/sessions", get(sessions::list))
        .route("/api/v1/sessions/{agent}/{session}", get(sessions::show).delete(sessions::end))
        .route("/api/v1/signals", post(signals::forward))
        .route("/api/v1/signals/{id}", get(signals::show))
        .route("/api/v1/connections", get(signals::connections).post(signals::connect).delete(signals::disconnect))
        .route("/api/v1/nodes", get(mesh::nodes))
        .route("/api/v1/nodes/{name}", delete(mesh::remove))
        .route("/api/v1/status", get(mesh::status))
        .route("/api/tasks", post(tasks::enqueue))
        .route("/health", get(health::health))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .fallback(no_resource)
        .method_not_allowed_fallback(no_method)
        .with_state(app)
}

async fn no_resource(request: Request) -> Failure {
    let path = request.uri().path();
    let hint = if path.starts_with("/api/v1/agents/") {
        "an address is one segment of the path: write `/` within it as %2F"
    } else if path.len() > 1 && path.ends_with('/') {
        "paths do not end with `/`"
    } else {
        "the API begins with /api/v1: tasks, agents, topics, socket, messages/dead, sessions, signals, connections, nodes, status"
    };
    Problem::new(Code::UnknownPath, format!("there is no {}", failure::excerpt(path)), hint).into()
}

async fn no_method(request: Request) -> Failure {
    let (method, path) = (request.method(), request.uri().path());
    let detail = format!("{} cannot be used on {}", failure::excerpt(method.as_str()), failure::excerpt(path));
    Problem::new(Code::WrongMethod, detail, "the header `Allow` of this answer names the methods").into()
}
