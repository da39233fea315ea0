//! One batch under way: entries are decided and written within one transaction.

use std::{cell::RefCell, collections::BTreeMap};

use pelago_core::{
    id::{NodeId, TaskId},
    record::{Agent, Node, Op, Outcome, Stamp, Task, Write, decide},
    time::LogTime,
};
use rusqlite::Connection;

use super::{error::Error, row, statements::Statements, totals::Changes};

/// The rows as the items of a batch see them.
pub(super) struct Batch<'c> {
    pub(super) connection: &'c Connection,
    pub(super) statements: Statements<'c>,
    pub(super) kept: Kept,
    pub(super) seen: RefCell<Seen>,
    pub(super) changes: Changes,
    /// All writes so far, in order.
    pub(super) written: Vec<Write>,
    /// How many of them are in the database whole; see [`Batch::catch_up`].
    pub(super) caught_up: usize,
    /// A sender's text, kept for its allocation.
    pub(super) sender: RefCell<String>,
}

/// Rows that are kept in memory beside the database, because nearly every item asks for one.
#[derive(Debug)]
pub(super) struct Kept {
    /// All nodes: they are few.
    pub(super) nodes: BTreeMap<NodeId, Node>,
    /// The tasks that nodes work on: as many as all nodes together take at a time.
    pub(super) running: BTreeMap<TaskId, Task>,
}

impl Kept {
    pub(super) fn load(connection: &Connection) -> Result<Self, Error> {
        Ok(Self {
            nodes: row::nodes(connection)?.into_iter().map(|node| (node.id, node)).collect(),
            running: row::running(connection)?.into_iter().map(|task| (task.id, task)).collect(),
        })
    }
}

/// What the present item read. A rule reads a row before it writes it, so this says what a write changes; and a rule
/// may ask for the same task more than once, while nothing of its item is written yet.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) agent: Option<Agent>,
    pub(super) tasks: BTreeMap<TaskId, Task>,
}

impl<'c> Batch<'c> {
    pub(super) fn begin(connection: &'c Connection, kept: Kept) -> Self {
        Self {
            connection,
            statements: Statements::of(connection),
            kept,
            seen: RefCell::default(),
            changes: Changes::default(),
            written: Vec::new(),
            caught_up: 0,
            sender: RefCell::default(),
        }
    }

    /// Applies the items of one entry, each after the one before.
    pub(super) fn entry(&mut self, index: u64, time: LogTime, ops: &[Op]) -> Result<Vec<Outcome>, Error> {
        let mut writes = Vec::new();
        let mut item = |(item, op)| self.item(Stamp { index, item, time }, op, &mut writes);
        (0..).zip(ops).map(&mut item).collect()
    }

    fn item(&mut self, now: Stamp, op: &Op, writes: &mut Vec<Write>) -> Result<Outcome, Error> {
        let outcome = decide(now, op, self, writes)?;
        for write in writes.drain(..) {
            self.write(&write)?;
            self.written.push(write);
        }
        *self.seen.get_mut() = Seen::default();
        Ok(outcome)
    }

    /// Writes what is still missing, and gives back what is kept and all that was written.
    pub(super) fn end(mut self) -> Result<(Kept, Vec<Write>), Error> {
        self.catch_up()?;
        self.changes.save(self.connection)?;
        Ok((self.kept, self.written))
    }
}
