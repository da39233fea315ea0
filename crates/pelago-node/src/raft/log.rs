//! The segment log as openraft's log storage.
//!
//! Only forwards: openraft's entries become opaque payloads, its callbacks become the log's, and a full queue becomes
//! waiting.

use std::{
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use openraft::{
    OptionalSend, RaftLogReader,
    storage::{IOFlushed, LogState, RaftLogStorage},
};
use pelago_store::log::{self, Log, Purged, Read, Reader};
use pelago_wire::raft as wire;
use tokio::sync::oneshot;

use super::{
    network::Urgency,
    types::{self, Entry, LogId, Payload, Types, Vote},
};

/// The most payload that is sent to another node at a time, so that a request fits into a frame with what is around it.
const SENT_BYTES_MAX: usize = 768 << 10;

pub(super) struct Storage {
    log: Log,
    reader: LogReader,
    urgency: Arc<Urgency>,
}

#[derive(Clone)]
pub(super) struct LogReader(Reader);

impl Storage {
    pub(super) fn new(log: Log, urgency: Arc<Urgency>) -> Self {
        let reader = LogReader(log.reader());
        Self { log, reader, urgency }
    }

    /// Cuts what contradicts the database, which had come to `applied`. A crash between a database's taking its place
    /// and the purge of what it covers may leave such entries; a log that is only too short openraft purges itself.
    pub(super) async fn agree(&mut self, applied: LogId) -> io::Result<()> {
        let there = self.reader.read(applied.index..applied.index + 1, usize::MAX).await?.pop();
        if there.is_none_or(|entry| entry.log_id == applied) {
            return Ok(());
        }
        tracing::warn!(index = applied.index, "the log contradicts the database and is cut");
        self.room().await?;
        self.log.truncate_after(applied.index.checked_sub(1)).map_err(io::Error::other)
    }

    /// Waits until the log takes another operation. Nobody else writes, so there is room when this returns.
    async fn room(&self) -> io::Result<()> {
        if self.log.has_room() {
            return Ok(());
        }
        let (room, is_there) = oneshot::channel();
        self.log.on_room(Box::new(move || {
            // Whoever waited may be gone.
            let _gone = room.send(());
        }));
        is_there.await.map_err(io::Error::other)
    }
}

impl RaftLogStorage<Types> for Storage {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let reader = &self.reader.0;
        let purged =
            reader.purged().map_err(io::Error::other)?.map(|purged| read_log_id(purged.payload)).transpose()?;
        let range = reader.range().map_err(io::Error::other)?;
        let last = match range.end.checked_sub(1).filter(|last| *last >= range.start) {
            Some(last) => self.reader.try_get_log_entries(last..=last).await?.pop().map(|entry| entry.log_id),
            None => purged,
        };
        Ok(LogState { last_purged_log_id: purged, last_log_id: last })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        self.reader.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.room().await?;
        let (flushed, is_flushed) = oneshot::channel();
        let on_flushed = move |result| {
            // Whoever waited may be gone.
            let _gone = flushed.send(result);
        };
        self.log.save_vote(wire::encode(&types::vote(vote)), Box::new(on_flushed)).map_err(io::Error::other)?;
        is_flushed.await.map_err(io::Error::other)?.map_err(io::Error::other)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let keep = |entry: Entry| {
            let index = entry.log_id.index;
            if !matches!(&entry.payload, Payload::Normal(proposal) if proposal.is_quiet) {
                self.urgency.awaited.store(index, Ordering::Relaxed);
            }
            log::Entry { index, payload: types::entry(&entry) }
        };
        let entries: Vec<_> = entries.into_iter().map(keep).collect();
        self.room().await?;
        let on_flushed = move |result: Result<(), log::Error>| callback.io_completed(result.map_err(io::Error::other));
        self.log.append(entries, Box::new(on_flushed)).map_err(io::Error::other)
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        self.room().await?;
        self.log.truncate_after(last.map(|id| id.index)).map_err(io::Error::other)
    }

    async fn purge(&mut self, id: LogId) -> io::Result<()> {
        let purged = Purged { index: id.index, payload: wire::encode(&types::log_id(&id)) };
        self.room().await?;
        self.log.purge(purged).map_err(io::Error::other)
    }
}

impl RaftLogReader<Types> for LogReader {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = half_open(&range);
        // openraft asks for a few at a time: to apply, 64; at start, one.
        self.read(start..end, usize::MAX).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        let Some(bytes) = self.0.vote().map_err(io::Error::other)? else {
            return Ok(None);
        };
        Ok(Some(types::read_vote(wire::decode("vote", bytes).map_err(io::Error::other)?)))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let entries = self.read(start..end, SENT_BYTES_MAX).await?;
        // Purged in this moment: openraft takes an empty answer as nothing to send, and looks again.
        let begins = entries.first().is_some_and(|first| first.log_id.index == start);
        Ok(if begins { entries } else { Vec::new() })
    }
}

impl LogReader {
    /// Reads the entries of `range` that there are at this moment, as many as fit into `bytes_max` but at least one.
    async fn read(&self, range: std::ops::Range<u64>, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let read = self.0.read(range, bytes_max).map_err(io::Error::other)?;
        let entries = match read {
            Read::Cached(entries) => entries,
            Read::OnDisk(cold) => {
                let loaded = tokio::task::spawn_blocking(move || cold.load()).await.map_err(io::Error::other)?;
                loaded.map_err(io::Error::other)?
            }
        };
        entries.into_iter().map(|entry| types::read_entry(entry.index, entry.payload)).collect()
    }
}

fn half_open(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last + 1,
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

fn read_log_id(bytes: Bytes) -> io::Result<LogId> {
    Ok(types::read_log_id(wire::decode("log id", bytes).map_err(io::Error::other)?))
}
