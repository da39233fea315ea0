//! `/api/v1/socket`: a WebSocket, over which a program asks, tells and listens as long as it is open.
//!
//! Each text message is one JSON object. Every command has an `id` that its answer repeats; answers come as they are
//! ready, and messages of topics between them. [`Command`] and [`Answer`] have the fields.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    extract::{
        Extension, State, WebSocketUpgrade,
        ws::{self, WebSocket, rejection::WebSocketUpgradeRejection},
    },
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures_util::{
    FutureExt as _, StreamExt as _,
    future::BoxFuture,
    stream::{BoxStream, FuturesUnordered, SelectAll},
};
use pelago_core::{
    id::{Destination, Invalid},
    message::{Headers, Priority},
};
use pelago_node::handle::{self, AskOptions};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::task_tracker::TaskTrackerToken,
};

use super::{
    agents,
    app::{App, WAIT_MAX},
    failure::Failure,
    listener::Place,
    query::{self, Query},
    traces,
};
use crate::{
    model::{Payload, Published},
    problem::{Code, Problem},
};

/// The longest message from a client. Above what the node takes, so that its own, clearer words come first …
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// … and the longest that is read as a whole before the socket is closed for it: what is not read would reset the
/// connection, and take the reason with it.
const READ_BYTES_MAX: usize = 4 << 20;
/// The longest reason for closing a socket, in bytes: what the protocol has room for.
const REASON_BYTES_MAX: usize = 123;
/// How many commands of one socket may wait for their answers.
const COMMANDS_MAX: usize = 256;
/// How many subscriptions a socket may have.
const SUBSCRIPTIONS_MAX: usize = 64;
/// How long an ask waits unless told.
const ASK_WAIT: Duration = Duration::from_secs(30);
/// How often a client that says nothing is asked for a sign of life, and how long one may take to read.
const PING_AFTER: Duration = Duration::from_secs(20);
const READ_MAX: Duration = Duration::from_secs(20);

/// What a client wants: exactly one of the fields besides `id`, `message` and `wait`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Command<'a> {
    id: u64,
    ask: Option<String>,
    tell: Option<String>,
    broadcast: Option<String>,
    publish: Option<String>,
    subscribe: Option<String>,
    /// The id of the command that subscribed.
    unsubscribe: Option<u64>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    /// How long to wait for the reply: `5s`.
    wait: Option<String>,
    /// What a question belongs to, as in the query of HTTP.
    session: Option<String>,
    session_busy: Option<String>,
    session_ttl: Option<String>,
    affinity: Option<String>,
    /// What the message says about itself.
    message_type: Option<u32>,
    priority: Option<u32>,
    within: Option<String>,
    traceparent: Option<String>,
}

/// What is left of a command that cannot be read otherwise.
#[derive(Debug, Deserialize)]
struct Named {
    id: u64,
}

/// What a client hears.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Answer {
    Reply {
        id: u64,
        reply: Payload,
    },
    Told {
        id: u64,
        told: String,
    },
    Reached {
        id: u64,
        nodes: u32,
        agents: u64,
        missed: Vec<String>,
    },
    Subscribed {
        id: u64,
        subscribed: String,
    },
    Unsubscribed {
        id: u64,
        unsubscribed: u64,
    },
    Problem {
        id: Option<u64>,
        problem: Problem,
    },
    Published {
        subscription: u64,
        #[serde(flatten)]
        published: Published,
    },
}

/// GET: opens the socket.
pub(super) async fn open(
    State(app): State<Arc<App>>,
    Extension(place): Extension<Arc<Place>>,
    Extension(under_way): Extension<TaskTrackerToken>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => {
            let hint = "open it with a WebSocket client: ws://localhost:8080/api/v1/socket";
            return Failure::new(Code::BadHeader, rejection.body_text(), hint).into_response();
        }
    };
    let upgrade = upgrade.max_message_size(READ_BYTES_MAX).max_frame_size(READ_BYTES_MAX);
    upgrade.on_upgrade(async move |socket| {
        Conversation::new(app).run(socket).await;
        // A socket counts among the connections, and the API waits for it when it stops.
        drop((place, under_way));
    })
}

struct Conversation {
    app: Arc<App>,
    answers: FuturesUnordered<BoxFuture<'static, Answer>>,
    heard: SelectAll<BoxStream<'static, Answer>>,
    /// By the ids of the commands that subscribed.
    subscriptions: BTreeMap<u64, DropGuard>,
}

enum Event {
    Said(Option<Result<ws::Message, axum::Error>>),
    Answer(Answer),
    Silence,
    Stop,
}

impl Conversation {
    fn new(app: Arc<App>) -> Self {
        Self { app, answers: FuturesUnordered::new(), heard: SelectAll::new(), subscriptions: BTreeMap::new() }
    }

