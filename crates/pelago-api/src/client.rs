//! Asks a node over HTTP.
//!
//! One method for each resource; documents come back as [`model`](crate::model) has them. Connections are kept and
//! reused. Nothing is repeated by itself: a caller that repeats a request gives it an idempotency key.

use std::time::Duration;

use bytes::Bytes;
use pelago_core::{id::TaskId, record::TaskState};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{
    Method, RequestBuilder, Response, StatusCode,
    header::{CONTENT_TYPE, HeaderValue},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    model::{
        Agent, AgentList, Cancel, Enqueued, Health, NewTask, NodeList, Payload, SendReceipt, Status, Task,
        TaskEventList, TaskList, words,
    },
    problem::{Code, Problem},
};

/// How long a connection may take to come about.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// How long an answer may take, beyond what the request itself waits for.
const ANSWER_MAX: Duration = Duration::from_secs(15);
/// Less than the node keeps an idle connection, so that a request never meets one that is just being closed.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// What stands for itself in one segment of a path. `/` does not: an address is one segment.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');

/// A node, by the address of its HTTP API. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    base: String,
    http: reqwest::Client,
}

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The node refused, or failed, and says why.
    #[error("{}", .0.detail)]
    Problem(Box<Problem>),
    /// No connection came about. Nothing was done.
    #[error("no node answers at {url}")]
    Unreachable {
        /// The node.
        url: String,
        /// What the network says.
        source: reqwest::Error,
    },
    /// The answer did not come, or not whole. The request may or may not take effect.
    #[error("the answer of {url} did not arrive")]
    NoAnswer {
        /// The node.
        url: String,
        /// What the network says.
        source: reqwest::Error,
    },
    /// Something answered that is not a node, or one of a version too different.
    #[error("the answer of {url} (status {status}) is not one of a node")]
    BadAnswer {
        /// What was asked.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl Error {
    /// The same as a problem, to be shown.
    #[must_use]
    pub fn into_problem(self) -> Problem {
        let detail = self.to_string();
        match self {
            Self::Problem(problem) => *problem,
            Self::Unreachable { .. } => {
                Problem::new(Code::Unreachable, detail, "is the node running, and is this its HTTP address?")
                    .with_next("pelago up")
            }
            Self::NoAnswer { .. } => {
                let hint = "the request may or may not take effect; repeat it with the same idempotency key";
                Problem::new(Code::Unreachable, detail, hint).with_next("pelago status")
            }
            Self::BadAnswer { .. } => {
                let hint = "another program listens there, or a node of another version";
                Problem::new(Code::BadAnswer, detail, hint)
            }
        }
    }
}

/// Which tasks to list.
#[derive(Debug, Clone, Default)]
pub struct TaskQuery {
    /// Only in this state.
    pub state: Option<TaskState>,
    /// Only of this agent name.
    pub agent: Option<String>,
    /// Where to go on: `next` of the part before.
    pub cursor: Option<String>,
    /// At most so many; 1 to 1,000, 100 unless set.
    pub limit: Option<usize>,
}

/// Which agents to list.
#[derive(Debug, Clone, Default)]
pub struct AgentQuery {
    /// Only of this name.
    pub name: Option<String>,
    /// Where to go on: `next` of the part before.
    pub cursor: Option<String>,
    /// At most so many; 1 to 1,000, 100 unless set.
    pub limit: Option<usize>,
}

