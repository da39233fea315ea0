//! Runs the simulator: `cargo xtask sim [--workload append|tasks|all] [--seeds N] [--seed S] [--trace]`.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use pelago_sim::{Run, Tally, Tracing, Workload, run};

/// How many lines of a failing seed's trace are shown.
const LINES: usize = 60;
/// More runs than this in a hundred that say nothing are a failure of the simulator.
const INVALID_PERCENT_MAX: u64 = 10;

struct Options {
    workloads: Vec<Workload>,
    first: u64,
    seeds: u64,
    trace: bool,
}

#[derive(Default)]
struct Summary {
    runs: u64,
    steps: u64,
    simulated: Duration,
    commits: u64,
    invalid: u64,
    violations: u64,
    faults: Tally,
    sightings: Tally,
}

fn main() -> io::Result<ExitCode> {
    let mut out = io::stdout().lock();
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            writeln!(io::stderr(), "error: {problem}")?;
            return Ok(ExitCode::from(2));
        }
    };
    let mut summary = Summary::default();
    for seed in options.first..options.first + options.seeds {
        for workload in &options.workloads {
            let tracing = if options.trace { Tracing::On } else { Tracing::Off };
            let run = run(seed, *workload, tracing);
            summary.add(&run);
            if options.trace {
                run.trace.iter().try_for_each(|line| writeln!(out, "{line}"))?;
            }
            if run.violation.is_some() {
                report(&run, &mut out)?;
                if options.seeds > 1 {
                    summary.print(&mut out)?;
                    return Ok(ExitCode::FAILURE);
                }
            }
        }
    }
    summary.print(&mut out)?;
    let is_good = summary.violations == 0 && summary.invalid * 100 <= summary.runs * INVALID_PERCENT_MAX;
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn options(arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { workloads: Workload::ALL.to_vec(), first: 0, seeds: 1_000, trace: false };
    let mut arguments = arguments.flat_map(|argument| match argument.split_once('=') {
        Some((name, value)) => vec![name.to_owned(), value.to_owned()],
        None => vec![argument],
    });
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--workload" => match value()?.as_str() {
                "all" => options.workloads = Workload::ALL.to_vec(),
                name => options.workloads = vec![name.parse().map_err(|e| format!("{e}"))?],
            },
            "--seeds" => options.seeds = value()?.parse().map_err(|e| format!("--seeds: {e}"))?,
            "--seed" => {
                options.first = value()?.parse().map_err(|e| format!("--seed: {e}"))?;
                options.seeds = 1;
            }
            "--trace" => options.trace = true,
            _ => return Err(format!("{argument} is not known: there are --workload, --seeds, --seed and --trace")),
        }
    }
    Ok(options)
}

/// Shows how a seed failed. The run is made again, since a passing one keeps no trace.
fn report(run: &Run, out: &mut impl io::Write) -> io::Result<()> {
    let Some(violation) = &run.violation else { return Ok(()) };
    let again = pelago_sim::run(run.seed, run.workload, Tracing::On);
    let skipped = again.trace.len().saturating_sub(LINES);
    for line in &again.trace[skipped..] {
        writeln!(out, "  {line}")?;
    }
    writeln!(out, "seed {} of {}, step {}: {violation}", run.seed, run.workload, run.steps)?;
    writeln!(out, "replay: {}", run.replay())
}

impl Summary {
    fn add(&mut self, run: &Run) {
        self.runs += 1;
        self.steps += run.steps;
        self.simulated += run.simulated;
        self.commits += run.commits;
        self.invalid += u64::from(!run.is_valid());
        self.violations += u64::from(run.violation.is_some());
        self.faults.add(&run.faults);
        self.sightings.add(&run.sightings);
    }

    fn print(&self, out: &mut impl io::Write) -> io::Result<()> {
        let hours = self.simulated.as_secs_f64() / 3_600.0;
        writeln!(out, "runs        {:>12}", self.runs)?;
        writeln!(out, "steps       {:>12}", self.steps)?;
        writeln!(out, "simulated   {hours:>12.1} h")?;
        writeln!(out, "commits     {:>12}", self.commits)?;
        for (title, tally) in [("faults", &self.faults), ("sightings", &self.sightings)] {
            writeln!(out, "{title:<12}{:>12}", tally.total())?;
            for (kind, n) in &tally.0 {
                writeln!(out, "  {kind:<40} {n:>8}")?;
            }
        }
        writeln!(out, "invalid     {:>12}", self.invalid)?;
        writeln!(out, "violations  {:>12}", self.violations)
    }
}
