//! What connections do and suffer: they are dialled, age, break, and carry out what their machines decide.

use std::time::Duration;

use pelago_core::link::{Config, Effect, Ended, Goodbye, Input, Link, LinkId, Role, Ticket, Unanswered};

use super::{Connection, End, Pipe, World, oracle::violated, side::Side};
use crate::Violation;

impl World {
    /// Time passes: a little, or up to what is due next.
    pub(super) fn pass(&mut self) -> Result<(), Violation> {
        let soon = self.now + Duration::from_millis(self.dice.between(0, 40));
        let deadlines =
            self.connections.values().flat_map(|one| one.sides.iter().filter_map(|side| side.link.deadline()));
        let next = deadlines.min().unwrap_or(soon);
        self.now = if self.dice.chance(100) { self.now.max(next) } else { soon };
        self.expire()
    }

    /// Links that both ends have closed end once nothing is unanswered.
    pub(super) fn part(&mut self) -> Result<(), Violation> {
        let all: Vec<u64> = self.connections.keys().copied().collect();
        for (connection, end) in all.into_iter().flat_map(|id| [(id, 0), (id, 1)]) {
            let mut effects = Vec::new();
            let found = self.connections.get_mut(&connection).expect("it is there");
            found.sides[end].link.part(&mut effects);
            self.carry_out(connection, end, effects)?;
        }
        Ok(())
    }

    pub(super) fn expire(&mut self) -> Result<(), Violation> {
        let all: Vec<u64> = self.connections.keys().copied().collect();
        for (connection, end) in all.into_iter().flat_map(|id| [(id, 0), (id, 1)]) {
            let Some(found) = self.connections.get_mut(&connection) else { continue };
            let mut effects = Vec::new();
            if found.sides[end].link.deadline().is_some_and(|deadline| deadline <= self.now) {
                found.sides[end].link.expire(self.now, &mut effects);
                found.has_failed |= effects.iter().any(|effect| matches!(effect, Effect::Down(_)));
            }
            self.carry_out(connection, end, effects)?;
        }
        self.sweep();
        Ok(())
    }

    /// A connection breaks at any byte of either direction, with or without a word.
    pub(super) fn break_off(&mut self) -> Result<(), Violation> {
        let candidates: Vec<u64> = self.connections.keys().copied().collect();
        let Some(connection) = self.pick(&candidates) else { return Ok(()) };
        self.breaks += 1;
        let is_silent = self.dice.chance(200);
        for pipe in 0..2 {
            let found = self.connections.get_mut(&connection).expect("it was picked");
            found.has_failed = true;
            let Pipe { bytes, has_ended, is_silent: silent } = &mut found.pipes[pipe];
            bytes.truncate(self.dice.index(bytes.len() + 1));
            (*has_ended, *silent) = (!is_silent, *silent || is_silent);
            if is_silent {
                bytes.clear();
            }
        }
        Ok(())
    }

    /// An end that has no link dials.
    pub(super) fn dial(&mut self, end: usize) -> Result<(), Violation> {
        let other = &self.ends[1 - end].me.node_name;
        if self.now < self.ends[end].dial_at || self.ends[end].table.find(other, Role::Main).is_some() {
            return Ok(());
        }
        self.ends[end].dial_at = self.now + Duration::from_secs(3_600);
        self.last += 1;
        let (config, connection) = (Config::default(), self.last);
        let mut effects = Vec::new();
        let dialled = Link::dialled(config, self.ends[end].me.clone(), self.now, &mut effects);
        let accepted = Link::accepted(config, self.ends[1 - end].me.clone(), self.now);
        let (dialled, accepted) = (Side::new(dialled), Side::new(accepted));
        let sides = if end == 0 { [dialled, accepted] } else { [accepted, dialled] };
        let pipes = Default::default();
        self.connections.insert(connection, Connection { sides, pipes, dialled_by: end, has_failed: false });
        self.carry_out(connection, end, effects)
    }

    pub(super) fn input(&mut self, connection: u64, end: usize, input: Input) -> Result<(), Violation> {
        let mut effects = Vec::new();
        let found = self.connections.get_mut(&connection).expect("it is there");
        found.sides[end].link.handle(self.now, input, &mut effects);
        self.carry_out(connection, end, effects)
    }

    pub(super) fn carry_out(&mut self, connection: u64, end: usize, effects: Vec<Effect>) -> Result<(), Violation> {
        for effect in effects {
            let side = &mut self.connections.get_mut(&connection).expect("it is there").sides[end];
            match effect {
                Effect::Send(control) => side.put_control(&control),
                Effect::Judge(terms) => {
                    let End { me, table, .. } = &mut self.ends[end];
                    let verdict = table.enter(me, &terms, LinkId(connection));
                    self.input(connection, end, Input::Judged(verdict.clone().map(|_| ())))?;
                    if let Ok(Some(LinkId(replaced))) = verdict
                        && self.connections.contains_key(&replaced)
                    {
                        self.input(replaced, end, Input::Close(Goodbye::Replaced))?;
                    }
                }
                Effect::Up(_) => {
                    side.greeted();
                    self.links += 1;
                    if self.connections[&connection].dialled_by == end {
                        self.ends[end].dialer.up(self.now);
                    }
                }
                Effect::Credited(_) | Effect::Closing => {}
                Effect::Unanswered { why: Unanswered::LinkDown, .. } if !self.connections[&connection].has_failed => {
                    return violated("L9 (closing in order)", format!("{end} is in doubt, though no link failed"));
                }
                Effect::Unanswered { ticket, why } => {
                    let ask = self.ask_of(connection, end, ticket)?;
                    let how = match why {
                        Unanswered::Deadline => "late",
                        Unanswered::Refused => "refused",
                        Unanswered::LinkDown => "cut off",
                    };
                    self.oracle.ended(ask, how)?;
                }
                Effect::Down(ended) => self.down(connection, end, ended)?,
            }
        }
        Ok(())
    }

    pub(super) fn down(&mut self, connection: u64, end: usize, ended: Ended) -> Result<(), Violation> {
        let found = self.connections.get_mut(&connection).expect("it is there");
        let side = &mut found.sides[end];
        if let Ended::Broken(flaw) = &ended {
            return violated("L6 (sound ends)", format!("{end} takes the other end for broken: {flaw}"));
        }
        if matches!(ended, Ended::ClosedHere(Goodbye::Broken) | Ended::ClosedThere(Goodbye::Broken)) {
            return violated("L6 (sound ends)", format!("{end}: {ended}"));
        }
        side.ended = Some(ended);
        let account = side.names.account();
        self.oracle.account(connection, end, account)?;
        let is_dialler = found.dialled_by == end;
        let End { table, dialer, dial_at, .. } = &mut self.ends[end];
        table.leave(LinkId(connection));
        if is_dialler {
            *dial_at = self.now + dialer.down(self.now, u32::MAX / 2);
        }
        Ok(())
    }

    /// The ask that waits behind a ticket of a link: the link names it once.
    pub(super) fn ask_of(&mut self, connection: u64, end: usize, ticket: Ticket) -> Result<u64, Violation> {
        let side = &mut self.connections.get_mut(&connection).expect("it is there").sides[end];
        match side.tickets.remove(&ticket) {
            Some(ask) => Ok(ask),
            None => violated("L3 (asks end once)", format!("ticket {} of {end} ends twice", ticket.0)),
        }
    }

    /// Forgets connections that are over at both ends.
    pub(super) fn sweep(&mut self) {
        self.connections.retain(|_, one| one.sides.iter().any(|side| side.ended.is_none()));
    }
}
