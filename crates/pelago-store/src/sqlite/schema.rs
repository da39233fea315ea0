//! The tables, and how a file is opened.
//!
//! Values that may be large stand in tables of their own, so that no rule ever reads or rewrites them in passing. Each
//! index serves a rule or a question; most are partial, so that a row pays only for the state it is in.

use std::path::Path;
use std::time::Duration;

use pelago_core::id::MeshId;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior, config::DbConfig, params};

use super::{error::Error, totals};

/// The format this release writes. Raise it with every change of the tables.
pub(super) const FORMAT: i64 = 5;

/// What format 2 adds to format 1.
const TIMERS_SQL: &str = "
CREATE TABLE timers (
  namespace TEXT NOT NULL, name TEXT NOT NULL, key TEXT NOT NULL, timer TEXT NOT NULL, version INTEGER NOT NULL,
  due INTEGER NOT NULL, buried TEXT, payload BLOB NOT NULL, PRIMARY KEY (namespace, name, key, timer)) WITHOUT ROWID;
CREATE INDEX timers_due ON timers (due) WHERE buried IS NULL;
";

/// What format 3 adds to format 2. Where a connection leads is text: an address within the namespace.
const CONNECTIONS_SQL: &str = "
CREATE TABLE connections (
  namespace TEXT NOT NULL, source TEXT NOT NULL, target TEXT NOT NULL, filter TEXT,
  PRIMARY KEY (namespace, source, target)) WITHOUT ROWID;
CREATE TABLE offer_layers (
  node INTEGER NOT NULL, agent TEXT NOT NULL, layer TEXT NOT NULL, PRIMARY KEY (node, agent)) WITHOUT ROWID;
CREATE TABLE offer_connections (
  node INTEGER NOT NULL, agent TEXT NOT NULL, n INTEGER NOT NULL, namespace TEXT NOT NULL, target TEXT NOT NULL,
  filter TEXT, PRIMARY KEY (node, agent, n)) WITHOUT ROWID;
";

/// What format 4 adds to format 3. `expires` is for the index: when the session ends if nobody uses it.
const SESSIONS_SQL: &str = "
CREATE TABLE sessions (
  namespace TEXT NOT NULL, name TEXT NOT NULL, key TEXT NOT NULL, session TEXT NOT NULL, created INTEGER NOT NULL,
  used INTEGER NOT NULL, ttl_ms INTEGER NOT NULL, entries INTEGER NOT NULL, first INTEGER NOT NULL,
  bytes INTEGER NOT NULL, last BLOB NOT NULL, holder_node INTEGER NOT NULL, holder_incarnation INTEGER NOT NULL,
  expires INTEGER NOT NULL, PRIMARY KEY (namespace, name, key, session)) WITHOUT ROWID;
CREATE INDEX sessions_by_expiry ON sessions (expires, namespace, name, key, session);
CREATE TABLE session_entries (
  namespace TEXT NOT NULL, name TEXT NOT NULL, key TEXT NOT NULL, session TEXT NOT NULL, n INTEGER NOT NULL,
  turn BLOB NOT NULL, at INTEGER NOT NULL, node INTEGER NOT NULL, said BLOB NOT NULL, replied BLOB NOT NULL,
  PRIMARY KEY (namespace, name, key, session, n)) WITHOUT ROWID;
";

/// What format 5 adds to format 4: what a task is part of.
const PARTS_SQL: &str = "
ALTER TABLE tasks ADD COLUMN trace TEXT;
ALTER TABLE tasks ADD COLUMN trace_state TEXT;
ALTER TABLE tasks ADD COLUMN session TEXT;
ALTER TABLE tasks ADD COLUMN session_ttl_ms INTEGER;
ALTER TABLE tasks ADD COLUMN affinity TEXT;
";

/// Marks the file as Pelago's: "Pela" in ASCII.
const APPLICATION_ID: i64 = 0x5065_6c61;

/// More than all statements of the rules, so that none is ever compiled twice.
const STATEMENTS_MAX: usize = 112;

