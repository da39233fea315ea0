//! The leader in the world: elections, what it is asked, and batches.

use std::time::Duration;

use pelago_core::{
    id::Holder,
    record::{Stamp, Write},
    time::{LogTime, Time},
};

use super::{Event, TICK, World};
use crate::{
    faults::Fault,
    invariants::Violation,
    leader::Leader,
    log::Applied,
    network::{Found, Packet, Place, ProposalKey},
    node,
    trace::Short,
};

/// Messages of one agent that one look-up finds.
const FOUND_MAX: usize = 8;
/// The day on which every simulation begins, in milliseconds since 1970.
const BEGINNING: LogTime = LogTime::from_millis(1_700_000_000_000);

impl World {
    pub(super) fn elect(&mut self, clock_ahead_ms: u64) {
        if self.leader.is_some() {
            return;
        }
        self.terms += 1;
        let millis = u64::try_from((self.now - Time::ZERO).as_millis()).expect("a run is short");
        let clock = BEGINNING.plus_millis(millis + clock_ahead_ms).max(self.log.rows.time);
        self.trace.note(self.now, || format!("leader of term {}", self.terms));
        self.leader = Some(Leader::new(self.terms, self.now, clock, &self.log.rows, &mut self.dice));
        self.flush_soon();
        self.after(TICK, Event::Tick { term: self.terms });
        // A new leader wakes everybody: what its predecessor said may not have arrived.
        for holder in self.log.rows.live().collect::<Vec<Holder>>() {
            let to = node::place(holder.node, &self.log.rows);
            self.send(Place::Leader, to, Packet::Wake);
        }
    }

    pub(super) fn lose_leader(&mut self, election: Duration, clock_ahead_ms: u64) {
        self.leader = None;
        self.after(election, Event::Elect { clock_ahead_ms });
    }

    pub(super) fn ask_leader(&mut self, from: Place, packet: Packet) {
        let Some(leader) = &mut self.leader else { return };
        let rows = &self.log.rows;
        match packet {
            Packet::Propose { key, op } => {
                leader.propose(Some(key), op, rows);
                self.flush_soon();
            }
            Packet::Heartbeat { holder, sent } => {
                let may_act = leader.heartbeat(self.now, holder, rows);
                let nodes = rows.live().map(|holder| (holder, node::place(holder.node, rows))).collect();
                self.send(Place::Leader, from, Packet::Granted { holder, sent, may_act, nodes });
            }
            Packet::Load { boot, from: node, activation, load, agent, holder } => {
                let kept = rows.kept(&agent);
                let held_elsewhere = rows.holder(&agent).is_some_and(|other| other != holder);
                let packet = Packet::Loaded { boot, activation, load, kept, held_elsewhere };
                self.send(Place::Leader, Place::Node(node), packet);
            }
            Packet::LookUp { holder, sent } => {
                let messages = rows.messages_for(holder, FOUND_MAX);
                let found = Found { messages, attempts: rows.attempts_of(holder) };
                self.send(Place::Leader, from, Packet::Found { holder, sent, found });
            }
            Packet::Decided { .. }
            | Packet::Granted { .. }
            | Packet::Loaded { .. }
            | Packet::Found { .. }
            | Packet::Wake
            | Packet::AttemptGone { .. }
            | Packet::Ask(_)
            | Packet::Answer { .. } => unreachable!("the leader is asked only"),
        }
    }

    fn flush_soon(&mut self) {
        if let Some(leader) = &mut self.leader
            && leader.begin_flush()
        {
            let (term, wait) = (leader.term, Duration::from_micros(self.dice.between(200, 3_000)));
            self.after(wait, Event::Flush { term });
        }
    }

    pub(super) fn flush(&mut self, term: u64) -> Result<(), Violation> {
        let Some(leader) = self.leader.as_mut().filter(|leader| leader.term == term) else { return Ok(()) };
        let (waiting, batch): (Vec<_>, Vec<_>) = leader.take_batch().into_iter().unzip();
        let clock = leader.clock(self.now);
        let fault = self.batch_fault.take();
        if let Some(fault) = &fault {
            self.tally.count(fault.kind());
        }
        if let Some(Fault::FailBatch { applied: false, election }) = fault {
            self.trace.note(self.now, || format!("a batch of {} is rolled back", batch.len()));
            self.lose_leader(election, 0);
            return Ok(());
        }
        let all = self.log.append(clock, batch, &mut self.invariants)?;
        all.iter().for_each(|applied| self.note(applied));
        if let Some(Fault::FailBatch { election, .. }) = fault {
            self.trace.note(self.now, || "the answers of the batch are lost".to_owned());
            self.lose_leader(election, 0);
            return Ok(());
        }
        self.answer(waiting, all);
        self.flush_soon();
        Ok(())
    }

    fn note(&mut self, applied: &Applied) {
        let Stamp { index, item, .. } = applied.stamp;
        self.trace.note(self.now, || format!("{index}.{item}: {} ⇒ {:?}", Short(&applied.op), applied.outcome));
        if let Some(kind) = applied.sighting() {
            self.sightings.count(kind);
        }
        let counts = |write: &&Write| matches!(write, Write::Agent { .. } | Write::Task { .. });
        self.commits += applied.writes.iter().filter(counts).count() as u64;
    }

    fn answer(&mut self, waiting: Vec<Option<ProposalKey>>, all: Vec<Applied>) {
        let Some(leader) = &mut self.leader else { return };
        let mut packets = Vec::new();
        for (key, applied) in waiting.into_iter().zip(all) {
            packets.extend(leader.applied(self.now, &applied, &self.log.rows, &mut self.dice));
            packets.extend(key.map(|key| (key.from, Packet::Decided { key, outcome: applied.outcome })));
        }
        for (to, packet) in packets {
            self.send(Place::Leader, to, packet);
        }
    }

    pub(super) fn tick(&mut self, term: u64) {
        let Some(leader) = self.leader.as_mut().filter(|leader| leader.term == term) else { return };
        leader.tick(self.now, &self.log.rows, &mut self.dice);
        self.flush_soon();
        self.after(TICK, Event::Tick { term });
    }
}
