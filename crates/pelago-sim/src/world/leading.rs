//! The leader in the world: what it is asked, its batches, and what it reads for others.

use std::time::Duration;

use pelago_core::{
    id::Holder,
    lease::Confirmation,
    record::{Op, Stamp, Write},
    time::LogTime,
};

use super::{OfVoter, World};
use crate::{
    faults::Fault,
    invariants::Violation,
    leader::{Leader, Read},
    ledger::Applied,
    network::{Found, Packet, Place, ProposalKey},
    node,
    trace::Short,
};

/// Messages of one agent that one look-up finds.
const FOUND_MAX: usize = 8;

impl World {
    /// The leader of the latest term, as far as there is one.
    pub(super) fn leader(&self) -> Option<&Leader> {
        self.nodes.iter().filter_map(|seat| seat.leader.as_ref()).max_by_key(|leader| leader.term)
    }

    /// The first entry of a node's term was applied.
    pub(super) fn begin_leading(&mut self, node: usize, term: u64) {
        let rows = &self.ledger.rows;
        self.nodes[node].leader = Some(Leader::new(term, self.clock(node), rows, &mut self.dice));
        self.gather_soon(node);
        // A new leader wakes everybody: what its predecessor said may not have arrived.
        for holder in self.ledger.rows.live().collect::<Vec<Holder>>() {
            if let Some(to) = node::place(holder.node, &self.ledger.rows) {
                self.send(Place::Node(node), to, Packet::Wake);
            }
        }
    }

    pub(super) fn ask_leader(&mut self, node: usize, from: Place, packet: Packet) -> Result<(), Violation> {
        let now = self.clock(node);
        // Who is not the leader has not appended anything.
        let Some(leader) = &mut self.nodes[node].leader else { return Ok(()) };
        if let Packet::Propose { key, op } = packet {
            leader.propose(Some(key), op, &self.ledger.rows);
            self.gather_soon(node);
            return Ok(());
        }
        if let Packet::Heartbeat { holder, beat, draining } = packet {
            if draining {
                leader.takes_no_tasks(now, holder, &self.ledger.rows, &mut self.dice);
            }
            leader.heartbeat(now, from, holder, beat, &self.ledger.rows);
        } else {
            leader.reads.push(Read::Rows(from, Box::new(packet)));
        }
        self.speak(node);
        self.confirm_reads(node)
    }

    fn gather_soon(&mut self, node: usize) {
        if let Some(leader) = &mut self.nodes[node].leader
            && leader.begin_gathering()
        {
            let (term, wait) = (leader.term, Duration::from_micros(self.dice.between(50, 2_000)));
            self.after_of_voter(node, wait, OfVoter::Batch { term });
        }
    }

    pub(super) fn batch(&mut self, node: usize, term: u64) -> Result<(), Violation> {
        let now = self.clock(node);
        let seat = &mut self.nodes[node];
        let Some(leader) = seat.leader.as_mut().filter(|leader| leader.term == term) else { return Ok(()) };
        let (waiting, batch): (Vec<_>, Vec<_>) = leader.take_batch().into_iter().unzip();
        let clock = leader.clock(now);
        leader.appended(seat.voter.log.len() + 1, waiting);
        let crashes = self.take_crash(false);
        self.in_voter(node, |voter, cx| {
            voter.propose(clock, batch.into(), cx);
        })?;
        if let Some(down) = crashes {
            self.crash(node, down);
        }
        self.gather_soon(node);
        Ok(())
    }

