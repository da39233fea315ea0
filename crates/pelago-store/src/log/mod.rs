//! The Raft log on disk: entries, the vote, truncations and the purge point, in segments written by one thread.
//!
//! It is no state machine and knows nothing of Raft's terms: payloads are bytes of the layer above. It is the
//! durability of the embedded store, so it would rather not open than return something else than what was acknowledged.
//!
//! ```text
//! append, save_vote, … ─► queue ─► thread `pelago-log`: one write, one fdatasync for all that gathered ─► callbacks
//!          └─► index and cache ◄── places on disk ──────────────────┘
//! Reader ──► cache, or places to read from disk on a thread that may block
//! ```
//!
//! - **Order**: operations reach the disk in the order of the calls, and one is durable only when all before it are.
//! - **Visible at once, durable later**: a [`Reader`] sees an operation when the call returns. Its callback comes after
//!   the flush. A truncation or purge has no callback: any later acknowledgement covers it.
//! - **Nothing here waits**: when [`Config::unflushed_bytes_max`] is reached, a call is refused with [`Error::Busy`]
//!   before it has any effect; [`Log::on_room`] says when to try again. A bounded wait is the caller's to choose.
//! - **Errors stop the log.** After [`Error::Full`] open it again when there is space; after [`Error::FlushFailed`] end
//!   the process. Until then every call fails with that error.
//! - **Opening** cuts what was never acknowledged and refuses what was acknowledged and is damaged: see `recovery`.

mod error;
mod flusher;
mod index;
mod operation;
mod reader;
mod recovery;
mod segment;
mod shared;

use crate::files::Directory;
use bytes::Bytes;
use flusher::Flusher;
use operation::Operation;
use pelago_wire::segment::{HEADER_BYTES, RECORD_HEADER_BYTES};
use shared::Shared;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub use error::{Error, Problem};
pub use operation::OnFlushed;
pub use reader::{ColdRead, Read, Reader};
pub use recovery::Cut;
pub use shared::Counters;

/// What a log is told when it is opened.
#[derive(Debug, Clone)]
pub struct Config {
    /// The mesh the log belongs to; a log of another mesh is refused.
    pub mesh: u128,
    /// Bytes of a segment, preallocated. A payload may have a quarter of it. Logs with segments of another size stay
    /// readable; new segments get this one. At least 512.
    pub segment_bytes: u32,
    /// Bytes of payloads kept in memory for readers. What is not yet written is kept in any case.
    pub cache_bytes_max: usize,
    /// Bytes that may wait for a flush. At the bound operations are refused; the one that crosses it is taken whole.
    pub unflushed_bytes_max: usize,
    /// Idle time after which a mark is written behind the last records: from then on damage to them is recognised.
    pub mark_after: Duration,
}

impl Config {
    /// The values for production: segments of 64 MiB, a cache of 64 MiB, 16 MiB unflushed, a mark after 50 ms.
    #[must_use]
    pub fn new(mesh: u128) -> Self {
        Self {
            mesh,
            segment_bytes: 64 << 20,
            cache_bytes_max: 64 << 20,
            unflushed_bytes_max: 16 << 20,
            mark_after: Duration::from_millis(50),
        }
    }

    /// A segment holds its header, a vote and a purge point at its beginning, and at least one more record.
    fn payload_bytes_max(&self) -> usize {
        (self.segment_bytes - HEADER_BYTES) as usize / 4 - RECORD_HEADER_BYTES as usize
    }
}

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the log.
    pub index: u64,
    /// Bytes of the layer above. They are cached as given: a slice keeps the whole buffer it was cut from.
    pub payload: Bytes,
}

/// Up to where the log was purged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purged {
    /// The last index that is gone.
    pub index: u64,
    /// Bytes of the layer above: the log id of that entry.
    pub payload: Bytes,
}

/// The log, held by its one writer. Dropping it closes it and waits for the last flush.
pub struct Log {
    shared: Arc<Shared>,
    payload_bytes_max: usize,
    cut: Option<Cut>,
    thread: Option<JoinHandle<()>>,
}