/// How long a writer waits for a checkpoint to let it write. A checkpoint gives up long before.
const WRITE_WAIT: Duration = Duration::from_secs(60);

/// How long a reader waits; in WAL mode only the recovery after a crash makes it wait.
const READ_WAIT: Duration = Duration::from_secs(10);

// A partial index costs each write of its table a look at its condition, so conditions are one cheap test each. Not an
// `IN`, for whose list SQLite builds a table every time.
const TABLES_SQL: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE totals (name TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;

CREATE TABLE nodes (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL, directory BLOB NOT NULL, incarnation INTEGER NOT NULL, boot BLOB NOT NULL,
  state TEXT NOT NULL, mesh_address TEXT NOT NULL, http_address TEXT NOT NULL, registered INTEGER NOT NULL);
CREATE TABLE node_labels (
  node INTEGER NOT NULL, label TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (node, label)) WITHOUT ROWID;
CREATE TABLE node_offers (
  node INTEGER NOT NULL, agent TEXT NOT NULL, placement TEXT NOT NULL, tasks_max INTEGER NOT NULL,
  PRIMARY KEY (node, agent)) WITHOUT ROWID;

CREATE TABLE agents (
  namespace TEXT NOT NULL, name TEXT NOT NULL, key TEXT NOT NULL, generation INTEGER NOT NULL, epoch INTEGER NOT NULL,
  phase TEXT NOT NULL, holder_node INTEGER NOT NULL, holder_incarnation INTEGER NOT NULL, version INTEGER NOT NULL,
  last_turn BLOB NOT NULL, chain BLOB NOT NULL, PRIMARY KEY (namespace, name, key)) WITHOUT ROWID;
CREATE INDEX agents_held ON agents (holder_node) WHERE phase = 'active';
CREATE TABLE agent_states (
  namespace TEXT NOT NULL, name TEXT NOT NULL, key TEXT NOT NULL, state BLOB NOT NULL,
  PRIMARY KEY (namespace, name, key)) WITHOUT ROWID;

CREATE TABLE messages (
  namespace TEXT NOT NULL, name TEXT NOT NULL, key TEXT NOT NULL, sender TEXT NOT NULL, generation INTEGER NOT NULL,
  seq INTEGER NOT NULL, sent INTEGER NOT NULL, buried TEXT, payload BLOB NOT NULL,
  PRIMARY KEY (namespace, name, key, sender, generation, seq)) WITHOUT ROWID;
CREATE INDEX messages_waiting ON messages (namespace, name, key, sent, sender, generation, seq) WHERE buried IS NULL;
CREATE INDEX messages_buried ON messages (namespace, name, key, sender, generation, seq) WHERE buried IS NOT NULL;
CREATE TABLE inbox_counts (
  namespace TEXT NOT NULL, name TEXT NOT NULL, key TEXT NOT NULL, waiting INTEGER NOT NULL,
  PRIMARY KEY (namespace, name, key)) WITHOUT ROWID;

CREATE TABLE replies (
  namespace TEXT NOT NULL, key TEXT NOT NULL, expires INTEGER NOT NULL, request BLOB NOT NULL, reply BLOB NOT NULL,
  PRIMARY KEY (namespace, key)) WITHOUT ROWID;
CREATE INDEX replies_by_expiry ON replies (expires, namespace, key);

-- `ended` is NULL until the task has ended; then it says how long the task is kept: as 'plain', or as 'keyed'.
CREATE TABLE tasks (
  id BLOB PRIMARY KEY, namespace TEXT NOT NULL, name TEXT NOT NULL, key TEXT NOT NULL, state TEXT NOT NULL,
  placement TEXT NOT NULL, node INTEGER, priority INTEGER NOT NULL, run_at INTEGER NOT NULL,
  attempts_max INTEGER NOT NULL, attempt_ms_max INTEGER NOT NULL, backoff_ms INTEGER NOT NULL,
  backoff_ms_max INTEGER NOT NULL, attempt INTEGER NOT NULL, token_index INTEGER, token_item INTEGER,
  holder_node INTEGER, holder_incarnation INTEGER, idempotency_namespace TEXT, idempotency_key TEXT,
  body BLOB NOT NULL, created INTEGER NOT NULL, changed INTEGER NOT NULL, events INTEGER NOT NULL,
  notes INTEGER NOT NULL, reason TEXT, ended TEXT) WITHOUT ROWID;
CREATE INDEX tasks_queued ON tasks (priority, run_at, id) WHERE state = 'queued';
CREATE INDEX tasks_running ON tasks (holder_incarnation, id) WHERE holder_incarnation IS NOT NULL;
CREATE INDEX tasks_ended ON tasks (ended, changed, id) WHERE ended IS NOT NULL;
CREATE UNIQUE INDEX tasks_keyed ON tasks (idempotency_namespace, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE TABLE task_inputs (task BLOB PRIMARY KEY, input BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE task_results (task BLOB PRIMARY KEY, result BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE task_events (
  task BLOB NOT NULL, n INTEGER NOT NULL, at INTEGER NOT NULL, attempt INTEGER NOT NULL, kind TEXT NOT NULL,
  node INTEGER, reason TEXT, note BLOB, PRIMARY KEY (task, n)) WITHOUT ROWID;
";

/// A table as a dump sees it.
pub(super) struct Table {
    pub(super) name: &'static str,
    /// The columns of its primary key, which order its rows.
    pub(super) key: &'static str,
}

/// Every table, in the order of a dump.
pub(super) const TABLES: [Table; 20] = [
    Table { name: "meta", key: "name" },
    Table { name: "totals", key: "name" },
    Table { name: "nodes", key: "id" },
    Table { name: "node_labels", key: "node, label" },
    Table { name: "node_offers", key: "node, agent" },
    Table { name: "offer_layers", key: "node, agent" },
    Table { name: "offer_connections", key: "node, agent, n" },
    Table { name: "connections", key: "namespace, source, target" },
    Table { name: "agents", key: "namespace, name, key" },
    Table { name: "agent_states", key: "namespace, name, key" },
    Table { name: "messages", key: "namespace, name, key, sender, generation, seq" },
    Table { name: "inbox_counts", key: "namespace, name, key" },
    Table { name: "timers", key: "namespace, name, key, timer" },
    Table { name: "replies", key: "namespace, key" },
    Table { name: "tasks", key: "id" },
    Table { name: "task_inputs", key: "task" },
    Table { name: "task_results", key: "task" },
    Table { name: "task_events", key: "task, n" },
    Table { name: "sessions", key: "namespace, name, key, session" },
    Table { name: "session_entries", key: "namespace, name, key, session, n" },
];

/// Opens the one connection that writes, and makes the tables in a new file.
pub(super) fn open_writer(path: &Path, mesh: MeshId) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(WRITE_WAIT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    if is_empty(&connection)? {
        create(&mut connection, mesh)?;
    }
    check(&connection, path, mesh)?;
    upgrade(&mut connection)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "normal")?;
    // A checkpoint flushes the database, so its moment is the caller's to choose: never in the middle of an apply.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    connection.pragma_update(None, "cache_size", -(64 << 10))?;
    Ok(connection)
}

/// Opens a connection that only reads.
pub(super) fn open_reader(path: &Path) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(READ_WAIT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // Plans do not depend on what is bound: without this a look-up is compiled again for every value, because partial
    // indexes might fit some.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    check_format(&connection, path)?;
    Ok(connection)
}

/// Makes the tables in an empty database.
pub(super) fn create(connection: &mut Connection, mesh: MeshId) -> Result<(), Error> {
    let transaction = Transaction::new(connection, TransactionBehavior::Immediate)?;
    transaction.execute_batch(TABLES_SQL)?;
    transaction.execute_batch(TIMERS_SQL)?;
    transaction.execute_batch(CONNECTIONS_SQL)?;
    transaction.execute_batch(SESSIONS_SQL)?;
    transaction.execute_batch(PARTS_SQL)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    transaction.execute("INSERT INTO meta VALUES ('mesh', ?1)", params![mesh.0.to_be_bytes()])?;
    totals::create(&transaction)?;
    Ok(transaction.commit()?)
}

/// Gives a database of an earlier release the tables that it lacks.
fn upgrade(connection: &mut Connection) -> Result<(), Error> {
    let format = connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))?;
    if format == FORMAT {
        return Ok(());
    }
    let transaction = Transaction::new(connection, TransactionBehavior::Immediate)?;
    if format < 2 {
        transaction.execute_batch(TIMERS_SQL)?;
    }
    if format < 3 {
        transaction.execute_batch(CONNECTIONS_SQL)?;
    }
    if format < 4 {
        transaction.execute_batch(SESSIONS_SQL)?;
    }
    transaction.execute_batch(PARTS_SQL)?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    Ok(transaction.commit()?)
}

fn is_empty(connection: &Connection) -> Result<bool, Error> {
    Ok(connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))?)
}