    /// Applies what was committed, and answers those who wait for it.
    pub(super) fn apply(&mut self, node: usize) -> Result<(), Violation> {
        while let Some(term) = self.nodes[node].voter.leads()
            && self.nodes[node].applied < self.nodes[node].voter.committed()
        {
            let seat = &self.nodes[node];
            let index = seat.applied + 1;
            let at = seat.voter.log.position(index);
            let hold = self.nodes.iter().filter(|seat| seat.voter.log.holds(at)).count();
            let by_majority = hold > self.nodes.len() / 2;
            let (log, is_new) = (&seat.voter.log, index > self.ledger.len());
            let items = self.ledger.apply(index, term, log, by_majority, &mut self.invariants)?;
            self.nodes[node].applied = index;
            if is_new {
                items.iter().try_for_each(|applied| self.note(applied))?;
            }
            if is_new && at.term != term && !items.is_empty() {
                self.sightings.count("batch in doubt was committed");
            }
            if at.term != term {
                continue;
            }
            if items.is_empty() {
                self.begin_leading(node, term);
            } else if let Some(down) = self.take_crash(true) {
                self.crash(node, down);
            } else {
                self.answer(node, index, &items);
            }
        }
        Ok(())
    }

    /// For how long the leader goes down, if it is to crash at this point.
    fn take_crash(&mut self, at_apply: bool) -> Option<Duration> {
        let due =
            self.crash_at.take_if(|fault| matches!(fault, Fault::CrashAt { applied, .. } if *applied == at_apply))?;
        self.tally.count(due.kind());
        if let Fault::CrashAt { down, .. } = due { Some(down) } else { None }
    }

    fn note(&mut self, applied: &Applied) -> Result<(), Violation> {
        let Stamp { index, item, .. } = applied.stamp;
        self.trace.note(self.now, || format!("{index}.{item}: {} ⇒ {:?}", Short(&applied.op), applied.outcome));
        if let Some(kind) = applied.sighting() {
            self.sightings.count(kind);
        }
        let counts = |write: &&Write| matches!(write, Write::Agent { .. } | Write::Task { .. });
        self.commits += applied.writes.iter().filter(counts).count() as u64;
        self.check_lease(applied)
    }

    /// A run that is given up has seen its lease lapse, if clocks differ by no more than is said and nobody was told of
    /// lost links.
    fn check_lease(&self, applied: &Applied) -> Result<(), Violation> {
        if let Op::Expire(expire) = &applied.op
            && !applied.writes.is_empty()
            && self.plan.keeps_leases
        {
            let leased = |node: usize| self.nodes[node].process.as_ref()?.leased(self.clock(node));
            if let Some(node) = (0..self.nodes.len()).find(|node| leased(*node) == Some(expire.holder)) {
                let what = format!("{} was given up, and node {node} may act by its lease", expire.holder);
                return Err(Violation::new("node leases", what));
            }
        }
        Ok(())
    }

    fn answer(&mut self, node: usize, index: usize, items: &[Applied]) {
        let now = self.clock(node);
        let Some(leader) = &mut self.nodes[node].leader else { return };
        let waiting: Vec<Option<ProposalKey>> = leader.take_waiting(index);
        for (key, applied) in waiting.into_iter().zip(items) {
            leader.applied(now, applied, &self.ledger.rows, &mut self.dice);
            leader.out.extend(key.map(|key| (key.from, Packet::Decided { key, outcome: applied.outcome.clone() })));
        }
        self.speak(node);
    }

    /// Does what a leader wants.
    fn speak(&mut self, node: usize) {
        let Some(leader) = &mut self.nodes[node].leader else { return };
        for (to, packet) in std::mem::take(&mut leader.out) {
            self.send(Place::Node(node), to, packet);
        }
        self.gather_soon(node);
    }

    /// Something befell a node that may or may not end its link: then those who lead and are awake hear of it.
    pub(super) fn lose_link(&mut self, holder: Option<Holder>) {
        let Some(holder) = holder.filter(|_| !self.plan.keeps_leases && self.dice.chance(500)) else { return };
        for node in 0..self.nodes.len() {
            let now = self.clock(node);
            let seat = &mut self.nodes[node];
            if let Some(leader) = seat.leader.as_mut().filter(|_| seat.paused_until <= self.now) {
                leader.link_lost(now, holder, &self.ledger.rows);
            }
        }
    }

