//! What can go wrong with the log, by what the caller can do about it.

use pelago_wire::segment::Flaw;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// An error of the log. Clones go to every callback that shares its cause.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The disk has no room for the next segment. Nothing acknowledged is lost. The log has stopped: open it again when
    /// there is space.
    #[error("no space for a log segment in {}; free some and open the log again", .directory.display())]
    Full {
        /// The log's directory.
        directory: PathBuf,
        /// What the file system said.
        source: Arc<io::Error>,
    },
    /// A flush failed, and what it was to write may be gone although the kernel says otherwise from now on. The log has
    /// stopped for good and the process must end: a second flush would prove nothing.
    #[error("could not flush {}; this process must end", .path.display())]
    FlushFailed {
        /// The file or directory.
        path: PathBuf,
        /// What the file system said.
        source: Arc<io::Error>,
    },
    /// The file system failed otherwise. Nothing acknowledged is lost. A log that was writing has stopped.
    #[error("could not {action} {}", .path.display())]
    Io {
        /// The verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the file system said.
        source: Arc<io::Error>,
    },
    /// Bytes that were durable have changed, so what was acknowledged may be lost here. Nothing was cut or written.
    #[error(
        "the log is damaged in {} at offset {offset}: {problem}; {}",
        .path.display(),
        "restore the file, or remove this voter from the mesh and let the node join again with an empty directory"
    )]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where in it.
        offset: u32,
        /// What is wrong there.
        problem: Problem,
    },
    /// A newer release wrote this segment. Nothing was changed.
    #[error("{} was written by a newer release at offset {offset}: {flaw}; start that release", .path.display())]
    Newer {
        /// The segment.
        path: PathBuf,
        /// Where in it.
        offset: u32,
        /// What is not known.
        flaw: Flaw,
    },
    /// The directory belongs to another mesh. Nothing was changed.
    #[error(
        "{} belongs to mesh {found:032x} and not to {expected:032x}; check the data directory",
        .path.display()
    )]
    WrongMesh {
        /// The segment.
        path: PathBuf,
        /// The mesh the caller named.
        expected: u128,
        /// The mesh in the file.
        found: u128,
    },
    /// Segments are missing before or between those that are there. Nothing was changed.
    #[error(
        "log segment {sequence} is missing in {}; restore it, or remove this voter from the mesh and join again",
        .directory.display()
    )]
    Missing {
        /// The log's directory.
        directory: PathBuf,
        /// The first one missing.
        sequence: u64,
    },
    /// Too much waits to be flushed. Nothing was taken; wait with `Log::on_room`.
    #[error("{waiting_bytes} bytes wait to be flushed, the most is {max_bytes}")]
    Busy {
        /// Bytes waiting.
        waiting_bytes: usize,
        /// The bound, `unflushed_bytes_max`.
        max_bytes: usize,
    },
    /// A payload does not fit. Nothing was taken.
    #[error("a log record of {bytes} bytes is over the limit of {max_bytes}")]
    TooLarge {
        /// Bytes of the payload.
        bytes: usize,
        /// The bound, a quarter of a segment.
        max_bytes: usize,
    },
    /// The entries would leave a hole. Nothing was taken.
    #[error("entry {found} does not follow: the log goes on with {expected}")]
    Hole {
        /// The index that comes next.
        expected: u64,
        /// The index that came.
        found: u64,
    },
    /// Entries up to this index are purged and cannot be truncated.
    #[error("entries up to {purged} are purged")]
    Purged {
        /// The last purged index.
        purged: u64,
    },
    /// The log was closed, or its thread ended.
    #[error("the log is closed")]
    Closed,
}

/// What is wrong with a damaged place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The bytes are not what was written.
    #[error("{0}")]
    Flaw(Flaw),
    /// A record written later shows that these bytes had been flushed.
    #[error("{flaw}, and the record at offset {proof} was written after this one was flushed")]
    Synced {
        /// What is wrong.
        flaw: Flaw,
        /// Where the later record is.
        proof: u32,
    },
    /// The next segment says that this one goes on.
    #[error("{flaw}, and the next segment says that records go on to offset {end}")]
    Sealed {
        /// What is wrong.
        flaw: Flaw,
        /// Where the segment must end.
        end: u32,
    },
    /// The next segment continues another one.
    #[error("the next segment does not continue this one")]
    Seam,
    /// The file lost its end.
    #[error("the file has {found} bytes and not {expected}")]
    Short {
        /// Bytes it was created with.
        expected: u32,
        /// Bytes it has.
        found: u64,
    },
    /// The file has the name of another segment.
    #[error("this is segment {found}")]
    Misnamed {
        /// The number in the file.
        found: u64,
    },
    /// The records are whole, but entries are missing.
    #[error("entry {found} follows where {expected} is due")]
    Gap {
        /// The entry that is due.
        expected: u64,
        /// The entry that is there.
        found: u64,
    },
}

impl Error {
    pub(super) fn io(action: &'static str, path: PathBuf, error: io::Error) -> Self {
        Self::Io { action, path, source: Arc::new(error) }
    }

    pub(super) fn flush(path: PathBuf, error: io::Error) -> Self {
        Self::FlushFailed { path, source: Arc::new(error) }
    }

    pub(super) fn damaged(path: PathBuf, offset: u32, problem: Problem) -> Self {
        Self::Damaged { path, offset, problem }
    }

    /// Sorts a flaw by what it means for a whole place: damage, or a newer release.
    pub(super) fn flawed(path: PathBuf, offset: u32, flaw: Flaw) -> Self {
        match flaw {
            Flaw::UnknownVersion { .. } | Flaw::UnknownKind { .. } => Self::Newer { path, offset, flaw },
            Flaw::NotASegment
            | Flaw::NotARecord
            | Flaw::HeaderChecksum
            | Flaw::Length
            | Flaw::PayloadChecksum
            | Flaw::Chain => Self::damaged(path, offset, Problem::Flaw(flaw)),
        }
    }
}

/// Whether an error of a write or a creation means that the disk, or the user's part of it, is full.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
