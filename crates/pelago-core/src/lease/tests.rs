use super::*;
use crate::id::{Incarnation, NodeId};

const A: Holder = Holder { node: NodeId(1), incarnation: Incarnation(1) };
const A_LATER: Holder = Holder { node: NodeId(1), incarnation: Incarnation(9) };
const B: Holder = Holder { node: NodeId(2), incarnation: Incarnation(2) };

#[test]
fn a_heartbeat_is_granted_after_a_confirmation_that_began_after_it() {
    let mut leader = Leader::new([A, B]);
    assert_eq!(leader.beat(1_000, A, 1), [confirm(1)]);
    // Too late for the one under way: that may have begun under another leader's term.
    assert_eq!(leader.beat(1_001, B, 1), []);
    assert_eq!(leader.tell(1_010, Input::Confirmed(Confirmation(1))), [grant(A, 1)]);
    assert_eq!(leader.grants.deadline(), Some(at(1_100)));
    assert_eq!(leader.expire(1_100), [confirm(2)]);
    assert_eq!(leader.tell(1_101, Input::Confirmed(Confirmation(2))), [grant(B, 1)]);
}

#[test]
fn one_confirmation_serves_all_who_asked_before_it_and_grants_the_last_heartbeat_of_each() {
    let mut leader = Leader::new([A, B]);
    leader.beat(1_000, A, 1);
    for (now, holder, beat) in [(1_010, B, 4), (1_020, A, 3), (1_030, A, 2)] {
        assert_eq!(leader.beat(now, holder, beat), []);
    }
    assert_eq!(leader.tell(1_150, Input::Confirmed(Confirmation(1))), [grant(A, 1), confirm(2)]);
    assert_eq!(leader.tell(1_160, Input::Confirmed(Confirmation(2))), [grant(A, 3), grant(B, 4)]);
    assert_eq!(leader.tell(1_161, Input::Confirmed(Confirmation(2))), []);
}

#[test]
fn what_was_not_confirmed_is_confirmed_again() {
    let mut leader = Leader::new([A]);
    assert_eq!(leader.beat(1_000, A, 1), [confirm(1)]);
    assert_eq!(leader.tell(1_050, Input::NotConfirmed(Confirmation(1))), []);
    assert_eq!(leader.expire(1_099), []);
    assert_eq!(leader.expire(1_100), [confirm(2)]);
    assert_eq!(leader.tell(1_110, Input::Confirmed(Confirmation(1))), []);
    assert_eq!(leader.tell(1_111, Input::Confirmed(Confirmation(2))), [grant(A, 1)]);
}

#[test]
fn a_run_that_is_over_is_refused_and_one_that_was_registered_meanwhile_is_granted() {
    let mut leader = Leader::new([A]);
    leader.beat(1_000, A, 7);
    leader.tell(1_001, Input::Up(A_LATER));
    assert_eq!(leader.tell(1_010, Input::Confirmed(Confirmation(1))), [Effect::Refuse(A)]);
    leader.beat(1_200, B, 1);
    leader.tell(1_201, Input::Up(B));
    assert_eq!(leader.tell(1_210, Input::Confirmed(Confirmation(2))), [grant(B, 1)]);
    leader.beat(1_400, B, 2);
    leader.tell(1_401, Input::Gone(B));
    assert_eq!(leader.tell(1_410, Input::Confirmed(Confirmation(3))), [Effect::Refuse(B)]);
}

#[test]
fn a_silent_run_is_given_up_once_and_never_granted_again() {
    let mut leader = Leader::new([A]);
    leader.beat(1_000, A, 1);
    leader.tell(1_010, Input::Confirmed(Confirmation(1)));
    assert_eq!(leader.run_to(7_309), []);
    assert_eq!(leader.expire(7_310), [Effect::Expire(A)]);
    assert_eq!(leader.run_to(20_000), []);
    assert_eq!(leader.beat(20_000, A, 2), [confirm(2)]);
    assert_eq!(leader.tell(20_010, Input::Confirmed(Confirmation(2))), []);
    assert_eq!(leader.grants.deadline(), None);
}

#[test]
fn a_new_leader_gives_everybody_a_full_lease() {
    let mut leader = Leader { grants: Grants::new(Config::default(), at(50_000), [A, B]) };
    assert_eq!(leader.run_to(56_309), []);
    assert_eq!(leader.expire(56_310), [Effect::Expire(A), Effect::Expire(B)]);
}

