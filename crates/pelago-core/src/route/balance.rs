//! What one node knows of the candidates for one agent, and its choices between them.

use std::{ops::Range, time::Duration};

use super::{
    bits::Bits,
    candidate::{Candidate, Prefer},
    health::Health,
    home::sticking,
    latency::Latency,
    ring::Ring,
    strategy::{Admitted, Field, Strategy},
};
use crate::{id::Holder, time::Time};

/// How long it counts what a candidate said to have in flight: less from moment to moment.
const SAID_FOR: Duration = Duration::from_millis(500);
/// Whoever waits less than this for an answer learns nothing of the candidate.
const GIVEN_UP_MIN: Duration = Duration::from_secs(1);

/// When a probe may be sent while all that are open are being tried.
const NEVER: Time = Time::from_micros(u64::MAX);

/// Chooses between the candidates for one agent.
///
/// A request is [chosen](Self::choose) for, [begun](Self::begin), and [ended](Self::end) once.
#[derive(Debug)]
pub struct Balance {
    strategy: Strategy,
    prefer: Prefer,
    /// Those of the nearest tier first.
    members: Vec<Member>,
    tiers: Vec<Range<usize>>,
    ring: Ring,
    turn: usize,
    in_flight: u32,
    /// What candidates said lately to have in flight from others, in the mean, in sixteenths.
    others: u32,
    /// How many are not closed, and when the first of them may be tried.
    open: usize,
    probe_at: Time,
}

/// A candidate, and what was learnt of it.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) candidate: Candidate,
    pub(super) in_flight: u32,
    away_until: Time,
    health: Health,
    pub(super) latency: Latency,
    /// What it had in flight from others, as it said, and when.
    others: u32,
    said: Time,
    /// How much it is behind its weight.
    pub(super) due: i64,
}

/// Whom a request goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// The candidate.
    pub holder: Holder,
    /// Why this one.
    pub reason: Reason,
    /// Where it stood in the list, if that has not changed.
    index: usize,
}

/// Why a candidate was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// By the strategy, of the nearest.
    Strategy,
    /// By the strategy, of those farther off: no nearer one has room.
    Farther,
    /// To see whether it works again.
    Probe,
    /// It has no room, or takes nothing for the moment, but no other has or does.
    LastResort,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Strategy, Self::Farther, Self::Probe, Self::LastResort];

    /// Its name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Strategy => "strategy",
            Self::Farther => "farther",
            Self::Probe => "probe",
            Self::LastResort => "last-resort",
        }
    }
}

/// Why nobody was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoChoice {
    /// There are no candidates.
    Nobody,
    /// All failed too often. One of them is tried again after so long.
    AllOpen {
        /// Zero while one is being tried.
        again: Duration,
    },
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Answered {
        /// After how long.
        took: Duration,
        /// How many requests the candidate still had in flight, from everybody, if it said so.
        in_flight: Option<u32>,
    },
    /// It was answered that it cannot be done: the candidate works, and that is no measure of how quick it is.
    Refused,
    /// The candidate failed, or did not answer in time.
    Failed,
    /// The candidate took nothing: it is draining, it has no room, or there is no link with it. It is left alone for so
    /// long, unless there is no other.
    Away(Duration),
    /// Nobody waited for an answer any longer than this. It is a failure if that is much longer than it ever took.
    GivenUp(Duration),
    /// It was handed over, and no answer is expected.
    HandedOver,
}

/// What the end of a request changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The candidate is taken out.
    Opened,
    /// It is brought back.
    Closed,
}

#[cfg(test)]
impl Choice {
    pub(super) fn of(holder: Holder, reason: Reason) -> Self {
        Self { holder, reason, index: 0 }
    }
}

impl Balance {
    /// Chooses by `strategy` among the nearest that there are. There are no candidates yet.
    #[must_use]
    pub fn new(strategy: Strategy, prefer: Prefer) -> Self {
        Self {
            strategy,
            prefer,
            members: Vec::new(),
            tiers: Vec::new(),
            ring: Ring::default(),
            turn: 0,
            in_flight: 0,
            others: 0,
            open: 0,
            probe_at: NEVER,
        }
    }

    /// How it chooses.
    #[must_use]
    pub fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// Who the candidates are from now on. Of those that stay is kept what was learnt; requests of others may end
    /// without a trace.
    pub fn set_candidates(&mut self, candidates: impl IntoIterator<Item = Candidate>) {
        let before = std::mem::take(&mut self.members);
        let nodes = |members: &[Member]| members.iter().map(|member| member.candidate.holder.node).collect::<Vec<_>>();
        let is_same = |holder: Holder| move |member: &&Member| member.candidate.holder == holder;
        self.members = candidates
            .into_iter()
            .map(|candidate| match before.iter().find(is_same(candidate.holder)) {
                Some(member) => Member { candidate, ..member.clone() },
                None => Member::new(candidate),
            })
            .collect();
        let tier = |member: &Member| self.prefer.tier(member.candidate.distance);
        self.members.sort_by_key(|member| (tier(member), member.candidate.holder));
        self.tiers.clear();
        for index in 0..self.members.len() {
            match self.tiers.last_mut() {
                Some(last) if tier(&self.members[last.start]) == tier(&self.members[index]) => last.end = index + 1,
                Some(_) | None => self.tiers.push(index..index + 1),
            }
        }
        self.ring = match self.strategy {
            // How busy they are changes by the second, and who they are seldom.
            Strategy::ConsistentHash if nodes(&before) == nodes(&self.members) => std::mem::take(&mut self.ring),
            Strategy::ConsistentHash => Ring::new(nodes(&self.members).into_iter()),
            Strategy::RoundRobin
            | Strategy::Weighted
            | Strategy::LeastConnections
            | Strategy::LeastLoaded
            | Strategy::Latency
            | Strategy::Adaptive => Ring::default(),
        };
        self.in_flight = self.members.iter().map(|member| member.in_flight).sum();
        self.count_open();
    }

