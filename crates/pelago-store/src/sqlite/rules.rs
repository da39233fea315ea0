//! The rows as the rules read them.

use std::sync::Arc;

use pelago_core::{
    connection::Connection,
    id::{AgentId, Incarnation, Name, NodeId, SessionId, TaskId, TimerName},
    record::{Agent, IdempotencyKey, Message, MessageId, Node, Reply, Rows, Session, SessionEntry, Task, Timer},
    time::LogTime,
};
use rusqlite::params;

use super::{
    batch::Batch,
    column::{self, Columns, number, time, wide},
    error::Error,
    row, session,
    write::key,
};

impl Batch<'_> {
    fn saw(&self, task: Option<Arc<Task>>) -> Option<Arc<Task>> {
        if let Some(task) = &task {
            self.seen.borrow_mut().insert(task.id, Arc::clone(task));
        }
        task
    }
}

impl Rows for Batch<'_> {
    type Error = Error;

    fn node(&self, id: NodeId) -> Result<Option<Arc<Node>>, Error> {
        Ok(self.kept.nodes.get(&id).cloned())
    }

    fn node_named(&self, name: &Name) -> Result<Option<Arc<Node>>, Error> {
        Ok(self.kept.nodes.values().find(|node| node.name == *name).cloned())
    }

    fn agent(&self, id: &AgentId) -> Result<Option<Agent>, Error> {
        if let Some(agent) = self.kept.agents.borrow_mut().get(id) {
            return Ok(Some(agent.clone()));
        }
        let agent = match self.kept.unwritten.borrow().agent(id) {
            Some(agent) => Some(agent.clone()),
            None => {
                let key = params![id.namespace.as_str(), id.name.as_str(), id.key_str()];
                self.statements.agent.first(key, row::agent)?
            }
        };
        if let Some(agent) = &agent {
            self.kept.agents.borrow_mut().put(id.clone(), agent.clone());
        }
        Ok(agent)
    }

    fn message(&self, to: &AgentId, id: &MessageId) -> Result<Option<Message>, Error> {
        let mut sender = self.sender.borrow_mut();
        column::sender(&id.sender, &mut sender);
        let (namespace, name, key) = (to.namespace.as_str(), to.name.as_str(), to.key_str());
        let key = params![namespace, name, key, sender.as_str(), number(id.generation), number(id.seq)];
        self.statements.message.first(key, row::message)
    }

    fn inbox_len(&self, to: &AgentId) -> Result<u64, Error> {
        let key = params![to.namespace.as_str(), to.name.as_str(), to.key_str()];
        let waiting = self.statements.inbox_len.first(key, |row| Columns::of(row).u64())?;
        Ok(waiting.unwrap_or(0))
    }

    fn messages_buried(&self, to: &AgentId, rows_max: u32) -> Result<Vec<MessageId>, Error> {
        let params = params![to.namespace.as_str(), to.name.as_str(), to.key_str(), rows_max];
        self.statements.messages_buried.all(params, |row| {
            let mut c = Columns::of(row);
            Ok(MessageId { sender: c.sender()?, generation: c.u64()?, seq: c.u64()? })
        })
    }

    fn timer(&self, agent: &AgentId, timer: &TimerName) -> Result<Option<Timer>, Error> {
        let (namespace, name, key) = (agent.namespace.as_str(), agent.name.as_str(), agent.key_str());
        self.statements.timer.first(params![namespace, name, key, timer.as_str()], row::timer)
    }

    fn timers_len(&self, agent: &AgentId) -> Result<u64, Error> {
        let key = params![agent.namespace.as_str(), agent.name.as_str(), agent.key_str()];
        let len = self.statements.timers_len.first(key, |row| Columns::of(row).u64())?;
        Ok(len.unwrap_or(0))
    }

    fn reply(&self, key: &IdempotencyKey) -> Result<Option<Reply>, Error> {
        self.statements.reply.first(params![key.namespace.as_str(), key.key], row::reply)
    }

    fn replies_expired(&self, before: LogTime, rows_max: u32) -> Result<Vec<IdempotencyKey>, Error> {
        self.statements.replies_expired.all(params![time(before), rows_max], |row| {
            let mut c = Columns::of(row);
            Ok(IdempotencyKey { namespace: c.name()?, key: c.text()?.to_owned() })
        })
    }

    fn task(&self, id: TaskId) -> Result<Option<Arc<Task>>, Error> {
        if let Some(task) = self.seen.borrow().get(&id) {
            return Ok(Some(Arc::clone(task)));
        }
        if let Some(task) = self.kept.running.get(&id).or(self.kept.queued.borrow_mut().get(&id)) {
            return Ok(self.saw(Some(Arc::clone(task))));
        }
        let unwritten = self.kept.unwritten.borrow();
        if let Some(task) = unwritten.task(id) {
            return Ok(self.saw(Some(Arc::clone(task))));
        }
        if !unwritten.may_be_stored(id) {
            return Ok(None);
        }
        let task = self.statements.task.first(params![wide(id.0)], row::task)?;
        Ok(self.saw(task.map(Arc::new)))
    }

    fn task_keyed(&self, key: &IdempotencyKey) -> Result<Option<Arc<Task>>, Error> {
        let id = match self.kept.unwritten.borrow().task_keyed(key) {
            Some(id) => Some(id),
            None => {
                let key = params![key.namespace.as_str(), key.key];
                self.statements.task_keyed.first(key, |row| Columns::of(row).wide().map(TaskId))?
            }
        };
        id.map_or(Ok(None), |id| self.task(id))
    }

    fn tasks_held_by(&self, incarnation: Incarnation) -> Result<Vec<Arc<Task>>, Error> {
        let held = |task: &&Arc<Task>| task.holder.is_some_and(|holder| holder.incarnation == incarnation);
        let tasks: Vec<_> = self.kept.running.values().filter(held).cloned().collect();
        self.seen.borrow_mut().extend(tasks.iter().map(|task| (task.id, Arc::clone(task))));
        Ok(tasks)
    }

    fn tasks_ended(&self, before: LogTime, keyed: bool, rows_max: u32) -> Result<Vec<TaskId>, Error> {
        self.write_out()?;
        let params = params![column::ended(keyed), time(before), rows_max];
        self.statements.tasks_ended.all(params, |row| Columns::of(row).wide().map(TaskId))
    }

    fn connections(&self, namespace: &Name, from: &Name) -> Result<Vec<Connection>, Error> {
        self.statements.connections.all(params![namespace.as_str(), from.as_str()], |row| Columns::of(row).connection())
    }

    fn session(&self, id: &SessionId) -> Result<Option<Session>, Error> {
        let (namespace, name, key) = key(&id.agent);
        self.statements.session.first(params![namespace, name, key, id.name.as_str()], session::session)
    }

    fn sessions_len(&self) -> Result<u64, Error> {
        Ok(self.kept.sessions)
    }

    fn session_entry(&self, id: &SessionId, n: u64) -> Result<Option<SessionEntry>, Error> {
        let (namespace, name, key) = key(&id.agent);
        self.statements.session_entry.first(params![namespace, name, key, id.name.as_str(), number(n)], session::entry)
    }

    fn sessions_ended(&self, before: LogTime, rows_max: u32) -> Result<Vec<Session>, Error> {
        self.statements.sessions_ended.all(params![time(before), rows_max], session::session)
    }
}
