//! What ends do with their link: tell, ask, write, read, handle, answer.

use std::time::Duration;

use pelago_core::link::{Input, Lane, RequestId};

use super::{Connection, End, NAMES, World, oracle::violated, side::Arrived};
use crate::Violation;

impl World {
    /// Mostly little; sometimes so much that credit and windows matter.
    pub(super) fn padding(&mut self) -> usize {
        match self.dice.below(20) {
            0 => self.dice.index(400 << 10),
            1..4 => self.dice.index(64 << 10),
            _ => self.dice.index(64),
        }
    }

    pub(super) fn tell(&mut self, end: usize, padding: usize) {
        let Some(connection) = self.current(end) else { return };
        let name = self.dice.below(NAMES);
        let serial = &mut self.ends[end].serials[usize::try_from(name).expect("there are few")];
        *serial += 1;
        let found = self.connections.get_mut(&connection).expect("it was just found");
        if found.sides[end].tell(name, *serial, padding) {
            self.told += 1;
            self.oracle.told(connection, end);
        }
    }

    pub(super) fn ask(&mut self, end: usize, lane: Lane, wait: Duration) -> bool {
        let Some(connection) = self.current(end) else { return false };
        let (ask, padding) = (self.asks + 1, self.dice.index(256));
        let found = self.connections.get_mut(&connection).expect("it was just found");
        let is_sent = found.sides[end].ask(lane, ask, padding, (self.now, self.now + wait));
        if is_sent {
            self.asks = ask;
            self.oracle.asked(ask);
        }
        is_sent
    }

    /// Any connection that an end still has bytes to write to, and some of them.
    pub(super) fn write_some(&mut self, end: usize, most: usize) {
        let with_bytes = |(id, one): (&u64, &Connection)| one.sides[end].has_unwritten().then_some(*id);
        let candidates: Vec<u64> = self.connections.iter().filter_map(with_bytes).collect();
        let Some(connection) = self.pick(&candidates) else { return };
        let bytes = self.piece().min(most);
        self.connections.get_mut(&connection).expect("it was picked").write(end, bytes);
    }

    /// Any connection that has bytes, or its end, for an end, and some of them.
    pub(super) fn read_some(&mut self, end: usize, most: usize) -> Result<(), Violation> {
        let with_bytes = |(id, one): (&u64, &Connection)| one.pipes[1 - end].has_news().then_some(*id);
        let candidates: Vec<u64> = self.connections.iter().filter_map(with_bytes).collect();
        let Some(connection) = self.pick(&candidates) else { return Ok(()) };
        let bytes = self.piece().min(most);
        self.read(connection, end, bytes)
    }

    pub(super) fn pick(&mut self, candidates: &[u64]) -> Option<u64> {
        (!candidates.is_empty()).then(|| candidates[self.dice.index(candidates.len())])
    }

    /// How many bytes are written or read at once: from one to all.
    pub(super) fn piece(&mut self) -> usize {
        match self.dice.below(4) {
            0 => 1 + self.dice.index(40),
            1 => 1 + self.dice.index(4 << 10),
            _ => 1 + self.dice.index(1 << 20),
        }
    }

    pub(super) fn read(&mut self, connection: u64, end: usize, bytes: usize) -> Result<(), Violation> {
        let found = self.connections.get_mut(&connection).expect("it is there");
        let (pipe, side) = (&mut found.pipes[1 - end], &mut found.sides[end]);
        let read = pipe.bytes.split_to(bytes.min(pipe.bytes.len()));
        if read.is_empty() {
            // Read once: afterwards this end has ended.
            pipe.has_ended = false;
            pipe.is_silent = true;
            return self.input(connection, end, Input::Lost);
        }
        side.receive(&read);
        side.link.heard(self.now);
        while let Some((arrived, charged)) = self.connections.get_mut(&connection).and_then(|one| one.sides[end].next())
        {
            match arrived {
                Arrived::Input(input) => self.input(connection, end, input)?,
                Arrived::Told(message) => {
                    self.oracle.heard(connection, end, message.name, message.serial)?;
                    self.ends[end].messages.push((connection, message));
                }
                Arrived::Asked(question) => {
                    self.oracle.arrived(question.ask)?;
                    self.ends[end].questions.push((connection, question));
                }
                Arrived::Replied(ticket, said) => {
                    let ask = self.ask_of(connection, end, ticket)?;
                    match said {
                        Some(said) if said != ask => {
                            return violated("L3 (asks end once)", format!("ask {ask} has the reply to {said}"));
                        }
                        Some(_) => self.oracle.ended(ask, "replied")?,
                        None => self.oracle.ended(ask, "given no reply")?,
                    }
                }
                Arrived::Nothing => {}
            }
            if let Some((lane, bytes)) = charged {
                self.ends[end].held.push((connection, lane, bytes));
            }
        }
        Ok(())
    }

    /// An agent does something: a message or a question, the oldest of its name first.
    pub(super) fn work(&mut self, end: usize) -> Result<(), Violation> {
        let times = self.dice.between(1, 8);
        for _ in 0..times {
            let (is_handled, is_refused) = (!self.dice.chance(100), self.dice.chance(100));
            let End { messages, questions, .. } = &mut self.ends[end];
            if !messages.is_empty() {
                // Names do not wait for each other.
                let name = messages[self.dice.index(messages.len())].1.name;
                let at = messages.iter().position(|(_, message)| message.name == name).expect("it was just seen");
                let (connection, message) = messages.remove(at);
                if is_handled {
                    self.handled += 1;
                    self.oracle.handled(connection, 1 - end);
                }
                if let Some(found) = self.connections.get_mut(&connection) {
                    found.sides[end].settle(&message, is_handled);
                }
            }
            if !questions.is_empty() {
                let at = self.dice.index(questions.len());
                let (connection, question) = questions[at].clone();
                let padding = self.dice.index(256);
                let answer = |one: &mut Connection| one.sides[end].answer(&question, padding, is_refused);
                if self.connections.get_mut(&connection).is_none_or(answer) {
                    questions.remove(at);
                }
            }
        }
        Ok(())
    }

    /// What was read is let go of, and may be sent again.
    pub(super) fn let_go(&mut self, end: usize) {
        for (connection, lane, bytes) in std::mem::take(&mut self.ends[end].held) {
            if let Some(found) = self.connections.get_mut(&connection) {
                found.sides[end].consume(lane, bytes);
            }
        }
    }

    /// Whoever waits for a reply goes.
    pub(super) fn call_off(&mut self, end: usize) -> Result<(), Violation> {
        let Some(connection) = self.current(end) else { return Ok(()) };
        let side = &mut self.connections.get_mut(&connection).expect("it was just found").sides[end];
        let (lane, back) = (Lane::ALL[self.dice.index(3)], self.dice.between(1, 4));
        // The names of asks are given in order: one of the last.
        let next = side.link.next_request(lane).map_or(0, |next| next.0);
        let id = RequestId(next.saturating_sub(back));
        if let Some((ticket, control)) = side.link.cancel(lane, id) {
            side.put_control(&control);
            let ask = self.ask_of(connection, end, ticket)?;
            self.oracle.ended(ask, "called off")?;
        }
        Ok(())
    }
}
