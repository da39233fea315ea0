//! Prints how long answers take by each strategy of `core::route`, in milliseconds:
//! `cargo run --release -p pelago-sim --example balance -- [NODES [REQUESTS [SEED]]]`.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use pelago_core::route::Strategy;
use pelago_sim::balance::{Figures, Scenario, simulate};

fn main() -> io::Result<ExitCode> {
    let mut numbers = Vec::new();
    for argument in std::env::args().skip(1) {
        match argument.parse::<u32>() {
            Ok(number) if numbers.len() < 3 => numbers.push(number),
            Ok(_) | Err(_) => {
                writeln!(io::stderr(), "error: {argument:?} is not one of [NODES [REQUESTS [SEED]]]")?;
                return Ok(ExitCode::from(2));
            }
        }
    }
    let number = |index: usize, default: u32| numbers.get(index).copied().unwrap_or(default);
    let (nodes, requests, seed) = (number(0, 16).max(1), number(1, 200_000).max(1_000), number(2, 0));
    let mut out = io::stdout().lock();
    writeln!(out, "{nodes} nodes, {requests} requests each, seed {seed}\n")?;
    writeln!(out, "| what | strategy | p50 ms | p95 ms | p99 ms | p99.9 ms |\n|---|---|---|---|---|---|")?;
    for scenario in Scenario::ALL {
        for strategy in Strategy::ALL {
            let figures = simulate(seed.into(), nodes as usize, scenario, strategy, requests as usize);
            let Figures { p50_us, p95_us, p99_us, p999_us } = figures;
            let [p50, p95, p99, p999] = [p50_us, p95_us, p99_us, p999_us].map(|us| us as f64 / 1_000.0);
            let (what, by) = (scenario.name(), strategy.name());
            writeln!(out, "| {what} | {by} | {p50:.1} | {p95:.1} | {p99:.1} | {p999:.1} |")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
