//! What must hold after every step.
//!
//! Only an applied item changes what is durable, so the invariants look at each one before anybody can read it. They
//! judge by what was written and by their own memory, never by asking the rules that they judge.

mod acknowledged;
mod attempts;
mod conservation;
mod events;
mod fencing;
mod nodes;
mod once;
mod one_owner;
mod timers;
mod versions;

use crate::{ledger::Applied, oracle::Oracle, store::MapRows};

/// Something that must never be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{invariant} is violated: {what}")]
pub struct Violation {
    /// Which invariant: its number and name.
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
}

impl Violation {
    pub(crate) fn new(invariant: &'static str, what: String) -> Self {
        Self { invariant, what }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Invariants {
    one_owner: one_owner::OneOwner,
    versions: versions::Versions,
    fencing: fencing::Fencing,
    pub(crate) once: once::Once,
    attempts: attempts::Attempts,
    events: events::Events,
    timers: timers::Timers,
    nodes: nodes::Nodes,
    pub(crate) acknowledged: acknowledged::Acknowledged,
    pub(crate) oracle: Oracle,
}

impl Invariants {
    /// Looks at an item that was decided; `before` is what was durable before it.
    pub(crate) fn check(&mut self, change: &Applied, before: &MapRows) -> Result<(), Violation> {
        self.one_owner.check(change, before)?;
        self.versions.check(change, before)?;
        self.fencing.check(change, before)?;
        conservation::check(change, before)?;
        self.once.check(change, before)?;
        self.attempts.check(change, before)?;
        self.events.check(change, before)?;
        self.timers.check(change)?;
        self.nodes.check(change, before)?;
        self.acknowledged.check(change);
        self.oracle.check(change, before)
    }

    /// Looks at what is durable at the end, when everything has healed and nothing is under way.
    pub(crate) fn check_end(&self, rows: &MapRows) -> Result<(), Violation> {
        self.acknowledged.check_end(rows)?;
        conservation::check_end(rows)?;
        self.timers.check_end(rows)?;
        self.oracle.check_end(rows)
    }
}
