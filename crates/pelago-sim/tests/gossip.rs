//! Gossip under loss, delay, reordering and partitions: everybody ends up with the same view, in time, and nobody who
//! lives is taken for dead.

use std::{collections::BTreeSet, time::Duration};

use pelago_core::membership::{Load, Profile, State};
use pelago_sim::gossip::{Mesh, Weather};

const SEEDS: u64 = 60;

#[test]
fn a_node_that_is_known_to_one_is_soon_known_to_all() {
    for seed in 0..SEEDS {
        let mut mesh = mesh(seed, 6);
        mesh.start(7);
        mesh.link(7, 1 + seed % 6);
        let all = nodes(1..=7);
        let took = mesh.until(Duration::from_secs(10), |mesh| mesh.agrees(&all));
        assert!(took.is_some(), "seed {seed}: {mesh:?}");
    }
}

#[test]
fn a_dead_node_is_seen_by_all_within_the_bounds_of_its_profile() {
    let profiles = [
        (Profile::Local, Duration::from_secs(1), Duration::from_secs(5)),
        (Profile::Lan, Duration::from_secs(5), Duration::from_secs(15)),
        (Profile::Wan, Duration::from_secs(30), Duration::from_secs(75)),
    ];
    for (profile, from, to) in profiles {
        let mut slowest = Duration::ZERO;
        for seed in 0..SEEDS {
            let size = 3 + seed % 7;
            let mut mesh = Mesh::of(seed, profile, fair(), size);
            mesh.pass(Duration::from_millis(137 * seed));
            let begun = mesh.now();
            mesh.kill(2);
            let mut left = nodes(1..=size);
            left.remove(&2);
            let took = mesh.until(4 * to, |mesh| mesh.agrees(&left) && is_down_for_all(mesh, &left, 2));
            let took = took.unwrap_or_else(|| panic!("{profile:?}, seed {seed}: never seen: {mesh:?}"));
            let first = mesh.seen.iter().find(|seen| seen.state == State::Down).expect("it was seen");
            assert!(first.at - begun >= from, "{profile:?}, seed {seed}: seen after {:?}", first.at - begun);
            assert!(took <= to, "{profile:?}, seed {seed}: seen by all after {took:?}");
            let others = mesh.seen.iter().filter(|seen| seen.of.node.0 != 2 && !seen.state.is_there());
            assert_eq!(others.count(), 0, "{profile:?}, seed {seed}: {:?}", mesh.seen);
            slowest = slowest.max(took);
        }
        assert!(slowest > from, "{profile:?}: {slowest:?}");
    }
}

#[test]
fn a_lossy_network_makes_nobody_flap() {
    let mut suspects = 0;
    for seed in 0..SEEDS {
        let weather = Weather { lost_permille: 100, delay_ms: 1..=150 };
        let mut mesh = Mesh::of(seed, Profile::Lan, weather, 6);
        mesh.pass(Duration::from_mins(3));
        let gone: Vec<_> = mesh.seen.iter().filter(|seen| !seen.state.is_there()).collect();
        assert!(gone.is_empty(), "seed {seed}: {gone:?}");
        suspects += mesh.seen.iter().filter(|seen| seen.state == State::Suspect).count();
        let all = nodes(1..=6);
        let settled = mesh.until(Duration::from_secs(30), |mesh| mesh.agrees(&all));
        assert!(settled.is_some(), "seed {seed}: {mesh:?}");
    }
    assert!(suspects > 0, "no seed was hard enough to make anybody suspect");
}

#[test]
fn a_node_that_others_reach_is_not_dead_for_whom_it_does_not_answer() {
    for seed in 0..SEEDS {
        let mut mesh = mesh(seed, 4 + seed % 4);
        // One way, or both.
        mesh.cut(1, 2);
        if seed % 2 == 0 {
            mesh.cut(2, 1);
        }
        mesh.pass(Duration::from_mins(2));
        let gone: Vec<_> = mesh.seen.iter().filter(|seen| !seen.state.is_there()).collect();
        assert!(gone.is_empty(), "seed {seed}: {gone:?}");
    }
}

