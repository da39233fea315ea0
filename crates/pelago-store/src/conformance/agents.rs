//! Agents: who holds one, and which turns commit.

use bytes::Bytes;
use pelago_core::{
    id::{Epoch, Version},
    record::{Chain, Op, Outcome, Phase, Refusal, Release, STATE_BYTES_MAX, Turn},
};

use super::{
    Subject, cases,
    world::{World, agent, claim, is_fenced, keyed_agent},
};

cases! {
    a_new_agent_belongs_to_its_first_claimant,
    of_two_claimants_of_one_epoch_one_wins,
    a_claim_sent_twice_is_answered_alike,
    a_claim_of_an_agent_that_never_was_must_say_so,
    a_live_holder_keeps_its_agent,
    a_released_agent_may_be_claimed,
    an_expired_holder_loses_its_agent,
    a_holder_may_fence_its_own_past,
    a_turn_commits_its_state,
    a_turn_sent_twice_commits_once,
    a_turn_of_another_version_is_fenced,
    a_run_of_turns_counts_each,
    a_release_of_another_epoch_is_fenced,
    a_state_above_the_limit_is_refused,
    the_chain_names_the_history,
    agents_with_different_keys_are_different,
}

fn a_new_agent_belongs_to_its_first_claimant<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let cart = keyed_agent("cart", "alice");
    assert_eq!(world.one(claim(&cart, 0, holder)), Outcome::Claimed { epoch: Epoch(1), version: Version(0) });
    let row = world.subject.agent(&cart).expect("it was claimed");
    assert_eq!((row.id, row.phase, row.holder, row.chain), (cart.clone(), Phase::Active, holder, Chain::START));
    assert_eq!(world.subject.state(&cart), None);
}

fn of_two_claimants_of_one_epoch_one_wins<S: Subject>(world: &mut World<S>) {
    let (first, second) = (world.join("n1"), world.join("n2"));
    let cart = agent("cart");
    let outcomes = world.batch(vec![claim(&cart, 0, first), claim(&cart, 0, second)]);
    assert_eq!(outcomes[0], Outcome::Claimed { epoch: Epoch(1), version: Version(0) });
    let winner = Refusal::Fenced { epoch: Epoch(1), version: Version(0), holder: first, live: true };
    assert_eq!(outcomes[1], Outcome::Refused(winner));
}

fn a_claim_sent_twice_is_answered_alike<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let cart = agent("cart");
    let first = world.one(claim(&cart, 0, holder));
    assert_eq!(world.one(claim(&cart, 0, holder)), first);
    assert_eq!(world.subject.agent(&cart).map(|row| row.epoch), Some(Epoch(1)));
}

fn a_claim_of_an_agent_that_never_was_must_say_so<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    assert!(is_fenced(&world.refused(claim(&agent("cart"), 3, holder)), Epoch(0), 0));
    assert_eq!(world.subject.agent(&agent("cart")), None);
}

fn a_live_holder_keeps_its_agent<S: Subject>(world: &mut World<S>) {
    let (holder, other) = (world.join("n1"), world.join("n2"));
    let cart = agent("cart");
    world.claim(&cart, 0, holder);
    let fenced = Refusal::Fenced { epoch: Epoch(1), version: Version(0), holder, live: true };
    assert_eq!(world.refused(claim(&cart, 1, other)), fenced);
    assert_eq!(world.subject.agent(&cart).map(|row| row.holder), Some(holder));
}

fn a_released_agent_may_be_claimed<S: Subject>(world: &mut World<S>) {
    let (first, second) = (world.join("n1"), world.join("n2"));
    let cart = agent("cart");
    let epoch = world.claim(&cart, 0, first);
    let turn = Turn { state: Some(Bytes::from_static(b"kept")), ..world.turn(&cart) };
    world.commit(Op::Turn(turn.clone()));
    let release = Op::Release(Release { agent: cart.clone(), epoch, holder: first });
    world.commit(release.clone());
    world.commit(release);
    assert_eq!(world.subject.agent(&cart).map(|row| row.phase), Some(Phase::Free));
    assert!(is_fenced(&world.refused(Op::Turn(Turn { version: Version(1), ..turn })), Epoch(1), 1));
    assert_eq!(world.one(claim(&cart, 1, second)), Outcome::Claimed { epoch: Epoch(2), version: Version(1) });
    assert_eq!(world.subject.state(&cart), Some(Bytes::from_static(b"kept")));
}

fn an_expired_holder_loses_its_agent<S: Subject>(world: &mut World<S>) {
    let (lost, winner, loser) = (world.join("n1"), world.join("n2"), world.join("n3"));
    let cart = agent("cart");
    world.claim(&cart, 0, lost);
    let late = Turn { state: Some(Bytes::from_static(b"late")), ..world.turn(&cart) };
    world.expire(lost);
    let outcomes = world.batch(vec![claim(&cart, 1, winner), claim(&cart, 1, loser)]);
    assert_eq!(outcomes[0], Outcome::Claimed { epoch: Epoch(2), version: Version(0) });
    assert!(!outcomes[1].is_success(), "{outcomes:?}");
    let fenced = Refusal::Fenced { epoch: Epoch(2), version: Version(0), holder: winner, live: true };
    assert_eq!(world.refused(Op::Turn(late)), fenced, "a commit that comes late is refused");
    assert_eq!(world.subject.state(&cart), None);
}

fn a_holder_may_fence_its_own_past<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let cart = agent("cart");
    world.claim(&cart, 0, holder);
    let in_doubt = world.turn(&cart);
    assert_eq!(world.claim(&cart, 1, holder), Epoch(2));
    assert!(is_fenced(&world.refused(Op::Turn(in_doubt)), Epoch(2), 0));
    let turn = world.turn(&cart);
    world.commit(Op::Turn(turn));
}

