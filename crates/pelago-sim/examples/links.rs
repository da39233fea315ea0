//! Links that break at any byte, on as many seeds as told: `cargo run -p pelago-sim --example links -- [FIRST] [SEEDS]`.

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
    let (mut links, mut breaks, mut told, mut handled, mut asks) = (0, 0, 0, 0, [0; 5]);
    for seed in first..first + seeds {
        let run = pelago_sim::links::run(seed);
        if let Some(violation) = &run.violation {
            writeln!(out, "seed {seed}: {violation}")?;
            return Ok(ExitCode::FAILURE);
        }
        (links, breaks, told, handled) =
            (links + run.links, breaks + run.breaks, told + run.told, handled + run.handled);
        asks.iter_mut().zip(run.asks).for_each(|(sum, ended)| *sum += ended);
    }
    let [replied, none, late, cut_off, called_off] = asks;
    writeln!(out, "{seeds} seeds: {links} links up, {breaks} breaks, {told} told, {handled} handled")?;
    writeln!(out, "asks: {replied} replied, {none} refused, {late} late, {cut_off} cut off, {called_off} called off")?;
    Ok(ExitCode::SUCCESS)
}