    pub(super) fn tick(&mut self, node: usize, term: u64) -> Result<(), Violation> {
        if self.nodes[node].voter.leads() != Some(term) {
            return Ok(());
        }
        let now = self.clock(node);
        if let Some(leader) = &mut self.nodes[node].leader {
            leader.tick(now, &self.ledger.rows, &mut self.dice);
            if self.plan.removes {
                leader.remove(&self.ledger.rows, &mut self.dice);
            }
            if self.plan.sweeps {
                leader.sweep(now, &self.ledger.rows, &mut self.dice);
            }
            self.speak(node);
        }
        self.after_of_voter(node, super::TICK, OfVoter::Tick { term });
        self.in_voter(node, |voter, cx| {
            voter.replicate(cx);
        })
    }

    /// Answers the reads that a majority has confirmed, and begins a round for those that came meanwhile.
    pub(super) fn confirm_reads(&mut self, node: usize) -> Result<(), Violation> {
        let seat = &mut self.nodes[node];
        let Some(leader) = &mut seat.leader else { return Ok(()) };
        for read in leader.reads.confirmed(seat.voter.confirmed()) {
            match read {
                Read::Rows(from, packet) => self.read(node, from, *packet),
                Read::Leases(confirmation) => self.grant(node, confirmation),
            }
        }
        if self.nodes[node].leader.as_ref().is_some_and(|leader| leader.reads.wants_round()) {
            let round = self.nodes[node].voter.next_round();
            if let Some(leader) = &mut self.nodes[node].leader {
                leader.reads.begin(round);
            }
            self.in_voter(node, |voter, cx| {
                voter.replicate(cx);
            })?;
        }
        Ok(())
    }

    fn grant(&mut self, node: usize, confirmation: Confirmation) {
        let now = self.clock(node);
        if let Some(leader) = &mut self.nodes[node].leader {
            leader.confirmed(now, confirmation, &self.ledger.rows);
        }
        self.speak(node);
    }

    /// The log's time as a node that looks for timers believes it to be, which may be too late.
    fn believed_time(&mut self, node: usize) -> LogTime {
        let now = self.clock(node);
        let time = self.nodes[node].leader.as_ref().map_or(self.ledger.rows.time, |leader| leader.clock(now));
        let ahead_ms = if self.dice.chance(100) { self.dice.below(1_000) } else { 0 };
        time.max(self.ledger.rows.time).plus_millis(ahead_ms)
    }

    fn read(&mut self, node: usize, from: Place, packet: Packet) {
        let believed = if self.ledger.rows.timers.is_empty() { LogTime::ZERO } else { self.believed_time(node) };
        let rows = &self.ledger.rows;
        let (to, packet) = match packet {
            Packet::Load { boot, from: node, activation, load, agent, holder } => {
                let kept = rows.kept(&agent);
                let held_elsewhere = rows.holder(&agent).is_some_and(|other| other != holder);
                (Place::Node(node), Packet::Loaded { boot, activation, load, kept, held_elsewhere })
            }
            Packet::LookUp { holder, sent } => {
                let mut messages = rows.timers_for(holder, believed, FOUND_MAX);
                messages.extend(rows.messages_for(holder, FOUND_MAX));
                let found = Found { messages, attempts: rows.attempts_of(holder) };
                (from, Packet::Found { holder, sent, found })
            }
            Packet::Raft(_)
            | Packet::Heartbeat { .. }
            | Packet::Propose { .. }
            | Packet::Decided { .. }
            | Packet::Granted { .. }
            | Packet::Over { .. }
            | Packet::Loaded { .. }
            | Packet::Found { .. }
            | Packet::Wake
            | Packet::AttemptGone { .. }
            | Packet::Ask(_)
            | Packet::Answer { .. } => unreachable!("it is no read"),
        };
        self.send(Place::Node(node), to, packet);
    }

    /// The day on which every simulation begins, in milliseconds since 1970, and what has passed since.
    pub(super) fn wall(&self, node: usize) -> LogTime {
        const BEGINNING: u64 = 1_700_000_000_000;
        let clock = self.nodes[node].clock;
        LogTime::from_millis((BEGINNING + self.now.as_micros() / 1_000).saturating_add_signed(clock.wall_ahead_ms))
    }
}
