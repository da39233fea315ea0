//! What holds of every choice, whatever the strategy, and what each strategy is for.

use std::{
    num::{NonZeroU16, NonZeroU32},
    time::Duration,
};

use super::*;
use crate::{
    id::{Holder, Incarnation, NodeId},
    time::Time,
};

const CAPACITY: u32 = 4;
const QUICK: Duration = Duration::from_millis(10);

#[test]
fn three_failures_in_a_row_take_a_candidate_out_and_two_do_not() {
    for strategy in Strategy::ALL {
        let mut two = World::new(strategy, 2);
        let fail_last = [Outcome::Failed, Outcome::Failed, answered(QUICK), Outcome::Failed, Outcome::Failed];
        for outcome in fail_last {
            assert_eq!(two.one(0, outcome), None, "{strategy:?}");
        }
        assert_eq!(two.one(0, Outcome::Failed), Some(Change::Opened), "{strategy:?}");
        assert_eq!(two.chosen(100)[..2], [0, 100], "{strategy:?}");
    }
}

#[test]
fn five_successes_in_a_row_bring_it_back_and_four_do_not() {
    let mut world = World::new(Strategy::RoundRobin, 2);
    world.fail(0);
    world.pass(Duration::from_secs(1));
    for success in 1..=SUCCESSES_MIN {
        assert_eq!(world.probe().map(|probe| probe.0), Some(0), "success {success}");
        let changed = world.end_probe(answered(QUICK));
        assert_eq!(changed, (success == SUCCESSES_MIN).then_some(Change::Closed), "success {success}");
    }
    assert_eq!(world.chosen(100)[..2], [50, 50]);
}

#[test]
fn a_probe_goes_alone_and_one_that_fails_is_followed_after_twice_the_pause() {
    let mut world = World::new(Strategy::LeastConnections, 2);
    world.fail(0);
    world.pass(Duration::from_millis(999));
    assert_eq!(world.probe(), None);
    world.pass(Duration::from_millis(1));
    assert!(world.probe().is_some());
    assert_eq!(world.chosen(50)[0], 0, "one is under way");
    for success in 0..SUCCESSES_MIN - 1 {
        assert_eq!(world.end_probe(answered(QUICK)), None);
        assert!(world.probe().is_some(), "after success {success}");
    }
    assert_eq!(world.end_probe(Outcome::Failed), None);
    world.pass(Duration::from_millis(1_999));
    assert_eq!(world.probe(), None);
    world.pass(Duration::from_millis(1));
    assert!(world.probe().is_some(), "and it has to succeed five times again");
    assert_eq!(world.end_probe(answered(QUICK)), None);
}

#[test]
fn when_all_are_open_nobody_is_chosen_until_the_pause_is_over() {
    for strategy in Strategy::ALL {
        let mut world = World::new(strategy, 2);
        world.fail(0);
        world.pass(Duration::from_millis(400));
        world.fail(1);
        let none = world.balance.choose(world.now, 0, 0);
        assert_eq!(none, Err(NoChoice::AllOpen { again: Duration::from_millis(600) }), "{strategy:?}");
        world.pass(Duration::from_millis(600));
        assert_eq!(world.probe().map(|probe| probe.0), Some(0), "{strategy:?}");
        world.pass(Duration::from_millis(100));
        assert_eq!(world.balance.choose(world.now, 0, 0), Err(NoChoice::AllOpen { again: Duration::from_millis(300) }));
        assert_eq!(Balance::new(strategy, Prefer::None).choose(world.now, 0, 0), Err(NoChoice::Nobody));
    }
}

#[test]
fn nobody_that_is_full_away_or_open_is_chosen_while_another_is_there() {
    for strategy in Strategy::ALL {
        for seed in 0..200 {
            let mut world = World::new(strategy, 5);
            world.bits = seed;
            world.fail(0);
            world.one(1, Outcome::Away(Duration::from_secs(1)));
            (0..CAPACITY).for_each(|_| world.begin(2));
            for _ in 0..2 * (CAPACITY - 1) {
                let (index, reason) = world.choose();
                assert!(index >= 3 && reason == Reason::Strategy, "{strategy:?}: {index}, {reason:?}");
                world.begin(index);
            }
        }
    }
}

#[test]
fn when_nobody_has_room_one_that_is_there_is_the_last_resort() {
    for strategy in Strategy::ALL {
        let mut world = World::new(strategy, 2);
        world.one(0, Outcome::Away(Duration::from_secs(1)));
        (0..CAPACITY).for_each(|_| world.begin(1));
        assert_eq!(world.choose(), (1, Reason::LastResort), "{strategy:?}");
        world.fail(1);
        assert_eq!(world.choose(), (0, Reason::LastResort), "{strategy:?}");
    }
}

