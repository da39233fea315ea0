//! Asks a mesh over HTTP: any node answers for all of it.
//!
//! One method for each resource; documents come back as [`model`](crate::model) has them. Connections are kept and
//! reused. A client of several nodes asks the one that answered last. When that one does not answer, the next is asked,
//! unless the request may have taken effect already and would do so again: a caller that wants a request repeated gives
//! it an idempotency key.

mod request;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use pelago_core::{
    id::{Name, SignalId, TaskId},
    message::{Content, TraceContext},
    record::TaskState,
};
use pelago_node::{WhenBusy, handle};
use reqwest::StatusCode;
use serde::de::DeserializeOwned;

use request::{Request, agent_path, node_path, session_path, topic_path};

use crate::{
    model::{
        Agent, AgentList, Cancel, Connection, ConnectionList, DeadMessageList, Disconnected, Dismissed, EndedSession,
        Enqueued, Health, NewConnection, NewSignal, NewTask, NodeList, Payload, Reached, RemovedNode, SendReceipt,
        SessionHistory, SessionList, Signal, Status, Task, TaskEventList, TaskList, Told, words,
    },
    problem::{Code, Problem},
};

/// How long a connection may take to come about.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// Less than the node keeps an idle connection, so that a request never meets one that is just being closed.
const IDLE_MAX: Duration = Duration::from_secs(10);
const HEALTH: &str = "/health";

/// One node or several of a mesh, by the addresses of their HTTP APIs. Cheap to clone; clones share their connections,
/// and what they learn of who answers.
#[derive(Debug, Clone)]
pub struct Client {
    nodes: Arc<Nodes>,
    http: reqwest::Client,
    trace: Option<TraceContext>,
}

#[derive(Debug)]
struct Nodes {
    /// At least one.
    bases: Vec<String>,
    /// The one that answered last.
    answering: AtomicUsize,
}

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The node refused, or failed, and says why.
    #[error("{}", .0.detail)]
    Problem(Box<Problem>),
    /// No connection came about with any of the nodes. Nothing was done.
    #[error("no node answers at {}", listed(.nodes))]
    Unreachable {
        /// The nodes, in the order in which they were tried.
        nodes: Vec<Unreached>,
    },
    /// The answer did not come, or not whole. The request may or may not take effect.
    #[error("the answer of {url} did not arrive ({})", deepest(.source))]
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

/// A node that could not be reached.
#[derive(Debug)]
pub struct Unreached {
    /// The node.
    pub url: String,
    /// What the network says.
    pub cause: reqwest::Error,
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.url, deepest(&self.cause))
    }
}

fn listed(nodes: &[Unreached]) -> String {
    nodes.iter().map(Unreached::to_string).collect::<Vec<_>>().join(", ")
}

