//! How rows that waited get into the database.
//!
//! Running a statement costs more than inserting a small row, so what is inserted is inserted many rows at a time.

use bytes::Bytes;
use pelago_core::{
    id::{AgentId, TaskId},
    message::TraceContext,
    record::{Agent, Task, TaskEvent},
};
use rusqlite::params;

use super::{
    column::{self, number, time, wide},
    error::Error,
    row::EventColumns,
    statements::{Cells, ROWS, Statement, Statements, Values},
    unwritten::{Differs, Due, UnwrittenAgent, UnwrittenTask},
    write::key,
};

impl Statements<'_> {
    /// Writes rows that waited.
    pub(super) fn write_out(&self, due: &Due) -> Result<(), Error> {
        self.write_agents(&due.agents)?;
        self.write_tasks(&due.tasks)
    }

    fn write_agents(&self, rows: &[UnwrittenAgent]) -> Result<(), Error> {
        for UnwrittenAgent { agent, differs, .. } in rows {
            match differs {
                Differs::Whole => self.new_agent(agent)?,
                Differs::InIndexed => self.agent_handed_over(agent)?,
                Differs::InOthers => self.agent_commit(agent)?,
            }
        }
        let states: Vec<_> = rows.iter().filter_map(|row| Some((&row.agent.id, row.state.as_ref()?))).collect();
        insert(&self.agent_state, &self.agent_states, &states, state)
    }

    fn new_agent(&self, agent: &Agent) -> Result<(), Error> {
        let (namespace, name, key) = key(&agent.id);
        self.new_agent.run(params![
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
        Ok(())
    }

    fn agent_commit(&self, agent: &Agent) -> Result<(), Error> {
        let (namespace, name, key) = key(&agent.id);
        let (version, epoch) = (number(agent.version.0), number(agent.epoch.0));
        let turn = wide(agent.last_turn.0);
        self.agent_commit.run(params![namespace, name, key, version, turn, agent.chain.0, epoch])?;
        Ok(())
    }

    fn agent_handed_over(&self, agent: &Agent) -> Result<(), Error> {
        let (namespace, name, key) = key(&agent.id);
        self.agent_handed_over.run(params![
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

    fn write_tasks(&self, rows: &[UnwrittenTask]) -> Result<(), Error> {
        let (mut new, mut inputs, mut results, mut events) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            match row.differs {
                Differs::Whole => new.push(row.task.as_ref()),
                Differs::InIndexed => self.task_moved_on(&row.task)?,
                Differs::InOthers => self.task_progress(&row.task)?,
            }
            inputs.extend(row.input.as_ref().map(|input| (row.task.id, input)));
            results.extend(row.result.as_ref().map(|result| (row.task.id, result)));
            events.extend(&row.events);
        }
        insert(&self.new_task, &self.new_tasks, &new, task)?;
        insert(&self.new_input, &self.new_inputs, &inputs, payload)?;
        insert(&self.new_result, &self.new_results, &results, payload)?;
        insert(&self.new_event, &self.new_events, &events, event)
    }

    fn task_progress(&self, task: &Task) -> Result<(), Error> {
        let (events, notes) = (number(task.events), number(task.notes));
        self.task_progress.run(params![wide(task.id.0), events, notes])?;
        Ok(())
    }

    fn task_moved_on(&self, task: &Task) -> Result<(), Error> {
        self.task_moved_on.run(params![
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
            ended(task),
        ])?;
        Ok(())
    }
}

fn insert<R>(one: &Statement<'_>, many: &Statement<'_>, rows: &[R], values: Values<R>) -> Result<(), Error> {
    let (full, rest) = rows.as_chunks::<ROWS>();
    full.iter().try_for_each(|rows| many.run_rows(rows, values))?;
    rest.iter().try_for_each(|row| one.run_rows(std::slice::from_ref(row), values))
}

fn state((agent, state): &(&AgentId, &Bytes), cells: &mut Cells<'_, '_>) -> rusqlite::Result<()> {
    let (namespace, name, key) = key(agent);
    cells.put(namespace)?;
    cells.put(name)?;
    cells.put(key)?;
    cells.put(state.as_ref())
}

fn task(task: &&Task, cells: &mut Cells<'_, '_>) -> rusqlite::Result<()> {
    let (namespace, name, key) = key(&task.agent);
    cells.put(wide(task.id.0))?;
    cells.put(namespace)?;
    cells.put(name)?;
    cells.put(key)?;
    cells.put(task.state.name())?;
    cells.put(column::placement(task.placement))?;
    cells.put(task.node.map(|node| number(node.0)))?;
    cells.put(task.priority)?;
    cells.put(time(task.run_at))?;
    cells.put(task.policy.attempts_max)?;
    cells.put(number(task.policy.attempt_ms_max))?;
    cells.put(number(task.policy.backoff_ms))?;
    cells.put(number(task.policy.backoff_ms_max))?;
    cells.put(task.attempt)?;
    cells.put(task.token.map(|token| number(token.index)))?;
    cells.put(task.token.map(|token| token.item))?;
    cells.put(task.holder.map(|holder| number(holder.node.0)))?;
    cells.put(task.holder.map(|holder| number(holder.incarnation.0)))?;
    cells.put(task.idempotency.as_ref().map(|key| key.namespace.as_str()))?;
    cells.put(task.idempotency.as_ref().map(|key| key.key.as_str()))?;
    cells.put(task.body.0)?;
    cells.put(time(task.created))?;
    cells.put(time(task.changed))?;
    cells.put(number(task.events))?;
    cells.put(number(task.notes))?;
    cells.put(task.reason.as_deref())?;
    let part_of = task.part_of.as_deref();
    let trace = part_of.and_then(|part_of| part_of.trace.as_ref());
    let session = part_of.and_then(|part_of| part_of.session.as_ref());
    cells.put(trace.map(TraceContext::to_string))?;
    cells.put(trace.and_then(|trace| trace.state.as_deref()))?;
    cells.put(session.map(|session| session.name.as_str()))?;
    cells.put(session.and_then(|session| session.ttl_ms).map(number))?;
    cells.put(part_of.and_then(|part_of| part_of.affinity.as_deref()))?;
    cells.put(ended(task))
}

/// How long an ended task is kept.
fn ended(task: &Task) -> Option<&'static str> {
    task.state.is_ended().then(|| column::ended(task.idempotency.is_some()))
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
