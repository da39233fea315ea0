//! What can be asked of the rows.

use std::ops::RangeInclusive;

use bytes::Bytes;
use pelago_core::{
    connection::Connection,
    id::{AgentId, Name, NodeId, TaskId, TimerName},
    record::{Agent, IdempotencyKey, Message, MessageId, Node, Reply, Task, TaskEvent, TaskState, Timer},
    time::LogTime,
};
use rusqlite::{Params, Row, ToSql, params};

use super::{
    column::{self, Columns, number, time, wide},
    cursor::Cursor,
    error::Error,
    reader::View,
    row::{self, agent_columns, event_columns, message_columns, reply_columns, task_columns, timer_columns},
};

/// An agent with its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentWhole {
    /// The agent.
    pub agent: Agent,
    /// Its state; `None` before its first.
    pub state: Option<Bytes>,
}

/// A task with its input and result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskWhole {
    /// The task.
    pub task: Task,
    /// Its input.
    pub input: Bytes,
    /// Its result, once it is done.
    pub result: Option<Bytes>,
}

/// Part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// Where the next page begins; `None` at the end of the list.
    pub next: Option<Cursor>,
}

/// Which agents by their name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameFilter {
    /// All.
    Any,
    /// This name.
    Is(Name),
    /// Names that begin like this.
    StartsWith(String),
}

/// Which agents to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentFilter {
    /// Of this namespace.
    pub namespace: Name,
    /// With such a name.
    pub name: NameFilter,
    /// Held by this node.
    pub held_by: Option<NodeId>,
}

/// Which tasks to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskFilter {
    /// Of this namespace.
    pub namespace: Name,
    /// In this state.
    pub state: Option<TaskState>,
    /// Of agents with this name.
    pub agent: Option<Name>,
    /// With such an id.
    pub ids: Option<RangeInclusive<TaskId>>,
}

