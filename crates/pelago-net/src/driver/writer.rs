//! Writes what the lanes of a link hold.

use std::{io, sync::Arc, time::Duration};

use bytes::{Buf, BytesMut};
use pelago_core::link::{Input, Lane, PerLane};
use tokio::{io::AsyncWriteExt, net::tcp::WriteHalf, time::timeout};

use crate::{
    links::Links,
    outbox::{self, Outbox},
};

/// The writing end. It keeps what it has not written yet, so that it can be dropped out of a `select!` at any time and
/// go on where it was.
pub(super) struct Writer {
    links: Links,
    outbox: Arc<Outbox>,
    taken: PerLane<BytesMut>,
    /// How far each lane is written.
    written: PerLane<usize>,
    /// How long the connection may take no byte.
    stuck_after: Duration,
}

impl Writer {
    pub(super) fn new(links: Links, outbox: Arc<Outbox>, stuck_after: Duration) -> Self {
        Self { links, outbox, taken: PerLane::default(), written: PerLane::all(0), stuck_after }
    }

    /// Writes whatever comes, until it is dropped.
    pub(super) async fn run(&mut self, mut to: WriteHalf<'_>) {
        loop {
            if self.flush(&mut to).await.is_err() {
                // The reader finds out why: the other end may have sent the reason before it went.
                return std::future::pending().await;
            }
            self.outbox.unsent.notified().await;
            // Whoever has woken this loop is often the first of many that are ready to send, and the runtime would come
            // here at once. The others first, so that all they send leaves in one system call.
            tokio::task::yield_now().await;
        }
    }

    /// Writes what is left, and ends this direction.
    pub(super) async fn finish(&mut self, mut to: WriteHalf<'_>) -> io::Result<()> {
        self.flush(&mut to).await?;
        to.shutdown().await
    }

    async fn flush(&mut self, to: &mut WriteHalf<'_>) -> io::Result<()> {
        loop {
            for lane in Lane::ALL {
                self.flush_lane(lane, to).await?;
            }
            if !self.outbox.swap(&mut self.taken) {
                return Ok(());
            }
        }
    }

    async fn flush_lane(&mut self, lane: Lane, to: &mut WriteHalf<'_>) -> io::Result<()> {
        let buffer = &mut self.taken[lane];
        while self.written[lane] < buffer.len() {
            let mut left = &buffer[self.written[lane]..];
            let before = left.remaining();
            let Ok(wrote) = timeout(self.stuck_after, to.write_buf(&mut left)).await else {
                self.outbox.handle(Input::Stuck);
                return Err(io::ErrorKind::TimedOut.into());
            };
            self.links.count_sent(wrote?);
            self.written[lane] += before - left.remaining();
        }
        self.written[lane] = 0;
        outbox::clear(buffer);
        Ok(())
    }
}
