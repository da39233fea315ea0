//! Many seeds: none may violate anything, and together they must meet what the simulator is there for.

use pelago_sim::{Run, Tally, Tracing, Workload, run, scenarios};

/// Seeds of each workload.
const SEEDS: u64 = 1_000;
/// More runs than this in a hundred that say nothing are a failure of the simulator.
const INVALID_PERCENT_MAX: u64 = 2;

#[test]
fn a_thousand_seeds_of_appends_violate_nothing() {
    let seen = sweep(Workload::Append);
    for kind in [
        "batch in doubt was committed",
        "batch vanished",
        "ask under a known key answered again",
        "claim lost to another",
        "claim of a lost node refused",
        "forgotten key was answered anew",
        "message buried",
        "message handled before",
        "node left with nothing in its hands",
        "replies swept",
        "turn of an older epoch refused",
        "turn recognised the second time",
    ] {
        assert!(seen.0.contains_key(kind), "no seed met: {kind}");
    }
}

#[test]
fn a_thousand_seeds_of_tasks_violate_nothing() {
    let seen = sweep(Workload::Tasks);
    for kind in [
        "attempt timed out",
        "attempt was hopeless",
        "forgotten key made a task anew",
        "late progress refused",
        "late result refused",
        "node left with nothing in its hands",
        "node removed",
        "progress recognised the second time",
        "run given up",
        "task under a known key enqueued again",
        "tasks of a lost node freed",
        "tasks of a node that left freed",
        "task of a removed node called off",
        "task returned",
        "tasks swept",
        "turn of an older epoch refused",
    ] {
        assert!(seen.0.contains_key(kind), "no seed met: {kind}");
    }
}

#[test]
fn a_thousand_seeds_of_timers_violate_nothing() {
    let seen = sweep(Workload::Timers);
    for kind in [
        "message handled before",
        "run given up",
        "timer buried",
        "timer came too early",
        "timer cancelled",
        "timer fired",
        "timer fired and set again",
        "turn of an older epoch refused",
        "turn recognised the second time",
    ] {
        assert!(seen.0.contains_key(kind), "no seed met: {kind}");
    }
}

#[test]
fn every_kind_of_fault_happens() {
    let mut seen = Tally::default();
    (0..100).for_each(|seed| seen.add(&run(seed, Workload::Append, Tracing::Off).faults));
    for kind in [
        "flush failed",
        "leader crashed",
        "leader crashed after it had written a batch",
        "leader crashed before it had answered",
        "leader in the minority",
        "node crashed",
        "node in the minority",
        "node paused",
        "node stopped",
        "one-way partition",
        "packet delayed",
        "packet dropped",
        "packet duplicated",
        "packet into a partition",
        "packet very late",
        "power cut",
        "power cut for days",
        "slow disk",
        "storm",
        "wall clock turned",
    ] {
        assert!(seen.0.contains_key(kind), "no seed brought: {kind}");
    }
}

#[test]
fn what_once_failed_passes() {
    for scenario in scenarios::ALL {
        passes(&run(scenario.seed, scenario.workload, Tracing::Off));
    }
}

#[test]
fn the_same_seed_makes_the_same_run() {
    for workload in Workload::ALL {
        for seed in [1, 4, 17] {
            let (one, two) = (run(seed, workload, Tracing::On), run(seed, workload, Tracing::On));
            assert!(one.trace.len() > 1_000, "the trace of seed {seed} has {} lines", one.trace.len());
            assert!(one.trace == two.trace, "seed {seed} of {workload} made two runs");
            // Whether it is written down changes nothing.
            let quiet = run(seed, workload, Tracing::Off);
            assert_eq!((quiet.steps, quiet.commits, &quiet.faults), (one.steps, one.commits, &one.faults));
        }
    }
}

#[test]
fn two_seeds_make_two_runs() {
    let (one, two) = (run(1, Workload::Append, Tracing::On), run(2, Workload::Append, Tracing::On));
    assert!(one.trace != two.trace);
}

fn sweep(workload: Workload) -> Tally {
    let mut seen = Tally::default();
    let mut invalid = 0;
    for seed in 0..SEEDS {
        let run = run(seed, workload, Tracing::Off);
        passes(&run);
        invalid += u64::from(!run.is_valid());
        seen.add(&run.sightings);
    }
    assert!(invalid * 100 <= SEEDS * INVALID_PERCENT_MAX, "{invalid} of {SEEDS} seeds said nothing");
    seen
}

fn passes(run: &Run) {
    if let Some(violation) = &run.violation {
        panic!("seed {} of {}: {violation}\nreplay: {}", run.seed, run.workload, run.replay());
    }
}
