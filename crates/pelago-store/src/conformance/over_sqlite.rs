//! A store under test whose rows are in SQLite, however entries get there.

use bytes::Bytes;
use pelago_core::{
    connection::Connection,
    id::{AgentId, Name, NodeId, SessionId, TaskId},
    record::{Agent, IdempotencyKey, Message, Node, Op, Outcome, Reply, Session, SessionEntry, Task, TaskEvent, Timer},
    time::LogTime,
};

use super::Subject;
use crate::sqlite::{Error, Reader, View};

/// Reads what was committed; `apply` is how an entry gets there.
pub struct OverSqlite<A> {
    reader: Reader,
    apply: A,
}

impl<A: FnMut(u64, LogTime, Vec<Op>) -> Vec<Outcome>> OverSqlite<A> {
    /// A store that `apply` writes and `reader` reads.
    pub fn new(reader: Reader, apply: A) -> Self {
        Self { reader, apply }
    }

    fn view<T>(&self, read: impl FnOnce(&View<'_>) -> Result<T, Error>) -> T {
        self.reader.view(read).expect("the database can be read")
    }
}

impl<A: FnMut(u64, LogTime, Vec<Op>) -> Vec<Outcome>> Subject for OverSqlite<A> {
    fn apply(&mut self, index: u64, time: LogTime, ops: Vec<Op>) -> Vec<Outcome> {
        (self.apply)(index, time, ops)
    }

    fn node(&self, id: NodeId) -> Option<Node> {
        self.view(|view| view.nodes()).into_iter().find(|node| node.id == id)
    }

    fn agent(&self, id: &AgentId) -> Option<Agent> {
        self.view(|view| view.agent(id)).map(|whole| whole.agent)
    }

    fn state(&self, id: &AgentId) -> Option<Bytes> {
        self.view(|view| view.agent(id)).and_then(|whole| whole.state)
    }

    fn inbox(&self, to: &AgentId) -> Vec<Message> {
        self.view(|view| view.inbox(to, u32::MAX))
    }

    fn buried(&self, to: &AgentId) -> Vec<Message> {
        self.view(|view| view.buried(Some(to), None, u32::MAX)).rows
    }

    fn timers(&self, of: &AgentId) -> Vec<(Timer, Bytes)> {
        self.view(|view| {
            let timers = view.timers(of)?.into_iter();
            timers.map(|timer| Ok((timer.clone(), view.timer_payload(of, &timer.name)?.unwrap_or_default()))).collect()
        })
    }

    fn reply(&self, key: &IdempotencyKey) -> Option<Reply> {
        self.view(|view| view.reply(key))
    }

    fn task(&self, id: TaskId) -> Option<Task> {
        self.view(|view| view.task(id)).map(|whole| whole.task)
    }

    fn input(&self, id: TaskId) -> Option<Bytes> {
        self.view(|view| view.task(id)).map(|whole| whole.input)
    }

    fn result(&self, id: TaskId) -> Option<Bytes> {
        self.view(|view| view.task(id)).and_then(|whole| whole.result)
    }

    fn events(&self, id: TaskId) -> Vec<TaskEvent> {
        self.view(|view| view.events(id, 0, u32::MAX))
    }

    fn connections(&self) -> Vec<(Name, Connection)> {
        self.view(|view| view.connections())
    }

    fn session(&self, id: &SessionId) -> Option<Session> {
        self.view(|view| view.session(id))
    }

    fn session_entries(&self, id: &SessionId) -> Vec<SessionEntry> {
        self.view(|view| view.session_entries(id, 0, u32::MAX))
    }
}