    async fn run(mut self, mut socket: WebSocket) {
        let stop = self.app.stop.clone();
        let mut ping_at = Instant::now() + PING_AFTER;
        loop {
            let event = tokio::select! {
                biased;
                () = stop.cancelled() => Event::Stop,
                Some(answer) = self.answers.next() => Event::Answer(answer),
                said = socket.recv() => Event::Said(said),
                Some(published) = self.heard.next() => Event::Answer(published),
                () = tokio::time::sleep_until(ping_at) => Event::Silence,
            };
            let message = match event {
                Event::Said(Some(Ok(said))) => {
                    ping_at = Instant::now() + PING_AFTER;
                    match said {
                        ws::Message::Text(text) if text.len() > MESSAGE_BYTES_MAX => Some(too_large()),
                        ws::Message::Text(text) => self.obey(text.as_str()).map(text_of),
                        ws::Message::Binary(_) => Some(text_of(problem(None, not_text()))),
                        // The library answers a ping, and a close.
                        ws::Message::Ping(_) | ws::Message::Pong(_) | ws::Message::Close(_) => None,
                    }
                }
                Event::Said(Some(Err(error))) => {
                    // The client may have gone; if not, it is told why this is the end.
                    let reason = format!("{error}; a message is text and has 1 MiB at most");
                    let reason = reason[..reason.floor_char_boundary(REASON_BYTES_MAX)].into();
                    let close = ws::CloseFrame { code: ws::close_code::POLICY, reason };
                    let _gone = timeout(READ_MAX, socket.send(ws::Message::Close(Some(close)))).await;
                    return;
                }
                Event::Said(None) => return,
                Event::Answer(answer) => Some(text_of(answer)),
                Event::Silence => {
                    ping_at = Instant::now() + PING_AFTER;
                    Some(ws::Message::Ping(Bytes::new()))
                }
                Event::Stop => Some(ws::Message::Close(Some(ws::CloseFrame {
                    code: ws::close_code::AWAY,
                    reason: "the node is stopping".into(),
                }))),
            };
            let Some(message) = message else { continue };
            let is_last = matches!(message, ws::Message::Close(_));
            let sent = timeout(READ_MAX, socket.send(message)).await;
            if is_last || !matches!(sent, Ok(Ok(()))) {
                return;
            }
        }
    }

    /// Begins what a client wants. The answer, if it is there at once.
    fn obey(&mut self, text: &str) -> Option<Answer> {
        let read = if text.trim_ascii_start().starts_with('{') { serde_json::from_str(text) } else { Err(no_object()) };
        let command: Command<'_> = match read {
            Ok(command) => command,
            Err(error) => {
                let code = if error.is_data() { Code::BadField } else { Code::BadJson };
                let id = serde_json::from_str(text).ok().map(|Named { id }| id);
                return Some(problem(id, Failure::new(code, format!("the command cannot be read: {error}"), HINT)));
            }
        };
        let id = command.id;
        match self.begin(command) {
            Ok(answer) => answer,
            Err(failure) => Some(problem(Some(id), failure)),
        }
    }

    fn begin(&mut self, command: Command<'_>) -> Result<Option<Answer>, Failure> {
        let (headers, wait) = (headers(&command)?, wait(&command)?);
        let options = options(&command, wait)?;
        let Command { id, ask, tell, broadcast, publish, subscribe, unsubscribe, message, .. } = command;
        let message = message.map_or_else(Bytes::new, |message| Bytes::copy_from_slice(message.get().as_bytes()));
        let mut message = headers.of(message);
        if self.answers.len() >= COMMANDS_MAX {
            let busy = format!("{COMMANDS_MAX} commands of this socket wait for their answers");
            return Err(handle::Error::Busy(busy).into());
        }
        let app = Arc::clone(&self.app);
        let answer = match (ask, tell.or(publish.map(as_topic)), broadcast, subscribe, unsubscribe) {
            (Some(to), None, None, None, None) => async move {
                let recorded = app.handle.record(&mut message, || traces::name("ask", &to));
                answer(id, traces::ended(recorded, app.handle.ask(&to, message, options).await), |reply| {
                    Answer::Reply { id, reply: reply.into() }
                })
            }
            .boxed(),
            (None, Some(told), None, None, None) => {
                async move { answer(id, app.handle.tell(&told, message).await, |()| Answer::Told { id, told }) }.boxed()
            }
            (None, None, Some(to), None, None) => async move {
                answer(id, app.handle.broadcast(&to, message).await, |reached| {
                    let handle::Reached { nodes, agents, missed } = reached;
                    Answer::Reached { id, nodes, agents, missed: missed.iter().map(ToString::to_string).collect() }
                })
            }
            .boxed(),
            (None, None, None, Some(to), None) => return self.subscribe(id, to).map(Some),
            (None, None, None, None, Some(number)) => {
                if self.subscriptions.remove(&number).is_none() {
                    let detail = format!("no subscription of this socket has the id {number}");
                    return Err(Failure::new(Code::BadField, detail, "it is the id of the command that subscribed"));
                }
                return Ok(Some(Answer::Unsubscribed { id, unsubscribed: number }));
            }
            _ => return Err(Failure::new(Code::BadField, "a command wants exactly one thing", HINT)),
        };
        self.answers.push(answer);
        Ok(None)
    }

    fn subscribe(&mut self, id: u64, to: String) -> Result<Answer, Failure> {
        if self.subscriptions.contains_key(&id) {
            let detail = format!("a subscription of this socket has the id {id}");
            return Err(Failure::new(Code::BadField, detail, "give each command an id of its own"));
        }
        if self.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            let detail = format!("a socket has {SUBSCRIPTIONS_MAX} subscriptions at most");
            return Err(Failure::new(Code::WrongState, detail, "unsubscribe from one, or open another socket"));
        }
        let subscription = self.app.handle.subscribe(&to)?;
        let end = CancellationToken::new();
        let published = futures_util::stream::unfold(subscription, |mut subscription| async move {
            let published = subscription.next().await?;
            Some((published, subscription))
        });
        let published = published.map(move |one| Answer::Published { subscription: id, published: one.into() });
        self.heard.push(published.take_until(end.clone().cancelled_owned()).boxed());
        self.subscriptions.insert(id, end.drop_guard());
        Ok(Answer::Subscribed { id, subscribed: to })
    }
}

