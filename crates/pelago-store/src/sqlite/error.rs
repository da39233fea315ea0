//! What can go wrong with the database, by what the caller can do about it.

use std::{io, path::PathBuf};

use pelago_core::id::MeshId;
use pelago_wire::dump::Flaw;
use rusqlite::{ErrorCode, ffi};

/// Why the database did not do what it was asked. The transaction under way was rolled back.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no space left. What was committed before is whole; it goes on once there is space.
    #[error("the disk is full")]
    DiskFull(#[source] rusqlite::Error),
    /// A flush failed: what the operating system holds may never reach the disk. The process must end.
    #[error("the disk did not take a flush")]
    Flush(#[source] rusqlite::Error),
    /// The disk cannot be read or written. This copy of the store must be replaced.
    #[error("the disk failed")]
    Io(#[source] rusqlite::Error),
    /// The file does not hold what was written. This copy of the store must be replaced.
    #[error("the database is damaged")]
    Corrupt(#[source] rusqlite::Error),
    /// SQLite refused for another reason: a defect of Pelago, or of the rows.
    #[error("the database refused a statement")]
    Sqlite(#[source] rusqlite::Error),
    /// Somebody reads an old state of the database. Try again later.
    #[error("a reader keeps an old state of the database in use")]
    Busy,
    /// The file is a database, but not Pelago's.
    #[error("{path} is not a database of Pelago")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A newer release wrote the file. Run that release.
    #[error("{path} has format {found}, written by a newer release: this one reads up to {known}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest format this release knows.
        known: i64,
    },
    /// The file belongs to another mesh.
    #[error("the database belongs to mesh {found}, not to mesh {wanted}")]
    OtherMesh {
        /// Whose it is.
        found: MeshId,
        /// Whose it should be.
        wanted: MeshId,
    },
    /// An earlier batch failed, so this one was not tried: the log must be applied without a gap.
    #[error("an earlier batch was not applied")]
    Poisoned,
    /// The writer's thread has ended.
    #[error("the writer has ended")]
    Stopped,
    /// The text is no cursor of this list.
    #[error("{0:?} is not a cursor of this list")]
    Cursor(String),
    /// The dump is damaged, or of another layout. The database in place was not touched.
    #[error("the dump is not whole")]
    Dump(#[source] Flaw),
    /// The dump is whole, but holds other tables than this release. The database in place was not touched.
    #[error("the dump has a table {table} that this release does not know")]
    DumpTable {
        /// The table's name.
        table: String,
    },
    /// The dump could not be read or written to its end.
    #[error("the dump's stream ended early")]
    Stream(#[source] io::Error),
    /// A file could not be made durable or put in its place.
    #[error("{path} could not be put in place")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error as E;
        if matches!(error, E::FromSqlConversionFailure(..) | E::InvalidColumnType(..) | E::IntegralValueOutOfRange(..))
        {
            return Self::Corrupt(error);
        }
        let extended = error.sqlite_error().map_or(0, |failure| failure.extended_code);
        if [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_DIR_FSYNC].contains(&extended) {
            return Self::Flush(error);
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::DiskFull(error),
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::ReadOnly) => Self::Io(error),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt(error),
            Some(_) | None => Self::Sqlite(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_the_disk_are_told_apart() {
        let of = |code| Error::from(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
        assert!(matches!(of(ffi::SQLITE_FULL), Error::DiskFull(_)));
        assert!(matches!(of(ffi::SQLITE_IOERR_FSYNC), Error::Flush(_)));
        assert!(matches!(of(ffi::SQLITE_IOERR_WRITE), Error::Io(_)));
        assert!(matches!(of(ffi::SQLITE_CORRUPT), Error::Corrupt(_)));
        assert!(matches!(of(ffi::SQLITE_CONSTRAINT), Error::Sqlite(_)));
    }
}
