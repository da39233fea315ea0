//! Prints how long one choice of `core::route` takes, in nanoseconds: `cargo run --release -p pelago-sim --example choose`.
//!
//! *Choice* is `choose` alone, as the goals have it; *whole* is `choose`, `begin` and `end`, which each request pays.

use std::{
    hint::black_box,
    io::{self, Write as _},
    num::{NonZeroU16, NonZeroU32},
    time::{Duration, Instant},
};

use pelago_core::{
    id::{Holder, Incarnation, NodeId},
    route::{Balance, Candidate, Distance, Load, Outcome, Prefer, Strategy},
    time::Time,
};

/// Choices of one round, which is over before another process gets the core. The least of the rounds is told: what others
/// do on the machine only adds.
const CHOICES: u64 = 5_000;
const ROUNDS: usize = 400;

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "| strategy | 3: choice, whole ns | 16: choice, whole ns | 64: choice, whole ns |\n|---|---|---|---|"
    )?;
    for strategy in Strategy::ALL {
        write!(out, "| {} |", strategy.name())?;
        for candidates in [3, 16, 64] {
            let mut balance = used(strategy, candidates);
            let choice = least(|| choose(&mut balance));
            let whole = least(|| ask(&mut balance));
            write!(out, " {choice:.0}, {whole:.0} |")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// A balance that knows its candidates: each has answered, some have requests in flight.
fn used(strategy: Strategy, candidates: u64) -> Balance {
    let mut balance = Balance::new(strategy, Prefer::None);
    balance.set_candidates((0..candidates).map(|node| Candidate {
        holder: Holder { node: NodeId(node), incarnation: Incarnation(node) },
        distance: Distance::Far,
        weight: NonZeroU16::MIN,
        capacity: NonZeroU32::new(64).expect("it is not 0"),
        load: Load { cpu: (node * 37 % 1_000) as u16, ..Load::default() },
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
