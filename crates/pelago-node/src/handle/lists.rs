//! What there is: tasks, agents, messages that could not be handled.

use pelago_core::{
    id::Name,
    record::{self, Placement},
};
use pelago_store::sqlite::{self, View};

use super::{AgentDetail, AgentFilter, BuriedFilter, Error, Handle, Page, TaskFilter};

/// The most rows of one page.
const PAGE_MAX: usize = 1_000;

impl Handle {
    /// Lists tasks, the newest first.
    ///
    /// # Errors
    /// [`Error::BadCursor`], [`Error::Store`].
    pub async fn tasks(&self, filter: TaskFilter) -> Result<Page<record::Task>, Error> {
        let TaskFilter { state, agent, ids, cursor, limit } = filter;
        let (after, rows) = (parse_cursor(cursor)?, page_rows(limit));
        let filter = sqlite::TaskFilter { namespace: Name::default_namespace(), state, agent, ids };
        let page = self.page(move |view| view.tasks(&filter, after.as_ref(), rows)).await?;
        Ok(Page { items: page.rows, next: page.next.map(|cursor| cursor.to_string()) })
    }

    /// Lists keyed agents, in the order of their names, without their states.
    ///
    /// # Errors
    /// [`Error::BadCursor`], [`Error::Store`].
    pub async fn agents(&self, filter: AgentFilter) -> Result<Page<AgentDetail>, Error> {
        let AgentFilter { name, cursor, limit } = filter;
        let (after, rows) = (parse_cursor(cursor)?, page_rows(limit));
        let name = name.map_or(sqlite::NameFilter::Any, sqlite::NameFilter::Is);
        let filter = sqlite::AgentFilter { namespace: Name::default_namespace(), name, held_by: None };
        let page = self.page(move |view| view.agents(&filter, after.as_ref(), rows)).await?;
        let items = page.rows.into_iter().map(|agent| self.detail(agent, None, Vec::new())).collect();
        Ok(Page { items, next: page.next.map(|cursor| cursor.to_string()) })
    }

    /// A keyed agent with its state and timers.
    ///
    /// # Errors
    /// [`Error::NoState`] when it never was, [`Error::UnknownAgent`], [`Error::Store`].
    pub async fn agent(&self, to: &str) -> Result<AgentDetail, Error> {
        let (address, placement) = self.parts().services.find(&Name::default_namespace(), to)?;
        let id = address.agent;
        if placement != Placement::Keyed {
            return Err(Error::WrongKey(format!("agent {} has no durable state", id.name)));
        }
        let wanted = id.clone();
        let (whole, timers) = self.read(move |view| Ok((view.agent(&wanted)?, view.timers(&wanted)?))).await?;
        let sqlite::AgentWhole { agent, state } = whole.ok_or(Error::NoState(id))?;
        Ok(self.detail(agent, state, timers))
    }

    /// Lists messages that failed too often and are tried no more.
    ///
    /// # Errors
    /// [`Error::Invalid`] or [`Error::UnknownAgent`] for the address, [`Error::BadCursor`], [`Error::Store`].
    pub async fn buried(&self, filter: BuriedFilter) -> Result<Page<record::Message>, Error> {
        let BuriedFilter { to, cursor, limit } = filter;
        let (after, rows) = (parse_cursor(cursor)?, page_rows(limit));
        let find = |to: String| self.parts().services.find(&Name::default_namespace(), &to);
        let to = to.map(find).transpose()?.map(|(address, _)| address.agent);
        let page = self.page(move |view| view.buried(to.as_ref(), after.as_ref(), rows)).await?;
        Ok(Page { items: page.rows, next: page.next.map(|cursor| cursor.to_string()) })
    }

    /// Reads a page of a list, whose cursor may be of another one.
    pub(super) async fn page<T: Send + 'static>(
        &self,
        query: impl FnOnce(&View<'_>) -> Result<sqlite::Page<T>, sqlite::Error> + Send + 'static,
    ) -> Result<sqlite::Page<T>, Error> {
        let read = self.read(move |view| match query(view) {
            Err(sqlite::Error::Cursor(_)) => Ok(None),
            page => page.map(Some),
        });
        read.await?.ok_or(Error::BadCursor)
    }
}

pub(super) fn parse_cursor(cursor: Option<String>) -> Result<Option<sqlite::Cursor>, Error> {
    cursor.map(|text| text.parse().map_err(|_| Error::BadCursor)).transpose()
}

pub(super) fn page_rows(limit: usize) -> u32 {
    u32::try_from(limit.clamp(1, PAGE_MAX)).unwrap_or(u32::MAX)
}
