//! What the strategies of `core::route` are worth, in a queueing model around the production code.

use pelago_core::route::Strategy;
use pelago_sim::balance::{Figures, Scenario, simulate};

const NODES: usize = 16;
const REQUESTS: usize = 40_000;

#[test]
fn with_the_adaptive_rule_the_slowest_answers_come_soonest_under_skew_slow_nodes_and_bursts() {
    for seed in 0..3 {
        for scenario in [Scenario::Skew, Scenario::Slow, Scenario::Bursts] {
            let (adaptive, others) = p99(seed, scenario);
            assert!(others.iter().all(|(_, other)| adaptive < *other), "{scenario:?}: {adaptive} us, {others:?}");
        }
    }
}

#[test]
fn where_there_is_no_trouble_or_too_much_the_adaptive_rule_is_as_good_as_any() {
    for scenario in [Scenario::Even, Scenario::Overload] {
        let (adaptive, others) = p99(7, scenario);
        // More is asked than all nodes together can do: what is left to gain is a part of a hundredth.
        assert!(others.iter().all(|(_, other)| adaptive <= other * 102 / 100), "{adaptive} us, {others:?}");
    }
}

#[test]
fn the_same_seed_makes_the_same_figures() {
    let once = || simulate(3, 5, Scenario::Skew, Strategy::Adaptive, 5_000);
    assert_eq!(once(), once());
    assert_ne!(once(), simulate(4, 5, Scenario::Skew, Strategy::Adaptive, 5_000));
}

/// Of a hundred requests one took longer: by the adaptive rule, and by the others.
fn p99(seed: u64, scenario: Scenario) -> (u64, Vec<(&'static str, u64)>) {
    let of = |strategy| {
        let Figures { p99_us, .. } = simulate(seed, NODES, scenario, strategy, REQUESTS);
        p99_us
    };
    let others = Strategy::ALL.into_iter().filter(|strategy| *strategy != Strategy::Adaptive);
    (of(Strategy::Adaptive), others.map(|strategy| (strategy.name(), of(strategy))).collect())
}