#[test]
fn one_that_fails_at_once_attracts_no_load() {
    for strategy in Strategy::ALL {
        let mut world = World::new(strategy, 4);
        let mut failed = 0;
        for _ in 0..1_000 {
            let choice = world.any();
            let (outcome, took) = match choice.holder.node {
                NodeId(0) => (Outcome::Failed, Duration::from_micros(10)),
                _ => (answered(QUICK), QUICK),
            };
            failed += u32::from(outcome == Outcome::Failed);
            world.balance.begin(world.now, &choice);
            world.pass(took);
            world.balance.end(world.now, &choice, outcome);
        }
        // Three, and then a probe after each pause: 1 + 2 + 4 s are within these ten.
        assert!(failed <= 6, "{strategy:?}: {failed}");
    }
}

#[test]
fn one_that_failed_once_does_not_look_quick() {
    for strategy in [Strategy::Latency, Strategy::Adaptive] {
        let mut world = World::new(strategy, 4);
        (0..4).for_each(|index| _ = world.one(index, answered(QUICK)));
        world.one(0, Outcome::Failed);
        assert_eq!(world.chosen(200)[0], 0, "{strategy:?}");
        world.one(0, answered(QUICK));
        assert!(world.chosen(200)[0] > 20, "{strategy:?}: it answered since");
    }
}

#[test]
fn weights_are_kept_to_the_letter() {
    let mut world = World::new(Strategy::Weighted, 3);
    let weights = [4, 2, 1];
    world.set(&weights.map(|weight| Candidate { weight: NonZeroU16::new(weight).expect("positive"), ..far(0) }));
    assert_eq!(world.chosen(700)[..3], [400, 200, 100]);
    let mut last = usize::MAX;
    for _ in 0..50 {
        let (index, _) = world.choose();
        assert!(index != last || index == 0, "the lighter ones are spread between the others");
        last = index;
    }
}

#[test]
fn those_that_are_alike_are_chosen_alike() {
    for strategy in Strategy::ALL {
        let mut world = World::new(strategy, 16);
        let chosen = world.chosen(16_000);
        let (least, most) = (chosen.iter().min(), chosen.iter().max());
        // A ring is as even as its places are many.
        let allowed = if strategy == Strategy::ConsistentHash { 650..=1_450 } else { 850..=1_150 };
        let is_even = [least, most].into_iter().flatten().all(|count| allowed.contains(count));
        assert!(is_even, "{strategy:?}: {chosen:?}");
    }
}

#[test]
fn what_one_that_is_out_would_have_had_is_spread_over_all_others() {
    let mut world = World::new(Strategy::RoundRobin, 5);
    world.fail(2);
    let chosen = world.chosen(4_000);
    assert_eq!(chosen[2], 0);
    assert!([0, 1, 3, 4].iter().all(|index| (900..1_100).contains(&chosen[*index])), "{chosen:?}");
}

#[test]
fn the_nearest_are_chosen_until_they_have_no_room() {
    let distances = [Distance::Here, Distance::Zone, Distance::Zone, Distance::Region, Distance::Far];
    let near = |prefer, full: &[usize]| {
        let mut world = World::preferring(Strategy::RoundRobin, prefer);
        world.set(&distances.map(|distance| Candidate { distance, ..far(0) }));
        for index in full {
            (0..CAPACITY).for_each(|_| world.begin(*index));
        }
        let chosen = world.chosen(60);
        (0..5).filter(|index| chosen[*index] > 0).collect::<Vec<_>>()
    };
    assert_eq!(near(Prefer::Node, &[]), [0]);
    assert_eq!(near(Prefer::Node, &[0]), [1, 2]);
    assert_eq!(near(Prefer::Node, &[0, 1, 2]), [3]);
    assert_eq!(near(Prefer::Zone, &[]), [0, 1, 2]);
    assert_eq!(near(Prefer::Zone, &[0, 1, 2]), [3]);
    assert_eq!(near(Prefer::Region, &[]), [0, 1, 2, 3]);
    assert_eq!(near(Prefer::Region, &[0, 1, 2, 3]), [4]);
    assert_eq!(near(Prefer::None, &[]), [0, 1, 2, 3, 4]);
}

#[test]
fn a_farther_one_is_probed_only_when_it_would_be_chosen() {
    let mut world = World::preferring(Strategy::Adaptive, Prefer::Node);
    world.set(&[Distance::Here, Distance::Far].map(|distance| Candidate { distance, ..far(0) }));
    world.fail(1);
    world.pass(Duration::from_secs(2));
    assert_eq!(world.choose(), (0, Reason::Strategy));
    (0..CAPACITY).for_each(|_| world.begin(0));
    assert_eq!(world.choose(), (1, Reason::Probe));
}

