//! What goes on in the mesh.

use crate::dice::Dice;

/// Turns of a pool that a node works on at a time: the default of the product.
pub(super) const CAPACITY: u32 = 8;
/// The mean size of a request: what a node of full speed takes for it, in microseconds.
const SIZE_US: u64 = 10_000;
/// How many keys there are.
const KEYS: u64 = 10_000;

/// A kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// None: sizes are from half to one and a half times the mean, and 70 % of all capacity is used.
    Even,
    /// Few requests are large (one in 200 takes twenty times the mean), few keys are frequent (Zipf), few nodes ask most.
    Skew,
    /// One node in eight works at a third of the speed of the others, which nobody is told: weights are alike.
    Slow,
    /// For a fifth of each second twice as much is asked as in the rest: 95 % of all capacity.
    Bursts,
    /// For a fifth of each second more is asked than the mesh can do: 140 % of all capacity.
    Overload,
}

/// One request as its asker makes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    pub(super) asker: usize,
    pub(super) size_us: u64,
    pub(super) key: u64,
}

impl Scenario {
    /// All of them, the one without trouble first.
    pub const ALL: [Self; 5] = [Self::Even, Self::Skew, Self::Slow, Self::Bursts, Self::Overload];

    /// Its name in figures.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Even => "even",
            Self::Skew => "skew",
            Self::Slow => "slow nodes",
            Self::Bursts => "bursts",
            Self::Overload => "overload",
        }
    }

    /// How much longer a node takes for a request than its size says.
    pub(super) fn slowness(self, node: usize, nodes: usize) -> u64 {
        if self == Self::Slow && node < nodes.div_ceil(8) { 3 } else { 1 }
    }

    /// The pause after which the next request comes, in microseconds.
    pub(super) fn pause_us(self, now_us: u64, nodes: u64, dice: &mut Dice) -> u64 {
        let is_burst = now_us % 1_000_000 < 200_000;
        let full = SIZE_US as f64 / (nodes * u64::from(CAPACITY)) as f64;
        let used = match self {
            Self::Even | Self::Skew => 0.70,
            // Of what is left to those that have a third of their speed, too.
            Self::Slow => 0.70 * (1.0 - 2.0 / 3.0 * nodes.div_ceil(8) as f64 / nodes as f64),
            Self::Bursts if is_burst => 0.95,
            Self::Overload if is_burst => 1.40,
            Self::Bursts => 0.50,
            Self::Overload => 0.40,
        };
        (exponential(dice) * full / used) as u64
    }

    pub(super) fn request(self, nodes: usize, dice: &mut Dice) -> Request {
        let size_us = match self {
            Self::Skew if dice.chance(5) => 20 * SIZE_US,
            Self::Skew => dice.between(SIZE_US * 4 / 10, SIZE_US * 14 / 10),
            Self::Even | Self::Slow | Self::Bursts | Self::Overload => dice.between(SIZE_US / 2, SIZE_US * 3 / 2),
        };
        let (asker, key) = match self {
            Self::Skew => (zipf(nodes as u64, dice) as usize, zipf(KEYS, dice)),
            Self::Even | Self::Slow | Self::Bursts | Self::Overload => (dice.index(nodes), dice.below(KEYS)),
        };
        Request { asker, size_us: size_us.max(1), key }
    }
}

/// With mean 1.
fn exponential(dice: &mut Dice) -> f64 {
    -unit(dice).ln()
}

/// A number below `n`, the smaller ones more often: about as 1, 1/2, 1/3, …
fn zipf(n: u64, dice: &mut Dice) -> u64 {
    let largest = (n + 1) as f64;
    (largest.powf(unit(dice)) as u64).clamp(1, n) - 1
}

/// Above 0, up to 1.
fn unit(dice: &mut Dice) -> f64 {
    (dice.below(1 << 53) + 1) as f64 / (1u64 << 53) as f64
}
