//! A mesh of `core::membership` machines over a network that loses, delays, reorders and cuts, in virtual time.
//!
//! Every packet goes through the bytes of `wire::gossip`. The same seed makes the same run.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use pelago_core::{
    id::{Holder, Incarnation, Name, NodeId},
    membership::{Effect, Identity, Input, Load, Membership, Profile, Record, Stage, State},
    time::Time,
};
use pelago_wire::gossip::{self, Protobuf};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng as _};

use crate::dice::Dice;

/// What the network does to packets.
#[derive(Debug, Clone)]
pub struct Weather {
    /// How many of a thousand are lost.
    pub lost_permille: u64,
    /// How many milliseconds one is on its way. It may be overtaken.
    pub delay_ms: RangeInclusive<u64>,
}

/// Something that one node saw of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// When.
    pub at: Time,
    /// By whom.
    pub by: u64,
    /// Of which run.
    pub of: Holder,
    /// What.
    pub state: State,
}

/// All machines, and what is on its way between them.
pub struct Mesh {
    profile: Profile,
    weather: Weather,
    dice: Dice,
    now: Time,
    machines: BTreeMap<u64, Membership>,
    on_the_way: BTreeMap<(Time, u64), (u64, u64, Bytes)>,
    sent: u64,
    runs: u64,
    /// From whom to whom nothing comes through.
    cut: BTreeSet<(u64, u64)>,
    /// All that was ever seen, in order.
    pub seen: Vec<Sighting>,
}

impl Mesh {
    /// An empty one.
    #[must_use]
    pub fn new(seed: u64, profile: Profile, weather: Weather) -> Self {
        Self {
            profile,
            weather,
            dice: Dice::new(seed),
            now: Time::ZERO,
            machines: BTreeMap::new(),
            on_the_way: BTreeMap::new(),
            sent: 0,
            runs: 0,
            cut: BTreeSet::new(),
            seen: Vec::new(),
        }
    }

    /// The same with nodes 1 to `nodes`, all of which have links with each other and know that.
    ///
    /// # Panics
    /// When they do not find each other within a minute.
    #[must_use]
    pub fn of(seed: u64, profile: Profile, weather: Weather, nodes: u64) -> Self {
        let mut mesh = Self::new(seed, profile, weather);
        (1..=nodes).for_each(|node| mesh.start(node));
        for node in 1..=nodes {
            (node + 1..=nodes).for_each(|other| mesh.link(node, other));
        }
        let all: BTreeSet<u64> = (1..=nodes).collect();
        let met = mesh.until(Duration::from_mins(1), |mesh| mesh.agrees(&all));
        assert!(met.is_some(), "seed {seed}: they do not find each other: {mesh:?}");
        mesh.seen.clear();
        mesh
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Time {
        self.now
    }

    /// Begins a run of a node, which knows nobody. An earlier one ends without a word.
    pub fn start(&mut self, node: u64) {
        self.runs += 1;
        let holder = Holder { node: NodeId(node), incarnation: Incarnation(self.runs) };
        let mesh_address = format!("127.0.0.1:{}", 10_000 + self.runs);
        let me = Identity { holder, renewal: 0, name: name(node), mesh_address };
        let labels = BTreeMap::from([("run".to_owned(), self.runs.to_string())]);
        let record = Record { stage: Stage::Up, http_address: String::new(), labels, offers: BTreeMap::new() };
        let dice = Box::new(ChaCha8Rng::seed_from_u64(self.dice.below(u64::MAX)));
        let machine = Membership::new(self.now, me, record, self.profile.config(), Arc::new(Protobuf), dice);
        self.machines.insert(node, machine);
    }

    /// A node ends without a word.
    pub fn kill(&mut self, node: u64) {
        self.machines.remove(&node);
    }

    /// A node says goodbye, and ends.
    pub fn leave(&mut self, node: u64) {
        self.tell(node, Input::Leave);
        self.machines.remove(&node);
    }

    /// Two nodes have a link from here on.
    pub fn link(&mut self, a: u64, b: u64) {
        for (node, other) in [(a, b), (b, a)] {
            self.tell(node, Input::Linked(name(other)));
        }
    }

    /// Nothing comes through from `from` to `to` any more.
    pub fn cut(&mut self, from: u64, to: u64) {
        self.cut.insert((from, to));
    }

    /// Cuts all that goes between these nodes and the others.
    pub fn part(&mut self, side: &BTreeSet<u64>) {
        let others: Vec<u64> = self.machines.keys().copied().filter(|node| !side.contains(node)).collect();
        for (node, other) in side.iter().flat_map(|node| others.iter().map(move |other| (*node, *other))) {
            self.cut.extend([(node, other), (other, node)]);
            self.tell(node, Input::LinkLost(name(other)));
            self.tell(other, Input::LinkLost(name(node)));
        }
    }

    /// All that was cut comes through again, by links that are made anew one after the other.
    pub fn heal(&mut self) {
        let cut = std::mem::take(&mut self.cut);
        for (from, to) in cut {
            if self.machines.contains_key(&to) {
                self.tell(from, Input::Linked(name(to)));
            }
        }
    }

    /// A node has so much to do.
    pub fn load(&mut self, node: u64, load: Load) {
        self.tell(node, Input::Load(load));
    }

    /// What a node has heard of another.
    #[must_use]
    pub fn sight(&self, by: u64, of: u64) -> Option<(State, Identity, Option<Record>, Option<Load>)> {
        let node = self.machines.get(&by)?.nodes().find(|node| node.identity.holder.node == NodeId(of))?;
        Some((node.state, node.identity.clone(), node.record.cloned(), node.load.copied()))
    }

    /// Whether every node that runs sees exactly `up` as up, and of each its present run.
    #[must_use]
    pub fn agrees(&self, up: &BTreeSet<u64>) -> bool {
        self.machines.values().all(|machine| {
            let seen = machine.nodes().filter(|node| node.state == State::Up);
            let seen: BTreeMap<u64, Holder> =
                seen.map(|node| (node.identity.holder.node.0, node.identity.holder)).collect();
            seen.keys().copied().eq(up.iter().copied())
                && seen.iter().all(|(node, holder)| self.run_of(*node).is_none_or(|run| run == *holder))
        })
    }

    fn run_of(&self, node: u64) -> Option<Holder> {
        let machine = self.machines.get(&node)?;
        machine.nodes().map(|seen| seen.identity.holder).find(|holder| holder.node == NodeId(node))
    }

    /// Goes on until something holds, and says after how long; `None` if it does not within `max`.
    pub fn until(&mut self, max: Duration, holds: impl Fn(&Self) -> bool) -> Option<Duration> {
        let (begun, end) = (self.now, self.now + max);
        while !holds(self) {
            if !self.step(end) {
                return None;
            }
        }
        Some(self.now - begun)
    }

    /// Goes on for so long.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
    }