#[test]
fn a_node_that_goes_moves_only_its_own_keys() {
    for nodes in [3, 16, 64] {
        let (mut all, mut left) =
            (World::new(Strategy::ConsistentHash, nodes), World::new(Strategy::ConsistentHash, nodes));
        left.balance.set_candidates(candidates(&vec![far(0); nodes]).skip(1));
        let keys = 20_000;
        let mut moved = 0;
        for key in 0..keys {
            let before = all.balance.choose(all.now, key, 0).expect("there are candidates").holder;
            let after = left.balance.choose(left.now, key, 0).expect("there are candidates").holder;
            moved += u64::from(before != after);
            assert!(before == after || before.node == NodeId(0));
        }
        let part = keys / nodes as u64;
        assert!((part * 6 / 10..part * 15 / 10).contains(&moved), "{moved} of {keys} keys of {nodes} nodes");
    }
}

#[test]
fn no_key_brings_a_candidate_more_than_a_quarter_above_its_part() {
    for nodes in [3, 16, 64] {
        let mut world = World::new(Strategy::ConsistentHash, nodes);
        let roomy = Candidate { capacity: NonZeroU32::MAX, ..far(0) };
        world.set(&vec![roomy; nodes]);
        let mut in_flight = vec![0u64; nodes];
        for n in 0..2_000u64 {
            // A few keys are most of all.
            let choice = world.balance.choose(world.now, n % 3, n).expect("there are candidates");
            world.balance.begin(world.now, &choice);
            let index = usize::try_from(choice.holder.node.0).expect("small");
            in_flight[index] += 1;
            let bound = (5 * (n + 1)).div_ceil(4 * nodes as u64);
            assert!(in_flight[index] <= bound, "{} of {n} in flight on one of {nodes}", in_flight[index]);
        }
    }
}

#[test]
fn whoever_is_much_slower_is_passed_over_and_tried_again_once_in_a_while() {
    let mut world = World::new(Strategy::Adaptive, 3);
    let mut slow = 0;
    for _ in 0..1_000 {
        let (index, _) = world.choose();
        let took = if index == 0 { 5 * QUICK } else { QUICK };
        slow += u32::from(index == 0);
        world.begin(index);
        world.pass(took);
        world.end(index, answered(took));
    }
    // Ten seconds, and each second or two it is seen whether it is quicker by now.
    assert!((3..=20).contains(&slow), "{slow}");
}

#[test]
fn what_a_candidate_said_to_have_in_flight_counts_among_those_that_have_as_few_from_here() {
    let mut world = World::new(Strategy::Adaptive, 3);
    for (index, in_flight) in [(0, 3), (1, 1), (2, 2)] {
        world.one(index, Outcome::Answered { took: QUICK, in_flight: Some(in_flight) });
    }
    assert_eq!(world.chosen(100)[..3], [0, 100, 0]);
    world.begin(1);
    assert_eq!(world.chosen(100)[..3], [0, 0, 100]);
    world.pass(Duration::from_millis(900));
    world.end(1, answered(QUICK));
    assert!(world.chosen(300).iter().all(|count| *count > 50), "that was long ago");
}

#[test]
fn the_less_busy_machine_is_chosen() {
    let mut world = World::new(Strategy::LeastLoaded, 2);
    let busy = [Load { cpu: Some(900), ..known() }, Load { memory: Some(900), ..known() }];
    world.set(&busy.map(|load| Candidate { load, ..far(0) }));
    assert_eq!(world.chosen(100)[..2], [0, 100], "processor time counts for more than memory");
    let busy = [Load { network: Some(900), ..known() }, Load { memory: Some(900), ..known() }];
    world.set(&busy.map(|load| Candidate { load, ..far(0) }));
    assert_eq!(world.chosen(100)[..2], [100, 0], "memory counts for more than the network");
    let silent = Load { queue: 900, ..Load::default() };
    world.set(&[Load { cpu: Some(900), ..known() }, silent].map(|load| Candidate { load, ..far(0) }));
    assert_eq!(world.chosen(100)[..2], [100, 0], "what one of them does not say does not count for it");
}

#[test]
fn an_answer_that_does_not_come_is_a_failure_and_an_impatient_asker_is_none() {
    let mut world = World::new(Strategy::RoundRobin, 2);
    world.one(0, answered(QUICK));
    for _ in 0..10 {
        assert_eq!(world.one(0, Outcome::GivenUp(Duration::from_millis(900))), None);
    }
    assert_eq!(world.one(1, Outcome::GivenUp(Duration::from_secs(5))), None);
    assert_eq!(world.one(1, Outcome::GivenUp(Duration::from_secs(50))), None, "no ten times as long");
    let long = Duration::from_secs(500);
    let opened = [long, long * 10, long * 100].map(|waited| world.one(1, Outcome::GivenUp(waited)));
    assert!(opened.contains(&Some(Change::Opened)), "{opened:?}");
}

