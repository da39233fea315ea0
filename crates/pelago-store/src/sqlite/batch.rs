//! One batch under way: entries are decided and written within one transaction.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    hash::Hash,
    sync::Arc,
};

use pelago_core::{
    id::{AgentId, NodeId, TaskId},
    record::{Agent, Node, Op, Outcome, Stamp, Task, Write, decide},
    time::LogTime,
};
use rusqlite::Connection;

use super::{error::Error, row, session, statements::Statements, totals::Changes, unwritten::Unwritten};

/// How many rows a half of [`Recent`] holds.
const RECENT_MAX: usize = 8_192;

/// The rows as the items of a batch see them.
pub(super) struct Batch<'c> {
    pub(super) connection: &'c Connection,
    pub(super) statements: Statements<'c>,
    pub(super) kept: Kept,
    /// The tasks that the present item read. A rule reads a row before it writes it, so this says what a write changes;
    /// and a rule may ask for the same one more than once, while nothing of its item is written yet.
    pub(super) seen: RefCell<BTreeMap<TaskId, Arc<Task>>>,
    pub(super) changes: Changes,
    /// The tasks that the present item deletes.
    pub(super) gone: Vec<TaskId>,
    /// All writes so far, in order.
    pub(super) written: Vec<Write>,
    /// A sender's text, kept for its allocation.
    pub(super) sender: RefCell<String>,
}

/// Rows that are kept in memory beside the database: those that it does not have yet, and those for which nearly every
/// item asks.
#[derive(Debug)]
pub(super) struct Kept {
    /// All nodes: they are few.
    pub(super) nodes: BTreeMap<NodeId, Arc<Node>>,
    /// The tasks that nodes work on: as many as all nodes together take at a time.
    pub(super) running: BTreeMap<TaskId, Arc<Task>>,
    /// Of the tasks that wait, those that were written last: most wait no longer than a moment.
    pub(super) queued: RefCell<Recent<TaskId, Arc<Task>>>,
    /// The agents that were read or written last.
    pub(super) agents: RefCell<Recent<AgentId, Agent>>,
    /// How many sessions there are.
    pub(super) sessions: u64,
    /// The rows that the database does not have yet.
    pub(super) unwritten: RefCell<Unwritten>,
}

/// Rows as they are by now, those used last. When the younger half is full, the older one goes; what is used again is
/// young again.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    younger: HashMap<K, V>,
    older: HashMap<K, V>,
}

impl Kept {
    pub(super) fn load(connection: &Connection) -> Result<Self, Error> {
        Ok(Self {
            nodes: row::nodes(connection)?.into_iter().map(|node| (node.id, Arc::new(node))).collect(),
            running: row::running(connection)?.into_iter().map(|task| (task.id, Arc::new(task))).collect(),
            queued: RefCell::default(),
            agents: RefCell::default(),
            sessions: session::len(connection)?,
            unwritten: RefCell::new(Unwritten::new(row::greatest_task(connection)?)),
        })
    }
}

impl<K: Eq + Hash, V> Recent<K, V> {
    pub(super) fn get(&mut self, id: &K) -> Option<&V> {
        if let Some((id, row)) = self.older.remove_entry(id) {
            self.put(id, row);
        }
        self.younger.get(id)
    }

    pub(super) fn put(&mut self, id: K, row: V) {
        self.older.remove(&id);
        if self.younger.len() == RECENT_MAX && !self.younger.contains_key(&id) {
            self.older = std::mem::take(&mut self.younger);
        }
        self.younger.insert(id, row);
    }

    pub(super) fn remove(&mut self, id: &K) {
        self.younger.remove(id);
        self.older.remove(id);
    }
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self { younger: HashMap::new(), older: HashMap::new() }
    }
}

impl<'c> Batch<'c> {
    pub(super) fn begin(connection: &'c Connection, kept: Kept) -> Self {
        Self {
            connection,
            statements: Statements::of(connection),
            kept,
            seen: RefCell::default(),
            changes: Changes::default(),
            gone: Vec::new(),
            written: Vec::new(),
            sender: RefCell::default(),
        }
    }

    /// Applies the items of one entry, each after the one before.
    pub(super) fn entry(&mut self, index: u64, time: LogTime, ops: &[Op]) -> Result<Vec<Outcome>, Error> {
        let mut writes = Vec::new();
        // Most items change a row and add an event.
        self.written.reserve(2 * ops.len());
        let mut item = |(item, op)| self.item(Stamp { index, item, time }, op, &mut writes);
        let outcomes = (0..).zip(ops).map(&mut item).collect::<Result<_, _>>()?;
        let surplus = self.kept.unwritten.get_mut().take_surplus();
        self.statements.write_out(&surplus)?;
        Ok(outcomes)
    }

    fn item(&mut self, now: Stamp, op: &Op, writes: &mut Vec<Write>) -> Result<Outcome, Error> {
        let outcome = decide(now, op, self, writes)?;
        for write in writes.drain(..) {
            self.write(&write)?;
            self.written.push(write);
        }
        self.tasks_gone()?;
        self.seen.get_mut().clear();
        Ok(outcome)
    }

    /// Writes all rows that wait to be written.
    pub(super) fn write_out(&self) -> Result<(), Error> {
        let all = self.kept.unwritten.borrow_mut().take_all();
        self.statements.write_out(&all)
    }

    /// Gives back what is kept and all that was written.
    pub(super) fn end(self, changes: &mut Changes) -> (Kept, Vec<Write>) {
        changes.add_all(&self.changes);
        (self.kept, self.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_used_last_are_kept_as_they_were_written_last() {
        let mut recent = Recent::default();
        recent.put(0, "often");
        recent.put(1, "once");
        (2..=RECENT_MAX).for_each(|n| recent.put(n, ""));
        assert!(recent.older.contains_key(&0), "it has grown old");
        recent.put(0, "again");
        for n in RECENT_MAX + 1..3 * RECENT_MAX {
            recent.put(n, "");
            assert!(recent.get(&0).is_some());
        }
        assert!(recent.younger.len() <= RECENT_MAX && recent.older.len() <= RECENT_MAX);
        assert_eq!(recent.get(&0), Some(&"again"));
        assert_eq!(recent.get(&1), None, "nobody used it for long");
        recent.remove(&0);
        assert_eq!(recent.get(&0), None);
    }
}
