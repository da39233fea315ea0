//! W4: a task has one result, that of its present attempt; attempts stay within their limit and on the node that a task
//! is pinned to; tokens only grow; a node that takes leave costs no attempt.

use std::collections::BTreeMap;

use bytes::Bytes;
use pelago_core::{
    id::{FencingToken, TaskId},
    record::{Op, Task, TaskState, Write},
};

use super::Violation;
use crate::{behaviour, ledger::Applied, store::MapRows};

const NAME: &str = "W4 (one result a task)";

#[derive(Debug, Default)]
pub(crate) struct Attempts {
    newest: BTreeMap<TaskId, FencingToken>,
}

impl Attempts {
    pub(crate) fn check(&mut self, change: &Applied, before: &MapRows) -> Result<(), Violation> {
        for write in &change.writes {
            if let Write::NewTask { task, .. } = write {
                self.check_begin(None, task)?;
            } else if let Write::Task { task, result } = write {
                let before = before.tasks.get(&task.id).map(AsRef::as_ref);
                check_end(before, task, result.as_ref(), &change.op)?;
                check_leave(before, task, &change.op)?;
                self.check_begin(before, task)?;
            }
        }
        Ok(())
    }

    fn check_begin(&mut self, before: Option<&Task>, task: &Task) -> Result<(), Violation> {
        if task.attempt > task.policy.attempts_max {
            return violated(task, format!("attempt {} of {}", task.attempt, task.policy.attempts_max));
        }
        let (TaskState::Running, Some(token)) = (task.state, task.token) else { return Ok(()) };
        if before.is_some_and(|before| before.state == TaskState::Running && before.token == Some(token)) {
            return Ok(());
        }
        if before.is_some_and(|before| before.state != TaskState::Queued) {
            return violated(task, "an attempt began while it was not queued".to_owned());
        }
        if let (Some(pinned), Some(holder)) = (task.node, task.holder)
            && pinned != holder.node
        {
            return violated(task, format!("it is pinned to node {pinned} and runs on {holder}"));
        }
        match self.newest.insert(task.id, token) {
            Some(older) if older >= token => violated(task, format!("token {token} follows {older}")),
            Some(_) | None => Ok(()),
        }
    }
}

fn check_end(before: Option<&Task>, task: &Task, result: Option<&Bytes>, op: &Op) -> Result<(), Violation> {
    let Some(before) = before else { return Ok(()) };
    let revived = matches!(op, Op::Retry(_)) && task.state == TaskState::Queued;
    let dismissed = matches!(op, Op::Cancel(cancel) if cancel.dead_too)
        && (before.state, task.state) == (TaskState::Dead, TaskState::Cancelled);
    if before.state.is_ended() && !revived && !dismissed {
        return violated(task, format!("it was {} and is {}", before.state.name(), task.state.name()));
    }
    match (task.state, result) {
        (TaskState::Done, Some(result)) => {
            let present = before.token.filter(|_| before.state == TaskState::Running);
            if present.is_none_or(|token| *result != behaviour::result_of(task.id, token)) {
                return violated(task, format!("{result:?} was taken, the attempt under way was {present:?}"));
            }
            Ok(())
        }
        (TaskState::Done, None) => violated(task, "it is done without a result".to_owned()),
        (_, Some(_)) => violated(task, "it has a result and is not done".to_owned()),
        (_, None) => Ok(()),
    }
}

fn check_leave(before: Option<&Task>, task: &Task, op: &Op) -> Result<(), Violation> {
    let Some(before) = before else { return Ok(()) };
    let left = if let Op::Expire(expire) = op {
        expire.left.then_some(expire.holder.incarnation)
    } else if let Op::Register(register) = op {
        register.left
    } else {
        None
    };
    let held_by = before.holder.map(|holder| holder.incarnation);
    let counts = task.attempt + 1 != before.attempt || task.state != TaskState::Queued;
    if left.is_some() && left == held_by && counts {
        return violated(
            task,
            format!("its node left, and it is {} after {} attempts", task.state.name(), task.attempt),
        );
    }
    Ok(())
}

fn violated(task: &Task, what: String) -> Result<(), Violation> {
    Err(Violation::new(NAME, format!("task {}: {what}", task.id)))
}