impl View<'_> {
    /// All nodes, in the order of their ids.
    ///
    /// # Errors
    /// What the database says.
    pub fn nodes(&self) -> Result<Vec<Node>, Error> {
        Ok(row::nodes(self.connection)?)
    }

    /// The connections that were added while the mesh runs, each with the agent that it leads on from.
    ///
    /// # Errors
    /// What the database says.
    pub fn connections(&self) -> Result<Vec<(Name, Connection)>, Error> {
        Ok(row::connections(self.connection)?)
    }

    /// An agent and its state.
    ///
    /// # Errors
    /// What the database says.
    pub fn agent(&self, id: &AgentId) -> Result<Option<AgentWhole>, Error> {
        const SQL: &str = concat!(
            "SELECT ",
            agent_columns!(),
            ", state FROM agents LEFT JOIN agent_states USING (namespace, name, key)
             WHERE namespace = ?1 AND name = ?2 AND key = ?3"
        );
        self.first(SQL, params![id.namespace.as_str(), id.name.as_str(), id.key_str()], |row| {
            let mut c = Columns::of(row);
            Ok(AgentWhole { agent: row::agent_from(&mut c)?, state: c.bytes_or_null()? })
        })
    }

    /// An agent without its state: who holds it, say.
    ///
    /// # Errors
    /// What the database says.
    pub fn agent_row(&self, id: &AgentId) -> Result<Option<Agent>, Error> {
        const SQL: &str =
            concat!("SELECT ", agent_columns!(), " FROM agents WHERE namespace = ?1 AND name = ?2 AND key = ?3");
        self.first(SQL, params![id.namespace.as_str(), id.name.as_str(), id.key_str()], row::agent)
    }

    /// Agents in the order of their names and keys.
    ///
    /// # Errors
    /// [`Error::Cursor`] when `after` is of another list, else what the database says.
    pub fn agents(&self, filter: &AgentFilter, after: Option<&Cursor>, rows_max: u32) -> Result<Page<Agent>, Error> {
        const SQL: &str = concat!(
            "SELECT ",
            agent_columns!(),
            " FROM agents WHERE namespace = ?1 AND (name, key) >= (?2, ?3) AND name <= ?4
              AND (?5 IS NULL OR (phase = 'active' AND holder_node = ?5)) ORDER BY name, key LIMIT ?6"
        );
        let (mut from, upto) = filter.name.range();
        let mut key = String::new();
        if let Some(after) = after {
            let [after_name, after_key] = after.texts()?;
            if after_name < from || *after_name > *upto {
                return Err(after.refused());
            }
            // The least text above a key: keys have no control characters.
            (from, key) = (after_name, format!("{after_key}\u{1}"));
        }
        let node = filter.held_by.map(|node| number(node.0));
        let params = params![filter.namespace.as_str(), from, key, upto, node, ask(rows_max)];
        let rows = self.all(SQL, params, row::agent)?;
        Ok(Page::of(rows, rows_max, |agent| {
            Cursor::of(&[agent.id.name.as_str().as_bytes(), agent.id.key_str().as_bytes()])
        }))
    }

    /// The first messages of an agent's inbox, oldest first; those of one sender in the order in which it sent them.
    ///
    /// # Errors
    /// What the database says.
    pub fn inbox(&self, to: &AgentId, rows_max: u32) -> Result<Vec<Message>, Error> {
        const SQL: &str = concat!(
            "SELECT ",
            message_columns!(),
            " FROM messages WHERE namespace = ?1 AND name = ?2 AND key = ?3 AND buried IS NULL
              ORDER BY sent, sender, generation, seq LIMIT ?4"
        );
        let params = params![to.namespace.as_str(), to.name.as_str(), to.key_str(), rows_max];
        self.all(SQL, params, row::message)
    }

    /// Messages that could not be handled, in the order of their receivers; only those of one if it is given.
    ///
    /// # Errors
    /// [`Error::Cursor`] when `after` is of another list, else what the database says.
    pub fn buried<'a>(
        &self,
        to: Option<&'a AgentId>,
        after: Option<&'a Cursor>,
        rows_max: u32,
    ) -> Result<Page<Message>, Error> {
        const SQL: &str = concat!(
            "SELECT ",
            message_columns!(),
            " FROM messages WHERE buried IS NOT NULL
              AND (namespace, name, key, sender, generation, seq) > (?1, ?2, ?3, ?4, ?5, ?6)
              AND (namespace, name, key) <= (?7, ?8, ?9)
              ORDER BY namespace, name, key, sender, generation, seq LIMIT ?10"
        );
        let parts = |id: &'a AgentId| [id.namespace.as_str(), id.name.as_str(), id.key_str()];
        let only = to.map(parts);
        // The last character of ASCII is above every namespace.
        let [last_namespace, last_name, last_key] = only.unwrap_or(["\u{7f}", "", ""]);
        let first = only.unwrap_or_default();
        let ([namespace, name, key], sender, generation, seq) = match after {
            None => (first, "", 0, 0),
            Some(after) => {
                let number = |text: &str| text.parse::<i64>().map_err(|_no_number| after.refused());
                let [namespace, name, key, sender, generation, seq] = after.texts()?;
                let agent = [namespace, name, key];
                if only.is_some_and(|only| only != agent) {
                    return Err(after.refused());
                }
                (agent, sender, number(generation)?, number(seq)?)
            }
        };
        let upto = params![last_namespace, last_name, last_key, ask(rows_max)];
        let from = params![namespace, name, key, sender, generation, seq];
        let params: Vec<&dyn ToSql> = from.iter().chain(upto).copied().collect();
        let rows = self.all(SQL, params.as_slice(), row::message)?;
        Ok(Page::of(rows, rows_max, |message| {
            let Message { to, id, .. } = message;
            let mut sender = String::new();
            column::sender(&id.sender, &mut sender);
            let [generation, seq] = [id.generation, id.seq].map(|n| number(n).to_string());
            let parts = [to.namespace.as_str(), to.name.as_str(), to.key_str(), &sender, &generation, &seq];
            Cursor::of(&parts.map(str::as_bytes))
        }))
    }

    /// When the youngest of the ended tasks ended that comes after so many younger ones: of those with an idempotency key,
    /// or of those without.
    ///
    /// # Errors
    /// What the database says.
    pub fn ended_beyond(&self, keyed: bool, rows: u32) -> Result<Option<LogTime>, Error> {
        const SQL: &str = "SELECT changed FROM tasks WHERE ended = ?1 ORDER BY changed DESC, id DESC LIMIT 1 OFFSET ?2";
        self.first(SQL, params![column::ended(keyed), rows], |row| Columns::of(row).time())
    }

    /// Agents with messages in their inbox, and how many.
    ///
    /// # Errors
    /// [`Error::Cursor`] when `after` is of another list, else what the database says.
    pub fn agents_with_inbox(&self, after: Option<&Cursor>, rows_max: u32) -> Result<Page<(AgentId, u64)>, Error> {
        const SQL: &str = "SELECT namespace, name, key, waiting FROM inbox_counts
            WHERE (namespace, name, key) > (?1, ?2, ?3) ORDER BY namespace, name, key LIMIT ?4";
        let [namespace, name, key] = after.map_or(Ok([""; 3]), Cursor::texts)?;
        let rows = self.all(SQL, params![namespace, name, key, ask(rows_max)], |row| {
            let mut c = Columns::of(row);
            Ok((c.agent_id()?, c.u64()?))
        })?;
        Ok(Page::of(rows, rows_max, |(id, _)| {
            Cursor::of(&[id.namespace.as_str().as_bytes(), id.name.as_str().as_bytes(), id.key_str().as_bytes()])
        }))
    }

    /// All timers of an agent, in the order of their names.
    ///
    /// # Errors
    /// What the database says.
    pub fn timers(&self, of: &AgentId) -> Result<Vec<Timer>, Error> {
        const SQL: &str = concat!(
            "SELECT ",
            timer_columns!(),
            " FROM timers WHERE namespace = ?1 AND name = ?2 AND key = ?3 ORDER BY timer"
        );
        self.all(SQL, params![of.namespace.as_str(), of.name.as_str(), of.key_str()], row::timer)
    }

    /// What an agent is given when this timer of its is due.
    ///
    /// # Errors
    /// What the database says.
    pub fn timer_payload(&self, of: &AgentId, timer: &TimerName) -> Result<Option<Bytes>, Error> {
        const SQL: &str = "SELECT payload FROM timers WHERE namespace = ?1 AND name = ?2 AND key = ?3 AND timer = ?4";
        let params = params![of.namespace.as_str(), of.name.as_str(), of.key_str(), timer.as_str()];
        self.first(SQL, params, |row| Columns::of(row).bytes())
    }

    /// The first timers of an agent that are due at `now`, as the messages that they are then.
    ///
    /// # Errors
    /// What the database says.
    pub fn timers_due(&self, of: &AgentId, now: LogTime, rows_max: u32) -> Result<Vec<Message>, Error> {
        const SQL: &str = concat!(
            "SELECT ",
            timer_columns!(),
            ", payload FROM timers WHERE namespace = ?1 AND name = ?2 AND key = ?3 AND buried IS NULL AND due <= ?4
              ORDER BY due, timer LIMIT ?5"
        );
        let params = params![of.namespace.as_str(), of.name.as_str(), of.key_str(), time(now), rows_max];
        self.all(SQL, params, |row| {
            let mut c = Columns::of(row);
            let Timer { agent, name, set, due, buried } = row::timer_from(&mut c)?;
            Ok(Message { to: agent, id: MessageId::of_timer(name, set), payload: c.bytes()?, sent: due, buried })
        })
    }

    /// Calls `each` with the agent of every timer that is due from `from` to `until` and when it is due, the earliest
    /// first, while it says yes.
    ///
    /// # Errors
    /// What the database or `each` says.
    pub fn agents_with_timers_due(
        &self,
        from: LogTime,
        until: LogTime,
        mut each: impl FnMut(AgentId, LogTime) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        const SQL: &str = "SELECT namespace, name, key, due FROM timers
            WHERE buried IS NULL AND due >= ?1 AND due <= ?2 ORDER BY due";
        let mut statement = self.connection.prepare_cached(SQL)?;
        let mut rows = statement.query(params![time(from), time(until)])?;
        while let Some(row) = rows.next()? {
            let mut c = Columns::of(row);
            if !each(c.agent_id()?, c.time()?)? {
                break;
            }
        }
        Ok(())
    }

    /// When the first timer is due that is due after `now`.
    ///
    /// # Errors
    /// What the database says.
    pub fn next_timer(&self, now: LogTime) -> Result<Option<LogTime>, Error> {
        const SQL: &str = "SELECT due FROM timers WHERE buried IS NULL AND due > ?1 ORDER BY due LIMIT 1";
        self.first(SQL, [time(now)], |row| Columns::of(row).time())
    }

    /// A task with its input and result.
    ///
    /// # Errors
    /// What the database says.
    pub fn task(&self, id: TaskId) -> Result<Option<TaskWhole>, Error> {
        const SQL: &str = concat!(
            "SELECT ",
            task_columns!(),
            ", input, result FROM tasks JOIN task_inputs ON task_inputs.task = id
              LEFT JOIN task_results ON task_results.task = id WHERE id = ?1"
        );
        self.first(SQL, [wide(id.0)], |row| {
            let mut c = Columns::of(row);
            Ok(TaskWhole { task: row::task_from(&mut c)?, input: c.bytes()?, result: c.bytes_or_null()? })
        })
    }

    /// Tasks, the newest first.
    ///
    /// # Errors
    /// [`Error::Cursor`] when `after` is of another list, else what the database says.
    pub fn tasks(&self, filter: &TaskFilter, after: Option<&Cursor>, rows_max: u32) -> Result<Page<Task>, Error> {
        const SQL: &str = concat!(
            "SELECT ",
            task_columns!(),
            " FROM tasks WHERE namespace = ?1 AND (?2 IS NULL OR state = ?2) AND (?3 IS NULL OR name = ?3)
              AND (?4 IS NULL OR id < ?4) AND id >= ?5 AND id <= ?6 ORDER BY id DESC LIMIT ?7"
        );
        let state = filter.state.map(TaskState::name);
        let agent = filter.agent.as_ref().map(Name::as_str);
        let after = after.map(Cursor::id).transpose()?;
        let ids = filter.ids.as_ref().map_or((0, u128::MAX), |ids| (ids.start().0, ids.end().0));
        let (first, last) = (wide(ids.0), wide(ids.1));
        let params = params![filter.namespace.as_str(), state, agent, after, first, last, ask(rows_max)];
        let rows = self.all(SQL, params, row::task)?;
        Ok(Page::of(rows, rows_max, |task| Cursor::of(&[&wide(task.id.0)])))
    }

    /// Events of a task with numbers above `after`, in order.
    ///
    /// # Errors
    /// What the database says.
    pub fn events(&self, task: TaskId, after: u64, rows_max: u32) -> Result<Vec<TaskEvent>, Error> {
        const SQL: &str =
            concat!("SELECT ", event_columns!(), " FROM task_events WHERE task = ?1 AND n > ?2 ORDER BY n LIMIT ?3");
        self.all(SQL, params![wide(task.0), number(after), rows_max], row::event)
    }

    /// Tasks that wait, the most urgent first, then those that may run earlier; only those that may run at `ready_at`
    /// if it is given.
    ///
    /// # Errors
    /// What the database says.
    pub fn queued_tasks(&self, ready_at: Option<LogTime>, rows_max: u32) -> Result<Vec<Task>, Error> {
        const SQL: &str = concat!(
            "SELECT ",
            task_columns!(),
            " FROM tasks WHERE state = 'queued' AND run_at <= ?1 ORDER BY priority, run_at, id LIMIT ?2"
        );
        let ready_at = ready_at.map_or(i64::MAX, time);
        self.all(SQL, params![ready_at, rows_max], row::task)
    }

    /// Tasks that nodes work on, by incarnation.
    ///
    /// # Errors
    /// What the database says.
    pub fn running_tasks(&self) -> Result<Vec<Task>, Error> {
        Ok(row::running(self.connection)?)
    }

    /// A reply that is remembered.
    ///
    /// # Errors
    /// What the database says.
    pub fn reply(&self, key: &IdempotencyKey) -> Result<Option<Reply>, Error> {
        const SQL: &str = concat!("SELECT ", reply_columns!(), " FROM replies WHERE namespace = ?1 AND key = ?2");
        self.first(SQL, params![key.namespace.as_str(), key.key], row::reply)
    }

    pub(super) fn first<T>(
        &self,
        sql: &'static str,
        params: impl Params,
        map: fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, Error> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        Ok(rows.next()?.map(map).transpose()?)
    }

    pub(super) fn all<T>(
        &self,
        sql: &'static str,
        params: impl Params,
        map: fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, Error> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map(params, map)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

impl NameFilter {
    /// The first and the last name it lets through; names are ASCII.
    fn range(&self) -> (&str, String) {
        const LAST: char = '\u{7f}';
        match self {
            Self::Any => ("", LAST.into()),
            Self::Is(name) => (name.as_str(), name.to_string()),
            Self::StartsWith(start) => (start, format!("{start}{LAST}")),
        }
    }
}

/// One row more than the page holds says whether there is a next page.
pub(super) fn ask(rows_max: u32) -> i64 {
    i64::from(rows_max) + 1
}

impl<T> Page<T> {
    pub(super) fn of(mut rows: Vec<T>, rows_max: u32, cursor: impl Fn(&T) -> Cursor) -> Self {
        let more = rows.len() > rows_max as usize;
        rows.truncate(rows_max as usize);
        let next = if more { rows.last().map(cursor) } else { None };
        Self { rows, next }
    }
}
