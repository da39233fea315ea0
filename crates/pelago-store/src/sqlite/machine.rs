//! The state machine: entries of the log in, outcomes out.

use std::path::Path;

use bytes::Bytes;
use pelago_core::{
    id::MeshId,
    record::{Op, Outcome, Write},
    time::LogTime,
};
use rusqlite::{Connection, params};

use super::{
    batch::{Batch, Kept},
    column,
    error::Error,
    schema,
    statements::Statements,
    totals::Changes,
};

/// One committed entry of the log, as the state machine sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its index.
    pub index: u64,
    /// Its log id; the bytes are the caller's.
    pub log_id: Bytes,
    /// The leader's stamp, if it has one.
    pub time: Option<LogTime>,
    /// The items, in order.
    pub ops: Vec<Op>,
    /// A new membership of the voters; the bytes are the caller's.
    pub membership: Option<Bytes>,
}

/// What a batch of entries came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applies {
    /// One outcome an item, by entry.
    pub outcomes: Vec<Vec<Outcome>>,
    /// What was written, in order.
    pub writes: Vec<Write>,
}

/// How far a database has come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// Index of the last entry; 0 before any.
    pub index: u64,
    /// Its log id; empty before any.
    pub log_id: Bytes,
    /// The time of the log.
    pub time: LogTime,
    /// The last membership of the voters that an entry carried.
    pub membership: Option<Bytes>,
}

/// The database and its one writing connection. Use it from one thread, or let a [`Writer`](super::Writer) do so.
#[derive(Debug)]
pub struct Machine {
    connection: Connection,
    applied: Applied,
    /// How far it had come when it last committed.
    committed: Applied,
    /// What became of the counts since.
    changes: Changes,
    /// `None` after a batch that failed: what it made of the rows was rolled back.
    kept: Option<Kept>,
}

impl Machine {
    /// Opens the database at `path`, or makes a new one.
    ///
    /// # Errors
    /// [`Error::Foreign`], [`Error::Newer`] or [`Error::OtherMesh`] when the file is not this mesh's, else what the
    /// database says. The file was not changed.
    pub fn open(path: &Path, mesh: MeshId) -> Result<Self, Error> {
        let connection = schema::open_writer(path, mesh)?;
        let applied = Applied::load(&connection)?;
        let kept = Some(Kept::load(&connection)?);
        Ok(Self { connection, committed: applied.clone(), applied, changes: Changes::default(), kept })
    }

    /// How far it has come.
    #[must_use]
    pub fn applied(&self) -> &Applied {
        &self.applied
    }

    /// Applies entries and commits them. Says what became of each item, and what was written.
    ///
    /// # Errors
    /// What the database says. Nothing since the last commit was applied.
    ///
    /// # Panics
    /// When an entry is not above the ones applied: its effects would happen twice.
    pub fn apply(&mut self, entries: &[Entry]) -> Result<Applies, Error> {
        let applies = self.apply_uncommitted(entries)?;
        self.commit()?;
        Ok(applies)
    }

    /// As [`Self::apply`], but others see it, and a crash leaves it, only after [`Self::commit`].
    pub(super) fn apply_uncommitted(&mut self, entries: &[Entry]) -> Result<Applies, Error> {
        let applies = self.apply_in_transaction(entries);
        self.or_roll_back(applies)
    }

    /// Commits what was applied.
    ///
    /// # Errors
    /// What the database says. Nothing since the last commit was applied.
    pub(super) fn commit(&mut self) -> Result<(), Error> {
        let committed = self.commit_transaction();
        self.or_roll_back(committed)
    }

    pub(super) fn has_uncommitted(&self) -> bool {
        !self.connection.is_autocommit()
    }

    fn apply_in_transaction(&mut self, entries: &[Entry]) -> Result<Applies, Error> {
        let kept = match self.kept.take() {
            Some(kept) => kept,
            None => Kept::load(&self.connection)?,
        };
        if !self.has_uncommitted() {
            // Immediate: a transaction that begins by reading could not write once a checkpoint has come between.
            self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        }
        let mut batch = Batch::begin(&self.connection, kept);
        let mut outcomes = Vec::with_capacity(entries.len());
        for entry in entries {
            self.applied.follow(entry);
            outcomes.push(batch.entry(entry.index, self.applied.time, &entry.ops)?);
        }
        let (kept, writes) = batch.end(&mut self.changes);
        self.kept = Some(kept);
        Ok(Applies { outcomes, writes })
    }