fn a_turn_commits_its_state<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let cart = keyed_agent("cart", "alice");
    world.claim(&cart, 0, holder);
    for (version, text) in [(1, "one"), (2, "two")] {
        let turn = Turn { state: Some(Bytes::from(text)), ..world.turn(&cart) };
        world.commit(Op::Turn(turn.clone()));
        let row = world.subject.agent(&cart).expect("it was claimed");
        assert_eq!((row.version, row.last_turn, row.epoch), (Version(version), turn.turn, Epoch(1)));
        assert_eq!(world.subject.state(&cart), Some(Bytes::from(text)));
    }
    let unchanged = world.turn(&cart);
    world.commit(Op::Turn(unchanged));
    assert_eq!(world.subject.state(&cart), Some(Bytes::from("two")), "a turn may leave the state alone");
}

fn a_turn_sent_twice_commits_once<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let cart = agent("cart");
    world.claim(&cart, 0, holder);
    let turn = world.sending(&cart, &agent("till"), &["once"]);
    world.commit(Op::Turn(turn.clone()));
    let row = world.subject.agent(&cart);
    world.commit(Op::Turn(turn.clone()));
    assert_eq!(world.subject.agent(&cart), row);
    assert_eq!(world.inbox(&agent("till")), ["once"]);
    let next = world.turn(&cart);
    world.commit(Op::Turn(next));
    assert!(is_fenced(&world.refused(Op::Turn(turn)), Epoch(1), 2), "only the last commit is recognised");
}

fn a_turn_of_another_version_is_fenced<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let cart = agent("cart");
    world.claim(&cart, 0, holder);
    let first = world.turn(&cart);
    let rival = world.sending(&cart, &agent("till"), &["never"]);
    let ahead = Turn { version: Version(1), ..world.turn(&cart) };
    assert!(is_fenced(&world.refused(Op::Turn(ahead)), Epoch(1), 0), "no version is left out");
    world.commit(Op::Turn(first));
    assert!(is_fenced(&world.refused(Op::Turn(rival)), Epoch(1), 1), "no version is taken twice");
    assert_eq!(world.inbox(&agent("till")), [""; 0]);
    let nobody = Turn { agent: agent("nobody"), ..world.turn(&cart) };
    assert!(is_fenced(&world.refused(Op::Turn(nobody)), Epoch(0), 0));
}

fn a_run_of_turns_counts_each<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let cart = agent("cart");
    world.claim(&cart, 0, holder);
    let run = Turn { turns: 64, ..world.turn(&cart) };
    world.commit(Op::Turn(run.clone()));
    world.commit(Op::Turn(run));
    assert_eq!(world.subject.agent(&cart).map(|row| row.version), Some(Version(64)));
}

fn a_release_of_another_epoch_is_fenced<S: Subject>(world: &mut World<S>) {
    let (first, second) = (world.join("n1"), world.join("n2"));
    let cart = agent("cart");
    let epoch = world.claim(&cart, 0, first);
    world.expire(first);
    world.claim(&cart, 1, second);
    let late = Op::Release(Release { agent: cart.clone(), epoch, holder: first });
    assert!(is_fenced(&world.refused(late), Epoch(2), 0));
    assert_eq!(world.subject.agent(&cart).map(|row| row.phase), Some(Phase::Active));
}

fn a_state_above_the_limit_is_refused<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let cart = agent("cart");
    world.claim(&cart, 0, holder);
    let state = |bytes: usize| Some(Bytes::from(vec![7; bytes]));
    let above = Turn { state: state(STATE_BYTES_MAX + 1), ..world.sending(&cart, &agent("till"), &["never"]) };
    assert!(matches!(world.refused(Op::Turn(above)), Refusal::TooLarge { .. }));
    assert_eq!(world.subject.agent(&cart).map(|row| row.version), Some(Version(0)));
    assert_eq!(world.inbox(&agent("till")), [""; 0]);
    let at = Turn { state: state(STATE_BYTES_MAX), ..world.turn(&cart) };
    world.commit(Op::Turn(at));
    assert_eq!(world.subject.state(&cart), state(STATE_BYTES_MAX));
}

fn the_chain_names_the_history<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let [left, right, other] = ["left", "right", "other"].map(agent);
    for id in [&left, &right, &other] {
        world.claim(id, 0, holder);
    }
    let mut links = vec![Chain::START];
    for text in ["one", "two"] {
        let turn = world.sending(&left, &agent("till"), &[text]);
        world.commit(Op::Turn(turn.clone()));
        world.commit(Op::Turn(Turn { agent: right.clone(), ..turn.clone() }));
        world.commit(Op::Turn(Turn { agent: other.clone(), sends: Vec::new(), ..turn }));
        let chain = |id| world.subject.agent(id).expect("it was claimed").chain;
        assert_eq!(chain(&left), chain(&right), "the same history has the same chain");
        assert_ne!(chain(&left), chain(&other), "another history has another");
        assert!(!links.contains(&chain(&left)), "each commit adds a link");
        links.push(chain(&left));
    }
}

fn agents_with_different_keys_are_different<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let ids = [agent("cart"), keyed_agent("cart", "a"), keyed_agent("cart", "b"), keyed_agent("basket", "a")];
    for (n, id) in ids.iter().enumerate() {
        world.claim(id, 0, holder);
        let turn = Turn { state: Some(Bytes::from(n.to_string())), ..world.turn(id) };
        world.commit(Op::Turn(turn));
    }
    let states: Vec<_> = ids.iter().map(|id| world.subject.state(id)).collect();
    assert_eq!(states, ["0", "1", "2", "3"].map(|text| Some(Bytes::from(text))));
}