fn check(connection: &Connection, path: &Path, wanted: MeshId) -> Result<(), Error> {
    check_format(connection, path)?;
    let found = mesh(connection)?;
    if found != wanted {
        return Err(Error::OtherMesh { found, wanted });
    }
    Ok(())
}

fn check_format(connection: &Connection, path: &Path) -> Result<(), Error> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    if pragma("application_id")? != APPLICATION_ID {
        return Err(Error::Foreign { path: path.to_owned() });
    }
    let found = pragma("user_version")?;
    if found > FORMAT {
        return Err(Error::Newer { path: path.to_owned(), found, known: FORMAT });
    }
    Ok(())
}

/// The mesh that the database belongs to.
pub(super) fn mesh(connection: &Connection) -> Result<MeshId, Error> {
    let bytes = connection.query_row("SELECT value FROM meta WHERE name = 'mesh'", [], |row| row.get(0))?;
    Ok(MeshId(u128::from_be_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_of_an_earlier_format_is_given_what_it_lacks() {
        let added = ["trace", "trace_state", "session", "session_ttl_ms", "affinity"];
        let mut older: String =
            added.iter().map(|column| format!("ALTER TABLE tasks DROP COLUMN {column}; ")).collect();
        older += "PRAGMA user_version = 4";
        is_upgraded(&older);
        older += "; DROP TABLE sessions; DROP TABLE session_entries; PRAGMA user_version = 3";
        is_upgraded(&older);
        older +=
            "; DROP TABLE connections; DROP TABLE offer_layers; DROP TABLE offer_connections; PRAGMA user_version = 2";
        is_upgraded(&older);
        is_upgraded(&format!("{older}; DROP TABLE timers; PRAGMA user_version = 1"));
    }

    fn is_upgraded(made_older: &str) {
        let directory = tempfile::TempDir::new().expect("a temporary directory");
        let path = directory.path().join("m.db");
        let of_before = open_writer(&path, MeshId(7)).expect("a new database");
        of_before.execute_batch(made_older).expect("it is made older");
        of_before.execute("UPDATE totals SET n = 3 WHERE name = 'turns'", []).expect("it has rows");
        drop(of_before);

        let upgraded = open_writer(&path, MeshId(7)).expect("the database of before");
        assert_eq!(totals::load(&upgraded).expect("it can be read").turns, 3);
        assert_eq!(everything(&upgraded), everything(&open_writer(&path, MeshId(7)).expect("it opens again")));
        let new = open_writer(&directory.path().join("new.db"), MeshId(7)).expect("a new database");
        assert_eq!(everything(&upgraded), everything(&new));
    }

    /// The SQL of all that is in a database, and its format.
    fn everything(connection: &Connection) -> (i64, Vec<Option<String>>) {
        let format = connection.pragma_query_value(None, "user_version", |row| row.get(0)).expect("it has a format");
        let mut statement = connection.prepare("SELECT sql FROM sqlite_schema ORDER BY name").expect("it compiles");
        let all = statement.query_map([], |row| row.get(0)).expect("it runs");
        (format, all.collect::<rusqlite::Result<_>>().expect("a row"))
    }
}
