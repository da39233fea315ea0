//! The segment log as openraft's log storage.
//!
//! Only forwards: openraft's entries become opaque payloads, its callbacks become the log's, and a full queue becomes
//! waiting.

use std::{
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
};

use bytes::Bytes;
use openraft::{
    OptionalSend, RaftLogReader,
    storage::{IOFlushed, LogState, RaftLogStorage},
};
use pelago_store::log::{self, Log, Purged, Read, Reader};
use pelago_wire::raft as wire;
use tokio::sync::oneshot;

use super::types::{self, Entry, LogId, Types, Vote};

/// The most payload read from the log at a time.
const READ_BYTES_MAX: usize = 4 << 20;

pub(super) struct Storage {
    log: Log,
    reader: LogReader,
}

#[derive(Clone)]
pub(super) struct LogReader(Reader);

impl Storage {
    pub(super) fn new(log: Log) -> Self {
        let reader = LogReader(log.reader());
        Self { log, reader }
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
        let entries = entries.into_iter();
        let entries = entries.map(|entry| log::Entry { index: entry.log_id.index, payload: types::entry(&entry) });
        let entries: Vec<_> = entries.collect();
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
        let mut entries = Vec::new();
        while start + (entries.len() as u64) < end {
            let part = self.read(start + entries.len() as u64..end).await?;
            if part.is_empty() {
                break;
            }
            entries.extend(part);
        }
        Ok(entries)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        let Some(bytes) = self.0.vote().map_err(io::Error::other)? else {
            return Ok(None);
        };
        Ok(Some(types::read_vote(wire::decode("vote", bytes).map_err(io::Error::other)?)))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start..end).await
    }
}

impl LogReader {
    /// Reads the first entries of `range`, as many as fit.
    async fn read(&self, range: std::ops::Range<u64>) -> io::Result<Vec<Entry>> {
        let read = self.0.read(range, READ_BYTES_MAX).map_err(io::Error::other)?;
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
