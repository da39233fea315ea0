//! Which faults a seed brings, and when.
//!
//! Each seed takes some kinds and leaves others out: a fault that comes with all others hides behind them.

use std::{collections::BTreeMap, time::Duration};

use pelago_core::time::Time;

use crate::{dice::Dice, network::Weather};

/// Something that goes wrong at a point in time. A node is an agent's host and a voter in one process: what befalls one
/// befalls the other.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// A node's process dies and starts again, with nothing but what was flushed.
    Crash { node: usize, down: Duration },
    /// The same, of whichever node leads.
    CrashLeader { down: Duration },
    /// The leader dies when it has written the next batch, or when it has applied it and told nobody.
    CrashAt { applied: bool, down: Duration },
    /// A node is told to stop: it takes no more work, puts its agents away and leaves. Later it comes back.
    Stop { node: usize, down: Duration },
    /// All nodes die at once. By their wall clocks so many days pass until they are back.
    PowerCut { down: Duration, days: i64 },
    /// A node's process stands still, and then goes on as if nothing had been.
    Pause { node: usize, still: Duration },
    /// A node's next flush fails. It stops: what a second try would say is not to be believed.
    FailFlush { node: usize, down: Duration },
    /// A node's flushes take long for a time.
    SlowDisk { node: usize, flush: Duration, lasts: Duration },
    /// A node's wall clock is set to something else.
    TurnClock { node: usize, ahead_ms: i64 },
    /// The network turns bad for a time.
    Storm { weather: Weather, lasts: Duration },
    /// Nothing passes in one direction for a time.
    Cut { from: usize, to: usize, lasts: Duration },
    /// Nothing passes between one node and the others for a time: whoever leads, if none is named.
    Isolate { node: Option<usize>, lasts: Duration },
}

impl Fault {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Crash { .. } => "node crashed",
            Self::CrashLeader { .. } => "leader crashed",
            Self::CrashAt { applied: false, .. } => "leader crashed after it had written a batch",
            Self::CrashAt { applied: true, .. } => "leader crashed before it had answered",
            Self::Stop { .. } => "node stopped",
            Self::PowerCut { days: 0, .. } => "power cut",
            Self::PowerCut { .. } => "power cut for days",
            Self::Pause { .. } => "node paused",
            Self::FailFlush { .. } => "flush failed",
            Self::SlowDisk { .. } => "slow disk",
            Self::TurnClock { .. } => "wall clock turned",
            Self::Storm { .. } => "storm",
            Self::Cut { .. } => "one-way partition",
            Self::Isolate { node: None, .. } => "leader in the minority",
            Self::Isolate { node: Some(_), .. } => "node in the minority",
        }
    }
}

/// Counts what happened, by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally(pub BTreeMap<&'static str, u64>);

impl Tally {
    pub(crate) fn count(&mut self, kind: &'static str) {
        *self.0.entry(kind).or_default() += 1;
    }

    /// How often anything happened.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Adds another run's counts.
    pub fn add(&mut self, other: &Self) {
        for (kind, n) in &other.0 {
            *self.0.entry(kind).or_default() += n;
        }
    }
}

/// What a seed brings.
#[derive(Debug)]
pub(crate) struct Plan {
    /// When all faults end.
    pub(crate) heal: Time,
    pub(crate) faults: Vec<(Time, Fault)>,
    /// The clocks of each node.
    pub(crate) clocks: Vec<Clock>,
    /// Whether steady clocks differ by no more than leases allow for, and nobody is given up sooner than after a whole
    /// one.
    pub(crate) keeps_leases: bool,
    /// Whether nodes stop by themselves when their lease lapses. Safety must not rest on that.
    pub(crate) fences_itself: bool,
    /// Whether look-ups hand out what is already being handled.
    pub(crate) careless_look_ups: bool,
    /// Whether ended tasks and expired replies are swept while clients still ask for them.
    pub(crate) sweeps: bool,
    /// Whether nodes that were given up are removed now and then, and come back as new ones.
    pub(crate) removes: bool,
}

/// A node's own clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    ahead: Duration,
    /// How fast its steady clock runs: 1,000,000 is as fast as true time.
    rate: u64,
    /// How far its wall clock is from the truth.
    pub(crate) wall_ahead_ms: i64,
}

