//! Nodes that come and go, and those who choose between them, in virtual time.
//!
//! Each asker has a `core::route::Balance`, hears late of who is there, and asks a pool that all nodes host. Nodes answer,
//! refuse, fail, take nothing, say nothing, go with what they had, and come again as another run. Signals follow random
//! connections, each hop to a node that an asker has chosen. Whatever happens, only those are chosen who are known and have
//! room, three failures in a row take a candidate out and five probes in a row bring it back, and a signal makes no more
//! hops and branches than it may. Then all heals, and all that there is of room must be there again.
//!
//! *Is not:* the router of a node, which asks again elsewhere; nor the links, which are in [`links`](crate::links).

mod expected;
mod hops;

use std::{
    collections::BTreeMap,
    num::{NonZeroU16, NonZeroU32},
    time::Duration,
};

use pelago_core::{
    id::{Holder, Incarnation, NodeId},
    route::{Balance, Candidate, Change, Choice, Distance, Load, NoChoice, Outcome, Prefer, Reason, Strategy},
    time::Time,
};

use self::expected::Expected;
use crate::{Violation, dice::Dice};

/// How many steps a run has before all heals.
const STEPS: u64 = 2_000;
const NODES: u64 = 5;
const ASKERS: usize = 2;
/// How long everybody may take to find out that all is well: longer than the longest pause of a breaker.
const HEALED_MAX: Duration = Duration::from_secs(60);
/// How long a node is left alone that takes nothing.
const AWAY: Duration = Duration::from_millis(200);

/// What came of a run.
#[derive(Debug)]
pub struct Run {
    /// Its seed.
    pub seed: u64,
    /// How requests were placed, by [`Reason::ALL`].
    pub choices: [u64; 4],
    /// How often a candidate was taken out.
    pub opened: u64,
    /// How often one was brought back.
    pub closed: u64,
    /// Nodes that went.
    pub gone: u64,
    /// Agents that handled signals.
    pub hops: u64,
    /// What must never be.
    pub violation: Option<Violation>,
}

/// Runs one seed.
#[must_use]
pub fn run(seed: u64) -> Run {
    let mut world = World::new(seed);
    let violation = world.run().err();
    let World { choices, opened, closed, gone, hops, .. } = world;
    Run { seed, choices, opened, closed, gone, hops, violation }
}

struct World {
    dice: Dice,
    now: Time,
    nodes: Vec<Node>,
    askers: Vec<Asker>,
    requests: Vec<Request>,
    choices: [u64; 4],
    opened: u64,
    closed: u64,
    gone: u64,
    hops: u64,
}

struct Node {
    holder: Holder,
    is_up: bool,
    mood: Mood,
    capacity: u32,
}

/// What a node makes of requests.
#[derive(Debug, Clone, Copy)]
enum Mood {
    Answers,
    Refuses,
    Fails,
    TakesNothing,
}

struct Asker {
    balance: Balance,
    expected: BTreeMap<Holder, Expected>,
}

