//! How all comes to rest, and what must be there then.

use std::time::Duration;

use pelago_core::link::{LANE_BYTES_MIN, Lane, Link};

use super::{End, NAMES, Pipe, ROUNDS_MAX, World, oracle::violated};
use crate::Violation;

impl World {
    /// No more faults and nothing new: everything under way ends, and there is one link.
    pub(super) fn rest(&mut self) -> Result<(), Violation> {
        for _ in 0..ROUNDS_MAX {
            let is_busy = self.round()?;
            let links = [self.current(0), self.current(1)];
            let is_whole = self.connections.values().flat_map(|one| &one.pipes).all(Pipe::is_whole);
            if !is_busy && links[0].is_some() && links[0] == links[1] && self.connections.len() == 1 && is_whole {
                return self.oracle.check_end();
            }
            if !is_busy {
                self.now = self.now + Duration::from_millis(200);
            }
            self.expire()?;
        }
        let states: Vec<_> =
            self.connections.values().map(|one| one.sides.each_ref().map(|side| &side.ended)).collect();
        violated("L7 (recovery)", format!("there is no rest, and no one link: {states:?}"))
    }

    /// Whatever can happen at once happens. Says whether anything did.
    pub(super) fn round(&mut self) -> Result<bool, Violation> {
        let mut is_busy = false;
        for end in 0..2 {
            self.dial(end)?;
            let all: Vec<u64> = self.connections.keys().copied().collect();
            for connection in all {
                let found = self.connections.get_mut(&connection).expect("it is there");
                while found.sides[end].has_unwritten() {
                    found.write(end, usize::MAX);
                    is_busy = true;
                }
                while self.connections[&connection].pipes[1 - end].has_news() {
                    self.read(connection, end, usize::MAX)?;
                    is_busy = true;
                }
            }
            let End { messages, questions, held, .. } = &self.ends[end];
            is_busy |= !(messages.is_empty() && questions.is_empty() && held.is_empty());
            self.work(end)?;
            self.let_go(end);
            self.part()?;
            // Asks that nobody answers are late at last.
            is_busy |= self.connections.values().any(|one| !one.sides[end].tickets.is_empty());
        }
        if is_busy {
            self.now = self.now + Duration::from_millis(20);
        }
        Ok(is_busy)
    }

    /// Nothing is under way: nothing may be missing.
    pub(super) fn check_idle(&mut self) -> Result<(), Violation> {
        let connection = self.current(0).expect("there is one link");
        for end in 0..2 {
            let account = self.connections[&connection].sides[end].names.account();
            self.oracle.account(connection, end, account)?;
            if account.under_way() > 0 {
                return violated("L4 (account)", format!("of what {end} told, nobody knows: {account:?}"));
            }
            let found = self.connections.get_mut(&connection).expect("there is one link");
            let sides = &mut found.sides;
            for name in 0..NAMES {
                if !sides[end].has_whole_window(name) {
                    return violated("L5 (nothing leaks)", format!("{end} has no whole window for name {name}"));
                }
            }
            for (number, (told, settled)) in &sides[end].told {
                if told != settled {
                    let text = format!("number {number} of {end} was told {told} bytes and has settled {settled}");
                    return violated("L5 (nothing leaks)", text);
                }
            }
            for lane in Lane::ALL {
                let owed = sides[1 - end].consumed[lane] - sides[1 - end].returned[lane];
                let may_send = chargeable(&mut sides[end].link, lane);
                let lane_bytes = u64::from(LANE_BYTES_MIN);
                if may_send + owed != lane_bytes || owed >= lane_bytes / 4 {
                    let text = format!("{end} may send {may_send} bytes in {lane:?}, and is owed {owed}");
                    return violated("L5 (nothing leaks)", text);
                }
            }
        }
        Ok(())
    }
}

/// How much may be sent in a lane, found by taking it.
fn chargeable(link: &mut Link, lane: Lane) -> u64 {
    let taken = (0..31).rev().map(|bit| 1 << bit).filter(|bytes| link.charge(lane, *bytes));
    taken.map(u64::from).sum()
}
