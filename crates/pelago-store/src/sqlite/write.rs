//! What the writes of a rule become.

use bytes::Bytes;
use pelago_core::{
    id::{AgentId, NodeId, TaskId, TimerName},
    record::{Agent, IdempotencyKey, Message, MessageId, Node, Reply, Task, TaskEvent, TaskState, Timer, Write},
};
use rusqlite::params;

use super::{
    batch::Batch,
    column::{self, Columns, number, time, wide},
    error::Error,
    row::EventColumns,
    statements::{Cells, ROWS, Statement, Statements, Values},
    totals::Count,
};

impl Batch<'_> {
    pub(super) fn write(&mut self, write: &Write) -> Result<(), Error> {
        match write {
            Write::Node(node) => self.put_node(node),
            Write::NodeGone(id) => self.node_gone(*id),
            Write::Agent { agent, state } => self.put_agent(agent, state.as_ref()),
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
            Write::NewTask { task, .. } => self.new_task(task),
            Write::Task { task, .. } => self.put_task(task),
            // Caught up with later.
            Write::Event(_) => Ok(()),
            Write::TaskGone(id) => self.task_gone(*id),
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
        self.kept.nodes.insert(node.id, node.clone());
        Ok(())
    }

    fn node_gone(&mut self, id: NodeId) -> Result<(), Error> {
        for sql in [
            "DELETE FROM nodes WHERE id = ?1",
            "DELETE FROM node_labels WHERE node = ?1",
            "DELETE FROM node_offers WHERE node = ?1",
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
        self.connection.execute("DELETE FROM node_offers WHERE node = ?1", [id])?;
        let mut statement = self.connection.prepare_cached("INSERT INTO node_offers VALUES (?1, ?2, ?3, ?4)")?;
        for (agent, offer) in &node.offers {
            let placement = column::placement(offer.placement);
            statement.execute(params![id, agent.as_str(), placement, offer.tasks_max])?;
        }
        Ok(())
    }

    fn put_agent(&mut self, agent: &Agent, state: Option<&Bytes>) -> Result<(), Error> {
        // A rule reads a row before it writes it: what was not seen is new.
        let before = self.kept.agents.get_mut().get(&agent.id).map(|seen| (seen.phase, seen.holder, seen.version.0));
        match before {
            None => self.new_agent(agent)?,
            Some((phase, holder, _)) if (phase, holder) == (agent.phase, agent.holder) => self.agent_commit(agent)?,
            Some((phase, ..)) => {
                self.agent_handed_over(agent)?;
                self.changes.move_one(Count::agents(phase), Count::agents(agent.phase));
            }
        }
        let turns = agent.version.0 - before.map_or(0, |(_, _, version)| version);
        self.changes.add(Count::Turns, number(turns));
        self.kept.agents.get_mut().put(agent.id.clone(), agent.clone());
        if let Some(state) = state {
            let (namespace, name, key) = key(&agent.id);
            self.statements.agent_state.run(params![namespace, name, key, state.as_ref()])?;
        }
        Ok(())
    }

    fn new_agent(&mut self, agent: &Agent) -> Result<(), Error> {
        let (namespace, name, key) = key(&agent.id);
        self.statements.new_agent.run(params![
            namespace,
            name,
            key,
            number(agent.generation),
            number(agent.epoch.0),
            column::phase(agent.phase),
            number(agent.holder.node.0),
            number(agent.holder.incarnation.0),
            number(agent.version.0),
            wide(agent.last_turn.0),
            agent.chain.0,
        ])?;
        self.changes.add(Count::agents(agent.phase), 1);
        Ok(())
    }

    fn agent_commit(&self, agent: &Agent) -> Result<(), Error> {
        let (namespace, name, key) = key(&agent.id);
        let (version, epoch) = (number(agent.version.0), number(agent.epoch.0));
        let turn = wide(agent.last_turn.0);
        self.statements.agent_commit.run(params![namespace, name, key, version, turn, agent.chain.0, epoch])?;
        Ok(())
    }

    fn agent_handed_over(&self, agent: &Agent) -> Result<(), Error> {
        let (namespace, name, key) = key(&agent.id);
        self.statements.agent_handed_over.run(params![
            namespace,
            name,
            key,
            number(agent.version.0),
            wide(agent.last_turn.0),
            agent.chain.0,
            number(agent.epoch.0),
            column::phase(agent.phase),
            number(agent.holder.node.0),
            number(agent.holder.incarnation.0),
        ])?;
        Ok(())
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

    fn new_task(&mut self, task: &Task) -> Result<(), Error> {
        let (namespace, name, key) = key(&task.agent);
        self.statements.new_task.run(params![
            wide(task.id.0),
            namespace,
            name,
            key,
            task.state.name(),
            column::placement(task.placement),
            task.node.map(|node| number(node.0)),
            task.priority,
            time(task.run_at),
            task.policy.attempts_max,
            number(task.policy.attempt_ms_max),
            number(task.policy.backoff_ms),
            number(task.policy.backoff_ms_max),
            task.attempt,
            task.token.map(|token| number(token.index)),
            task.token.map(|token| token.item),
            task.holder.map(|holder| number(holder.node.0)),
            task.holder.map(|holder| number(holder.incarnation.0)),
            task.idempotency.as_ref().map(|key| key.namespace.as_str()),
            task.idempotency.as_ref().map(|key| key.key.as_str()),
            task.body.0,
            time(task.created),
            time(task.changed),
            number(task.events),
            number(task.notes),
            task.reason,
        ])?;
        self.keep(task);
        self.changes.add(Count::tasks(task.state), 1);
        Ok(())
    }

    fn put_task(&mut self, task: &Task) -> Result<(), Error> {
        let before = self.seen.get_mut().insert(task.id, task.clone());
        let before = before.expect("a rule reads a task before it changes it");
        if before == (Task { events: before.events, notes: before.notes, ..task.clone() }) {
            self.task_progress(task)?;
        } else {
            self.task_moved_on(task)?;
            self.changes.move_one(Count::tasks(before.state), Count::tasks(task.state));
        }
        self.keep(task);
        Ok(())
    }

    fn keep(&mut self, task: &Task) {
        self.kept.running.remove(&task.id);
        self.kept.queued.get_mut().remove(&task.id);
        match task.state {
            TaskState::Running => drop(self.kept.running.insert(task.id, task.clone())),
            TaskState::Queued => self.kept.queued.get_mut().put(task.id, task.clone()),
            TaskState::Done | TaskState::Dead | TaskState::Cancelled => {}
        }
    }

    fn task_progress(&self, task: &Task) -> Result<(), Error> {
        let (events, notes) = (number(task.events), number(task.notes));
        self.statements.task_progress.run(params![wide(task.id.0), events, notes])?;
        Ok(())
    }

    fn task_moved_on(&self, task: &Task) -> Result<(), Error> {
        self.statements.task_moved_on.run(params![
            wide(task.id.0),
            task.state.name(),
            time(task.run_at),
            task.attempt,
            task.token.map(|token| number(token.index)),
            task.token.map(|token| token.item),
            task.holder.map(|holder| number(holder.node.0)),
            task.holder.map(|holder| number(holder.incarnation.0)),
            time(task.changed),
            number(task.events),
            number(task.notes),
            task.reason,
            task.state.is_ended().then(|| column::ended(task.idempotency.is_some())),
        ])?;
        Ok(())
    }

    fn task_gone(&mut self, id: TaskId) -> Result<(), Error> {
        // It may have ended in this very batch.
        self.catch_up()?;
        let id = wide(id.0);
        let state = self.statements.task_gone.first(params![id], |row| Columns::of(row).task_state())?;
        if let Some(state) = state {
            self.changes.add(Count::tasks(state), -1);
        }
        self.statements.input_gone.run(params![id])?;
        self.statements.result_gone.run(params![id])?;
        self.statements.events_gone.run(params![id])?;
        Ok(())
    }

    /// Inserts the inputs, results and events of the writes so far. No rule reads them, so they need not be there
    /// before the batch ends, and many rows at a time cost half as much.
    pub(super) fn catch_up(&mut self) -> Result<(), Error> {
        let (mut inputs, mut results, mut events) = (Vec::new(), Vec::new(), Vec::new());
        for write in &self.written[self.caught_up..] {
            match write {
                Write::NewTask { task, input } => inputs.push((task.id, input)),
                Write::Task { task, result } => results.extend(result.as_ref().map(|result| (task.id, result))),
                Write::Event(event) => events.push(event),
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
                | Write::TaskGone(_) => {}
            }
        }
        let Statements { new_input, new_inputs, new_result, new_results, new_event, new_events, .. } = &self.statements;
        insert(new_input, new_inputs, &inputs, payload)?;
        insert(new_result, new_results, &results, payload)?;
        insert(new_event, new_events, &events, event)?;
        self.caught_up = self.written.len();
        Ok(())
    }
}

fn insert<R>(one: &Statement<'_>, many: &Statement<'_>, rows: &[R], values: Values<R>) -> Result<(), Error> {
    let (full, rest) = rows.as_chunks::<ROWS>();
    full.iter().try_for_each(|rows| many.run_rows(rows, values))?;
    rest.iter().try_for_each(|row| one.run_rows(std::slice::from_ref(row), values))
}

fn payload((task, payload): &(TaskId, &Bytes), cells: &mut Cells<'_, '_>) -> rusqlite::Result<()> {
    cells.put(wide(task.0))?;
    cells.put(payload.as_ref())
}

fn event(event: &&TaskEvent, cells: &mut Cells<'_, '_>) -> rusqlite::Result<()> {
    let EventColumns { kind, node, reason, note } = EventColumns::of(&event.kind);
    cells.put(wide(event.task.0))?;
    cells.put(number(event.n))?;
    cells.put(time(event.at))?;
    cells.put(event.attempt)?;
    cells.put(kind)?;
    cells.put(node)?;
    cells.put(reason)?;
    cells.put(note)
}

fn key(id: &AgentId) -> (&str, &str, &str) {
    (id.namespace.as_str(), id.name.as_str(), id.key_str())
}