/// What the system says, without those who pass it on.
fn deepest(error: &reqwest::Error) -> String {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

impl Error {
    /// Whether the request never left.
    fn did_nothing(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// What to say when the nodes before came to nothing too. A request that may have taken effect anywhere may.
    fn after(self, earlier: Option<Self>) -> Self {
        match (earlier, self) {
            (Some(Self::Unreachable { nodes: mut before }), Self::Unreachable { nodes }) => {
                before.extend(nodes);
                Self::Unreachable { nodes: before }
            }
            (Some(earlier @ Self::NoAnswer { .. }), Self::Unreachable { .. }) => earlier,
            (_, error) => error,
        }
    }

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
            Self::NoAnswer { source, .. } => {
                let doubt = "the request may or may not take effect; repeat it with the same idempotency key";
                let hint = match source.is_timeout() {
                    true => doubt.to_owned(),
                    // As the listener for links does with everybody who speaks HTTP.
                    false => format!(
                        "{doubt}; if it always hangs up, is this its mesh address rather than its HTTP address?"
                    ),
                };
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
    /// Only with an id that begins so.
    pub id: Option<String>,
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

/// How an agent is asked.
#[derive(Debug, Clone, Default)]
pub struct AskQuery {
    /// How long to wait for the reply: 30 s unless set, a minute at most.
    pub wait: Option<Duration>,
    /// The same key with the same question gets the same reply.
    pub idempotency_key: Option<String>,
    /// The session that the question belongs to.
    pub session: Option<String>,
    /// What becomes of it while another of the session is being handled.
    pub session_busy: Option<WhenBusy>,
    /// How long the session is kept from now on if nobody uses it.
    pub session_ttl: Option<Duration>,
    /// Questions with the same text here go to the same node.
    pub affinity: Option<String>,
}

/// Which sessions to list.
#[derive(Debug, Clone, Default)]
pub struct SessionQuery {
    /// Only those with the agent at this address.
    pub agent: Option<String>,
    /// Where to go on: `next` of the part before.
    pub cursor: Option<String>,
    /// At most so many; 1 to 1,000, 100 unless set.
    pub limit: Option<usize>,
}

/// Which dead messages to list.
#[derive(Debug, Clone, Default)]
pub struct DeadMessageQuery {
    /// Only those to the agent at this address.
    pub agent: Option<String>,
    /// Where to go on: `next` of the part before.
    pub cursor: Option<String>,
    /// At most so many; 1 to 1,000, 100 unless set.
    pub limit: Option<usize>,
}

/// How every method fails: see [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Client {
    /// A client of the node at `url`, like `http://127.0.0.1:8080`. Connects when first asked.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self::of([url])
    }

    /// A client of whichever of the nodes at `urls` answers.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn of<'u>(urls: impl IntoIterator<Item = &'u str>) -> Self {
        let bases: Vec<String> = urls.into_iter().map(|url| url.trim_end_matches('/').to_owned()).collect();
        assert!(!bases.is_empty(), "a client needs somebody to ask");
        let http = reqwest::Client::builder()
            // A proxy of the environment is for the world outside, and would see requests to this machine.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_MAX)
            .pool_idle_timeout(IDLE_MAX)
            .tcp_nodelay(true)
            .build()
            .expect("a client without TLS needs nothing of the system");
        Self { nodes: Arc::new(Nodes { bases, answering: AtomicUsize::new(0) }), http, trace: None }
    }

    /// The same client, whose requests are part of a trace.
    #[must_use]
    pub fn in_trace(self, trace: Option<TraceContext>) -> Self {
        Self { trace, ..self }
    }

    /// Has the first of several nodes that answers within `wait` be asked from now on: one that takes connections and is
    /// frozen would cost each request all the time that it has.
    pub async fn prefer_who_answers(&self, wait: Duration) {
        let Nodes { bases, answering } = &*self.nodes;
        if bases.len() == 1 {
            return;
        }
        let health = Request::get(HEALTH);
        for (at, base) in bases.iter().enumerate() {
            if let Ok(Ok(_)) = tokio::time::timeout(wait, self.exchange_with(base, &health)).await {
                return answering.store(at, Ordering::Relaxed);
            }
        }
    }

    /// Enqueues a task.
    ///
    /// # Errors
    /// See [`Error`]; so for all methods.
    pub async fn enqueue(&self, task: &NewTask<'_>, idempotency_key: Option<&str>) -> Result<Enqueued> {
        self.document(Request::post("/api/v1/tasks").json(task).keyed(idempotency_key)).await
    }

    /// A task as it stands; with `wait` once it has ended, or as it stands then (the node waits a minute at most).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn task(&self, id: TaskId, wait: Option<Duration>) -> Result<Task> {
        self.document(Request::get(format!("/api/v1/tasks/{id}")).waiting(wait)).await
    }

    /// Part of the list of tasks, newest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn tasks(&self, query: &TaskQuery) -> Result<TaskList> {
        let TaskQuery { state, agent, id, cursor, limit } = query;
        let request = Request::get("/api/v1/tasks")
            .with("state", state.map(words::task_state::as_str))
            .with("agent", agent.as_deref())
            .with("id", id.as_deref())
            .with("cursor", cursor.as_deref())
            .with("limit", *limit);
        self.document(request).await
    }

    /// Calls a task off, a dead one too, and tells how it stands.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn cancel(&self, id: TaskId, reason: Option<&str>) -> Result<Task> {
        let cancel = Cancel { reason: reason.map(Into::into) };
        self.document(Request::post(format!("/api/v1/tasks/{id}/cancel")).json(&cancel)).await
    }

    /// Starts a dead or cancelled task afresh, and tells how it stands.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn retry(&self, id: TaskId) -> Result<Task> {
        self.document(Request::post(format!("/api/v1/tasks/{id}/retry"))).await
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
        let request =
            Request::get(format!("/api/v1/tasks/{id}/events")).with("after", Some(after)).with("limit", limit);
        self.document(request.waiting(wait)).await
    }

    /// Part of the list of keyed agents.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn agents(&self, query: &AgentQuery) -> Result<AgentList> {
        let AgentQuery { name, cursor, limit } = query;
        let request = Request::get("/api/v1/agents")
            .with("name", name.as_deref())
            .with("cursor", cursor.as_deref())
            .with("limit", *limit);
        self.document(request).await
    }

    /// Part of the list of messages that could not be handled.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn dead_messages(&self, query: &DeadMessageQuery) -> Result<DeadMessageList> {
        let DeadMessageQuery { agent, cursor, limit } = query;
        let request = Request::get("/api/v1/messages/dead")
            .with("agent", agent.as_deref())
            .with("cursor", cursor.as_deref())
            .with("limit", *limit);
        self.document(request).await
    }

    /// Forgets the messages that the agent at this address could not handle.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn dismiss(&self, address: &str) -> Result<Dismissed> {
        self.document(Request::delete("/api/v1/messages/dead").with("agent", Some(address))).await
    }

    /// An agent with its state.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn agent(&self, address: &str) -> Result<Agent> {
        self.document(Request::get(agent_path(address, ""))).await
    }

    /// Asks an agent; `question` is JSON. The node waits 30 s for the reply unless told, a minute at most.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn ask(
        &self,
        address: &str,
        question: impl Into<Content>,
        wait: Option<Duration>,
        idempotency_key: Option<&str>,
    ) -> Result<Payload> {
        let request = Request::post(agent_path(address, "/ask")).message(question.into());
        self.document(request.waiting_for_reply(wait).keyed(idempotency_key)).await
    }

    /// The same, within a session or with an affinity.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn ask_as(&self, address: &str, question: impl Into<Content>, query: &AskQuery) -> Result<Payload> {
        let AskQuery { wait, idempotency_key, session, session_busy, session_ttl, affinity } = query;
        let request = Request::post(agent_path(address, "/ask"))
            .message(question.into())
            .with("session", session.as_deref())
            .with("session_busy", session_busy.map(WhenBusy::name))
            .with("session_ttl", session_ttl.map(|ttl| format!("{}ms", ttl.as_millis())))
            .with("affinity", affinity.as_deref());
        self.document(request.waiting_for_reply(*wait).keyed(idempotency_key.as_deref())).await
    }

    /// Part of the list of sessions.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn sessions(&self, query: &SessionQuery) -> Result<SessionList> {
        let SessionQuery { agent, cursor, limit } = query;
        let request = Request::get("/api/v1/sessions")
            .with("agent", agent.as_deref())
            .with("cursor", cursor.as_deref())
            .with("limit", *limit);
        self.document(request).await
    }

    /// A session, and its turns after number `after`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn session(&self, agent: &str, session: &str, after: u64, limit: usize) -> Result<SessionHistory> {
        let request = Request::get(session_path(agent, session)).with("after", Some(after)).with("limit", Some(limit));
        self.document(request).await
    }

    /// Ends a session, and forgets its history.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn end_session(&self, agent: &str, session: &str) -> Result<EndedSession> {
        self.document(Request::delete(session_path(agent, session))).await
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
        let request = Request::post(agent_path(address, "/send")).body(message.into());
        self.document(request.keyed(idempotency_key)).await
    }

    /// Tells an agent something that nobody answers, and that is handled at most once; `message` is JSON.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn tell(&self, address: &str, message: impl Into<Content>) -> Result<Told> {
        self.document(Request::post(agent_path(address, "/tell")).message(message.into())).await
    }

    /// Tells every agent in memory, on any node, whose name meets a pattern; `message` is JSON.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn broadcast(&self, to: &str, message: impl Into<Content>) -> Result<Reached> {
        self.document(Request::post(agent_path(to, "/broadcast")).message(message.into())).await
    }

    /// Tells something to all who subscribe to a topic at that moment; `message` is JSON.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn publish(&self, topic: &str, message: impl Into<Content>) -> Result<Told> {
        self.document(Request::post(topic_path(topic)).message(message.into())).await
    }

    /// Starts a signal; with `wait` tells what became of it, or how it stands then (the node waits a minute at most).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn forward(&self, signal: &NewSignal<'_>, wait: Option<Duration>) -> Result<Signal> {
        self.document(Request::post("/api/v1/signals").json(signal).waiting(wait)).await
    }

    /// A signal as it stands; with `wait` once it has ended, or as it stands then.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn signal(&self, id: SignalId, wait: Option<Duration>) -> Result<Signal> {
        self.document(Request::get(format!("/api/v1/signals/{id}")).waiting(wait)).await
    }

    /// The connections along which signals go on, of all agents or those that lead on from one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn connections(&self, from: Option<&str>) -> Result<ConnectionList> {
        self.document(Request::get("/api/v1/connections").with("from", from)).await
    }

    /// Adds a connection, or changes its filter.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn connect(&self, connection: &NewConnection<'_>) -> Result<Connection> {
        self.document(Request::post("/api/v1/connections").json(connection)).await
    }

    /// Takes a connection away that was added.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn disconnect(&self, from: &str, to: &str) -> Result<Disconnected> {
        self.document(Request::delete("/api/v1/connections").with("from", Some(from)).with("to", Some(to))).await
    }

    /// All nodes.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn nodes(&self) -> Result<NodeList> {
        self.document(Request::get("/api/v1/nodes")).await
    }

    /// Removes a node that is gone for good.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn remove_node(&self, name: &str) -> Result<RemovedNode> {
        self.document(Request::delete(node_path(name))).await
    }

    /// How the mesh stands.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn status(&self) -> Result<Status> {
        self.document(Request::get("/api/v1/status")).await
    }

    /// Whether the node is well. A node that is not still gives the document.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn health(&self) -> Result<Health> {
        let Answer { url, status, body } = self.exchange(&Request::get(HEALTH)).await?;
        serde_json::from_slice(&body).map_err(|source| refusal(url, status, &body, source))
    }

    /// Whether the node should be sent requests.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn is_ready(&self) -> Result<bool> {
        Ok(self.exchange(&Request::get("/readyz")).await?.status.is_success())
    }

    /// The node's counters, in OpenMetrics text.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn metrics(&self) -> Result<String> {
        let Answer { url: _, status: _, body } = self.exchange(&Request::get("/metrics")).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    async fn document<T: DeserializeOwned>(&self, request: Request) -> Result<T> {
        let Answer { url, status, body } = self.exchange(&request).await?;
        if !status.is_success() {
            let source = serde::de::Error::custom("the status tells of a failure");
            return Err(refusal(url, status, &body, source));
        }
        serde_json::from_slice(&body).map_err(|source| Error::BadAnswer { url, status: status.as_u16(), source })
    }

    /// Asks one node after the other, until one answers or the request may not be sent again.
    async fn exchange(&self, request: &Request) -> Result<Answer> {
        if let Some(invalid) = request.lost_segment().and_then(|segment| Name::new(segment).err()) {
            return Err(Error::Problem(Box::new(handle::Error::Invalid(invalid).into())));
        }
        let Nodes { bases, answering } = &*self.nodes;
        let first = answering.load(Ordering::Relaxed);
        let (before, after) = bases.split_at(first);
        let order = (first..).zip(after).chain((0..).zip(before));
        let mut failed: Option<Error> = None;
        let mut elsewhere: Option<Answer> = None;
        for (at, base) in order {
            match self.exchange_with(base, request).await {
                Ok(answer) if answer.is_of_one_that_comes_or_goes() => elsewhere = Some(answer),
                Ok(answer) => {
                    answering.store(at, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(error) => {
                    let may_go_on = error.did_nothing() || request.is_repeatable();
                    let error = error.after(failed.take());
                    if !may_go_on {
                        return Err(error);
                    }
                    failed = Some(error);
                }
            }
        }
        elsewhere.ok_or_else(|| failed.expect("there is at least one node"))
    }

    async fn exchange_with(&self, base: &str, request: &Request) -> Result<Answer> {
        let unanswered = |source| unanswered(base, source);
        let response = request.to(&self.http, base, self.trace.as_ref()).send().await.map_err(unanswered)?;
        let (url, status) = (response.url().to_string(), response.status());
        let body = response.bytes().await.map_err(unanswered)?;
        Ok(Answer { url, status, body })
    }
}

/// What came back, whoever said it.
struct Answer {
    url: String,
    status: StatusCode,
    body: Bytes,
}

impl Answer {
    /// Whether the node has done nothing, since it takes no part in its mesh yet, or no more.
    fn is_of_one_that_comes_or_goes(&self) -> bool {
        let problem = || serde_json::from_slice::<Problem>(&self.body).ok();
        self.status == StatusCode::SERVICE_UNAVAILABLE
            && matches!(problem().and_then(|it| it.code()), Some(Code::Starting | Code::Stopping))
    }
}

fn unanswered(base: &str, source: reqwest::Error) -> Error {
    let url = base.to_owned();
    // A URL that cannot be parsed leads nowhere either.
    if source.is_connect() || source.is_builder() {
        Error::Unreachable { nodes: vec![Unreached { url, cause: source.without_url() }] }
    } else {
        Error::NoAnswer { url, source: source.without_url() }
    }
}

/// The problem that `body` tells; else the answer is no node's, for the reason `otherwise`.
fn refusal(url: String, status: StatusCode, body: &[u8], otherwise: serde_json::Error) -> Error {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => Error::Problem(Box::new(problem)),
        Err(_no_problem) => Error::BadAnswer { url, status: status.as_u16(), source: otherwise },
    }
}