#[test]
fn a_leader_that_stood_still_gives_nobody_up() {
    let mut leader = Leader::new([A, B]);
    leader.run_to(6_000);
    assert_eq!(leader.expire(7_600), []);
    assert_eq!(leader.run_to(13_909), []);
    assert_eq!(leader.expire(13_910), [Effect::Expire(A), Effect::Expire(B)]);
}

#[test]
fn a_lost_link_and_two_missed_heartbeats_are_enough() {
    let mut leader = Leader::new([A, B]);
    leader.beat(1_000, A, 1);
    leader.beat(1_000, B, 1);
    leader.tell(1_500, Input::LinkLost(A));
    leader.tell(1_500, Input::LinkLost(B));
    // It came back.
    leader.beat(2_000, B, 2);
    let effects: Vec<Effect> = leader.run_to(3_269);
    assert!(!effects.contains(&Effect::Expire(A)), "{effects:?}");
    assert_eq!(leader.expire(3_270), [Effect::Expire(A)]);
    assert!(!leader.run_to(8_309).contains(&Effect::Expire(B)));
    assert_eq!(leader.expire(8_310), [Effect::Expire(B)]);
}

#[test]
fn a_link_lost_after_long_silence_gives_the_run_up_at_the_next_look() {
    let mut leader = Leader::new([A]);
    leader.run_to(5_000);
    leader.tell(5_000, Input::LinkLost(A));
    assert_eq!(leader.grants.deadline(), Some(at(2_270)));
    assert_eq!(leader.expire(5_000), [Effect::Expire(A)]);
}

#[test]
fn a_node_may_act_for_less_than_a_lease_after_it_sent() {
    let mut lease = Lease::new(Config::default(), at(100));
    assert!(lease.is_valid(at(5_789)));
    assert!(!lease.is_valid(at(5_790)));
    let (one, two) = (lease.beat(at(1_000)), lease.beat(at(2_000)));
    lease.granted(two);
    lease.granted(one);
    assert_eq!(lease.deadline(), at(7_690));
    lease.granted(two);
    lease.granted(Beat(17));
    assert_eq!(lease.deadline(), at(7_690));
}

#[test]
fn a_lapsed_lease_goes_on_with_the_next_grant() {
    let mut lease = Lease::new(Config::default(), at(0));
    let late = lease.beat(at(1_000));
    let beat = lease.beat(at(10_000));
    assert!(!lease.is_valid(at(10_000)));
    lease.granted(late);
    assert!(!lease.is_valid(at(10_000)));
    lease.granted(beat);
    assert!(lease.is_valid(at(10_001)));
}

#[test]
fn a_node_stops_before_it_is_given_up_if_clocks_differ_by_no_more_than_is_said() {
    let config = Config::default();
    // The node's clock is slow by ε and the leader's is fast by as much, and nothing takes time on the way.
    let (slow, fast) = (990_000, 1_010_000);
    let node_stops = config.acts().as_micros() * 1_000_000 / slow;
    let leader_gives_up = config.waits().as_micros() * 1_000_000 / fast;
    assert!(node_stops < leader_gives_up, "{node_stops} µs, {leader_gives_up} µs");
}

struct Leader {
    grants: Grants,
}

impl Leader {
    fn new<const N: usize>(up: [Holder; N]) -> Self {
        Self { grants: Grants::new(Config::default(), at(0), up) }
    }

    fn tell(&mut self, now: u64, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.grants.handle(at(now), input, &mut effects);
        effects
    }

    fn beat(&mut self, now: u64, holder: Holder, beat: u64) -> Vec<Effect> {
        self.run_to(now);
        self.tell(now, Input::Heartbeat { holder, beat: Beat(beat) })
    }

    fn expire(&mut self, now: u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.grants.expire(at(now), &mut effects);
        effects
    }

    /// Keeps every deadline before `now`, as a loop does.
    fn run_to(&mut self, now: u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        while let Some(due) = self.grants.deadline().filter(|due| *due < at(now)) {
            self.grants.expire(due, &mut effects);
        }
        self.grants.expire(at(now), &mut effects);
        effects
    }
}

fn at(millis: u64) -> Time {
    Time::from_micros(millis * 1_000)
}

fn confirm(n: u64) -> Effect {
    Effect::Confirm(Confirmation(n))
}

fn grant(holder: Holder, beat: u64) -> Effect {
    Effect::Grant { holder, beat: Beat(beat) }
}
