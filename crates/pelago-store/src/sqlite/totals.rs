//! Counts over all rows, kept in step with them so that nobody ever counts a table.

use pelago_core::record::{Phase, TaskState};
use rusqlite::{Connection, params};

use super::error::Error;

/// How many rows of each kind there are, and how many turns were ever committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Tasks that wait.
    pub tasks_queued: u64,
    /// Tasks that a node works on.
    pub tasks_running: u64,
    /// Tasks with a result, as long as they are kept.
    pub tasks_done: u64,
    /// Tasks that failed for good, as long as they are kept.
    pub tasks_dead: u64,
    /// Tasks that were called off, as long as they are kept.
    pub tasks_cancelled: u64,
    /// Agents that nobody holds.
    pub agents_free: u64,
    /// Agents that a node holds.
    pub agents_active: u64,
    /// Messages in inboxes.
    pub messages_waiting: u64,
    /// Messages that could not be handled.
    pub messages_buried: u64,
    /// Turns committed since the mesh began.
    pub turns: u64,
}

/// One of the counts; its name is the key of its row.
#[derive(Debug, Clone, Copy)]
pub(super) enum Count {
    TasksQueued,
    TasksRunning,
    TasksDone,
    TasksDead,
    TasksCancelled,
    AgentsFree,
    AgentsActive,
    MessagesWaiting,
    MessagesBuried,
    Turns,
}

const NAMES: [&str; 10] = [
    "tasks_queued",
    "tasks_running",
    "tasks_done",
    "tasks_dead",
    "tasks_cancelled",
    "agents_free",
    "agents_active",
    "messages_waiting",
    "messages_buried",
    "turns",
];

impl Count {
    pub(super) fn tasks(state: TaskState) -> Self {
        match state {
            TaskState::Queued => Self::TasksQueued,
            TaskState::Running => Self::TasksRunning,
            TaskState::Done => Self::TasksDone,
            TaskState::Dead => Self::TasksDead,
            TaskState::Cancelled => Self::TasksCancelled,
        }
    }

    pub(super) fn agents(phase: Phase) -> Self {
        match phase {
            Phase::Free => Self::AgentsFree,
            Phase::Active => Self::AgentsActive,
        }
    }
}

/// By how much batches change the counts.
#[derive(Debug, Default)]
pub(super) struct Changes([i64; NAMES.len()]);

impl Changes {
    pub(super) fn add(&mut self, count: Count, by: i64) {
        self.0[count as usize] += by;
    }

    pub(super) fn add_all(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(n, by)| *n += by);
    }

    /// Moves one row from one count to another.
    pub(super) fn move_one(&mut self, from: Count, to: Count) {
        self.add(from, -1);
        self.add(to, 1);
    }

    pub(super) fn save(&self, connection: &Connection) -> Result<(), Error> {
        let mut statement = connection.prepare_cached("UPDATE totals SET n = n + ?2 WHERE name = ?1")?;
        for (name, by) in NAMES.iter().zip(self.0).filter(|(_, by)| *by != 0) {
            statement.execute(params![name, by])?;
        }
        Ok(())
    }
}

/// Makes the rows of a new database.
pub(super) fn create(connection: &Connection) -> Result<(), Error> {
    for name in NAMES {
        connection.execute("INSERT INTO totals VALUES (?1, 0)", [name])?;
    }
    Ok(())
}

pub(super) fn load(connection: &Connection) -> Result<Totals, Error> {
    let mut statement = connection.prepare_cached("SELECT n FROM totals WHERE name = ?1")?;
    let mut n = |count: Count| -> Result<u64, Error> {
        Ok(statement.query_row([NAMES[count as usize]], |row| row.get::<_, i64>(0))?.cast_unsigned())
    };
    Ok(Totals {
        tasks_queued: n(Count::TasksQueued)?,
        tasks_running: n(Count::TasksRunning)?,
        tasks_done: n(Count::TasksDone)?,
        tasks_dead: n(Count::TasksDead)?,
        tasks_cancelled: n(Count::TasksCancelled)?,
        agents_free: n(Count::AgentsFree)?,
        agents_active: n(Count::AgentsActive)?,
        messages_waiting: n(Count::MessagesWaiting)?,
        messages_buried: n(Count::MessagesBuried)?,
        turns: n(Count::Turns)?,
    })
}