const HINT: &str = r#"send one JSON object: {"id": 1, "ask": "counter:a", "message": 5}; tell, broadcast, publish, subscribe and unsubscribe are alike"#;

fn as_topic(topic: String) -> String {
    format!("{}{topic}", Destination::TOPIC)
}

fn answer<T>(id: u64, result: Result<T, handle::Error>, done: impl FnOnce(T) -> Answer) -> Answer {
    match result {
        Ok(value) => done(value),
        Err(error) => problem(Some(id), error.into()),
    }
}

fn problem(id: Option<u64>, failure: Failure) -> Answer {
    Answer::Problem { id, problem: failure.into_problem() }
}

/// What a command's message says about itself.
fn headers(command: &Command<'_>) -> Result<Headers, Failure> {
    let Command { message_type, priority, within, traceparent, .. } = command;
    let invalid = |invalid: Invalid| Failure::new(Code::BadField, invalid.to_string(), HINT);
    Ok(Headers {
        message_type: message_type.unwrap_or_default(),
        content_type: None,
        priority: priority.map(Priority::new).transpose().map_err(invalid)?.unwrap_or_default(),
        within: match within {
            Some(text) => Some(query::duration(text).ok_or_else(|| bad_time("within", text))?),
            None => None,
        },
        trace: traceparent.as_deref().map(str::parse).transpose().map_err(invalid)?,
    })
}

/// How long a command waits for its reply.
fn wait(command: &Command<'_>) -> Result<Duration, Failure> {
    Ok(match &command.wait {
        Some(text) => query::duration(text).ok_or_else(|| bad_time("wait", text))?.min(WAIT_MAX),
        None => ASK_WAIT,
    })
}

/// How a command's question is asked.
fn options(command: &Command<'_>, wait: Duration) -> Result<AskOptions, Failure> {
    let Command { ask, session, session_busy, session_ttl, affinity, .. } = command;
    let given = [session, session_busy, session_ttl, affinity].map(Option::as_deref);
    let given = agents::AMONG.into_iter().zip(given);
    if let Some((name, _)) = given.clone().find(|(_, text)| ask.is_none() && text.is_some()) {
        let detail = format!("only a question has `{name}`");
        return Err(Failure::new(Code::BadParameter, detail, "use it with `ask`, or leave it out"));
    }
    agents::options(&Query::of(given), wait)
}

fn bad_time(field: &str, text: &str) -> Failure {
    let detail = format!("`{field}` must be a time, not {:?}", super::failure::excerpt(text));
    Failure::new(Code::BadField, detail, "like 500ms or 30s")
}

fn no_object() -> serde_json::Error {
    serde::de::Error::custom("it is no object")
}

fn too_large() -> ws::Message {
    let reason = "a message has 1 MiB at most".into();
    ws::Message::Close(Some(ws::CloseFrame { code: ws::close_code::SIZE, reason }))
}

fn not_text() -> Failure {
    Failure::new(Code::BadJson, "a binary message has no meaning here", HINT)
}

fn text_of(answer: Answer) -> ws::Message {
    ws::Message::Text(serde_json::to_string(&answer).expect("an answer is JSON").into())
}