struct Request {
    asker: usize,
    choice: Choice,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let nodes = (0..NODES).map(|id| Node {
            holder: Holder { node: NodeId(id), incarnation: Incarnation(1) },
            is_up: true,
            mood: Mood::Answers,
            capacity: 1 + id as u32 % 3,
        });
        let nodes = nodes.collect();
        let askers = (0..ASKERS).map(|_| {
            let strategy = Strategy::ALL[dice.index(Strategy::ALL.len())];
            let prefer = [Prefer::None, Prefer::Node, Prefer::Zone][dice.index(3)];
            Asker { balance: Balance::new(strategy, prefer), expected: BTreeMap::new() }
        });
        let askers = askers.collect();
        let mut world = Self {
            dice,
            now: Time::from_micros(1_000_000),
            nodes,
            askers,
            requests: Vec::new(),
            choices: [0; 4],
            opened: 0,
            closed: 0,
            gone: 0,
            hops: 0,
        };
        (0..ASKERS).for_each(|asker| world.hear_of_nodes(asker));
        world
    }

    fn run(&mut self) -> Result<(), Violation> {
        for _ in 0..STEPS {
            self.step()?;
        }
        self.heal()?;
        (0..ASKERS).try_for_each(|asker| self.fill(asker))
    }

    fn step(&mut self) -> Result<(), Violation> {
        self.now = self.now + Duration::from_millis(self.dice.below(40));
        let asker = self.dice.index(ASKERS);
        match self.dice.below(100) {
            0..45 => {
                self.choose(asker)?;
            }
            45..85 if !self.requests.is_empty() => {
                let request = self.dice.index(self.requests.len());
                self.end(request)?;
            }
            85..90 => {
                let (node, mood) = (self.dice.index(self.nodes.len()), self.dice.below(8));
                self.nodes[node].mood = match mood {
                    0..4 => Mood::Answers,
                    4 => Mood::Refuses,
                    5 | 6 => Mood::Fails,
                    _ => Mood::TakesNothing,
                };
            }
            90..92 => self.come_or_go(),
            92..96 => self.hear_of_nodes(asker),
            96..98 => self.follow_a_signal(asker)?,
            _ => {}
        }
        Ok(())
    }

    fn come_or_go(&mut self) {
        let node = self.dice.index(self.nodes.len());
        let Node { holder, is_up, .. } = &mut self.nodes[node];
        *is_up = !*is_up;
        match *is_up {
            true => holder.incarnation.0 += 1,
            false => self.gone += 1,
        }
    }

    /// An asker hears who is there by now. Sometimes one is missing that is, as if gossip had it as down.
    fn hear_of_nodes(&mut self, asker: usize) {
        let missing = self.dice.chance(300).then(|| self.dice.index(self.nodes.len()));
        let there = self.nodes.iter().enumerate().filter(|(index, node)| node.is_up && Some(*index) != missing);
        let candidates: Vec<Candidate> = there.map(|(index, node)| candidate(index, node)).collect();
        self.tell_candidates(asker, &candidates);
    }

    fn tell_candidates(&mut self, asker: usize, candidates: &[Candidate]) {
        let Asker { balance, expected } = &mut self.askers[asker];
        balance.set_candidates(candidates.iter().copied());
        expected.retain(|holder, _| candidates.iter().any(|candidate| candidate.holder == *holder));
        for candidate in candidates {
            expected.entry(candidate.holder).or_default().capacity = candidate.capacity.get();
        }
    }

    /// Chooses for a request, and begins it. Whom it went to, if anybody.
    fn choose(&mut self, asker: usize) -> Result<Option<Choice>, Violation> {
        let (now, key, bits) = (self.now, self.dice.below(50), self.dice.wide() as u64);
        let Asker { balance, expected } = &mut self.askers[asker];
        let chosen = balance.choose(now, key, bits);
        expected::check(&chosen, expected, now)?;
        let choice = match chosen {
            Ok(choice) => choice,
            Err(NoChoice::Nobody | NoChoice::AllOpen { .. }) => return Ok(None),
        };
        balance.begin(now, &choice);
        expected.get_mut(&choice.holder).expect("it was checked").begin(choice.reason == Reason::Probe);
        let reason = Reason::ALL.iter().position(|reason| *reason == choice.reason).expect("all are there");
        self.choices[reason] += 1;
        self.requests.push(Request { asker, choice });
        Ok(Some(choice))
    }

    /// A request ends as its node makes it end, or since nobody waits for it any longer.
    fn end(&mut self, request: usize) -> Result<(), Violation> {
        let Request { choice, .. } = &self.requests[request];
        let node = self.nodes.iter().find(|node| node.is_up && node.holder == choice.holder);
        let outcome = match node.map(|node| node.mood) {
            _ if self.dice.chance(100) => Outcome::GivenUp(Duration::from_millis(self.dice.between(1, 900))),
            _ if self.dice.chance(50) => Outcome::HandedOver,
            Some(Mood::Answers) => {
                Outcome::Answered { took: Duration::from_millis(self.dice.between(1, 90)), in_flight: None }
            }
            Some(Mood::Refuses) => Outcome::Refused,
            Some(Mood::Fails) | None => Outcome::Failed,
            Some(Mood::TakesNothing) => Outcome::Away(AWAY),
        };
        self.end_as(request, outcome)
    }

    fn end_as(&mut self, request: usize, outcome: Outcome) -> Result<(), Violation> {
        let Request { asker, choice } = self.requests.swap_remove(request);
        let Asker { balance, expected } = &mut self.askers[asker];
        let change = balance.end(self.now, &choice, outcome);
        let wanted =
            expected.get_mut(&choice.holder).and_then(|it| it.end(self.now, choice.reason == Reason::Probe, outcome));
        match change {
            Some(Change::Opened) => self.opened += 1,
            Some(Change::Closed) => self.closed += 1,
            None => {}
        }
        if change != wanted {
            return violated("R3 (breaker)", format!("{outcome:?} of {}: {change:?}, not {wanted:?}", choice.holder));
        }
        Ok(())
    }

    fn answer_last(&mut self) -> Result<(), Violation> {
        let outcome = Outcome::Answered { took: Duration::from_millis(5), in_flight: None };
        self.end_as(self.requests.len() - 1, outcome)
    }

    fn answer_all(&mut self) -> Result<(), Violation> {
        while !self.requests.is_empty() {
            self.answer_last()?;
        }
        Ok(())
    }

    /// All nodes are there and answer, and everybody knows; what is under way ends.
    fn heal(&mut self) -> Result<(), Violation> {
        while !self.requests.is_empty() {
            self.end(0)?;
        }
        for node in &mut self.nodes {
            (node.is_up, node.mood) = (true, Mood::Answers);
        }
        let candidates: Vec<Candidate> = self.nodes.iter().enumerate().map(|(at, node)| candidate(at, node)).collect();
        (0..ASKERS).for_each(|asker| self.tell_candidates(asker, &candidates));
        let end = self.now + HEALED_MAX;
        for asker in 0..ASKERS {
            while self.askers[asker].expected.values().any(Expected::is_open) {
                if self.now >= end {
                    return violated("R3 (breaker)", format!("after {HEALED_MAX:?} of health some are out"));
                }
                self.now = self.now + Duration::from_millis(10);
                match self.choose(asker)?.map(|choice| choice.reason) {
                    // One that is farther off is probed once none that is nearer has room.
                    Some(Reason::Strategy | Reason::Farther) => {}
                    Some(Reason::Probe) => self.answer_last()?,
                    Some(Reason::LastResort) | None => self.answer_all()?,
                }
            }
            self.answer_all()?;
        }
        self.now = self.now + AWAY;
        Ok(())
    }

    /// Everybody has as much room as ever: as many requests are taken as there are places, and not one more.
    fn fill(&mut self, asker: usize) -> Result<(), Violation> {
        let places: u32 = self.nodes.iter().map(|node| node.capacity).sum();
        for n in 0..places {
            let choice = self.choose(asker)?;
            if !choice.is_some_and(|choice| matches!(choice.reason, Reason::Strategy | Reason::Farther)) {
                return violated("R4 (nothing leaks)", format!("with {n} of {places} in flight: {choice:?}"));
            }
        }
        match self.choose(asker)? {
            Some(choice) if choice.reason == Reason::LastResort => Ok(()),
            choice => violated("R4 (nothing leaks)", format!("with all {places} in flight: {choice:?}")),
        }
    }
}

fn candidate(index: usize, node: &Node) -> Candidate {
    Candidate {
        holder: node.holder,
        distance: [Distance::Here, Distance::Zone, Distance::Far][index % 3],
        weight: NonZeroU16::MIN,
        capacity: NonZeroU32::new(node.capacity).expect("a node has room for something"),
        load: Load::default(),
    }
}

fn violated<T>(invariant: &'static str, what: String) -> Result<T, Violation> {
    Err(Violation::new(invariant, what))
}
