//! Sessions: which there are, what was said in one, and its end.

use pelago_core::{
    id::{Name, SessionId},
    record::{EndSession, Op, Outcome, Session, SessionEntry},
};
use pelago_store::sqlite;

use super::{
    Error, Handle, Page, SessionDetail, SessionFilter,
    lists::{page_rows, parse_cursor},
};

impl Handle {
    /// Lists sessions, in the order of their agents and names. One that nobody used for too long is left out, though it
    /// may not be forgotten yet.
    ///
    /// # Errors
    /// [`Error::BadCursor`], [`Error::Store`]; [`Error`] says what is wrong with the agent's address.
    pub async fn sessions(&self, filter: SessionFilter) -> Result<Page<SessionDetail>, Error> {
        let SessionFilter { agent, cursor, limit } = filter;
        let (after, rows) = (parse_cursor(cursor)?, page_rows(limit));
        let agent = agent.map(|to| self.find(&to)).transpose()?.map(|(address, _)| address.agent);
        let filter = sqlite::SessionFilter { namespace: Name::default_namespace(), agent };
        let page = self.page(move |view| view.sessions(&filter, after.as_ref(), rows)).await?;
        let now = self.log_time();
        let live = page.rows.into_iter().filter(|session| !session.has_ended(now));
        let items = live.map(|session| self.session_detail(session)).collect();
        Ok(Page { items, next: page.next.map(|cursor| cursor.to_string()) })
    }

    /// A session, and its entries with numbers above `after`, oldest first.
    ///
    /// # Errors
    /// [`Error::UnknownSession`], [`Error::Store`]; [`Error`] says what is wrong with the agent's address.
    pub async fn session(
        &self,
        agent: &str,
        name: &Name,
        after: u64,
        limit: usize,
    ) -> Result<(SessionDetail, Vec<SessionEntry>), Error> {
        let id = self.session_id(agent, name)?;
        let (of, rows) = (id.clone(), page_rows(limit));
        let (row, entries) =
            self.read(move |view| Ok((view.session(&of)?, view.session_entries(&of, after, rows)?))).await?;
        let now = self.log_time();
        let row = row.filter(|session| !session.has_ended(now)).ok_or(Error::UnknownSession(id))?;
        Ok((self.session_detail(row), entries))
    }

    /// Ends a session: its history is forgotten, and a message of that name begins a new one.
    ///
    /// # Errors
    /// [`Error::UnknownSession`]; [`Error`] says what is wrong with the agent's address, or became of the request.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it in doubt.
    pub async fn end_session(&self, agent: &str, name: &Name) -> Result<(), Error> {
        let session = self.session_id(agent, name)?;
        let op = Op::EndSession(EndSession { session: session.clone() });
        if let Outcome::Swept { rows: 1.. } = self.propose(op).await?.not_refused()? {
            return Ok(());
        }
        Err(Error::UnknownSession(session))
    }

    fn session_id(&self, agent: &str, name: &Name) -> Result<SessionId, Error> {
        Ok(SessionId { agent: self.find(agent)?.0.agent, name: name.clone() })
    }

    fn session_detail(&self, session: Session) -> SessionDetail {
        SessionDetail { node: self.name_of(session.holder.node), session }
    }
}
