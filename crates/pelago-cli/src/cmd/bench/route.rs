//! What one choice between nodes takes (`core::route`), in nanoseconds.
//!
//! *Choice* is `choose` alone; *whole* is `choose`, `begin` and `end`, which each request pays.

use std::{
    hint::black_box,
    num::{NonZeroU16, NonZeroU32},
    time::{Duration, Instant},
};

use pelago_api::model::Document;
use pelago_core::{
    id::{Holder, Incarnation, NodeId},
    route::{Balance, Candidate, Distance, Load, Outcome, Prefer, Strategy},
    time::Time,
};
use serde::Serialize;

use super::machine::Machine;
use crate::output::facts;

/// Choices of one round, which is over before another process gets the core. The least of the rounds is told: what others
/// do on the machine only adds.
const CHOICES: u64 = 5_000;
const ROUNDS: usize = 400;
const CANDIDATES: [u64; 3] = [3, 16, 64];

/// The figures of one run.
#[derive(Debug, Serialize)]
pub(super) struct RouteFigures {
    what: &'static str,
    choices: Vec<Choice>,
    #[serde(flatten)]
    machine: Machine,
}

#[derive(Debug, Serialize)]
struct Choice {
    strategy: &'static str,
    candidates: u64,
    choice_ns: f64,
    whole_ns: f64,
}

impl Document for RouteFigures {
    const KIND: &'static str = "BenchRoute";
}

pub(super) fn run() -> RouteFigures {
    let pairs = Strategy::ALL.into_iter().flat_map(|strategy| CANDIDATES.map(|candidates| (strategy, candidates)));
    let choices = pairs.map(|(strategy, candidates)| {
        let mut balance = used(strategy, candidates);
        let choice_ns = least(|| choose(&mut balance));
        let whole_ns = least(|| ask(&mut balance));
        Choice { strategy: strategy.name(), candidates, choice_ns, whole_ns }
    });
    RouteFigures { what: "route", choices: choices.collect(), machine: Machine::here() }
}

impl RouteFigures {
    /// A table as `bench/README.md` has it.
    pub(super) fn text(&self) -> String {
        let mut table = "| strategy |".to_owned();
        table.extend(CANDIDATES.map(|candidates| format!(" {candidates}: choice, whole ns |")));
        table += "\n|---|---|---|---|\n";
        for row in self.choices.chunks(CANDIDATES.len()) {
            table += &format!("| {} |", row[0].strategy);
            table.extend(row.iter().map(|choice| format!(" {:.0}, {:.0} |", choice.choice_ns, choice.whole_ns)));
            table.push('\n');
        }
        table + &facts(self.machine.lines())
    }
}

/// A balance that knows its candidates: each has answered, some have requests in flight.
fn used(strategy: Strategy, candidates: u64) -> Balance {
    let mut balance = Balance::new(strategy, Prefer::None);
    balance.set_candidates((0..candidates).map(|node| Candidate {
        holder: Holder { node: NodeId(node), incarnation: Incarnation(node) },
        distance: Distance::Far,
        weight: NonZeroU16::MIN,
        capacity: NonZeroU32::new(64).expect("it is not 0"),
        load: Load { cpu: Some((node * 37 % 1_000) as u16), ..Load::default() },
    }));
    for n in 0..20 * candidates {
        let now = Time::from_micros(n * 100);
        let choice = balance.choose(now, n, scattered(n)).expect("all have room");
        balance.begin(now, &choice);
        if n % 20 != 0 {
            let outcome = Outcome::Answered { took: Duration::from_micros(900 + n % 200), in_flight: Some(3) };
            balance.end(now, &choice, outcome);
        }
    }
    balance
}

fn choose(balance: &mut Balance) {
    for n in 0..CHOICES {
        let bits = scattered(n);
        let _chosen = black_box(balance.choose(Time::from_micros(100_000 + n / 8), bits, bits));
    }
}

fn ask(balance: &mut Balance) {
    for n in 0..CHOICES {
        let (now, bits) = (Time::from_micros(200_000 + n / 8), scattered(n));
        let choice = balance.choose(now, bits, bits).expect("all have room");
        balance.begin(now, &choice);
        let outcome = Outcome::Answered { took: Duration::from_micros(900 + n % 200), in_flight: Some(3) };
        black_box(balance.end(now, &choice, outcome));
    }
}

/// Nanoseconds a choice.
fn least(mut round: impl FnMut()) -> f64 {
    let times = (0..ROUNDS).map(|_| {
        let begun = Instant::now();
        round();
        begun.elapsed().as_nanos() as f64 / CHOICES as f64
    });
    times.fold(f64::INFINITY, f64::min)
}

fn scattered(n: u64) -> u64 {
    (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
