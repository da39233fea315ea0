//! The SQL of the rules: what [`decide`](pelago_core::record::decide) reads and what its writes become.
//!
//! The statements are compiled once a connection and fetched from its cache once a batch, when it first needs them: a
//! look-up by text for each use costs a fifth of the time of a large batch, and one of all of them a tenth of a small
//! one.

use std::cell::{RefCell, RefMut};

use rusqlite::{CachedStatement, Connection, Params, Row, ToSql};

use super::{
    error::Error,
    row::{agent_columns, event_columns, message_columns, reply_columns, task_columns, timer_columns},
    session::{entry_columns, session_columns},
};

/// A statement. `decide` reads through `&self`, and running a statement changes it.
pub(super) struct Statement<'c> {
    connection: &'c Connection,
    sql: &'static str,
    /// `None` until the batch needs it.
    compiled: RefCell<Option<CachedStatement<'c>>>,
}

impl<'c> Statement<'c> {
    /// The first row, if any.
    pub(super) fn first<T>(
        &self,
        params: impl Params,
        map: fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, Error> {
        let mut statement = self.compiled()?;
        let mut rows = statement.query(params)?;
        Ok(rows.next()?.map(map).transpose()?)
    }

    /// All rows.
    pub(super) fn all<T>(
        &self,
        params: impl Params,
        map: fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, Error> {
        let mut statement = self.compiled()?;
        let rows = statement.query_map(params, map)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Runs it and says how many rows it changed.
    pub(super) fn run(&self, params: impl Params) -> Result<usize, Error> {
        Ok(self.compiled()?.execute(params)?)
    }

    /// Runs it with the values of several rows, one after the other.
    pub(super) fn run_rows<R>(&self, rows: &[R], values: Values<R>) -> Result<(), Error> {
        let mut statement = self.compiled()?;
        let mut cells = Cells { statement: &mut statement, bound: 0 };
        rows.iter().try_for_each(|row| values(row, &mut cells))?;
        statement.raw_execute()?;
        Ok(())
    }

    fn compiled(&self) -> Result<RefMut<'_, CachedStatement<'c>>, Error> {
        let mut compiled = self.compiled.borrow_mut();
        if compiled.is_none() {
            *compiled = Some(self.connection.prepare_cached(self.sql)?);
        }
        Ok(RefMut::map(compiled, |compiled| compiled.as_mut().expect("it was compiled above")))
    }
}

/// Puts the values of one row into the next cells of a statement.
pub(super) type Values<R> = fn(&R, &mut Cells<'_, '_>) -> rusqlite::Result<()>;

/// The parameters of a statement, filled from left to right.
pub(super) struct Cells<'s, 'c> {
    statement: &'s mut CachedStatement<'c>,
    bound: usize,
}

impl Cells<'_, '_> {
    pub(super) fn put(&mut self, value: impl ToSql) -> rusqlite::Result<()> {
        self.bound += 1;
        self.statement.raw_bind_parameter(self.bound, value)
    }
}

/// How many rows the statements take whose rows come [`sixteen!`] at a time. Running a statement costs more than
/// inserting a small row, so that this halves the cost of one; more rows gain little.
pub(super) const ROWS: usize = 16;

macro_rules! sixteen {
    ($row:expr) => {
        concat!(
            $row, ", ", $row, ", ", $row, ", ", $row, ", ", $row, ", ", $row, ", ", $row, ", ", $row, ", ", $row, ", ",
            $row, ", ", $row, ", ", $row, ", ", $row, ", ", $row, ", ", $row, ", ", $row
        )
    };
}

macro_rules! statements {
    ($($name:ident = $($sql:expr),+;)*) => {
        /// Every statement of the rules.
        pub(super) struct Statements<'c> {
            $(pub(super) $name: Statement<'c>,)*
        }

        impl<'c> Statements<'c> {
            /// Takes the statements from the connection's cache as they are needed; they go back when this is dropped.
            pub(super) fn of(connection: &'c Connection) -> Self {
                Self { $($name: Statement { connection, sql: concat!($($sql),+), compiled: RefCell::default() },)* }
            }
        }

        #[cfg(test)]
        pub(super) const ALL: &[&str] = &[$(concat!($($sql),+),)*];
    };
}

macro_rules! task_values {
    () => {
        "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    };
}

statements! {
    agent = "SELECT ", agent_columns!(), " FROM agents WHERE namespace = ?1 AND name = ?2 AND key = ?3";
    new_agent = "INSERT INTO agents (", agent_columns!(), ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
    // Most writes of an agent are commits of its holder: they leave the columns alone by which it is indexed.
    agent_commit = "UPDATE agents SET version = ?4, last_turn = ?5, chain = ?6, epoch = ?7
        WHERE namespace = ?1 AND name = ?2 AND key = ?3";
    agent_handed_over = "UPDATE agents SET version = ?4, last_turn = ?5, chain = ?6, epoch = ?7, phase = ?8,
        holder_node = ?9, holder_incarnation = ?10 WHERE namespace = ?1 AND name = ?2 AND key = ?3";
    agent_state = "INSERT OR REPLACE INTO agent_states (namespace, name, key, state) VALUES (?, ?, ?, ?)";
    agent_states = "INSERT OR REPLACE INTO agent_states (namespace, name, key, state) VALUES ", sixteen!("(?, ?, ?, ?)");

    message = "SELECT ", message_columns!(), " FROM messages
        WHERE namespace = ?1 AND name = ?2 AND key = ?3 AND sender = ?4 AND generation = ?5 AND seq = ?6";
    new_message = "INSERT INTO messages (", message_columns!(), ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, NULL, ?8)";
    bury_message = "UPDATE messages SET buried = ?7 WHERE namespace = ?1 AND name = ?2 AND key = ?3
        AND sender = ?4 AND generation = ?5 AND seq = ?6 AND buried IS NULL";
    message_gone = "DELETE FROM messages WHERE namespace = ?1 AND name = ?2 AND key = ?3
        AND sender = ?4 AND generation = ?5 AND seq = ?6 AND buried IS NULL";
    messages_buried = "SELECT sender, generation, seq FROM messages
        WHERE namespace = ?1 AND name = ?2 AND key = ?3 AND buried IS NOT NULL
        ORDER BY sender, generation, seq LIMIT ?4";
    buried_gone = "DELETE FROM messages WHERE namespace = ?1 AND name = ?2 AND key = ?3
        AND sender = ?4 AND generation = ?5 AND seq = ?6 AND buried IS NOT NULL";
    inbox_len = "SELECT waiting FROM inbox_counts WHERE namespace = ?1 AND name = ?2 AND key = ?3";
    inbox_grown = "INSERT INTO inbox_counts (namespace, name, key, waiting) VALUES (?1, ?2, ?3, 1)
        ON CONFLICT DO UPDATE SET waiting = waiting + 1";
    // An empty inbox has no row, so that the table lists the agents with something to do.
    inbox_emptied = "DELETE FROM inbox_counts WHERE namespace = ?1 AND name = ?2 AND key = ?3 AND waiting = 1";
    inbox_shrunk = "UPDATE inbox_counts SET waiting = waiting - 1 WHERE namespace = ?1 AND name = ?2 AND key = ?3";

    timer = "SELECT ", timer_columns!(), " FROM timers
        WHERE namespace = ?1 AND name = ?2 AND key = ?3 AND timer = ?4";
    // Asked only for a timer of a new name, and an agent has few.
    timers_len = "SELECT count(*) FROM timers WHERE namespace = ?1 AND name = ?2 AND key = ?3";
    put_timer = "INSERT OR REPLACE INTO timers (", timer_columns!(), ", payload)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, NULL, ?7)";
    bury_timer = "UPDATE timers SET buried = ?5 WHERE namespace = ?1 AND name = ?2 AND key = ?3 AND timer = ?4";
    timer_gone = "DELETE FROM timers WHERE namespace = ?1 AND name = ?2 AND key = ?3 AND timer = ?4";

    reply = "SELECT ", reply_columns!(), " FROM replies WHERE namespace = ?1 AND key = ?2";
    replies_expired = "SELECT namespace, key FROM replies WHERE expires < ?1 ORDER BY expires, namespace, key LIMIT ?2";
    put_reply = "INSERT OR REPLACE INTO replies (", reply_columns!(), ") VALUES (?1, ?2, ?3, ?4, ?5)";
    reply_gone = "DELETE FROM replies WHERE namespace = ?1 AND key = ?2";

    task = "SELECT ", task_columns!(), " FROM tasks WHERE id = ?1";
    task_keyed = "SELECT id FROM tasks WHERE idempotency_namespace = ?1 AND idempotency_key = ?2";
    tasks_ended = "SELECT id FROM tasks WHERE ended = ?1 AND changed < ?2 ORDER BY changed, id LIMIT ?3";
    connections = "SELECT namespace, target, filter FROM connections WHERE namespace = ?1 AND source = ?2
                   ORDER BY target";
    session = "SELECT ", session_columns!(), " FROM sessions
        WHERE namespace = ?1 AND name = ?2 AND key = ?3 AND session = ?4";
    session_entry = "SELECT ", entry_columns!(), " FROM session_entries
        WHERE namespace = ?1 AND name = ?2 AND key = ?3 AND session = ?4 AND n = ?5";
    sessions_ended = "SELECT ", session_columns!(), " FROM sessions
        WHERE expires < ?1 ORDER BY expires, namespace, name, key, session LIMIT ?2";
    put_session = "INSERT OR REPLACE INTO sessions (", session_columns!(), ", expires)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";
    session_gone = "DELETE FROM sessions WHERE namespace = ?1 AND name = ?2 AND key = ?3 AND session = ?4";
    new_session_entry = "INSERT INTO session_entries (", entry_columns!(), ")
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    session_entries_gone = "DELETE FROM session_entries
        WHERE namespace = ?1 AND name = ?2 AND key = ?3 AND session = ?4 AND n < ?5";
    new_task = "INSERT INTO tasks (", task_columns!(), ", ended) VALUES ", task_values!();
    // OR FAIL: an error rolls everything back, so SQLite need not be able to take back one statement's rows.
    new_tasks = "INSERT OR FAIL INTO tasks (", task_columns!(), ", ended) VALUES ", sixteen!(task_values!());
    // Notes of an attempt leave the columns alone by which its task is indexed.
    task_progress = "UPDATE tasks SET events = ?2, notes = ?3 WHERE id = ?1";
    task_moved_on = "UPDATE tasks SET state = ?2, run_at = ?3, attempt = ?4, token_index = ?5, token_item = ?6,
        holder_node = ?7, holder_incarnation = ?8, changed = ?9, events = ?10, notes = ?11, reason = ?12,
        ended = ?13 WHERE id = ?1";
    task_states = "SELECT state FROM tasks WHERE id IN (", sixteen!("?"), ")";
    tasks_gone = "DELETE FROM tasks WHERE id IN (", sixteen!("?"), ")";
    new_input = "INSERT INTO task_inputs (task, input) VALUES (?, ?)";
    new_inputs = "INSERT OR FAIL INTO task_inputs (task, input) VALUES ", sixteen!("(?, ?)");
    inputs_gone = "DELETE FROM task_inputs WHERE task IN (", sixteen!("?"), ")";
    new_result = "INSERT INTO task_results (task, result) VALUES (?, ?)";
    new_results = "INSERT OR FAIL INTO task_results (task, result) VALUES ", sixteen!("(?, ?)");
    results_gone = "DELETE FROM task_results WHERE task IN (", sixteen!("?"), ")";
    new_event = "INSERT INTO task_events (", event_columns!(), ") VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
    new_events = "INSERT OR FAIL INTO task_events (", event_columns!(), ") VALUES ",
        sixteen!("(?, ?, ?, ?, ?, ?, ?, ?)");
    events_gone = "DELETE FROM task_events WHERE task IN (", sixteen!("?"), ")";
}

#[cfg(test)]
mod tests {
    use pelago_core::id::MeshId;

    use super::{super::schema, *};

    #[test]
    fn no_rule_walks_a_table_or_sorts() {
        let directory = tempfile::TempDir::new().expect("a temporary directory");
        let connection = schema::open_writer(&directory.path().join("m.db"), MeshId(7)).expect("a new database");
        for sql in ALL {
            let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("it compiles");
            let nulls = rusqlite::params_from_iter(vec![rusqlite::types::Null; plan.parameter_count()]);
            let steps = plan.query_map(nulls, |row| row.get::<_, String>(3)).expect("it runs");
            for step in steps {
                let step = step.expect("a step of the plan");
                let walks = step.starts_with("SCAN") && !step.contains("VALUES CLAUSE");
                assert!(!walks && !step.contains("TEMP B-TREE"), "{step}: {sql}");
            }
        }
    }
}
