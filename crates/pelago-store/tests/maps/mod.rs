//! The simulator's maps as a subject of the conformance suite.

use bytes::Bytes;
use pelago_core::{
    connection::Connection,
    id::{AgentId, Name, NodeId, SessionId, TaskId},
    record::{Agent, IdempotencyKey, Message, Node, Op, Outcome, Reply, Session, SessionEntry, Task, TaskEvent, Timer},
    time::LogTime,
};
use pelago_sim::store::MapRows;
use pelago_store::conformance::Subject;

#[derive(Default)]
pub(crate) struct Maps(pub(crate) MapRows);

impl Subject for Maps {
    fn apply(&mut self, index: u64, time: LogTime, ops: Vec<Op>) -> Vec<Outcome> {
        self.0.apply(index, Some(time), &ops)
    }

    fn node(&self, id: NodeId) -> Option<Node> {
        self.0.nodes.get(&id).map(|node| Node::clone(node))
    }

    fn agent(&self, id: &AgentId) -> Option<Agent> {
        self.0.agents.get(id).cloned()
    }

    fn state(&self, id: &AgentId) -> Option<Bytes> {
        self.0.states.get(id).cloned()
    }

    fn inbox(&self, to: &AgentId) -> Vec<Message> {
        self.0.inbox(to).into_iter().cloned().collect()
    }

    fn buried(&self, to: &AgentId) -> Vec<Message> {
        self.0.messages_to(to).filter(|message| message.buried.is_some()).cloned().collect()
    }

    fn timers(&self, of: &AgentId) -> Vec<(Timer, Bytes)> {
        self.0.timers_of(of).cloned().collect()
    }

    fn reply(&self, key: &IdempotencyKey) -> Option<Reply> {
        self.0.replies.get(key).cloned()
    }

    fn task(&self, id: TaskId) -> Option<Task> {
        self.0.tasks.get(&id).map(|task| Task::clone(task))
    }

    fn input(&self, id: TaskId) -> Option<Bytes> {
        self.0.inputs.get(&id).cloned()
    }

    fn result(&self, id: TaskId) -> Option<Bytes> {
        self.0.results.get(&id).cloned()
    }

    fn events(&self, id: TaskId) -> Vec<TaskEvent> {
        self.0.events.range((id, 0)..=(id, u64::MAX)).map(|(_, event)| event.clone()).collect()
    }

    fn connections(&self) -> Vec<(Name, Connection)> {
        let mut all: Vec<_> = self.0.connections.iter().map(|((from, _), one)| (from.clone(), one.clone())).collect();
        all.sort_by_key(|(from, one)| (from.clone(), one.to.to_string()));
        all
    }

    fn session(&self, id: &SessionId) -> Option<Session> {
        self.0.sessions.get(id).cloned()
    }

    fn session_entries(&self, id: &SessionId) -> Vec<SessionEntry> {
        let all = self.0.session_entries.range((id.clone(), 0)..=(id.clone(), u64::MAX));
        all.map(|(_, entry)| entry.clone()).collect()
    }
}
