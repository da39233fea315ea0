//! Takes connections, and ends them in good order.
//!
//! ```text
//!   stop cancelled ──► new requests get 503 (probes still answers), waiting reads answer as things stand
//!                 ──► the last request under way is answered
//!                 ──► the listener closes, connections are flushed and closed ──► `serve` returns
//! ```
//!
//! A request under way has no deadline here: whoever drops the future of [`serve`] cuts off what is left.

use std::{convert::Infallible, io, pin::pin, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{HeaderValue, header::CONNECTION},
    response::{IntoResponse, Response},
};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use pelago_node::{Handle, handle};
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

use super::{app::App, failure::Failure, guard, router};

/// Connections at a time. Further ones wait in the kernel's queue, where they cost nothing.
const CONNECTIONS_MAX: usize = 1_024;
/// How long a connection may be idle, and how long the head of a request may take.
const HEAD_MAX: Duration = Duration::from_secs(30);
/// The most that is buffered of a request's head.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// The pause after the system refuses a connection (out of file descriptors, mostly).
const REFUSED_PAUSE: Duration = Duration::from_millis(100);
/// How long the last answer of a connection may take to be read, and a half-sent request is waited for.
const CLOSE_MAX: Duration = Duration::from_secs(2);
/// After so many refusals in a row the listener is broken.
const REFUSALS_MAX: u32 = 100;

/// Serves the API on `listener` until `stop` is cancelled and all requests under way are answered.
///
/// # Errors
/// When the listener is broken. Connections are cut off then.
///
/// # Cancel safety
/// Dropping the future closes the listener and cuts off all connections. Requests may still take effect.
pub async fn serve(listener: TcpListener, handle: Handle, stop: CancellationToken) -> io::Result<()> {
    let api = Api::new(handle, stop);
    let closing = CancellationToken::new();
    let mut connections = JoinSet::new();
    let mut door = Door { listener, free: Arc::new(Semaphore::new(CONNECTIONS_MAX)), refusals: 0 };
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
    closing.cancel();
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// Where connections come in.
struct Door {
    listener: TcpListener,
    free: Arc<Semaphore>,
    refusals: u32,
}

impl Door {
    /// The next connection, once there is room for it. Cancel safe: a connection not returned was not taken.
    async fn next(&mut self) -> io::Result<Connection> {
        let place = Arc::clone(&self.free).acquire_owned().await.expect("the semaphore is never closed");
        loop {
            match self.listener.accept().await {
                Ok((stream, _from)) => {
                    self.refusals = 0;
                    return Ok(Connection { stream, place });
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => self.refused(error).await?,
            }
        }
    }

    async fn refused(&mut self, error: io::Error) -> io::Result<()> {
        self.refusals += 1;
        if self.refusals == 1 {
            tracing::warn!(%error, "connections are refused by the system");
        }
        if self.refusals > REFUSALS_MAX {
            return Err(error);
        }
        tokio::time::sleep(REFUSED_PAUSE).await;
        Ok(())
    }
}

/// The client was gone before it was let in.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    [ConnectionAborted, ConnectionRefused, ConnectionReset].contains(&error.kind())
}

/// One client, and its place among [`CONNECTIONS_MAX`].
struct Connection {
    stream: TcpStream,
    place: OwnedSemaphorePermit,
}

impl Connection {
    /// Answers requests until the client leaves, or `closing` is cancelled and the last answer is written.
    async fn converse(self, api: Api, closing: CancellationToken) {
        let Self { stream, place: _place } = self;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection ended before it began");
            return;
        }
        let service = service_fn(move |request| api.clone().answer(request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service);
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
}

/// The way from a request to its answer. Cheap to clone.
#[derive(Clone)]
struct Api {
    app: Arc<App>,
    router: Router,
    under_way: TaskTracker,
}

impl Api {
    fn new(handle: Handle, stop: CancellationToken) -> Self {
        let app = Arc::new(App::new(handle, stop));
        Self { router: router(Arc::clone(&app)), app, under_way: TaskTracker::new() }
    }

    async fn answer(mut self, request: Request<Incoming>) -> Result<Response, Infallible> {
        let admission = guard::check(&request).and_then(|()| self.admit(request.uri().path()));
        self.app.counters.http_requests.inc();
        match admission {
            Ok(_under_way) => self.router.call(request.map(Body::new)).await,
            Err(refusal) => Ok(turned_away(refusal)),
        }
    }

    /// A place among the requests under way. Once the API is stopping there are places for probes only.
    fn admit(&self, path: &str) -> Result<TaskTrackerToken, Failure> {
        // The place is taken before the check, so that `finished` never misses a request that passed it.
        let place = self.under_way.token();
        let is_probe = ["/livez", "/readyz", "/health", "/metrics"].contains(&path);
        if is_probe || !self.app.stop.is_cancelled() { Ok(place) } else { Err(handle::Error::Stopping.into()) }
    }

    /// Ready when the API is stopping and no request is under way.
    async fn finished(&self) {
        self.app.stop.cancelled().await;
        self.under_way.close();
        self.under_way.wait().await;
    }
}

/// Whoever is not let in has no business on this connection.
fn turned_away(refusal: Failure) -> Response {
    let mut response = refusal.into_response();
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
