//! Sessions and their entries: their columns, what the rules' writes of them become, and what can be asked of them.

use pelago_core::{
    id::{AgentId, Name, NodeId, SessionId, TurnId},
    record::{Session, SessionEntry},
};
use rusqlite::{Connection, Row, params};

use super::{
    batch::Batch,
    column::{Columns, number, time, wide},
    cursor::Cursor,
    error::Error,
    query::{Page, ask},
    reader::View,
    write::key,
};

macro_rules! session_columns {
    () => {
        "namespace, name, key, session, created, used, ttl_ms, entries, first, bytes, last, holder_node, \
         holder_incarnation"
    };
}
macro_rules! entry_columns {
    () => {
        "namespace, name, key, session, n, turn, at, node, said, replied"
    };
}
pub(super) use {entry_columns, session_columns};

/// Which sessions to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionFilter {
    /// Of this namespace.
    pub namespace: Name,
    /// With this agent.
    pub agent: Option<AgentId>,
}

pub(super) fn session(row: &Row<'_>) -> rusqlite::Result<Session> {
    let mut c = Columns::of(row);
    Ok(Session {
        id: SessionId { agent: c.agent_id()?, name: c.name()? },
        created: c.time()?,
        used: c.time()?,
        ttl_ms: c.u64()?,
        entries: c.u64()?,
        first: c.u64()?,
        bytes: c.u64()?,
        last: TurnId(c.wide()?),
        holder: c.holder()?,
    })
}

pub(super) fn entry(row: &Row<'_>) -> rusqlite::Result<SessionEntry> {
    let mut c = Columns::of(row);
    Ok(SessionEntry {
        session: SessionId { agent: c.agent_id()?, name: c.name()? },
        n: c.u64()?,
        turn: TurnId(c.wide()?),
        at: c.time()?,
        node: NodeId(c.u64()?),
        said: c.bytes()?,
        replied: c.bytes()?,
    })
}

/// How many sessions there are. Walks an index: for the start.
pub(super) fn len(connection: &Connection) -> Result<u64, Error> {
    Ok(connection.query_row("SELECT count(*) FROM sessions", [], |row| row.get::<_, i64>(0))?.cast_unsigned())
}

impl Batch<'_> {
    pub(super) fn put_session(&mut self, session: &Session) -> Result<(), Error> {
        let (namespace, name, key) = key(&session.id.agent);
        self.statements.put_session.run(params![
            namespace,
            name,
            key,
            session.id.name.as_str(),
            time(session.created),
            time(session.used),
            number(session.ttl_ms),
            number(session.entries),
            number(session.first),
            number(session.bytes),
            wide(session.last.0),
            number(session.holder.node.0),
            number(session.holder.incarnation.0),
            time(session.expires()),
        ])?;
        self.kept.sessions += u64::from(session.entries == 1);
        Ok(())
    }

    pub(super) fn new_session_entry(&self, entry: &SessionEntry) -> Result<(), Error> {
        let (namespace, name, key) = key(&entry.session.agent);
        self.statements.new_session_entry.run(params![
            namespace,
            name,
            key,
            entry.session.name.as_str(),
            number(entry.n),
            wide(entry.turn.0),
            time(entry.at),
            number(entry.node.0),
            entry.said.as_ref(),
            entry.replied.as_ref(),
        ])?;
        Ok(())
    }

    pub(super) fn session_entries_gone(&self, session: &SessionId, before: u64) -> Result<(), Error> {
        let (namespace, name, key) = key(&session.agent);
        let params = params![namespace, name, key, session.name.as_str(), number(before)];
        self.statements.session_entries_gone.run(params)?;
        Ok(())
    }

    pub(super) fn session_gone(&mut self, session: &SessionId) -> Result<(), Error> {
        self.session_entries_gone(session, i64::MAX.cast_unsigned())?;
        let (namespace, name, key) = key(&session.agent);
        let gone = self.statements.session_gone.run(params![namespace, name, key, session.name.as_str()])?;
        self.kept.sessions -= gone as u64;
        Ok(())
    }
}

impl View<'_> {
    /// A session, one that has ended and is not forgotten yet included.
    ///
    /// # Errors
    /// What the database says.
    pub fn session(&self, id: &SessionId) -> Result<Option<Session>, Error> {
        const SQL: &str = concat!(
            "SELECT ",
            session_columns!(),
            " FROM sessions WHERE namespace = ?1 AND name = ?2 AND key = ?3 AND session = ?4"
        );
        let (namespace, name, key) = key(&id.agent);
        self.first(SQL, params![namespace, name, key, id.name.as_str()], session)
    }

    /// Sessions in the order of their agents and names.
    ///
    /// # Errors
    /// [`Error::Cursor`] when `after` is of another list, else what the database says.
    pub fn sessions(
        &self,
        filter: &SessionFilter,
        after: Option<&Cursor>,
        rows_max: u32,
    ) -> Result<Page<Session>, Error> {
        const SQL: &str = concat!(
            "SELECT ",
            session_columns!(),
            " FROM sessions WHERE namespace = ?1 AND (name, key, session) > (?2, ?3, ?4) AND (name, key) <= (?5, ?6)
              ORDER BY name, key, session LIMIT ?7"
        );
        let only = filter.agent.as_ref().map(|agent| [agent.name.as_str(), agent.key_str()]);
        // The last character of ASCII is above every name.
        let [last_name, last_key] = only.unwrap_or(["\u{7f}", ""]);
        let [first_name, first_key] = only.unwrap_or_default();
        let [name, agent_key, session_name] = match after {
            None => [first_name, first_key, ""],
            Some(after) => {
                let [name, key, session] = after.texts()?;
                if only.is_some_and(|only| only != [name, key]) {
                    return Err(after.refused());
                }
                [name, key, session]
            }
        };
        let namespace = filter.namespace.as_str();
        let params = params![namespace, name, agent_key, session_name, last_name, last_key, ask(rows_max)];
        let rows = self.all(SQL, params, session)?;
        Ok(Page::of(rows, rows_max, |session| {
            let (_, name, key) = key(&session.id.agent);
            Cursor::of(&[name, key, session.id.name.as_str()].map(str::as_bytes))
        }))
    }

    /// Entries of a session with numbers above `after`, oldest first.
    ///
    /// # Errors
    /// What the database says.
    pub fn session_entries(&self, id: &SessionId, after: u64, rows_max: u32) -> Result<Vec<SessionEntry>, Error> {
        const SQL: &str = concat!(
            "SELECT ",
            entry_columns!(),
            " FROM session_entries WHERE namespace = ?1 AND name = ?2 AND key = ?3 AND session = ?4 AND n > ?5
              ORDER BY n LIMIT ?6"
        );
        let (namespace, name, key) = key(&id.agent);
        self.all(SQL, params![namespace, name, key, id.name.as_str(), number(after), rows_max], entry)
    }
}
