//! I5: nothing appears or vanishes on its own: messages sent = handled + buried + waiting; tasks acknowledged = done +
//! pending + dead + cancelled + swept after their time; agents stay.

use pelago_core::{
    id::{AgentId, TaskId},
    record::{IdempotencyKey, Message, MessageId, Op, Task, Write},
};

use super::Violation;
use crate::{ledger::Applied, store::MapRows};

const NAME: &str = "I5 (conservation)";

/// Every write moves one thing from where it was.
pub(crate) fn check(change: &Applied, before: &MapRows) -> Result<(), Violation> {
    for write in &change.writes {
        match write {
            Write::MessageGone { to, id } if message(before, to, id).is_none_or(|m| m.buried.is_some()) => {
                return violated(format!("{id:?} left the inbox of {to}, where it did not wait"));
            }
            Write::Message(new) if new.buried.is_none() && message(before, &new.to, &new.id).is_some() => {
                return violated(format!("{:?} replaced a message in the inbox of {}", new.id, new.to));
            }
            Write::Message(new) if new.buried.is_some() && message(before, &new.to, &new.id).is_none() => {
                return violated(format!("{:?} was buried for {} and never waited", new.id, new.to));
            }
            Write::NewTask { task, .. } if before.tasks.contains_key(&task.id) => {
                return violated(format!("task {} replaced another one", task.id));
            }
            Write::Task { task, .. } if !knows_task(change, before, task.id) => {
                return violated(format!("task {} changed and was never enqueued", task.id));
            }
            Write::TaskGone(id) if !may_forget(change, before, *id) => {
                return violated(format!("task {id} was forgotten before its time"));
            }
            Write::SessionEntry(new) if before.session_entries.contains_key(&(new.session.clone(), new.n)) => {
                return violated(format!("entry {} of session {} replaced another one", new.n, new.session));
            }
            Write::ReplyGone(key) if !may_forget_reply(change, before, key) => {
                return violated(format!("the reply to key {:?} was forgotten before its time", key.key));
            }
            Write::Node(_)
            | Write::NodeGone(_)
            | Write::Agent { .. }
            | Write::Message(_)
            | Write::MessageGone { .. }
            | Write::Timer { .. }
            | Write::TimerBuried { .. }
            | Write::TimerGone { .. }
            | Write::Reply(_)
            | Write::ReplyGone(_)
            | Write::Session(_)
            | Write::SessionEntry(_)
            | Write::SessionEntriesGone { .. }
            | Write::SessionGone(_)
            | Write::NewTask { .. }
            | Write::Task { .. }
            | Write::Event(_)
            | Write::TaskGone(_)
            | Write::Connection { .. }
            | Write::ConnectionGone { .. } => {}
        }
    }
    Ok(())
}

/// At the end nothing waits any more.
pub(crate) fn check_end(rows: &MapRows) -> Result<(), Violation> {
    if let Some(task) = rows.tasks.values().find(|task| !task.state.is_ended()) {
        return violated(format!("task {} is {} at the end", task.id, task.state.name()));
    }
    if let Some(message) = rows.messages.keys().flat_map(|agent| rows.inbox(agent)).next() {
        return violated(format!("{:?} to {} waits at the end", message.id, message.to));
    }
    Ok(())
}

fn message<'a>(rows: &'a MapRows, to: &AgentId, id: &MessageId) -> Option<&'a Message> {
    rows.messages_to(to).find(|message| message.id == *id)
}

fn knows_task(change: &Applied, before: &MapRows, id: TaskId) -> bool {
    let is_new = |write: &Write| matches!(write, Write::NewTask { task, .. } if task.id == id);
    before.tasks.contains_key(&id) || change.writes.iter().any(is_new)
}

fn may_forget(change: &Applied, before: &MapRows, id: TaskId) -> bool {
    let Op::Sweep(sweep) = &change.op else { return false };
    let is_over = |task: &Task| {
        let until = if task.idempotency.is_some() { sweep.keyed_ended_before } else { sweep.ended_before };
        task.state.is_ended() && task.changed < until.min(change.stamp.time)
    };
    before.tasks.get(&id).is_some_and(|task| is_over(task))
}

fn may_forget_reply(change: &Applied, before: &MapRows, key: &IdempotencyKey) -> bool {
    let is_over = before.replies.get(key).is_some_and(|reply| reply.expires < change.stamp.time);
    matches!(change.op, Op::Sweep(_)) && is_over
}

fn violated(what: String) -> Result<(), Violation> {
    Err(Violation::new(NAME, what))
}