    /// Who the candidates are.
    pub fn candidates(&self) -> impl Iterator<Item = &Candidate> {
        self.members.iter().map(|member| &member.candidate)
    }

    /// Whom the next request goes to. `key` tells it apart for [`Strategy::ConsistentHash`]; `bits` are 64 random ones.
    ///
    /// # Errors
    /// [`NoChoice`] says why there is none.
    pub fn choose(&mut self, now: Time, key: u64, bits: u64) -> Result<Choice, NoChoice> {
        if self.members.is_empty() {
            return Err(NoChoice::Nobody);
        }
        let bits = Bits::new(bits);
        let mut found = None;
        for tier in 0..self.tiers.len() {
            if let Some(index) = self.pick(self.tiers[tier].clone(), Admitted::WithRoom, now, key, bits) {
                let reason = if tier == 0 { Reason::Strategy } else { Reason::Farther };
                found = Some((self.tiers[tier].end, index, reason));
                break;
            }
        }
        // One that is open is tried only where it would be chosen from if it were not.
        let near = found.map_or(self.members.len(), |(end, _, _)| end);
        if self.open > 0
            && now >= self.probe_at
            && let Some(index) = self.members[..near].iter().position(|member| member.is_probe_due(now))
        {
            return Ok(self.choice(index, Reason::Probe));
        }
        let last_resort = || {
            let all = 0..self.members.len();
            let full = self.pick(all.clone(), Admitted::Full, now, key, bits);
            let any = full.or_else(|| self.pick(all, Admitted::Away, now, key, bits));
            any.map(|index| (self.members.len(), index, Reason::LastResort))
        };
        match found.or_else(last_resort) {
            Some((_, index, reason)) => Ok(self.choice(index, reason)),
            None if self.probe_at == NEVER => Err(NoChoice::AllOpen { again: Duration::ZERO }),
            None => Err(NoChoice::AllOpen { again: self.probe_at - now }),
        }
    }

    /// Whom a request goes to that sticks: to `held`, or, if that takes nothing for the moment, to the same one as all with
    /// its key, however near, busy or full that is. A candidate that is open is tried if there is no other.
    ///
    /// # Errors
    /// [`NoChoice`] says why there is none.
    pub fn choose_sticking(&self, now: Time, key: u64, held: Option<Holder>) -> Result<Choice, NoChoice> {
        if self.members.is_empty() {
            return Err(NoChoice::Nobody);
        }
        let choice = |holder: Holder, reason| {
            let index = self.members.iter().position(|member| member.candidate.holder == holder);
            self.choice(index.expect("it was taken from them"), reason)
        };
        for (admitted, reason) in [(Admitted::Full, Reason::Strategy), (Admitted::Away, Reason::LastResort)] {
            let admits = |member: &&Member| member.is_admitted(admitted, now);
            let holders = || self.members.iter().filter(admits).map(|member| member.candidate.holder);
            let found = holders().find(|holder| Some(*holder) == held).or_else(|| sticking(key, holders()));
            if let Some(holder) = found {
                return Ok(choice(holder, reason));
            }
        }
        match self.members.iter().find(|member| member.is_probe_due(now)) {
            Some(member) => Ok(choice(member.candidate.holder, Reason::Probe)),
            None if self.probe_at == NEVER => Err(NoChoice::AllOpen { again: Duration::ZERO }),
            None => Err(NoChoice::AllOpen { again: self.probe_at - now }),
        }
    }

    /// The request is sent.
    pub fn begin(&mut self, now: Time, choice: &Choice) {
        let Some(index) = self.position(choice) else { return };
        self.members[index].latency.asked(now);
        self.members[index].in_flight += 1;
        self.in_flight += 1;
        if choice.reason == Reason::Probe {
            self.members[index].health.probe();
            self.count_open();
        }
    }

