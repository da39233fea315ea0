//! Moving what is committed from SQLite's log into the database file, durably.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags};

use super::{error::Error, machine::Applied};

/// How long a checkpoint waits for readers. Batches wait as long, so it is short: an old snapshot, a dump under way
/// say, is better waited for by trying again.
const READERS_WAIT: Duration = Duration::from_millis(200);

/// Makes the database at `path` durable and returns the index up to which it now certainly is. Blocks for the flush;
/// call it on any thread but the writer's.
///
/// The Raft log may be purged up to that index. In WAL mode with `synchronous=NORMAL` a commit flushes nothing, but a
/// full checkpoint does: `strace` shows `fdatasync` of the `-wal` file, then the pages written, then `fdatasync` of the
/// database. SQLite flushes the database only if no frame was added meanwhile (`walCheckpoint` in its source), which a
/// passive checkpoint cannot promise and a full one does by keeping writers out. So a passive one first moves the bulk
/// beside the writer, and the full one that follows is short.
///
/// # Errors
/// [`Error::Busy`] when a reader keeps an old state in use, else what the database says. Nothing is lost by either.
pub fn checkpoint(path: &Path) -> Result<u64, Error> {
    Checkpoint::begin(path)?.end()
}

/// A checkpoint under way.
pub(super) struct Checkpoint {
    connection: Connection,
    durable: u64,
}

impl Checkpoint {
    /// Moves the bulk, beside the writer.
    pub(super) fn begin(path: &Path) -> Result<Self, Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.pragma_update(None, "synchronous", "normal")?;
        // Else the checkpoint at the closing of a last connection would come as a surprise.
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        run(&connection, "PRAGMA wal_checkpoint(PASSIVE)")?;
        let durable = Applied::load(&connection)?.index;
        Ok(Self { connection, durable })
    }

    /// Moves what came meanwhile. Who writes waits.
    pub(super) fn end(self) -> Result<u64, Error> {
        let Self { connection, durable } = self;
        connection.busy_timeout(READERS_WAIT)?;
        let Progress { busy, frames, moved } = run(&connection, "PRAGMA wal_checkpoint(FULL)")?;
        if busy || frames != moved {
            return Err(Error::Busy);
        }
        Ok(durable)
    }
}

/// How long SQLite's own log of the database at `path` is, in bytes. With the first commit after a checkpoint it begins
/// anew, and is cut to its limit of 64 MiB.
#[must_use]
pub fn wal_bytes(path: &Path) -> u64 {
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    std::fs::metadata(wal).map_or(0, |wal| wal.len())
}

struct Progress {
    busy: bool,
    frames: i64,
    moved: i64,
}

fn run(connection: &Connection, sql: &str) -> Result<Progress, Error> {
    Ok(connection
        .query_row(sql, [], |row| Ok(Progress { busy: row.get(0)?, frames: row.get(1)?, moved: row.get(2)? }))?)
}
