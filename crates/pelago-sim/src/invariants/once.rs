//! I6: each message and each idempotency key has its effect at most once.

use std::collections::BTreeSet;

use pelago_core::{
    id::AgentId,
    record::{IdempotencyKey, MessageId, Op, Sender, Write},
};

use super::Violation;
use crate::log::Applied;

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
        match write {
            Write::Message(message) if message.buried.is_none() => {
                let handled = self.handled.contains(&(message.to.clone(), message.id.clone()));
                if handled && !matches!(message.id.sender, Sender::Client(_)) {
                    return violated(format!("{:?} came back into the inbox of {}", message.id, message.to));
                }
            }
            Write::Reply(reply) if !self.replied.insert(reply.key.clone()) => {
                return violated(format!("key {:?} was answered twice", reply.key.key));
            }
            Write::NewTask { task, .. } => {
                if let Some(key) = &task.idempotency
                    && !self.enqueued.insert(key.clone())
                {
                    return violated(format!("key {:?} made two tasks", key.key));
                }
            }
            Write::Node(_)
            | Write::Agent { .. }
            | Write::Message(_)
            | Write::MessageGone { .. }
            | Write::Reply(_)
            | Write::ReplyGone(_)
            | Write::Task { .. }
            | Write::Event(_)
            | Write::TaskGone(_) => {}
        }
        Ok(())
    }
}

fn violated(what: String) -> Result<(), Violation> {
    Err(Violation::new(NAME, what))
}
