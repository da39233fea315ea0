//! One batch under way: entries are decided and written within one transaction.

use std::{cell::RefCell, collections::BTreeMap};

use pelago_core::{
    id::{NodeId, TaskId},
    record::{Agent, Node, Op, Outcome, Stamp, Task, Write, decide},
    time::LogTime,
};
use rusqlite::Connection;

use super::{error::Error, statements::Statements, totals::Changes};

/// The rows as the items of a batch see them.
pub(super) struct Batch<'c> {
    pub(super) connection: &'c Connection,
    pub(super) statements: Statements<'c>,
    /// All nodes: they are few, and nearly every item asks whether one still lives.
    pub(super) nodes: BTreeMap<NodeId, Node>,
    pub(super) seen: RefCell<Seen>,
    pub(super) changes: Changes,
    /// All writes so far, in order.
    written: Vec<Write>,
    /// A sender's text, kept for its allocation.
    pub(super) sender: RefCell<String>,
}

/// What the present item read. A rule reads a row before it writes it, so this says what a write changes; and a rule may
/// ask for the same task more than once, while nothing of its item is written yet.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) agent: Option<Agent>,
    pub(super) tasks: BTreeMap<TaskId, Task>,
}

impl<'c> Batch<'c> {
    pub(super) fn begin(connection: &'c Connection, nodes: BTreeMap<NodeId, Node>) -> Result<Self, Error> {
        Ok(Self {
            connection,
            statements: Statements::take(connection)?,
            nodes,
            seen: RefCell::default(),
            changes: Changes::default(),
            written: Vec::new(),
            sender: RefCell::default(),
        })
    }

    /// Applies the items of one entry, each after the one before.
    pub(super) fn entry(&mut self, index: u64, time: LogTime, ops: &[Op]) -> Result<Vec<Outcome>, Error> {
        let mut writes = Vec::new();
        let mut item = |(item, op)| self.item(Stamp { index, item, time }, op, &mut writes);
        (0..).zip(ops).map(&mut item).collect()
    }

    fn item(&mut self, now: Stamp, op: &Op, writes: &mut Vec<Write>) -> Result<Outcome, Error> {
        let outcome = decide(now, op, self, writes)?;
        for write in writes.iter() {
            self.write(write)?;
        }
        self.written.append(writes);
        *self.seen.get_mut() = Seen::default();
        Ok(outcome)
    }

    /// Writes the counts and gives back the nodes, and what was written.
    pub(super) fn end(self) -> Result<(BTreeMap<NodeId, Node>, Vec<Write>), Error> {
        self.changes.save(self.connection)?;
        Ok((self.nodes, self.written))
    }
}
