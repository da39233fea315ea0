//! The line of sight: frames of JSON over TCP, for programs that have a socket and nothing else.
//!
//! *Is:* a few of the documents of the HTTP API behind a length in four bytes, on a listener of its own: a client says
//! Hello, starts signals, and looks at the mesh. What goes over it can be read as it is. *Is not:* a way between nodes,
//! nor the fast one: that is a link.
//!
//! ```text
//!   Hello ►   ◄ Hello (who the node is)   Signal, Ping, Metrics, Discovery ►   ◄ Signal, Pong, Metrics, Discovery, Error
//! ```
//!
//! With its Hello a connection takes a place among the clients of the node, like a link of theirs. Those that have said
//! none are few, and the oldest of them gives way.

mod conversation;
mod document;
pub mod frame;

use std::{io, sync::Arc, time::Duration};

use pelago_node::{Greetings, Handle};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;

use self::conversation::Conversation;
pub use self::document::{Refused, Request, VERSION};
use crate::accept::Acceptor;

/// How many connections without a place are told so at a time; those beyond are closed without a word.
const REFUSED_MAX: usize = 64;

/// How long a client may take, and how much it may want at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Until its Hello is there.
    pub hello_max: Duration,
    /// Connections that have said no Hello; beyond it the oldest is ended.
    pub greetings_max: usize,
    /// From the first byte of a frame to its last.
    pub frame_max: Duration,
    /// Without a word while it waits for nothing.
    pub idle_max: Duration,
    /// Requests of one connection that wait for their answers.
    pub requests_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            hello_max: Duration::from_secs(10),
            greetings_max: 64,
            frame_max: Duration::from_secs(30),
            idle_max: Duration::from_mins(5),
            requests_max: 64,
        }
    }
}

/// Serves the line of sight on `listener` until `stop` is cancelled.
///
/// # Errors
/// When the listener is broken. Connections are cut off then.
///
/// # Cancel safety
/// Dropping the future closes the listener and cuts off all connections.
pub async fn serve(listener: TcpListener, handle: Handle, limits: Limits, stop: CancellationToken) -> io::Result<()> {
    let mut acceptor = Acceptor::new(listener);
    let mut connections = JoinSet::new();
    let mut greetings = Greetings::default();
    let refused = Arc::new(Semaphore::new(REFUSED_MAX));
    loop {
        let stream = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_ended) = connections.join_next() => continue,
            stream = acceptor.next() => stream?,
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection ended before it began");
            continue;
        }
        let greeting = greetings.begin(limits.greetings_max);
        let conversation = Conversation::new(stream, handle.clone(), limits, greeting);
        connections.spawn(conversation.run(Arc::clone(&refused), stop.clone()));
    }
    drop(acceptor);
    while connections.join_next().await.is_some() {}
    Ok(())
}
