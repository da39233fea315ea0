//! What must hold of messages and questions over links, whatever breaks.

use std::collections::{BTreeMap, BTreeSet};

use pelago_core::link::Account;

use crate::Violation;

/// Remembers what was told and asked, and what became of it.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    /// The last that each end heard for a name over a connection.
    heard: BTreeMap<(u64, usize, u64), u64>,
    /// All that each end heard for a name.
    ever: BTreeSet<(usize, u64, u64)>,
    /// What each end told over a connection, and what of it the other end handled.
    told: BTreeMap<(u64, usize), u64>,
    handled: BTreeMap<(u64, usize), u64>,
    asked: BTreeSet<u64>,
    /// Asks that came to the other end.
    arrived: BTreeSet<u64>,
    ended: BTreeMap<u64, &'static str>,
}

impl Oracle {
    pub(super) fn told(&mut self, connection: u64, by: usize) {
        *self.told.entry((connection, by)).or_default() += 1;
    }

    /// The end `at` hears message `serial` for a name.
    pub(super) fn heard(&mut self, connection: u64, at: usize, name: u64, serial: u64) -> Result<(), Violation> {
        if !self.ever.insert((at, name, serial)) {
            return violated("L2 (at most once)", format!("message {serial} came twice for name {name} at {at}"));
        }
        let before = self.heard.insert((connection, at, name), serial);
        match before.filter(|before| *before >= serial) {
            Some(before) => violated("L1 (order)", format!("{serial} came after {before} for name {name} at {at}")),
            None => Ok(()),
        }
    }

    /// The end that does not tell handled one.
    pub(super) fn handled(&mut self, connection: u64, told_by: usize) {
        *self.handled.entry((connection, told_by)).or_default() += 1;
    }

    pub(super) fn asked(&mut self, ask: u64) {
        self.asked.insert(ask);
    }

    pub(super) fn arrived(&mut self, ask: u64) -> Result<(), Violation> {
        if !self.asked.contains(&ask) || !self.arrived.insert(ask) {
            return violated("L2 (at most once)", format!("ask {ask} came twice, or was never asked"));
        }
        if self.ended.get(&ask) == Some(&"refused") {
            return violated("L8 (no false word)", format!("ask {ask} came although it was said that it would not"));
        }
        Ok(())
    }

    pub(super) fn ended(&mut self, ask: u64, how: &'static str) -> Result<(), Violation> {
        if how == "replied" && !self.arrived.contains(&ask) {
            return violated("L3 (asks end once)", format!("ask {ask} has a reply and never came"));
        }
        if how == "refused" && self.arrived.contains(&ask) {
            return violated("L8 (no false word)", format!("ask {ask} came, and is said to have no effect"));
        }
        match self.ended.insert(ask, how) {
            Some(before) => violated("L3 (asks end once)", format!("ask {ask} is {how} after it was {before}")),
            None => Ok(()),
        }
    }

    /// A link has ended, or stands idle: what its end has in its account must be what happened.
    pub(super) fn account(&self, connection: u64, by: usize, account: Account) -> Result<(), Violation> {
        let told = self.told.get(&(connection, by)).copied().unwrap_or(0);
        let handled = self.handled.get(&(connection, by)).copied().unwrap_or(0);
        // Of what was handled the last word may not have come.
        if account.sent != told || account.handled > handled {
            return violated(
                "L4 (account)",
                format!("{told} were told, {handled} handled; the account has {account:?}"),
            );
        }
        Ok(())
    }

    /// Everything has come to rest.
    pub(super) fn check_end(&self) -> Result<(), Violation> {
        match self.asked.iter().find(|ask| !self.ended.contains_key(ask)) {
            Some(ask) => violated("L3 (asks end once)", format!("ask {ask} never ends")),
            None => Ok(()),
        }
    }

    /// How many asks ended so.
    pub(super) fn count(&self, how: &str) -> u64 {
        self.ended.values().filter(|ended| **ended == how).count() as u64
    }
}

pub(super) fn violated<T>(invariant: &'static str, what: String) -> Result<T, Violation> {
    Err(Violation::new(invariant, what))
}
