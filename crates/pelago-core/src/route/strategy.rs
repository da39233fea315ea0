//! How one of several candidates is chosen that would all do.

use std::cmp::Ordering;

use super::{balance::Member, bits::Bits, candidate::Load, ring::Ring};
use crate::time::Time;

/// How to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Strategy {
    /// One after the other.
    RoundRobin,
    /// One after the other, each as often as its weight says, evenly spread.
    Weighted,
    /// The one with the fewest requests in flight from this node.
    LeastConnections,
    /// Of two at random the one whose machine is less busy: 0.4 processor, 0.3 memory, 0.2 network, 0.1 queue. What is not
    /// known of both does not count.
    LeastLoaded,
    /// Of two at random the one that answers sooner.
    Latency,
    /// The hot-cold rule: hot is whoever takes much longer than the others; of the rest the one with the fewest requests
    /// in flight from this node, and of several such the one that said to have the fewest from others. After Prequal
    /// (Wydick et al., "Load is not what you should balance", NSDI 2024), which by probes knows what candidates have in
    /// flight now: there hot is whoever has much, and the quickest of the rest is taken. From answers alone latency is
    /// known better, and with the parts exchanged the slowest answers came sooner (`pelago-sim`, `balance`).
    #[default]
    Adaptive,
    /// The same one for the same key, as long as it has no more than its part in flight.
    ConsistentHash,
}

/// What [`Strategy::LeastLoaded`] gives each part of a load, in tenths.
const LOAD_PARTS: [u32; 4] = [4, 3, 2, 1];
/// How many candidates the hot-cold rule compares, at random if there are more.
const COMPARED_MAX: usize = 16;
/// A candidate is hot if it takes more than so many times as long as the one in the middle.
const HOT_TIMES: u32 = 2;
/// How many more in flight than its part a candidate may have before keys pass it over: a quarter.
const BOUND_NUMERATOR: u64 = 5;
const BOUND_DENOMINATOR: u64 = 4;

/// The candidates of one tier, and what a choice between them needs.
pub(super) struct Field<'a> {
    pub(super) members: &'a mut [Member],
    /// Where they begin in the ring's counting.
    pub(super) start: usize,
    pub(super) admitted: Admitted,
    pub(super) now: Time,
    pub(super) bits: Bits,
    /// What candidates have in flight from others, in the mean.
    pub(super) others: u32,
}

/// Which candidates will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admitted {
    WithRoom,
    Full,
    Away,
}

impl Strategy {
    /// All of them, in the order of their documentation.
    pub const ALL: [Self; 7] = [
        Self::RoundRobin,
        Self::Weighted,
        Self::LeastConnections,
        Self::LeastLoaded,
        Self::Latency,
        Self::Adaptive,
        Self::ConsistentHash,
    ];

    /// Its name in configuration, metrics and figures.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::Weighted => "weighted",
            Self::LeastConnections => "least-connections",
            Self::LeastLoaded => "least-loaded",
            Self::Latency => "latency",
            Self::Adaptive => "adaptive",
            Self::ConsistentHash => "consistent-hash",
        }
    }
}

