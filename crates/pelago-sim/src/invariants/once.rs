//! I6: each message has its effect at most once, and each idempotency key until its row has expired or was
//! swept: then the key is new.

use std::collections::BTreeSet;

use pelago_core::{
    id::AgentId,
    record::{IdempotencyKey, MessageId, Op, Sender, Write},
    time::LogTime,
};

use super::Violation;
use crate::{faults::Tally, ledger::Applied, store::MapRows};

const NAME: &str = "I6 (at most once)";

#[derive(Debug, Default)]
pub(crate) struct Once {
    handled: BTreeSet<(AgentId, MessageId)>,
    replied: BTreeSet<IdempotencyKey>,
    enqueued: BTreeSet<IdempotencyKey>,
    /// Keys whose rows were swept.
    swept: BTreeSet<IdempotencyKey>,
    /// What came again after its row had expired or was swept.
    pub(crate) renewed: Tally,
}

impl Once {
    pub(crate) fn check(&mut self, change: &Applied, before: &MapRows) -> Result<(), Violation> {
        if let Op::Turn(turn) = &change.op
            && !change.writes.is_empty()
        {
            for id in turn.consumed.iter().chain(turn.buried.iter().map(|(id, _)| id)) {
                self.handle(&turn.agent, id)?;
            }
        }
        change.writes.iter().try_for_each(|write| self.check_write(write, change.stamp.time, before))
    }

    fn handle(&mut self, agent: &AgentId, id: &MessageId) -> Result<(), Violation> {
        // A client that sends without a key is told that its message may arrive again.
        let may_return = matches!(id.sender, Sender::Client(_));
        if !self.handled.insert((agent.clone(), id.clone())) && !may_return {
            return violated(format!("{agent} handled {id:?} twice"));
        }
        Ok(())
    }

    fn check_write(&mut self, write: &Write, now: LogTime, before: &MapRows) -> Result<(), Violation> {
        if let Write::Message(message) = write
            && message.buried.is_none()
            && !matches!(message.id.sender, Sender::Client(_))
            && self.handled.contains(&(message.to.clone(), message.id.clone()))
        {
            return violated(format!("{:?} came back into the inbox of {}", message.id, message.to));
        }
        if let Write::Reply(reply) = write {
            let expired = before.replies.get(&reply.key).is_some_and(|earlier| earlier.expires <= now);
            if !self.replied.insert(reply.key.clone()) && !expired {
                return violated(format!("key {:?} was answered twice", reply.key.key));
            }
            if expired || self.swept.contains(&reply.key) {
                self.renewed.count("forgotten key was answered anew");
            }
        }
        if let Write::NewTask { task, .. } = write
            && let Some(key) = &task.idempotency
        {
            if !self.enqueued.insert(key.clone()) {
                return violated(format!("key {:?} made two tasks", key.key));
            }
            if self.swept.contains(key) {
                self.renewed.count("forgotten key made a task anew");
            }
        }
        self.forget(write, before);
        Ok(())
    }

    /// What is swept is not known any more: its key stands for nothing.
    fn forget(&mut self, write: &Write, before: &MapRows) {
        if let Write::ReplyGone(key) = write {
            self.replied.remove(key);
            self.swept.insert(key.clone());
        } else if let Write::TaskGone(id) = write
            && let Some(key) = before.tasks.get(id).and_then(|task| task.idempotency.as_ref())
        {
            self.enqueued.remove(key);
            self.swept.insert(key.clone());
        }
    }
}

fn violated(what: String) -> Result<(), Violation> {
    Err(Violation::new(NAME, what))
}
