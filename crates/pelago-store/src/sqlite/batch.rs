//! One batch under way: entries are decided and written within one transaction.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
};

use pelago_core::{
    id::{AgentId, NodeId, TaskId},
    record::{Agent, Node, Op, Outcome, Stamp, Task, Write, decide},
    time::LogTime,
};
use rusqlite::Connection;

use super::{error::Error, row, statements::Statements, totals::Changes};

/// How many rows of agents a half of [`AgentsSeen`] holds.
const AGENTS_SEEN_MAX: usize = 8_192;

/// The rows as the items of a batch see them.
pub(super) struct Batch<'c> {
    pub(super) connection: &'c Connection,
    pub(super) statements: Statements<'c>,
    pub(super) kept: Kept,
    /// The tasks that the present item read. A rule reads a row before it writes it, so this says what a write changes;
    /// and a rule may ask for the same one more than once, while nothing of its item is written yet.
    pub(super) seen: RefCell<BTreeMap<TaskId, Task>>,
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
    /// The agents that were read or written last.
    pub(super) agents: RefCell<AgentsSeen>,
}

/// Rows of agents as they are in the database, those used last. When the younger half is full, the older one goes; who
/// is used again is young again.
#[derive(Debug, Default)]
pub(super) struct AgentsSeen {
    younger: HashMap<AgentId, Agent>,
    older: HashMap<AgentId, Agent>,
}

impl Kept {
    pub(super) fn load(connection: &Connection) -> Result<Self, Error> {
        Ok(Self {
            nodes: row::nodes(connection)?.into_iter().map(|node| (node.id, node)).collect(),
            running: row::running(connection)?.into_iter().map(|task| (task.id, task)).collect(),
            agents: RefCell::default(),
        })
    }
}

impl AgentsSeen {
    pub(super) fn get(&mut self, id: &AgentId) -> Option<&Agent> {
        if let Some(agent) = self.older.remove(id) {
            self.put(agent);
        }
        self.younger.get(id)
    }

    pub(super) fn put(&mut self, agent: Agent) {
        self.older.remove(&agent.id);
        if self.younger.len() == AGENTS_SEEN_MAX && !self.younger.contains_key(&agent.id) {
            self.older = std::mem::take(&mut self.younger);
        }
        self.younger.insert(agent.id.clone(), agent);
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
        self.seen.get_mut().clear();
        Ok(outcome)
    }

    /// Writes what is still missing but the counts, and gives back what is kept and all that was written.
    pub(super) fn end(mut self, changes: &mut Changes) -> Result<(Kept, Vec<Write>), Error> {
        self.catch_up()?;
        changes.add_all(&self.changes);
        Ok((self.kept, self.written))
    }
}

#[cfg(test)]
mod tests {
    use pelago_core::{
        id::{Epoch, Holder, Incarnation, Key, Name, TurnId, Version},
        record::{Chain, Phase},
    };

    use super::*;

    fn agent(n: usize, version: u64) -> Agent {
        let name = Name::new("counter").expect("valid");
        let key = Some(Key::new(&format!("k{n}")).expect("valid"));
        Agent {
            id: AgentId { namespace: Name::default_namespace(), name, key },
            generation: 1,
            epoch: Epoch(1),
            phase: Phase::Active,
            holder: Holder { node: NodeId(1), incarnation: Incarnation(1) },
            version: Version(version),
            last_turn: TurnId(0),
            chain: Chain::START,
        }
    }

    #[test]
    fn agents_used_last_are_kept_as_they_were_written_last() {
        let mut seen = AgentsSeen::default();
        let (often, once) = (agent(0, 1), agent(1, 1));
        seen.put(often.clone());
        seen.put(once.clone());
        (2..=AGENTS_SEEN_MAX).for_each(|n| seen.put(agent(n, 1)));
        assert!(seen.older.contains_key(&often.id), "it has grown old");
        seen.put(agent(0, 2));
        for n in AGENTS_SEEN_MAX + 1..3 * AGENTS_SEEN_MAX {
            seen.put(agent(n, 1));
            assert!(seen.get(&often.id).is_some());
        }
        assert!(seen.younger.len() <= AGENTS_SEEN_MAX && seen.older.len() <= AGENTS_SEEN_MAX);
        assert_eq!(seen.get(&often.id), Some(&agent(0, 2)));
        assert_eq!(seen.get(&once.id), None, "nobody used it for long");
    }
}