impl Field<'_> {
    /// The next one in turn. When that one will not do, any: its follower would have to do double.
    pub(super) fn next(&mut self, turn: &mut usize) -> Option<usize> {
        let index = if *turn < self.members.len() { *turn } else { 0 };
        let next = if self.admits(index) { Some(index) } else { self.least(|_, _| 0) };
        if next.is_some() {
            *turn = index + 1;
        }
        next
    }

    /// The one that is furthest behind its weight (smooth weighted round-robin, as nginx has it).
    pub(super) fn by_weight(&mut self) -> Option<usize> {
        let mut sum = 0;
        let mut best: Option<(usize, i64)> = None;
        for index in 0..self.members.len() {
            if !self.admits(index) {
                continue;
            }
            let member = &mut self.members[index];
            let weight = i64::from(member.candidate.weight.get());
            sum += weight;
            member.due += weight;
            if best.is_none_or(|(_, most)| member.due > most) {
                best = Some((index, member.due));
            }
        }
        let (index, _) = best?;
        self.members[index].due -= sum;
        Some(index)
    }

    pub(super) fn least_in_flight(&mut self) -> Option<usize> {
        self.least(|member, _| member.in_flight)
    }

    pub(super) fn less_loaded_of_two(&mut self) -> Option<usize> {
        let (now, others) = (self.now, self.others);
        let parts = |member: &Member| {
            let Load { cpu, memory, network, queue } = member.candidate.load;
            let queue = u32::from(queue).max(member.queue(now, others));
            [cpu.map(u32::from), memory.map(u32::from), network.map(u32::from), Some(queue)]
        };
        self.lesser_of_two(|a, b| {
            let (mut sums, both) = ([0_u32; 2], parts(a).into_iter().zip(parts(b)));
            for (weight, both) in LOAD_PARTS.into_iter().zip(both) {
                if let (Some(a), Some(b)) = both {
                    sums =
                        [(sums[0], a), (sums[1], b)].map(|(sum, part)| sum.saturating_add(part.saturating_mul(weight)));
                }
            }
            sums[0] <= sums[1]
        })
    }

    pub(super) fn sooner_of_two(&mut self) -> Option<usize> {
        let now = self.now;
        self.lesser_of_two(|a, b| a.latency.at(now) <= b.latency.at(now))
    }

    /// What is known of others is as old as their last word. Whoever always took the best would be one of many that do,
    /// until the next word; two at random spread them.
    fn lesser_of_two(&mut self, is_lesser: impl Fn(&Member, &Member) -> bool) -> Option<usize> {
        let first = self.any_but(usize::MAX)?;
        let Some(second) = self.any_but(first) else { return Some(first) };
        Some(if is_lesser(&self.members[first], &self.members[second]) { first } else { second })
    }

    /// The hot-cold rule.
    pub(super) fn coldest(&mut self) -> Option<usize> {
        let mut compared = [0; COMPARED_MAX];
        let count = self.sample(&mut compared);
        let compared = &compared[..count];
        let mut latencies = [0; COMPARED_MAX];
        for (latency, index) in latencies.iter_mut().zip(compared) {
            *latency = self.members[*index].latency.at(self.now);
        }
        let hot_above = lower_median(&latencies[..count])?.saturating_mul(HOT_TIMES);
        let mut best = Best::default();
        for (index, latency) in compared.iter().zip(latencies) {
            let member = &self.members[*index];
            let score = (latency > hot_above, member.in_flight, member.others_at(self.now, self.others));
            best.look(*index, score, &mut self.bits);
        }
        best.index()
    }

    /// The one that the key belongs to, unless it has more than its part in flight: then the next on the ring.
    pub(super) fn by_key(&mut self, ring: &Ring, key: u64, in_flight: u32) -> Option<usize> {
        let here = |owner: usize| owner.checked_sub(self.start).filter(|index| *index < self.members.len());
        let is_admitted = |owner| here(owner).is_some_and(|index| self.admits(index));
        let owner = ring.owner(key, is_admitted).and_then(here)?;
        let bound =
            |candidates: u64| (BOUND_NUMERATOR * (u64::from(in_flight) + 1)).div_ceil(BOUND_DENOMINATOR * candidates);
        // Most have far less: then it need not be counted how many will do.
        if u64::from(self.members[owner].in_flight) < bound(self.members.len() as u64) {
            return Some(owner);
        }
        let bound = bound((0..self.members.len()).filter(|index| self.admits(*index)).count() as u64);
        let is_within = |index: usize| self.admits(index) && u64::from(self.members[index].in_flight) < bound;
        let bounded = ring.owner(key, |owner| here(owner).is_some_and(is_within)).and_then(here);
        // Others may have all that is in flight: those of farther tiers, or that are broken by now.
        Some(bounded.unwrap_or(owner))
    }

    fn admits(&self, index: usize) -> bool {
        self.members[index].is_admitted(self.admitted, self.now)
    }

    /// The one with the least score; of several with the same any.
    fn least(&mut self, score: impl Fn(&Member, Time) -> u32) -> Option<usize> {
        let mut best = Best::default();
        for index in 0..self.members.len() {
            if self.admits(index) {
                best.look(index, score(&self.members[index], self.now), &mut self.bits);
            }
        }
        best.index()
    }

    /// Any one but `other`.
    fn any_but(&mut self, other: usize) -> Option<usize> {
        // Nearly always all will do, and one draw is enough.
        for _ in 0..4 {
            let index = self.bits.below(self.members.len());
            if index != other && self.admits(index) {
                return Some(index);
            }
        }
        let mut found = None;
        let mut count = 0;
        for index in (0..self.members.len()).filter(|index| *index != other) {
            if self.admits(index) {
                count += 1;
                if self.bits.below(count) == 0 {
                    found = Some(index);
                }
            }
        }
        found
    }

    /// Fills `into` with as many candidates as it takes, any if there are more; says how many.
    fn sample(&mut self, into: &mut [usize]) -> usize {
        let mut seen = 0;
        for index in 0..self.members.len() {
            if !self.admits(index) {
                continue;
            }
            // Every one has the same chance to be among them (reservoir sampling).
            if seen < into.len() {
                into[seen] = index;
            } else {
                let slot = self.bits.below(seen + 1);
                if slot < into.len() {
                    into[slot] = index;
                }
            }
            seen += 1;
        }
        seen.min(into.len())
    }
}

/// The least of what was looked at; of several that are the same any, each as likely as the others.
struct Best<S> {
    found: Option<(S, usize)>,
    ties: usize,
}

impl<S> Default for Best<S> {
    fn default() -> Self {
        Self { found: None, ties: 0 }
    }
}

impl<S: Ord> Best<S> {
    fn look(&mut self, index: usize, score: S, bits: &mut Bits) {
        let order = self.found.as_ref().map_or(Ordering::Less, |(least, _)| score.cmp(least));
        match order {
            Ordering::Greater => return,
            Ordering::Equal => self.ties += 1,
            Ordering::Less => self.ties = 1,
        }
        if self.ties == 1 || bits.below(self.ties) == 0 {
            self.found = Some((score, index));
        }
    }

    fn index(self) -> Option<usize> {
        self.found.map(|(_, index)| index)
    }
}

/// The one in the middle; of an even number the lesser of the two.
fn lower_median(numbers: &[u32]) -> Option<u32> {
    let mut sorted = [0; COMPARED_MAX];
    let sorted = sorted.get_mut(..numbers.len()).filter(|sorted| !sorted.is_empty())?;
    sorted.copy_from_slice(numbers);
    let middle = (sorted.len() - 1) / 2;
    Some(*sorted.select_nth_unstable(middle).1)
}