#[test]
fn partitions_are_seen_and_heal() {
    for seed in 0..SEEDS {
        let size = 4 + seed % 4;
        let mut mesh = mesh(seed, size);
        let (side, other) = (nodes(1..=1 + seed % 3), nodes(2 + seed % 3..=size));
        mesh.part(&side);
        let parted = mesh.until(Duration::from_secs(60), |mesh| {
            let sees = |by: &BTreeSet<u64>, of: &BTreeSet<u64>| of.iter().all(|of| is_down_for_all(mesh, by, *of));
            sees(&side, &other) && sees(&other, &side)
        });
        assert!(parted.is_some(), "seed {seed}: {mesh:?}");
        mesh.pass(Duration::from_secs(30));
        mesh.heal();
        let all = nodes(1..=size);
        let healed = mesh.until(Duration::from_secs(20), |mesh| mesh.agrees(&all));
        assert!(healed.is_some(), "seed {seed}: {mesh:?}");
        mesh.seen.clear();
        mesh.pass(Duration::from_mins(1));
        let gone: Vec<_> = mesh.seen.iter().filter(|seen| !seen.state.is_there()).collect();
        assert!(gone.is_empty(), "seed {seed}: it goes on: {gone:?}");
    }
}

#[test]
fn a_restarted_node_takes_the_place_of_its_earlier_run_with_another_address() {
    for seed in 0..SEEDS {
        let mut mesh = mesh(seed, 5);
        let before = mesh.sight(1, 3).expect("it is known").1;
        mesh.kill(3);
        // Before anybody misses it, or after it was given up.
        mesh.pass(Duration::from_millis(500 * seed));
        mesh.start(3);
        mesh.link(3, 1 + seed % 2);
        let all = nodes(1..=5);
        let found = mesh.until(Duration::from_secs(10), |mesh| mesh.agrees(&all));
        assert!(found.is_some(), "seed {seed}: {mesh:?}");
        for by in [1, 2, 4, 5] {
            let (_, identity, record, _) = mesh.sight(by, 3).expect("it is known");
            assert!(identity.holder.incarnation > before.holder.incarnation);
            assert_ne!(identity.mesh_address, before.mesh_address);
            let run = record.expect("it was told").labels.remove("run");
            assert_eq!(run, Some(identity.holder.incarnation.to_string()), "seed {seed}");
        }
    }
}

#[test]
fn a_pair_that_is_left_knows_of_each_other_what_there_is_to_know() {
    for seed in 0..SEEDS {
        let mut mesh = mesh(seed, 5);
        [1, 2, 3].into_iter().for_each(|voter| mesh.kill(voter));
        let left = nodes(4..=5);
        let seen = mesh.until(Duration::from_secs(20), |mesh| {
            mesh.agrees(&left) && [1, 2, 3].into_iter().all(|dead| is_down_for_all(mesh, &left, dead))
        });
        assert!(seen.is_some(), "seed {seed}: {mesh:?}");
        let load = Load { cpu: Some(700), queued: 12, ..Load::default() };
        mesh.load(4, load);
        let heard =
            mesh.until(Duration::from_secs(20), |mesh| mesh.sight(5, 4).is_some_and(|sight| sight.3 == Some(load)));
        assert!(heard.is_some(), "seed {seed}");
        assert_eq!(mesh.sight(5, 4).map(|sight| sight.0), Some(State::Up), "seed {seed}");
    }
}

#[test]
fn a_node_that_says_goodbye_has_left_and_is_not_missed() {
    for seed in 0..SEEDS {
        let weather = Weather { lost_permille: 0, ..fair() };
        let mut mesh = Mesh::of(seed, Profile::Lan, weather, 6);
        mesh.leave(2);
        let mut left = nodes(1..=6);
        left.remove(&2);
        let is_seen =
            |mesh: &Mesh| left.iter().all(|by| mesh.sight(*by, 2).is_some_and(|sight| sight.0 == State::Left));
        let took = mesh.until(Duration::from_secs(3), is_seen);
        assert!(took.is_some(), "seed {seed}: {mesh:?}");
        mesh.pass(Duration::from_secs(30));
        assert!(is_seen(&mesh), "seed {seed}: {mesh:?}");
        assert!(!mesh.seen.iter().any(|seen| seen.state == State::Suspect), "seed {seed}: {:?}", mesh.seen);
    }
}

#[test]
fn the_same_seed_makes_the_same_run() {
    let run = |seed| {
        let mut mesh = mesh(seed, 6);
        mesh.part(&nodes(1..=2));
        mesh.pass(Duration::from_secs(30));
        mesh.heal();
        mesh.pass(Duration::from_secs(30));
        mesh.seen
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

fn mesh(seed: u64, size: u64) -> Mesh {
    Mesh::of(seed, Profile::Lan, fair(), size)
}

/// A bad day of a good network.
fn fair() -> Weather {
    Weather { lost_permille: 20, delay_ms: 1..=40 }
}

fn nodes(nodes: impl IntoIterator<Item = u64>) -> BTreeSet<u64> {
    nodes.into_iter().collect()
}

fn is_down_for_all(mesh: &Mesh, by: &BTreeSet<u64>, of: u64) -> bool {
    by.iter().all(|by| mesh.sight(*by, of).is_some_and(|sight| sight.0 == State::Down))
}