#[test]
fn what_was_learnt_outlasts_another_list_of_candidates() {
    let mut world = World::new(Strategy::RoundRobin, 3);
    world.fail(1);
    world.begin(2);
    let all = vec![far(0); 4];
    world.balance.set_candidates(candidates(&all).skip(1));
    assert_eq!(world.chosen(100)[..2], [0, 0]);
    world.end(2, answered(QUICK));
    world.balance.set_candidates(candidates(&all).take(1));
    assert_eq!(world.choose(), (0, Reason::Strategy));
    world.end(2, answered(QUICK));
}

/// A balance, the time, and what is drawn.
struct World {
    balance: Balance,
    now: Time,
    bits: u64,
    probing: Option<Choice>,
}

impl World {
    fn new(strategy: Strategy, nodes: usize) -> Self {
        let mut world = Self::preferring(strategy, Prefer::None);
        world.set(&vec![far(0); nodes]);
        world
    }

    fn preferring(strategy: Strategy, prefer: Prefer) -> Self {
        Self { balance: Balance::new(strategy, prefer), now: Time::from_micros(5_000_000), bits: 0, probing: None }
    }

    fn set(&mut self, of: &[Candidate]) {
        self.balance.set_candidates(candidates(of));
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    fn choose(&mut self) -> (usize, Reason) {
        let choice = self.any();
        (usize::try_from(choice.holder.node.0).expect("small"), choice.reason)
    }

    fn any(&mut self) -> Choice {
        self.bits += 1;
        let mixed = bits::mix(self.bits);
        self.balance.choose(self.now, mixed, !mixed).expect("somebody will do")
    }

    /// A choice of that one, as if it had been made.
    fn choice(&self, index: usize) -> Choice {
        Choice::of(holder(index as u64), Reason::Strategy)
    }

    fn begin(&mut self, index: usize) {
        self.balance.begin(self.now, &self.choice(index));
    }

    fn end(&mut self, index: usize, outcome: Outcome) -> Option<Change> {
        self.balance.end(self.now, &self.choice(index), outcome)
    }

    fn one(&mut self, index: usize, outcome: Outcome) -> Option<Change> {
        self.begin(index);
        self.end(index, outcome)
    }

    fn fail(&mut self, index: usize) {
        let changed: Vec<_> = (0..FAILURES_MAX).filter_map(|_| self.one(index, Outcome::Failed)).collect();
        assert_eq!(changed, [Change::Opened]);
    }

    /// Begins a probe, if one is due.
    fn probe(&mut self) -> Option<(usize, Reason)> {
        let choice = self.any();
        if choice.reason != Reason::Probe {
            return None;
        }
        self.balance.begin(self.now, &choice);
        self.probing = Some(choice);
        Some((usize::try_from(choice.holder.node.0).expect("small"), choice.reason))
    }

    fn end_probe(&mut self, outcome: Outcome) -> Option<Change> {
        let choice = self.probing.take().expect("a probe is under way");
        self.balance.end(self.now, &choice, outcome)
    }

    /// How often each is chosen.
    fn chosen(&mut self, times: usize) -> Vec<usize> {
        let mut counts = vec![0; self.balance.candidates().count().max(4)];
        (0..times).for_each(|_| counts[self.choose().0] += 1);
        counts.truncate(self.balance.candidates().map(|c| c.holder.node.0 as usize + 1).max().unwrap_or(0));
        counts
    }
}

fn answered(took: Duration) -> Outcome {
    Outcome::Answered { took, in_flight: None }
}

fn holder(node: u64) -> Holder {
    Holder { node: NodeId(node), incarnation: Incarnation(node + 100) }
}

fn far(node: u64) -> Candidate {
    Candidate {
        holder: holder(node),
        distance: Distance::Far,
        weight: NonZeroU16::MIN,
        capacity: NonZeroU32::new(CAPACITY).expect("it is not 0"),
        load: Load::default(),
    }
}

/// A machine that has nothing to do, and says so.
fn known() -> Load {
    Load { cpu: Some(0), memory: Some(0), network: Some(0), queue: 0 }
}

/// These, each of a node of its own.
fn candidates(of: &[Candidate]) -> impl Iterator<Item = Candidate> {
    (0..).zip(of).map(|(node, candidate)| Candidate { holder: holder(node), ..*candidate })
}
