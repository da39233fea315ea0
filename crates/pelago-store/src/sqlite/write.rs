//! What the writes of a rule become.

use std::{iter, sync::Arc};

use bytes::Bytes;
use pelago_core::{
    connection::{Connection, Filter},
    id::{Address, AgentId, Name, NodeId, TimerName},
    record::{Agent, IdempotencyKey, Message, MessageId, Node, Reply, Task, TaskState, Timer, Write},
};
use rusqlite::{params, params_from_iter};

use super::{
    batch::Batch,
    column::{self, Columns, number, time, wide},
    error::Error,
    statements::ROWS,
    totals::Count,
    unwritten::Differs,
};

impl Batch<'_> {
    pub(super) fn write(&mut self, write: &Write) -> Result<(), Error> {
        match write {
            Write::Node(node) => self.put_node(node),
            Write::NodeGone(id) => self.node_gone(*id),
            Write::Agent { agent, state } => {
                self.put_agent(agent, state.as_ref());
                Ok(())
            }
            Write::Message(message) => match &message.buried {
                None => self.new_message(message),
                Some(reason) => self.bury_message(message, reason),
            },
            Write::MessageGone { to, id } => self.message_gone(to, id),
            Write::Timer { timer, payload } => self.put_timer(timer, payload),
            Write::TimerBuried { agent, name, reason } => self.bury_timer(agent, name, reason),
            Write::TimerGone { agent, name } => self.timer_gone(agent, name),
            Write::Reply(reply) => self.put_reply(reply),
            Write::ReplyGone(key) => self.reply_gone(key),
            Write::NewTask { task, input } => {
                self.new_task(task, input);
                Ok(())
            }
            Write::Task { task, result } => {
                self.put_task(task, result.as_ref());
                Ok(())
            }
            Write::Event(event) => {
                self.kept.unwritten.get_mut().add_event(event);
                Ok(())
            }
            Write::TaskGone(id) => {
                self.gone.push(*id);
                Ok(())
            }
            Write::Connection { from, connection } => self.put_connection(from, connection),
            Write::ConnectionGone { from, to } => self.connection_gone(from, to),
            Write::Session(session) => self.put_session(session),
            Write::SessionEntry(entry) => self.new_session_entry(entry),
            Write::SessionEntriesGone { session, before } => self.session_entries_gone(session, *before),
            Write::SessionGone(session) => self.session_gone(session),
        }
    }

    fn put_node(&mut self, node: &Node) -> Result<(), Error> {
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO nodes VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?
            .execute(params![
                number(node.id.0),
                node.name.as_str(),
                wide(node.directory.0),
                number(node.incarnation.0),
                wide(node.boot.0),
                column::node_state(node.state),
                node.mesh_address,
                node.http_address,
                time(node.registered),
            ])?;
        self.put_labels(node)?;
        self.put_offers(node)?;
        self.kept.nodes.insert(node.id, Arc::new(node.clone()));
        Ok(())
    }

    fn node_gone(&mut self, id: NodeId) -> Result<(), Error> {
        for sql in [
            "DELETE FROM nodes WHERE id = ?1",
            "DELETE FROM node_labels WHERE node = ?1",
            "DELETE FROM node_offers WHERE node = ?1",
            "DELETE FROM offer_layers WHERE node = ?1",
            "DELETE FROM offer_connections WHERE node = ?1",
        ] {
            self.connection.execute(sql, [number(id.0)])?;
        }
        self.kept.nodes.remove(&id);
        Ok(())
    }

    fn put_labels(&self, node: &Node) -> Result<(), Error> {
        let id = number(node.id.0);
        self.connection.execute("DELETE FROM node_labels WHERE node = ?1", [id])?;
        let mut statement = self.connection.prepare_cached("INSERT INTO node_labels VALUES (?1, ?2, ?3)")?;
        for (label, value) in &node.labels {
            statement.execute(params![id, label, value])?;
        }
        Ok(())
    }

    fn put_offers(&self, node: &Node) -> Result<(), Error> {
        let id = number(node.id.0);
        for table in ["node_offers", "offer_layers", "offer_connections"] {
            self.connection.execute(&format!("DELETE FROM {table} WHERE node = ?1"), [id])?;
        }
        let mut statement = self.connection.prepare_cached("INSERT INTO node_offers VALUES (?1, ?2, ?3, ?4)")?;
        for (agent, offer) in &node.offers {
            let placement = column::placement(offer.placement);
            statement.execute(params![id, agent.as_str(), placement, offer.tasks_max])?;
            if let Some(layer) = &offer.layer {
                let sql = "INSERT INTO offer_layers VALUES (?1, ?2, ?3)";
                self.connection.prepare_cached(sql)?.execute(params![id, agent.as_str(), layer.as_str()])?;
            }
            for (n, Connection { to, only }) in (0_i64..).zip(&offer.connections) {
                let (namespace, filter) = (to.agent.namespace.as_str(), only.as_ref().map(Filter::to_string));
                let sql = "INSERT INTO offer_connections VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
                let row = params![id, agent.as_str(), n, namespace, to.to_string(), filter];
                self.connection.prepare_cached(sql)?.execute(row)?;
            }
        }
        Ok(())
    }

    fn put_connection(&self, from: &Name, connection: &Connection) -> Result<(), Error> {
        let Connection { to, only } = connection;
        let (namespace, filter) = (to.agent.namespace.as_str(), only.as_ref().map(Filter::to_string));
        let sql = "INSERT OR REPLACE INTO connections VALUES (?1, ?2, ?3, ?4)";
        self.connection.prepare_cached(sql)?.execute(params![namespace, from.as_str(), to.to_string(), filter])?;
        Ok(())
    }

    fn connection_gone(&self, from: &Name, to: &Address) -> Result<(), Error> {
        let sql = "DELETE FROM connections WHERE namespace = ?1 AND source = ?2 AND target = ?3";
        let row = params![to.agent.namespace.as_str(), from.as_str(), to.to_string()];
        self.connection.prepare_cached(sql)?.execute(row)?;
        Ok(())
    }

    fn put_agent(&mut self, agent: &Agent, state: Option<&Bytes>) {
        // A rule reads a row before it writes it: what was not seen is new.
        let before = self.kept.agents.get_mut().get(&agent.id).map(|seen| (seen.phase, seen.holder, seen.version.0));
        let differs = match before {
            None => {
                self.changes.add(Count::agents(agent.phase), 1);
                Differs::Whole
            }
            Some((phase, holder, _)) if (phase, holder) == (agent.phase, agent.holder) => Differs::InOthers,
            Some((phase, ..)) => {
                self.changes.move_one(Count::agents(phase), Count::agents(agent.phase));
                Differs::InIndexed
            }
        };
        let turns = agent.version.0 - before.map_or(0, |(_, _, version)| version);
        self.changes.add(Count::Turns, number(turns));
        self.kept.agents.get_mut().put(agent.id.clone(), agent.clone());
        self.kept.unwritten.get_mut().put_agent(agent, differs, state);
    }

    fn new_message(&mut self, message: &Message) -> Result<(), Error> {
        let (namespace, name, key) = key(&message.to);
        let sender = self.sender.get_mut();
        column::sender(&message.id.sender, sender);
        self.statements.new_message.run(params![
            namespace,
            name,
            key,
            sender.as_str(),
            number(message.id.generation),
            number(message.id.seq),
            time(message.sent),
            message.payload.as_ref(),
        ])?;
        self.statements.inbox_grown.run(params![namespace, name, key])?;
        self.changes.add(Count::MessagesWaiting, 1);
        Ok(())
    }

    fn bury_message(&mut self, message: &Message, reason: &str) -> Result<(), Error> {
        let (namespace, name, key) = key(&message.to);
        let sender = self.sender.get_mut();
        column::sender(&message.id.sender, sender);
        let (generation, seq) = (number(message.id.generation), number(message.id.seq));
        let id = params![namespace, name, key, sender.as_str(), generation, seq, reason];
        if self.statements.bury_message.run(id)? == 1 {
            self.inbox_shrunk(&message.to)?;
            self.changes.add(Count::MessagesBuried, 1);
        }
        Ok(())
    }

    fn message_gone(&mut self, to: &AgentId, id: &MessageId) -> Result<(), Error> {
        let (namespace, name, key) = key(to);
        let sender = self.sender.get_mut();
        column::sender(&id.sender, sender);
        let id = params![namespace, name, key, sender.as_str(), number(id.generation), number(id.seq)];
        if self.statements.message_gone.run(id)? == 1 {
            self.inbox_shrunk(to)?;
        } else if self.statements.buried_gone.run(id)? == 1 {
            self.changes.add(Count::MessagesBuried, -1);
        }
        Ok(())
    }

    fn inbox_shrunk(&mut self, to: &AgentId) -> Result<(), Error> {
        let (namespace, name, key) = key(to);
        if self.statements.inbox_emptied.run(params![namespace, name, key])? == 0 {
            self.statements.inbox_shrunk.run(params![namespace, name, key])?;
        }
        self.changes.add(Count::MessagesWaiting, -1);
        Ok(())
    }

    fn put_timer(&self, timer: &Timer, payload: &Bytes) -> Result<(), Error> {
        let (namespace, name, key) = key(&timer.agent);
        let (set, due) = (number(timer.set.0), time(timer.due));
        let params = params![namespace, name, key, timer.name.as_str(), set, due, payload.as_ref()];
        self.statements.put_timer.run(params)?;
        Ok(())
    }

    fn bury_timer(&self, agent: &AgentId, timer: &TimerName, reason: &str) -> Result<(), Error> {
        let (namespace, name, key) = key(agent);
        self.statements.bury_timer.run(params![namespace, name, key, timer.as_str(), reason])?;
        Ok(())
    }

    fn timer_gone(&self, agent: &AgentId, timer: &TimerName) -> Result<(), Error> {
        let (namespace, name, key) = key(agent);
        self.statements.timer_gone.run(params![namespace, name, key, timer.as_str()])?;
        Ok(())
    }

    fn put_reply(&self, reply: &Reply) -> Result<(), Error> {
        self.statements.put_reply.run(params![
            reply.key.namespace.as_str(),
            reply.key.key,
            time(reply.expires),
            reply.request.0,
            reply.reply.as_ref(),
        ])?;
        Ok(())
    }

    fn reply_gone(&self, key: &IdempotencyKey) -> Result<(), Error> {
        self.statements.reply_gone.run(params![key.namespace.as_str(), key.key])?;
        Ok(())
    }

    fn new_task(&mut self, task: &Arc<Task>, input: &Bytes) {
        self.changes.add(Count::tasks(task.state), 1);
        self.kept.unwritten.get_mut().new_task(task, input);
        self.keep(task);
    }

    fn put_task(&mut self, task: &Arc<Task>, result: Option<&Bytes>) {
        let before = self.seen.get_mut().insert(task.id, Arc::clone(task));
        let before = before.expect("a rule reads a task before it changes it");
        self.changes.move_one(Count::tasks(before.state), Count::tasks(task.state));
        let differs = if is_progress(&before, task) { Differs::InOthers } else { Differs::InIndexed };
        self.kept.unwritten.get_mut().put_task(task, differs, result);
        self.keep(task);
    }

    fn keep(&mut self, task: &Arc<Task>) {
        self.kept.running.remove(&task.id);
        self.kept.queued.get_mut().remove(&task.id);
        match task.state {
            TaskState::Running => drop(self.kept.running.insert(task.id, Arc::clone(task))),
            TaskState::Queued => self.kept.queued.get_mut().put(task.id, Arc::clone(task)),
            TaskState::Done | TaskState::Dead | TaskState::Cancelled => {}
        }
    }

    /// Deletes the tasks that are to go.
    pub(super) fn tasks_gone(&mut self) -> Result<(), Error> {
        if self.gone.is_empty() {
            return Ok(());
        }
        // They may wait themselves, and may not be written after their end.
        self.write_out()?;
        let gone = std::mem::take(&mut self.gone);
        for ids in gone.chunks(ROWS) {
            let all = || params_from_iter(ids.iter().chain(iter::repeat(&ids[0])).take(ROWS).map(|id| wide(id.0)));
            for state in self.statements.task_states.all(all(), |row| Columns::of(row).task_state())? {
                self.changes.add(Count::tasks(state), -1);
            }
            self.statements.tasks_gone.run(all())?;
            self.statements.inputs_gone.run(all())?;
            self.statements.results_gone.run(all())?;
            self.statements.events_gone.run(all())?;
        }
        Ok(())
    }
}

/// Whether a task has new events and nothing else, which leaves the columns alone by which it is indexed. What else may
/// change is what `task_moved_on` writes.
fn is_progress(before: &Task, after: &Task) -> bool {
    let moves = |task: &Task| (task.state, task.run_at, task.attempt, task.token, task.holder, task.changed);
    moves(before) == moves(after) && before.reason == after.reason
}

pub(super) fn key(id: &AgentId) -> (&str, &str, &str) {
    (id.namespace.as_str(), id.name.as_str(), id.key_str())
}
