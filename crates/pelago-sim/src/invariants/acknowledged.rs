//! I3: what was acknowledged is durable and stays, a task until it is swept.
//!
//! Acknowledged appends are checked by the oracle, which knows each register's history; here are tasks.

use std::collections::BTreeSet;

use pelago_core::{id::TaskId, record::Write};

use super::Violation;
use crate::{ledger::Applied, store::MapRows};

const NAME: &str = "I3 (acknowledged is durable)";

#[derive(Debug, Default)]
pub(crate) struct Acknowledged {
    tasks: BTreeSet<TaskId>,
    swept: BTreeSet<TaskId>,
}

impl Acknowledged {
    /// Takes note of what is swept.
    pub(crate) fn check(&mut self, change: &Applied) {
        let swept = |write: &Write| if let Write::TaskGone(id) = write { Some(*id) } else { None };
        self.swept.extend(change.writes.iter().filter_map(swept));
    }

    /// A client was told that its task is in the store.
    pub(crate) fn task(&mut self, id: TaskId, rows: &MapRows) -> Result<(), Violation> {
        self.tasks.insert(id);
        self.check_task(id, rows)
    }

    pub(crate) fn check_end(&self, rows: &MapRows) -> Result<(), Violation> {
        self.tasks.iter().try_for_each(|id| self.check_task(*id, rows))
    }

    fn check_task(&self, id: TaskId, rows: &MapRows) -> Result<(), Violation> {
        if rows.tasks.contains_key(&id) || self.swept.contains(&id) {
            return Ok(());
        }
        Err(Violation::new(NAME, format!("task {id} was acknowledged and is not there")))
    }
}