    /// The request has ended.
    pub fn end(&mut self, now: Time, choice: &Choice, outcome: Outcome) -> Option<Change> {
        // Its run may be no candidate any more.
        let index = self.position(choice)?;
        let member = &mut self.members[index];
        let was_closed = member.health.is_closed();
        member.ended(now, choice.reason == Reason::Probe, outcome);
        self.in_flight = self.in_flight.saturating_sub(1);
        if matches!(outcome, Outcome::Answered { in_flight: Some(_), .. }) {
            let others = self.members[index].others;
            self.others = self.others - (self.others >> 3) + (others << 1);
        }
        let is_closed = self.members[index].health.is_closed();
        if was_closed && is_closed {
            return None;
        }
        self.count_open();
        match (was_closed, is_closed) {
            (true, false) => Some(Change::Opened),
            (false, true) => Some(Change::Closed),
            (true, true) | (false, false) => None,
        }
    }

    fn pick(&mut self, tier: Range<usize>, admitted: Admitted, now: Time, key: u64, bits: Bits) -> Option<usize> {
        let Self { strategy, members, ring, turn, in_flight, others, .. } = self;
        let start = tier.start;
        let mut field = Field { members: &mut members[tier], start, admitted, now, bits, others: *others >> 4 };
        let picked = match strategy {
            Strategy::RoundRobin => field.next(turn),
            Strategy::Weighted => field.by_weight(),
            Strategy::LeastConnections => field.least_in_flight(),
            Strategy::LeastLoaded => field.less_loaded_of_two(),
            Strategy::Latency => field.sooner_of_two(),
            Strategy::Adaptive => field.coldest(),
            Strategy::ConsistentHash => field.by_key(ring, key, *in_flight),
        };
        Some(start + picked?)
    }

    fn choice(&self, index: usize, reason: Reason) -> Choice {
        Choice { holder: self.members[index].candidate.holder, reason, index }
    }

    fn position(&self, choice: &Choice) -> Option<usize> {
        let is_it = |member: &Member| member.candidate.holder == choice.holder;
        match self.members.get(choice.index).is_some_and(is_it) {
            true => Some(choice.index),
            false => self.members.iter().position(is_it),
        }
    }

    fn count_open(&mut self) {
        self.open = self.members.iter().filter(|member| !member.health.is_closed()).count();
        let due = self.members.iter().filter_map(|member| member.health.probe_at()).min();
        self.probe_at = due.unwrap_or(NEVER);
    }
}

impl Member {
    fn new(candidate: Candidate) -> Self {
        Self {
            candidate,
            in_flight: 0,
            away_until: Time::ZERO,
            health: Health::default(),
            latency: Latency::default(),
            others: 0,
            said: Time::ZERO,
            due: 0,
        }
    }

    pub(super) fn is_admitted(&self, admitted: Admitted, now: Time) -> bool {
        let is_there = match admitted {
            Admitted::WithRoom => self.away_until <= now && self.in_flight < self.candidate.capacity.get(),
            Admitted::Full => self.away_until <= now,
            Admitted::Away => true,
        };
        is_there && self.health.is_closed()
    }

    fn is_probe_due(&self, now: Time) -> bool {
        self.away_until <= now && self.health.probe_at().is_some_and(|at| at <= now)
    }

    /// What it has in flight from others, as far as is known here: what it said lately, and since nobody knows what has
    /// become of that, bit by bit it is taken for one like all.
    pub(super) fn others_at(&self, now: Time, mean: u32) -> u32 {
        let said_for = SAID_FOR.as_micros() as u64;
        let age = now.as_micros().saturating_sub(self.said.as_micros()).min(said_for);
        let others = u64::from(self.others) * (said_for - age) + u64::from(mean) * age;
        u32::try_from(others / said_for).expect("it is no more than the greater of both")
    }

    /// What it has in flight as a part of what it works on at a time, in thousandths.
    pub(super) fn queue(&self, now: Time, mean: u32) -> u32 {
        self.in_flight.saturating_add(self.others_at(now, mean)).saturating_mul(1_000) / self.candidate.capacity
    }

    fn ended(&mut self, now: Time, was_probe: bool, outcome: Outcome) {
        // It may have been no candidate for a while, and have begun to count anew.
        let is_kept = cfg!(planted = "given_up_keeps_its_place") && matches!(outcome, Outcome::GivenUp(_));
        self.in_flight = self.in_flight.saturating_sub(u32::from(!is_kept));
        match outcome {
            Outcome::Answered { took, in_flight } => {
                self.health.succeeded(now, was_probe);
                self.latency.answered(now, took);
                self.away_until = Time::ZERO;
                if let Some(in_flight) = in_flight {
                    (self.others, self.said) = (in_flight.saturating_sub(self.in_flight), now);
                }
            }
            Outcome::Refused => {
                self.health.succeeded(now, was_probe);
                self.latency.refused(now);
            }
            Outcome::Failed => {
                self.health.failed(now, was_probe);
                self.latency.failed(now);
            }
            Outcome::Away(rest) => {
                self.health.unknown(was_probe);
                self.away_until = now + rest;
            }
            Outcome::GivenUp(waited) => {
                match waited >= GIVEN_UP_MIN && self.latency.is_much_longer(now, waited) {
                    true => self.health.failed(now, was_probe),
                    false => self.health.unknown(was_probe),
                }
                self.latency.given_up(now, waited);
            }
            Outcome::HandedOver => self.health.unknown(was_probe),
        }
    }
}
