//! Choices between nodes that come and go, on as many seeds as told: `cargo run -p pelago-sim --example routing -- [FIRST]
//! [SEEDS]`.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

fn main() -> io::Result<ExitCode> {
    let mut numbers = std::env::args().skip(1).map(|argument| argument.parse::<u64>());
    let (Ok(first), Ok(seeds)) = (numbers.next().unwrap_or(Ok(0)), numbers.next().unwrap_or(Ok(1_000))) else {
        writeln!(io::stderr(), "error: the first seed and the number of seeds are whole numbers")?;
        return Ok(ExitCode::from(2));
    };
    let mut out = io::stdout().lock();
    let (mut choices, mut opened, mut closed, mut gone, mut hops) = ([0; 4], 0, 0, 0, 0);
    for seed in first..first + seeds {
        let run = pelago_sim::routing::run(seed);
        if let Some(violation) = &run.violation {
            writeln!(out, "seed {seed}: {violation}")?;
            return Ok(ExitCode::FAILURE);
        }
        choices.iter_mut().zip(run.choices).for_each(|(sum, count)| *sum += count);
        (opened, closed, gone, hops) = (opened + run.opened, closed + run.closed, gone + run.gone, hops + run.hops);
    }
    let [near, far, probes, last] = choices;
    writeln!(out, "{seeds} seeds: {near} by strategy, {far} farther, {probes} probes, {last} as a last resort")?;
    writeln!(out, "{opened} taken out, {closed} brought back, {gone} nodes gone, {hops} hops of signals")?;
    Ok(ExitCode::SUCCESS)
}