    fn commit_transaction(&mut self) -> Result<(), Error> {
        if self.has_uncommitted() {
            if let Some(kept) = &mut self.kept {
                Statements::of(&self.connection).write_out(&kept.unwritten.get_mut().take_all())?;
            }
            std::mem::take(&mut self.changes).save(&self.connection)?;
            self.applied.save(&self.connection, &self.committed)?;
            self.connection.prepare_cached("COMMIT")?.execute([])?;
            self.committed.clone_from(&self.applied);
        }
        Ok(())
    }

    fn or_roll_back<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        if result.is_err() {
            self.kept = None;
            self.changes = Changes::default();
            self.applied.clone_from(&self.committed);
            // Some errors have rolled back already.
            if self.has_uncommitted() {
                self.connection.execute_batch("ROLLBACK")?;
            }
        }
        result
    }
}

impl Applied {
    /// Moves on to `entry`. The log's time never goes back, whatever a leader stamps.
    fn follow(&mut self, entry: &Entry) {
        let (index, applied) = (entry.index, self.index);
        // The first entry of a log has index 0.
        assert!(
            index > applied || self.log_id.is_empty(),
            "entry {index} was applied before: the database is at {applied}"
        );
        self.index = index;
        self.log_id.clone_from(&entry.log_id);
        self.time = entry.time.map_or(self.time, |stamp| stamp.max(self.time));
        if entry.membership.is_some() {
            self.membership.clone_from(&entry.membership);
        }
    }

    /// Reads it from the database's own table.
    pub(super) fn load(connection: &Connection) -> Result<Self, Error> {
        let mut statement = connection.prepare_cached("SELECT name, value FROM meta")?;
        let mut rows = statement.query([])?;
        let mut applied = Self::default();
        while let Some(row) = rows.next()? {
            let mut c = column::Columns::of(row);
            match c.text()? {
                "applied_index" => applied.index = c.u64()?,
                "applied_log_id" => applied.log_id = c.bytes()?,
                "log_time" => applied.time = c.time()?,
                "membership" => applied.membership = Some(c.bytes()?),
                _ => {}
            }
        }
        Ok(applied)
    }

    /// Writes what is not there since `before`.
    fn save(&self, connection: &Connection, before: &Self) -> Result<(), Error> {
        let sql = "INSERT OR REPLACE INTO meta (name, value)
            VALUES ('applied_index', ?1), ('applied_log_id', ?2), ('log_time', ?3)";
        let log_id = self.log_id.as_ref();
        connection.prepare_cached(sql)?.execute(params![
            column::number(self.index),
            log_id,
            column::time(self.time)
        ])?;
        if let Some(membership) = self.membership.as_ref().filter(|_| self.membership != before.membership) {
            let sql = "INSERT OR REPLACE INTO meta (name, value) VALUES ('membership', ?1)";
            connection.prepare_cached(sql)?.execute([membership.as_ref()])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use pelago_core::{id::TaskId, record::Cancel};

    use super::*;

    #[test]
    fn a_full_disk_is_told_and_leaves_what_was_before() {
        let directory = tempfile::TempDir::new().expect("a temporary directory");
        let mut machine = Machine::open(&directory.path().join("machine.db"), MeshId(7)).expect("a new database");
        let entry = |index, log_id_bytes| Entry {
            index,
            log_id: Bytes::from(vec![1; log_id_bytes]),
            time: None,
            ops: vec![Op::Cancel(Cancel { task: TaskId(1), reason: String::new(), dead_too: false })],
            membership: None,
        };
        machine.apply(&[entry(1, 16)]).expect("there is room");
        // SQLite reports a full file system and its own limit alike.
        machine.connection.pragma_update(None, "max_page_count", 1).expect("the limit can be set");
        let error = machine.apply(&[entry(2, 1 << 20)]).expect_err("there is no room");
        assert!(matches!(error, Error::DiskFull(_)), "{error:?}");
        assert_eq!(machine.applied().index, 1);
        machine.apply(&[entry(2, 16)]).expect("a small entry needs no new page");
        assert_eq!(Applied::load(&machine.connection).expect("it can be read").index, 2);
    }
}
