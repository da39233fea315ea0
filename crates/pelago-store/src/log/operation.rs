//! What waits in the queue between the caller and the log's thread.

use super::{Entry, Error, Purged};
use bytes::Bytes;
use pelago_wire::segment::record_bytes;

/// Called once on the log's thread: after the flush, or with the error that stopped the log. It must not block.
pub type OnFlushed = Box<dyn FnOnce(Result<(), Error>) + Send>;

pub(super) enum Operation {
    /// `ticket` is that of the first entry; the others' follow.
    Append {
        entries: Vec<Entry>,
        ticket: u64,
        on_flushed: OnFlushed,
    },
    Vote {
        vote: Bytes,
        on_flushed: OnFlushed,
    },
    Truncate {
        from: u64,
    },
    Purge {
        purged: Purged,
    },
}

impl Operation {
    /// Bytes it takes on disk.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Append { entries, .. } => {
                entries.iter().map(|entry| record_bytes(entry.payload.len()) as usize).sum()
            }
            Self::Vote { vote, .. } => record_bytes(vote.len()) as usize,
            Self::Truncate { .. } => record_bytes(0) as usize,
            Self::Purge { purged } => record_bytes(purged.payload.len()) as usize,
        }
    }

    /// Answers an operation that will not be done.
    pub(super) fn fail(self, error: &Error) {
        match self {
            Self::Append { on_flushed, .. } | Self::Vote { on_flushed, .. } => on_flushed(Err(error.clone())),
            Self::Truncate { .. } | Self::Purge { .. } => {}
        }
    }
}
