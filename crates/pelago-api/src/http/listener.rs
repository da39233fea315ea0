//! Takes connections, and ends them in good order.
//!
//! ```text
//!   stop cancelled ──► new requests get 503 (probes still answers), waiting reads answer as things stand
//!                 ──► the last request under way is answered
//!                 ──► the listener closes, connections are flushed and closed ──► `serve` returns
//! ```
//!
//! A request under way has no deadline here: whoever drops the future of [`serve`] cuts off what is left.
//!
//! When all places are taken, some are left that are for probes alone: a node that is busy must not look dead.

use std::{convert::Infallible, io, pin::pin, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{HeaderValue, header::CONNECTION},
    response::{IntoResponse, Response},
};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use pelago_node::{Handle, handle, metrics::Metrics};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use tower_service::Service;

use super::{app::App, failure::Failure, guard, router, starting};
use crate::{accept::Acceptor, problem::Code};

/// How many connections there may be, and how long one may keep its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time that may ask anything.
    pub connections_max: usize,
    /// Further ones: they are answered once, and only if they are probes. Those beyond wait in the kernel's queue,
    /// where they cost nothing.
    pub probes_max: usize,
    /// How long a connection may be idle, and how long the head of a request may take.
    pub head_max: Duration,
    /// How long a connection for probes may live, whatever it does.
    pub probe_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1_024,
            probes_max: 128,
            head_max: Duration::from_secs(30),
            // Probers give up after a second or two themselves.
            probe_max: Duration::from_secs(2),
        }
    }
}

/// What is answered even when nothing else is.
const PROBES: [&str; 4] = ["/livez", "/readyz", "/health", "/metrics"];
/// The most that is buffered of a request's head.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// How long the last answer of a connection may take to be read, and a half-sent request is waited for.
const CLOSE_MAX: Duration = Duration::from_secs(2);
/// How long a client may take nothing of what was sent to it.
const READ_MAX: Duration = Duration::from_secs(20);

/// Serves the API on `listener` until `stop` is cancelled and all requests under way are answered.
///
/// # Errors
/// When the listener is broken. Connections are cut off then.
///
/// # Cancel safety
/// Dropping the future closes the listener and cuts off all connections. Requests may still take effect.
pub async fn serve(listener: TcpListener, handle: Handle, limits: Limits, stop: CancellationToken) -> io::Result<()> {
    let app = Arc::new(App::new(handle, stop.clone()));
    let api = Api::new(router(Arc::clone(&app)), app.counters.clone(), stop, Ending::Refuse);
    answer(listener, api, limits).await
}

/// The same before there is a node: says that it starts. `metrics` are those that it will have.
///
/// # Errors
/// Like [`serve`].
///
/// # Cancel safety
/// Dropping the future closes the listener and cuts off all connections.
pub async fn serve_starting(
    listener: TcpListener,
    metrics: Metrics,
    limits: Limits,
    stop: CancellationToken,
) -> io::Result<()> {
    answer(listener, Api::new(starting::router(), metrics, stop, Ending::Answer), limits).await
}

async fn answer(listener: TcpListener, api: Api, limits: Limits) -> io::Result<()> {
    let closing = CancellationToken::new();
    let mut connections = JoinSet::new();
    let mut door = Door::new(listener, limits);
    let mut finished = pin!(api.finished());
    loop {
        let connection = tokio::select! {
            biased;
            () = &mut finished => break,
            Some(_ended) = connections.join_next() => continue,
            entered = door.next() => entered?,
        };
        connections.spawn(connection.converse(api.clone(), closing.clone()));
    }
    drop(door);
    if api.ending == Ending::Refuse {
        closing.cancel();
    }
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// Where connections come in.
struct Door {
    acceptor: Acceptor,
    limits: Limits,
    free: Arc<Semaphore>,
    for_probes: Arc<Semaphore>,
}

impl Door {
    fn new(listener: TcpListener, limits: Limits) -> Self {
        let free = Arc::new(Semaphore::new(limits.connections_max));
        let for_probes = Arc::new(Semaphore::new(limits.probes_max));
        Self { acceptor: Acceptor::new(listener), limits, free, for_probes }
    }

    /// The next connection, once there is room for it. Cancel safe: a connection not returned was not taken.
    async fn next(&mut self) -> io::Result<Connection> {
        // Whoever comes in has this place at least. Whether there is a better one is known only then.
        let for_probes = Arc::clone(&self.for_probes).acquire_owned().await.expect("the semaphore is never closed");
        let stream = self.acceptor.next().await?;
        let place = match Arc::clone(&self.free).try_acquire_owned() {
            Ok(free) => Place::ForAll(free),
            Err(_all_taken) => Place::ForProbes(for_probes),
        };
        Ok(Connection { stream, place, limits: self.limits })
    }
}

/// One client.
struct Connection {
    stream: TcpStream,
    place: Place,
    limits: Limits,
}

/// The place of a connection, free again once it is dropped.
#[derive(Debug)]
pub(super) enum Place {
    /// Of [`Limits::connections_max`].
    ForAll(#[expect(dead_code, reason = "it is held, not read")] OwnedSemaphorePermit),
    /// Of [`Limits::probes_max`].
    ForProbes(#[expect(dead_code, reason = "it is held, not read")] OwnedSemaphorePermit),
}

impl Connection {
    /// Answers requests until the client leaves, its time is over, or `closing` is cancelled and the last answer is
    /// written.
    async fn converse(self, api: Api, closing: CancellationToken) {
        let Self { stream, place, limits } = self;
        match &place {
            Place::ForAll(_) => {
                let place = Arc::new(place);
                let answer = move |mut request: Request<Incoming>| {
                    // Whoever takes the connection over takes its place too.
                    request.extensions_mut().insert(Arc::clone(&place));
                    api.clone().answer(request)
                };
                converse(stream, limits.head_max, answer, closing).await
            }
            Place::ForProbes(_) => {
                let only_probes = move |request| api.clone().answer_if_probe(request);
                let conversation = converse(stream, limits.head_max, only_probes, closing);
                // Whoever is too slow for its place loses it.
                let _late = tokio::time::timeout(limits.probe_max, conversation).await;
            }
        }
    }
}

async fn converse<A>(
    stream: TcpStream,
    head_max: Duration,
    answer: impl Fn(Request<Incoming>) -> A,
    closing: CancellationToken,
) where
    A: Future<Output = Result<Response, Infallible>>,
{
    if let Err(error) = stream.set_nodelay(true).and_then(|()| give_up_unread(&stream)) {
        tracing::debug!(%error, "a connection ended before it began");
        return;
    }
    let service = service_fn(answer);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_max)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(CLOSE_MAX, connection).await.unwrap_or(Ok(()))
        }
    };
    // Clients break connections off whenever they like; it is nobody's failure here.
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}