/// How every method fails: see [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Client {
    /// A client of the node at `base_url`, like `http://127.0.0.1:8080`. Connects when first asked.
    #[must_use]
    pub fn new(base_url: &str) -> Self {
        let http = reqwest::Client::builder()
            // A proxy of the environment is for the world outside, and would see requests to this machine.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_MAX)
            .pool_idle_timeout(IDLE_MAX)
            .tcp_nodelay(true)
            .build()
            .expect("a client without TLS needs nothing of the system");
        Self { base: base_url.trim_end_matches('/').to_owned(), http }
    }

    /// The node's address, as it was given.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.base
    }

    /// Enqueues a task.
    ///
    /// # Errors
    /// See [`Error`]; so for all methods.
    pub async fn enqueue(&self, task: &NewTask<'_>, idempotency_key: Option<&str>) -> Result<Enqueued> {
        let request = keyed(self.post_json("/api/v1/tasks", task), idempotency_key);
        self.document(request).await
    }

    /// A task as it stands; with `wait` once it has ended, or as it stands then (the node waits a minute at most).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn task(&self, id: TaskId, wait: Option<Duration>) -> Result<Task> {
        let request = self.request(Method::GET, &format!("/api/v1/tasks/{id}"));
        self.document(waiting(request, wait)).await
    }

    /// Part of the list of tasks, newest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn tasks(&self, query: &TaskQuery) -> Result<TaskList> {
        let TaskQuery { state, agent, cursor, limit } = query;
        let request = self
            .request(Method::GET, "/api/v1/tasks")
            .query(&[("state", state.map(words::task_state::as_str)), ("agent", agent.as_deref())])
            .query(&[("cursor", cursor)])
            .query(&[("limit", limit)]);
        self.document(request).await
    }

    /// Calls a task off, and tells how it stands.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn cancel(&self, id: TaskId, reason: Option<&str>) -> Result<Task> {
        let cancel = Cancel { reason: reason.map(Into::into) };
        self.document(self.post_json(&format!("/api/v1/tasks/{id}/cancel"), &cancel)).await
    }

    /// Starts a dead or cancelled task afresh, and tells how it stands.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn retry(&self, id: TaskId) -> Result<Task> {
        self.document(self.request(Method::POST, &format!("/api/v1/tasks/{id}/retry"))).await
    }

    /// Events of a task after number `after`; with `wait` as soon as there is one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn events(
        &self,
        id: TaskId,
        after: u64,
        limit: Option<usize>,
        wait: Option<Duration>,
    ) -> Result<TaskEventList> {
        let request = self
            .request(Method::GET, &format!("/api/v1/tasks/{id}/events"))
            .query(&[("after", after)])
            .query(&[("limit", limit)]);
        self.document(waiting(request, wait)).await
    }

    /// Part of the list of keyed agents.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn agents(&self, query: &AgentQuery) -> Result<AgentList> {
        let AgentQuery { name, cursor, limit } = query;
        let request = self
            .request(Method::GET, "/api/v1/agents")
            .query(&[("name", name), ("cursor", cursor)])
            .query(&[("limit", limit)]);
        self.document(request).await
    }

    /// An agent with its state.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn agent(&self, address: &str) -> Result<Agent> {
        self.document(self.request(Method::GET, &agent_path(address, ""))).await
    }

    /// Asks an agent; `question` is JSON. The node waits 30 s for the reply unless told, a minute at most.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn ask(
        &self,
        address: &str,
        question: impl Into<Bytes>,
        wait: Option<Duration>,
        idempotency_key: Option<&str>,
    ) -> Result<Payload> {
        let request = self.post(&agent_path(address, "/ask"), question.into());
        // An ask waits even when it is not told how long.
        let request = waiting(request.timeout(Duration::from_secs(30) + ANSWER_MAX), wait);
        self.document(keyed(request, idempotency_key)).await
    }

    /// Sends an agent a durable message; `message` is JSON.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn send(
        &self,
        address: &str,
        message: impl Into<Bytes>,
        idempotency_key: Option<&str>,
    ) -> Result<SendReceipt> {
        let request = self.post(&agent_path(address, "/send"), message.into());
        self.document(keyed(request, idempotency_key)).await
    }

    /// All nodes.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn nodes(&self) -> Result<NodeList> {
        self.document(self.request(Method::GET, "/api/v1/nodes")).await
    }

    /// How the mesh stands.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn status(&self) -> Result<Status> {
        self.document(self.request(Method::GET, "/api/v1/status")).await
    }

    /// Whether the node is well. A node that is not still gives the document.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn health(&self) -> Result<Health> {
        let response = self.send_off(self.request(Method::GET, "/health")).await?;
        let (url, status, body) = self.body(response).await?;
        serde_json::from_slice(&body).map_err(|source| refusal(url, status, &body, source))
    }

    /// Whether the node should be sent requests.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn is_ready(&self) -> Result<bool> {
        let response = self.send_off(self.request(Method::GET, "/readyz")).await?;
        Ok(response.status().is_success())
    }

    /// The node's counters, in OpenMetrics text.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn metrics(&self) -> Result<String> {
        let response = self.send_off(self.request(Method::GET, "/metrics")).await?;
        response.text().await.map_err(|source| self.unanswered(source))
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).timeout(ANSWER_MAX)
    }

    fn post(&self, path: &str, body: Bytes) -> RequestBuilder {
        let json = HeaderValue::from_static("application/json");
        self.request(Method::POST, path).header(CONTENT_TYPE, json).body(body)
    }

    fn post_json(&self, path: &str, body: &impl Serialize) -> RequestBuilder {
        self.post(path, serde_json::to_vec(body).expect("a request is JSON").into())
    }

    async fn document<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T> {
        let response = self.send_off(request).await?;
        let (url, status, body) = self.body(response).await?;
        if !status.is_success() {
            let source = serde::de::Error::custom("the status tells of a failure");
            return Err(refusal(url, status, &body, source));
        }
        serde_json::from_slice(&body).map_err(|source| Error::BadAnswer { url, status: status.as_u16(), source })
    }

    async fn send_off(&self, request: RequestBuilder) -> Result<Response> {
        request.send().await.map_err(|source| self.unanswered(source))
    }

    async fn body(&self, response: Response) -> Result<(String, StatusCode, Bytes)> {
        let (url, status) = (response.url().to_string(), response.status());
        let body = response.bytes().await.map_err(|source| self.unanswered(source))?;
        Ok((url, status, body))
    }

    fn unanswered(&self, source: reqwest::Error) -> Error {
        let url = self.base.clone();
        // A URL that cannot be parsed leads nowhere either.
        if source.is_connect() || source.is_builder() {
            Error::Unreachable { url, source: source.without_url() }
        } else {
            Error::NoAnswer { url, source: source.without_url() }
        }
    }
}

/// The problem that `body` tells; else the answer is no node's, for the reason `otherwise`.
fn refusal(url: String, status: StatusCode, body: &[u8], otherwise: serde_json::Error) -> Error {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => Error::Problem(Box::new(problem)),
        Err(_no_problem) => Error::BadAnswer { url, status: status.as_u16(), source: otherwise },
    }
}

fn keyed(request: RequestBuilder, idempotency_key: Option<&str>) -> RequestBuilder {
    match idempotency_key {
        Some(key) => request.header("idempotency-key", key),
        None => request,
    }
}

fn waiting(request: RequestBuilder, wait: Option<Duration>) -> RequestBuilder {
    match wait {
        Some(wait) => request.query(&[("wait", format!("{}ms", wait.as_millis()))]).timeout(wait + ANSWER_MAX),
        None => request,
    }
}

fn agent_path(address: &str, action: &str) -> String {
    format!("/api/v1/agents/{}{action}", utf8_percent_encode(address, SEGMENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_segment_of_a_path() {
        assert_eq!(agent_path("n1/section:src/a b.rs", "/ask"), "/api/v1/agents/n1%2Fsection:src%2Fa%20b.rs/ask");
    }
}