impl Log {
    /// Opens the log in `directory`, or begins one if there is none. Whether a log may be begun there is the caller's
    /// to know. Blocks: it reads all segments.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Missing`], [`Error::WrongMesh`], [`Error::Newer`]: nothing was changed.
    /// [`Error::Full`], [`Error::FlushFailed`], [`Error::Io`]: the disk failed.
    ///
    /// # Panics
    /// If [`Config::segment_bytes`] is below 512.
    pub fn open(directory: Arc<dyn Directory>, config: Config) -> Result<Self, Error> {
        assert!(config.segment_bytes >= 512, "a segment must hold its header and a few records");
        let recovered = recovery::recover(&directory, &config)?;
        let shared = Arc::new(Shared::new(recovered.index, config.unflushed_bytes_max));
        let payload_bytes_max = config.payload_bytes_max();
        let flusher = Flusher::new(directory.clone(), config, shared.clone(), recovered.end);
        let thread = thread::Builder::new().name("pelago-log".to_owned()).spawn(move || flusher.run());
        let thread = thread.map_err(|error| Error::io("start the thread of", directory.path().to_owned(), error))?;
        Ok(Self { shared, payload_bytes_max, cut: recovered.cut, thread: Some(thread) })
    }

    /// The torn tail that was cut when the log was opened.
    #[must_use]
    pub fn cut(&self) -> Option<&Cut> {
        self.cut.as_ref()
    }

    /// Appends entries that follow the last one; the very first of a log may have any index. They are readable when
    /// this returns and durable when `on_flushed` is called, on the log's thread: it must not block. An entry may reach
    /// the disk although its callback says otherwise.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::TooLarge`], [`Error::Hole`]: nothing was appended and `on_flushed` is not called.
    /// Else the error that stopped the log.
    pub fn append(&self, entries: Vec<Entry>, on_flushed: OnFlushed) -> Result<(), Error> {
        for entry in &entries {
            self.check_size(&entry.payload)?;
        }
        self.shared.submit(|index| {
            index.check_append(&entries)?;
            let ticket = index.append(&entries);
            Ok(Some(Operation::Append { entries, ticket, on_flushed }))
        })
    }

    /// Replaces the vote. It is durable when `on_flushed` is called, on the log's thread, and must not be acted upon
    /// before.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn save_vote(&self, vote: Bytes, on_flushed: OnFlushed) -> Result<(), Error> {
        self.check_size(&vote)?;
        self.shared.submit(|index| {
            index.set_vote(vote.clone());
            Ok(Some(Operation::Vote { vote, on_flushed }))
        })
    }

    /// Removes all entries after `last`, or all if it is `None`. Does nothing if there are none.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Purged`]: nothing was removed. Else the error that stopped the log.
    pub fn truncate_after(&self, last: Option<u64>) -> Result<(), Error> {
        let from = last.map_or(0, |last| last + 1);
        self.shared.submit(|index| {
            if from >= index.next() {
                return Ok(None);
            }
            index.check_truncate(from)?;
            index.truncate(from);
            Ok(Some(Operation::Truncate { from }))
        })
    }

    /// Removes all entries up to and including `purged.index`, which may lie behind the last one: the log then goes on
    /// after it. Segments without a living entry are deleted, later. Does nothing if that much is gone already.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::TooLarge`]: nothing was removed. Else the error that stopped the log.
    pub fn purge(&self, purged: Purged) -> Result<(), Error> {
        self.check_size(&purged.payload)?;
        self.shared.submit(|index| {
            if !index.has_unpurged(purged.index) {
                return Ok(None);
            }
            index.purge(purged.clone());
            Ok(Some(Operation::Purge { purged }))
        })
    }

    /// Whether an operation would be taken, or fail with another error than [`Error::Busy`].
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.shared.has_room()
    }

    /// Calls `callback` once there is room: at once, or on the log's thread, where it must not block.
    pub fn on_room(&self, callback: Box<dyn FnOnce() + Send>) {
        self.shared.on_room(callback);
    }

    /// A reader of this log; readers are independent of each other.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(self.shared.clone())
    }

    /// The log's counters; they outlive it.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        self.shared.counters()
    }

    /// Flushes what is waiting, writes a mark, ends the thread. Blocks until then.
    ///
    /// # Errors
    /// The error that stopped the log.
    pub fn close(mut self) -> Result<(), Error> {
        self.end_thread();
        match self.shared.stopped() {
            None | Some(Error::Closed) => Ok(()),
            Some(error) => Err(error),
        }
    }

    fn check_size(&self, payload: &Bytes) -> Result<(), Error> {
        let (bytes, max_bytes) = (payload.len(), self.payload_bytes_max);
        if bytes > max_bytes { Err(Error::TooLarge { bytes, max_bytes }) } else { Ok(()) }
    }

    fn end_thread(&mut self) {
        self.shared.close();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("a callback panicked on the log's thread");
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.end_thread();
        }
    }
}
