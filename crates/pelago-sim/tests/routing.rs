//! Choices between nodes that come and go: who is chosen, breakers, room that comes back, and signals on their way.

use pelago_sim::routing::run;

const SEEDS: u64 = 300;

#[test]
fn whoever_comes_and_goes_is_chosen_by_the_rules_and_no_room_is_lost() {
    let (mut choices, mut opened, mut closed, mut gone, mut hops) = ([0; 4], 0, 0, 0, 0);
    for seed in 0..SEEDS {
        let run = run(seed);
        assert_eq!(run.violation, None, "seed {seed}: {run:?}");
        choices.iter_mut().zip(run.choices).for_each(|(sum, count)| *sum += count);
        (opened, closed, gone, hops) = (opened + run.opened, closed + run.closed, gone + run.gone, hops + run.hops);
    }
    assert_eq!(format!("{:?}", run(7)), format!("{:?}", run(7)), "the same seed makes the same run");
    // Otherwise it says nothing.
    assert!(choices.iter().all(|count| *count > 5 * SEEDS), "requests were placed in too few ways: {choices:?}");
    assert!(opened > 5 * SEEDS && closed > 2 * SEEDS, "{opened} opened, {closed} closed");
    assert!(gone > 5 * SEEDS && hops > 50 * SEEDS, "{gone} gone, {hops} hops");
}
