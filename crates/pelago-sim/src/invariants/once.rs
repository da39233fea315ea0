//! I6: each message and each idempotency key has its effect at most once.

use std::collections::BTreeSet;

use pelago_core::{
    id::AgentId,
    record::{IdempotencyKey, MessageId, Op, Sender, Write},
};

use super::Violation;
use crate::ledger::Applied;

const NAME: &str = "I6 (at most once)";

#[derive(Debug, Default)]
pub(crate) struct Once {
    handled: BTreeSet<(AgentId, MessageId)>,
    replied: BTreeSet<IdempotencyKey>,
    enqueued: BTreeSet<IdempotencyKey>,
}

impl Once {
    pub(crate) fn check(&mut self, change: &Applied) -> Result<(), Violation> {
        if let Op::Turn(turn) = &change.op
            && !change.writes.is_empty()
        {
            for id in turn.consumed.iter().chain(turn.buried.iter().map(|(id, _)| id)) {
                self.handle(&turn.agent, id)?;
            }
        }
        change.writes.iter().try_for_each(|write| self.check_write(write))
    }

    fn handle(&mut self, agent: &AgentId, id: &MessageId) -> Result<(), Violation> {
        // A client that sends without a key is told that its message may arrive again.
        let may_return = matches!(id.sender, Sender::Client(_));
        if !self.handled.insert((agent.clone(), id.clone())) && !may_return {
            return violated(format!("{agent} handled {id:?} twice"));
        }
        Ok(())
    }

    fn check_write(&mut self, write: &Write) -> Result<(), Violation> {
        if let Write::Message(message) = write
            && message.buried.is_none()
            && !matches!(message.id.sender, Sender::Client(_))
            && self.handled.contains(&(message.to.clone(), message.id.clone()))
        {
            return violated(format!("{:?} came back into the inbox of {}", message.id, message.to));
        }
        if let Write::Reply(reply) = write
            && !self.replied.insert(reply.key.clone())
        {
            return violated(format!("key {:?} was answered twice", reply.key.key));
        }
        if let Write::NewTask { task, .. } = write
            && let Some(key) = &task.idempotency
            && !self.enqueued.insert(key.clone())
        {
            return violated(format!("key {:?} made two tasks", key.key));
        }
        Ok(())
    }
}

fn violated(what: String) -> Result<(), Violation> {
    Err(Violation::new(NAME, what))
}