    /// Lets the next thing happen, if that is before `end`; else it is `end`.
    fn step(&mut self, end: Time) -> bool {
        let arrival = self.on_the_way.first_key_value().map(|((at, _), _)| *at);
        let deadlines = self.machines.iter().filter_map(|(node, machine)| Some((machine.deadline()?, *node)));
        let due = deadlines.min();
        let next = arrival.into_iter().chain(due.map(|(at, _)| at)).min();
        let Some(next) = next.filter(|next| *next < end) else {
            self.now = end;
            return false;
        };
        self.now = self.now.max(next);
        if arrival == Some(next) {
            self.arrive();
        } else if let Some((_, node)) = due
            && let Some(machine) = self.machines.get_mut(&node)
        {
            let mut effects = Vec::new();
            machine.expire(self.now, &mut effects);
            self.carry_out(node, effects);
        }
        true
    }

    fn arrive(&mut self) {
        let Some((_, (from, to, bytes))) = self.on_the_way.pop_first() else { return };
        if !self.cut.contains(&(from, to)) {
            let packet = gossip::decode(bytes).expect("what a node writes others read");
            self.tell(to, Input::Packet { from: name(from), packet });
        }
    }

    fn tell(&mut self, node: u64, input: Input) {
        let Some(machine) = self.machines.get_mut(&node) else { return };
        let mut effects = Vec::new();
        machine.handle(self.now, input, &mut effects);
        self.carry_out(node, effects);
    }

    fn carry_out(&mut self, node: u64, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { to, packet } => self.send(node, &to, gossip::encode(&packet)),
                Effect::Seen { holder, name: _, state } => {
                    self.seen.push(Sighting { at: self.now, by: node, of: holder, state });
                }
                Effect::Changed => {}
                Effect::Refused { why } => panic!("node {node} refuses what another wrote: {why}"),
            }
        }
    }

    fn send(&mut self, from: u64, to: &Name, bytes: Bytes) {
        let to = to.as_str().strip_prefix('n').and_then(|number| number.parse().ok()).expect("names are made here");
        if self.dice.chance(self.weather.lost_permille) {
            return;
        }
        let (low, high) = (*self.weather.delay_ms.start(), *self.weather.delay_ms.end());
        let arrives = self.now + Duration::from_micros(self.dice.between(1_000 * low, 1_000 * high));
        self.sent += 1;
        self.on_the_way.insert((arrives, self.sent), (from, to, bytes));
    }
}

impl std::fmt::Debug for Mesh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let states = self.machines.iter().map(|(node, machine)| {
            let seen: Vec<_> = machine.nodes().map(|seen| (seen.identity.holder.node.0, seen.state.name())).collect();
            (node, seen)
        });
        f.debug_map().entries(states).finish()
    }
}

fn name(node: u64) -> Name {
    Name::new(&format!("n{node}")).expect("a letter and digits")
}