/// Has the system end a connection whose client takes nothing for [`READ_MAX`] of what was sent to it: one that hears
/// events and never reads them would keep its place for ever.
fn give_up_unread(stream: &TcpStream) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        let ms = u32::try_from(READ_MAX.as_millis()).expect("it is short");
        rustix::net::sockopt::set_tcp_user_timeout(stream, ms)?;
    }
    #[cfg(not(target_os = "linux"))]
    let _ = stream;
    Ok(())
}

/// The way from a request to its answer. Cheap to clone.
#[derive(Clone)]
struct Api {
    router: Router,
    counters: Metrics,
    /// Cancelled when no new requests are taken.
    stop: CancellationToken,
    ending: Ending,
    under_way: TaskTracker,
}

/// What becomes of those who are connected when no new requests are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// They are refused, and connections without a request are closed.
    Refuse,
    /// They get their answer, which is the last of each connection anyway.
    Answer,
}

impl Api {
    fn new(router: Router, counters: Metrics, stop: CancellationToken, ending: Ending) -> Self {
        Self { router, counters, stop, ending, under_way: TaskTracker::new() }
    }

    async fn answer(mut self, mut request: Request<Incoming>) -> Result<Response, Infallible> {
        let admission = guard::check(&request).and_then(|()| self.admit(request.uri().path()));
        self.counters.http_requests.inc();
        match admission {
            Ok(under_way) => {
                request.extensions_mut().insert(under_way.clone());
                let answer = self.router.call(request.map(Body::new)).await;
                drop(under_way);
                answer
            }
            // Whoever is not let in has no business on this connection.
            Err(refusal) => Ok(last(refusal.into_response())),
        }
    }

    /// The same on a connection for which there was no room.
    async fn answer_if_probe(self, request: Request<Incoming>) -> Result<Response, Infallible> {
        if is_probe(request.uri().path()) {
            return self.answer(request).await.map(last);
        }
        self.counters.http_requests.inc();
        let refusal = guard::check(&request).err().unwrap_or_else(no_room);
        Ok(last(refusal.into_response()))
    }

    /// A place among the requests under way. Once the API is stopping there are places for probes only.
    fn admit(&self, path: &str) -> Result<TaskTrackerToken, Failure> {
        // The place is taken before the check, so that `finished` never misses a request that passed it.
        let place = self.under_way.token();
        let is_let_in = self.ending == Ending::Answer || is_probe(path) || !self.stop.is_cancelled();
        if is_let_in { Ok(place) } else { Err(handle::Error::Stopping.into()) }
    }

    /// Ready when the API is stopping and no request is under way.
    async fn finished(&self) {
        self.stop.cancelled().await;
        self.under_way.close();
        self.under_way.wait().await;
    }
}

fn is_probe(path: &str) -> bool {
    PROBES.contains(&path)
}

fn no_room() -> Failure {
    let hint = "nothing was done; try again in a second, or ask another node";
    Failure::new(Code::NoRoom, "all connections of the node are taken", hint)
}

/// The last answer of its connection.
pub(super) fn last(mut response: Response) -> Response {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
