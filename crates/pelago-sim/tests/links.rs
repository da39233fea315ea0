//! Links that break at any byte: order, at most once, asks that end once, accounts that are right, and nothing that leaks.

use pelago_sim::links::run;

const SEEDS: u64 = 300;

#[test]
fn links_that_break_keep_order_lose_nothing_unsaid_and_leak_nothing() {
    let (mut links, mut breaks, mut handled, mut asks) = (0, 0, 0, [0; 6]);
    for seed in 0..SEEDS {
        let run = run(seed);
        assert_eq!(run.violation, None, "seed {seed}: {run:?}");
        assert_eq!(
            format!("{run:?}"),
            format!("{:?}", pelago_sim::links::run(seed)),
            "the same seed makes the same run"
        );
        links += run.links;
        breaks += run.breaks;
        handled += run.handled;
        asks.iter_mut().zip(run.asks).for_each(|(sum, ended)| *sum += ended);
    }
    // Otherwise it says nothing.
    assert!(breaks >= SEEDS && links > 2 * SEEDS && handled > 10 * SEEDS, "{breaks} breaks, {links} links, {handled}");
    assert!(asks.iter().all(|ended| *ended > SEEDS / 10), "asks ended in too few ways: {asks:?}");
}
