//! Drives one connection: a reader, a writer and a timer around one `core::link`.
//!
//! The three are parts of one loop, so that whoever answers on the reader wakes no other thread to have its reply
//! written. The driver starts the loops of connections that were accepted; one that was dialled runs within its dial.

mod reader;
mod writer;

use std::{io, sync::Arc, time::Duration};

use pelago_core::link::{Ended, Goodbye, Input, Link, Role};
use tokio::{io::AsyncReadExt, net::TcpStream, runtime, time::Instant};
use tokio_util::{sync::CancellationToken, task::task_tracker::TaskTrackerToken};

use self::{reader::Reader, writer::Writer};
use crate::{handle::Handle, links::Links, outbox::Outbox};

/// How long an end that is done waits for the other one to close. A connection closed with bytes unread is reset, and
/// the reset would overtake the reason that was just sent.
const LINGER: Duration = Duration::from_secs(1);

/// Starts the loop of a connection that was accepted. `greeting` is held while its handshake lasts, and ends it.
pub(crate) fn accept(links: &Links, stream: TcpStream, greeting: Arc<CancellationToken>) {
    let accepted = links.clone();
    links.loops().spawn(async move {
        let mut connection = Connection::new(&accepted, stream, None);
        tokio::select! {
            biased;
            () = greeting.cancelled() => return tracing::debug!("a connection said nothing, and there are too many"),
            () = connection.greet() => {}
        }
        drop(greeting);
        let on = accepted.config().consensus.clone().filter(|_| connection.is_for_consensus());
        match on {
            Some(on) => hand_over(&on, connection),
            // A loop of its own: this one keeps the room that the greeting took for as long as it lives.
            None => drop(accepted.loops().spawn(async move { report(&connection.converse().await) })),
        }
    });
}

/// Drives a connection that was dialled. `up` is told when the link is.
pub(crate) async fn dialled(links: &Links, stream: TcpStream, role: Role, up: impl FnOnce(Handle)) -> Ended {
    let mut connection = Connection::new(links, stream, Some(role));
    connection.greet().await;
    if let Some(handle) = connection.reader.handle() {
        up(handle);
    }
    connection.converse().await
}

/// Goes on with a connection on another runtime.
fn hand_over(on: &runtime::Handle, connection: Connection) {
    let links = connection.links.clone();
    let moved = async move {
        match connection.rebind() {
            Ok(connection) => report(&connection.converse().await),
            Err(error) => tracing::warn!(%error, "a connection cannot change its runtime"),
        }
    };
    links.loops().spawn_on(moved, on);
}

fn report(ended: &Ended) {
    tracing::debug!(%ended, "a link has ended");
}

struct Connection {
    links: Links,
    /// Whoever closes the links waits for this one too, also if it was dialled.
    _token: TaskTrackerToken,
    stream: TcpStream,
    reader: Reader,
    writer: Writer,
}

impl Connection {
    fn new(links: &Links, stream: TcpStream, dialled: Option<Role>) -> Self {
        if let Err(error) = stream.set_nodelay(true) {
            // It works without, slower.
            tracing::debug!(%error, "a connection keeps its delay");
        }
        let config = links.config().link;
        let me = links.me(dialled.unwrap_or(Role::Main));
        let mesh = me.mesh;
        let outbox = Outbox::new(Instant::now(), |now, effects| match dialled {
            Some(_) => Link::dialled(config, me, now, effects),
            None => Link::accepted(config, me, now),
        });
        let reader = Reader::new(links.clone(), outbox.clone(), mesh);
        let writer = Writer::new(links.clone(), outbox, config.stuck_after, links.config().packing.is_for(&stream));
        let _token = links.loops().token();
        Self { links: links.clone(), _token, stream, reader, writer }
    }

    /// Runs until the link is up, or will never be.
    async fn greet(&mut self) {
        let outbox = self.reader.outbox().clone();
        let (from, to) = self.stream.split();
        tokio::select! {
            biased;
            () = until_down(&outbox) => {}
            () = self.links.stop().cancelled() => drop(outbox.handle(Input::Close(Goodbye::Stopping))),
            () = self.reader.until_up(from) => {}
            () = self.writer.run(to) => {}
            () = keep_time(&outbox) => {}
        }
    }

    /// Runs until the link has ended.
    async fn converse(mut self) -> Ended {
        let outbox = self.reader.outbox().clone();
        let (from, to) = self.stream.split();
        tokio::select! {
            biased;
            () = until_down(&outbox) => {}
            () = self.reader.run(from) => {}
            () = self.writer.run(to) => {}
            () = keep_time(&outbox) => {}
        }
        let ended = outbox.ended().borrow().clone();
        self.part().await;
        ended.unwrap_or(Ended::Lost)
    }

    /// Writes what was sent before the end, and waits until the other end has closed too.
    async fn part(mut self) {
        // Whoever gets frames learns of the end at once.
        drop(self.reader);
        let farewell = async {
            let (mut from, to) = self.stream.split();
            self.writer.finish(to).await?;
            // Not within this future, whose room every link keeps from its beginning.
            let mut ignored = vec![0; 4 << 10];
            while from.read(&mut ignored).await? > 0 {}
            io::Result::Ok(())
        };
        // An error says that the other end is gone, and so is whoever would hear the farewell.
        let _ = tokio::time::timeout(LINGER, farewell).await;
    }

    fn is_for_consensus(&self) -> bool {
        self.reader.handle().is_some_and(|link| link.terms().other.role == Role::Consensus)
    }

    /// Registers the connection with the runtime that calls.
    fn rebind(self) -> io::Result<Self> {
        let stream = TcpStream::from_std(self.stream.into_std()?)?;
        Ok(Self { stream, ..self })
    }
}

async fn until_down(outbox: &Outbox) {
    // The sender lives in `outbox`.
    let _ = outbox.ended().wait_for(Option::is_some).await;
}

async fn keep_time(outbox: &Outbox) {
    loop {
        let Some(until) = outbox.arm() else { return };
        tokio::select! {
            () = tokio::time::sleep_until(until) => outbox.expire(),
            () = outbox.sooner.notified() => {}
        }
    }
}
