//! Writes what the lanes of a link hold.

use std::{io, sync::Arc, time::Duration};

use bytes::{Buf, BytesMut};
use pelago_core::link::{Input, Lane, PerLane, feature};
use pelago_wire::frame::packed;
use tokio::{io::AsyncWriteExt, net::tcp::WriteHalf, time::timeout};

use crate::{
    links::Links,
    outbox::{self, Outbox},
};

/// How much of a lane is written before a more urgent one has its turn: much at once, since each write costs a system
/// call, and two milliseconds of a gigabit a second.
const PIECE_BYTES: usize = 256 << 10;

/// The writing end. It keeps what it has not written yet, so that it can be dropped out of a `select!` at any time and
/// go on where it was.
pub(super) struct Writer {
    links: Links,
    outbox: Arc<Outbox>,
    taken: PerLane<BytesMut>,
    /// How far each lane is written …
    written: PerLane<usize>,
    /// … and is to be before others have their turn: where a frame ends.
    until: PerLane<usize>,
    /// Whether frames are made smaller, if the other end knows how to.
    packs: bool,
    /// How long the connection may take no byte.
    stuck_after: Duration,
}

impl Writer {
    pub(super) fn new(links: Links, outbox: Arc<Outbox>, stuck_after: Duration, packs: bool) -> Self {
        let (written, until) = (PerLane::all(0), PerLane::all(0));
        Self { links, outbox, taken: PerLane::default(), written, until, packs, stuck_after }
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
            while let Some(lane) = Lane::ALL.into_iter().find(|lane| self.written[*lane] < self.taken[*lane].len()) {
                self.write_piece(lane, to).await?;
                // What became more urgent meanwhile does not wait for the rest.
                self.outbox.swap_before(lane, &mut self.taken);
            }
            if !self.outbox.swap(&mut self.taken) {
                return Ok(());
            }
            if self.packs {
                self.pack();
            }
        }
    }

    /// Makes frames smaller whose lanes may take their time.
    fn pack(&mut self) {
        if !self.outbox.has_terms_with(feature::LZ4) {
            return;
        }
        for lane in [Lane::Requests, Lane::Bulk] {
            if let Some(packed) = packed::pack(&self.taken[lane]) {
                self.taken[lane] = packed;
            }
        }
    }

    /// Writes whole frames of a lane, about [`PIECE_BYTES`] of them.
    async fn write_piece(&mut self, lane: Lane, to: &mut WriteHalf<'_>) -> io::Result<()> {
        if self.until[lane] <= self.written[lane] {
            self.until[lane] = piece_end(lane, &self.taken[lane], self.written[lane]);
        }
        let buffer = &mut self.taken[lane];
        while self.written[lane] < self.until[lane] {
            let mut left = &buffer[self.written[lane]..self.until[lane]];
            let before = left.remaining();
            let Ok(wrote) = timeout(self.stuck_after, to.write_buf(&mut left)).await else {
                self.outbox.handle(Input::Stuck);
                return Err(io::ErrorKind::TimedOut.into());
            };
            self.links.count_sent(wrote?);
            self.written[lane] += before - left.remaining();
        }
        if self.written[lane] == buffer.len() {
            (self.written[lane], self.until[lane]) = (0, 0);
            outbox::clear(buffer);
        }
        Ok(())
    }
}

/// Where a piece ends that begins at `at`, which is where a frame does. The control lane, which begins with more than
/// frames, is one piece.
fn piece_end(lane: Lane, frames: &[u8], at: usize) -> usize {
    if lane == Lane::Control || frames.len() - at <= PIECE_BYTES {
        return frames.len();
    }
    let mut end = at;
    while end < frames.len() && end - at < PIECE_BYTES {
        end = packed::end_of_frame(frames, end);
    }
    end
}
