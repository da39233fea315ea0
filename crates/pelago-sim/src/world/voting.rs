//! Voters in the world: their elections, their disks, and what they tell each other.

use std::time::Duration;

use pelago_core::{id::BootId, time::Time};

use super::{Event, TICK, World};
use crate::{
    invariants::Violation,
    network::{Packet, Place},
    voter::{self, Message, Voter},
};

/// Something a voter waits for.
#[derive(Debug, Clone, Copy)]
pub(super) enum OfVoter {
    Campaign,
    Flushed,
    Batch { term: u64 },
    Tick { term: u64 },
}

impl World {
    pub(super) fn after_of_voter(&mut self, node: usize, wait: Duration, what: OfVoter) {
        if let Some(boot) = self.boot(node) {
            self.after(wait, Event::OfVoter { node, boot, what });
        }
    }

    fn boot(&self, node: usize) -> Option<BootId> {
        self.nodes[node].process.as_ref().map(|process| process.boot)
    }

    pub(super) fn of_voter(&mut self, node: usize, boot: BootId, what: OfVoter) -> Result<(), Violation> {
        if self.boot(node) != Some(boot) {
            return Ok(());
        }
        let seat = &self.nodes[node];
        if seat.paused_until > self.now {
            let until = seat.paused_until;
            self.at(until, Event::OfVoter { node, boot, what });
            return Ok(());
        }
        match what {
            OfVoter::Campaign => self.campaign(node),
            OfVoter::Flushed => self.flushed(node),
            OfVoter::Batch { term } => self.batch(node, term),
            OfVoter::Tick { term } => self.tick(node, term),
        }
    }

    pub(super) fn start_voter(&mut self, node: usize) -> Result<(), Violation> {
        self.in_voter(node, Voter::start)?;
        self.campaign_later(node);
        Ok(())
    }

    fn campaign_later(&mut self, node: usize) {
        let wait = self.nodes[node].voter.campaign_at() - self.now;
        self.after_of_voter(node, wait, OfVoter::Campaign);
    }

    fn campaign(&mut self, node: usize) -> Result<(), Violation> {
        let due: Time = self.nodes[node].voter.campaign_at();
        if due <= self.now {
            self.in_voter(node, Voter::campaign)?;
        }
        self.campaign_later(node);
        Ok(())
    }

    fn flushed(&mut self, node: usize) -> Result<(), Violation> {
        if let Some(down) = self.nodes[node].flush_fails.take() {
            self.tally.count("flush failed");
            self.trace.note(self.now, || format!("node {node}: a flush failed"));
            self.crash(node, down);
            return Ok(());
        }
        self.in_voter(node, Voter::flushed)
    }

    pub(super) fn hear(&mut self, node: usize, from: usize, message: Message) -> Result<(), Violation> {
        if self.nodes[node].process.is_none() {
            return Ok(());
        }
        self.in_voter(node, |voter, cx| voter.receive(from, message, cx))
    }

    /// Lets a voter take a step, and does what follows from it.
    pub(super) fn in_voter(
        &mut self,
        node: usize,
        step: impl FnOnce(&mut Voter, &mut voter::Context<'_>),
    ) -> Result<(), Violation> {
        let (wall, mut out) = (self.wall(node), Vec::new());
        let seat = &mut self.nodes[node];
        let (led, cut_off) = (seat.voter.leads(), seat.voter.log.cut_off());
        step(&mut seat.voter, &mut voter::Context { now: self.now, wall, dice: &mut self.dice, out: &mut out });
        for (to, message) in out {
            self.send(Place::Node(node), Place::Node(to), Packet::Raft(message));
        }
        if self.nodes[node].voter.log.cut_off() > cut_off {
            self.sightings.count("batch vanished");
        }
        self.flush(node);
        let leads = self.nodes[node].voter.leads();
        if leads != led {
            self.nodes[node].leader = None;
            self.elected(node, leads)?;
        }
        self.apply(node)?;
        self.confirm_reads(node)
    }

    fn flush(&mut self, node: usize) {
        if !self.nodes[node].voter.log.begin_flush() {
            return;
        }
        let wait = match self.nodes[node].slow_flush {
            Some(slow) => slow,
            None => Duration::from_micros(self.dice.between(100, 1_500)),
        };
        self.after_of_voter(node, wait, OfVoter::Flushed);
    }

    fn elected(&mut self, node: usize, leads: Option<u64>) -> Result<(), Violation> {
        let Some(term) = leads else {
            self.trace.note(self.now, || format!("node {node} leads no more"));
            return Ok(());
        };
        self.trace.note(self.now, || format!("node {node} leads in term {term}"));
        self.sightings.count("leader elected");
        let seat = &mut self.nodes[node];
        seat.applied = self.ledger.check_leader(term, &seat.voter.log)?;
        self.after_of_voter(node, TICK, OfVoter::Tick { term });
        Ok(())
    }
}
