//! The events of a task are numbered without a gap; a note is told once, and only while its attempt is under way.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use pelago_core::{
    id::TaskId,
    record::{EventKind, Op, Task, TaskEvent, TaskState, Write},
};

use super::Violation;
use crate::{ledger::Applied, store::MapRows};

const NAME: &str = "W4 (numbered events)";

#[derive(Debug, Default)]
pub(crate) struct Events {
    last: BTreeMap<TaskId, u64>,
    notes: BTreeSet<(TaskId, Bytes)>,
}

impl Events {
    pub(crate) fn check(&mut self, change: &Applied, before: &MapRows) -> Result<(), Violation> {
        for write in &change.writes {
            if let Write::Event(event) = write {
                self.check_number(event)?;
                self.check_note(event, &change.op, before)?;
            } else if let Write::TaskGone(id) = write {
                self.last.remove(id);
            }
        }
        Ok(())
    }

    fn check_number(&mut self, event: &TaskEvent) -> Result<(), Violation> {
        let last = self.last.insert(event.task, event.n).unwrap_or(0);
        if event.n == last + 1 { Ok(()) } else { violated(event, format!("event {} follows {last}", event.n)) }
    }

    fn check_note(&mut self, event: &TaskEvent, op: &Op, before: &MapRows) -> Result<(), Violation> {
        let EventKind::Progress(note) = &event.kind else { return Ok(()) };
        let Op::Progress(op) = op else { return violated(event, format!("{note:?} was told by another op")) };
        let is_present = |task: &Task| task.state == TaskState::Running && task.token == Some(op.token);
        if !before.tasks.get(&event.task).is_some_and(|task| is_present(task)) {
            return violated(event, format!("{note:?} was told after its attempt"));
        }
        if !self.notes.insert((event.task, note.clone())) {
            return violated(event, format!("{note:?} was told twice"));
        }
        Ok(())
    }
}

fn violated(event: &TaskEvent, what: String) -> Result<(), Violation> {
    Err(Violation::new(NAME, format!("task {}: {what}", event.task)))
}