impl Clock {
    pub(crate) fn read(self, now: Time) -> Time {
        Time::from_micros(now.as_micros() * self.rate / 1_000_000) + self.ahead
    }

    /// How long the clock takes, in true time, to advance by `by`.
    pub(crate) fn wait(self, by: Duration) -> Duration {
        let micros = u64::try_from(by.as_micros()).expect("a simulated wait is short");
        Duration::from_micros(micros * 1_000_000 / self.rate + 2)
    }
}

/// The kinds of faults; each seed takes each with one chance in two.
const KINDS: u64 = 12;

impl Plan {
    pub(crate) fn of(seed: u64, dice: &mut Dice) -> Self {
        let nodes = if seed % 5 == 4 { 1 } else { 3 };
        let heal = Time::ZERO + Duration::from_secs(dice.between(20, 45));
        let mut kinds: Vec<u64> = (0..KINDS).filter(|_| dice.chance(500)).collect();
        if kinds.is_empty() {
            kinds.push(dice.below(KINDS));
        }
        let mut faults = Vec::new();
        let mut at = Time::ZERO + Duration::from_millis(dice.between(500, 3_000));
        while at < heal {
            let kind = kinds[dice.index(kinds.len())];
            faults.push((at, fault(kind, nodes, dice)));
            at = at + Duration::from_millis(dice.between(100, 7_000));
        }
        // How far steady clocks are from the truth: not at all, as far as leases allow for, or further.
        let skew_ppm = [0, 10_000, 100_000][dice.index(3)];
        let clocks = (0..nodes).map(|_| clock(skew_ppm, dice)).collect();
        Self {
            heal,
            faults,
            clocks,
            keeps_leases: skew_ppm <= 10_000 && dice.chance(500),
            fences_itself: dice.chance(500),
            careless_look_ups: dice.chance(300),
            sweeps: dice.chance(500),
            removes: dice.chance(300),
        }
    }
}

fn clock(skew_ppm: u32, dice: &mut Dice) -> Clock {
    let rate = 1_000_000_u64.saturating_add_signed(dice.either(skew_ppm));
    Clock { ahead: Duration::from_millis(dice.below(3_600_000)), rate, wall_ahead_ms: dice.either(60_000) }
}

fn fault(kind: u64, nodes: usize, dice: &mut Dice) -> Fault {
    let node = dice.index(nodes);
    let down = Duration::from_millis(dice.between(10, 12_000));
    let lasts = Duration::from_millis(dice.between(200, 8_000));
    match kind {
        0 => Fault::Crash { node, down },
        1 => Fault::Pause { node, still: Duration::from_millis(dice.between(50, 12_000)) },
        2 => Fault::CrashLeader { down },
        3 => Fault::CrashAt { applied: dice.chance(500), down },
        4 => Fault::PowerCut { down: down / 4, days: if dice.chance(400) { 2 } else { 0 } },
        5 => Fault::FailFlush { node, down },
        6 => Fault::SlowDisk { node, flush: Duration::from_millis(dice.between(20, 4_000)), lasts },
        7 => Fault::Storm { weather: weather(dice), lasts },
        8 => Fault::TurnClock { node, ahead_ms: dice.either(3_600_000) },
        // Long enough that whoever stands still is given up, and comes back.
        9 => Fault::Pause { node, still: Duration::from_millis(dice.between(2_000, 15_000)) },
        10 => Fault::Stop { node, down },
        _ => partition(node, nodes, dice),
    }
}

fn weather(dice: &mut Dice) -> Weather {
    let mut some = |most: u64| if dice.chance(600) { dice.below(most) } else { 0 };
    Weather { drop: some(300), duplicate: some(300), delay: some(400), very_late: some(60) }
}

fn partition(node: usize, nodes: usize, dice: &mut Dice) -> Fault {
    let lasts = Duration::from_millis(dice.between(100, 15_000));
    match dice.below(4) {
        0 | 1 => Fault::Cut { from: node, to: dice.index(nodes), lasts },
        2 => Fault::Isolate { node: Some(node), lasts },
        _ => Fault::Isolate { node: None, lasts },
    }
}
