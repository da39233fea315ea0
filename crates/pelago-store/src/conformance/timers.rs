//! Timers: each fires once and never early, one of a name, none without a limit.

use bytes::Bytes;
use pelago_core::{
    id::{AgentId, TimerName, Version},
    record::{MessageId, Op, PAYLOAD_BYTES_MAX, Refusal, SetTimer, TIMERS_PER_AGENT_MAX, Timer, TimerChange, Turn},
};

use super::{
    Subject, cases,
    world::{World, agent},
};

cases! {
    a_timer_fires_when_it_is_due_and_not_before,
    a_timer_fires_once,
    a_timer_set_anew_takes_the_place_of_the_first,
    a_cancelled_timer_does_not_fire,
    timers_outlive_their_agents_holder,
    a_timer_that_cannot_be_handled_is_kept_apart,
    a_refused_turn_sets_no_timer,
    a_clock_that_goes_back_fires_nothing_early,
    agents_have_timers_of_their_own,
    an_agent_has_a_limit_of_timers,
    a_timers_input_above_the_limit_is_refused,
}

fn name(text: &str) -> TimerName {
    TimerName::new(text).expect("cases use valid names")
}

fn set(timer: &str, after_ms: u64, text: &str) -> TimerChange {
    let set = SetTimer { after_ms, payload: Bytes::copy_from_slice(text.as_bytes()) };
    TimerChange { name: name(timer), set: Some(set) }
}

fn cancel(timer: &str) -> TimerChange {
    TimerChange { name: name(timer), set: None }
}

fn held<S: Subject>(world: &mut World<S>, text: &str) -> AgentId {
    let holder = world.join("n1");
    world.claim(&agent(text), 0, holder);
    agent(text)
}

#[track_caller]
fn change<S: Subject>(world: &mut World<S>, of: &AgentId, timers: Vec<TimerChange>) {
    let turn = Turn { timers, ..world.turn(of) };
    world.commit(Op::Turn(turn));
}

/// The ids of what an agent's timers will say.
fn ids<S: Subject>(world: &World<S>, of: &AgentId) -> Vec<MessageId> {
    world.subject.timers(of).into_iter().map(|(timer, _)| MessageId::of_timer(timer.name, timer.set)).collect()
}

fn fire<S: Subject>(world: &mut World<S>, of: &AgentId, consumed: Vec<MessageId>) -> Op {
    Op::Turn(Turn { consumed, ..world.turn(of) })
}

fn a_timer_fires_when_it_is_due_and_not_before<S: Subject>(world: &mut World<S>) {
    let cart = held(world, "cart");
    change(world, &cart, vec![set("remind", 1_000, "pay")]);
    let due = world.now().plus_millis(1_000);
    let row = Timer { agent: cart.clone(), name: name("remind"), set: Version(1), due, buried: None };
    assert_eq!(world.subject.timers(&cart), [(row, Bytes::from("pay"))]);
    world.wait_ms(999);
    let consumed = ids(world, &cart);
    let early = fire(world, &cart, consumed.clone());
    assert_eq!(world.refused(early), Refusal::TooEarly);
    assert_eq!(world.subject.agent(&cart).map(|row| row.version), Some(Version(1)));
    world.wait_ms(1);
    let turn = fire(world, &cart, consumed);
    world.commit(turn);
    assert_eq!(world.subject.timers(&cart), []);
}

fn a_timer_fires_once<S: Subject>(world: &mut World<S>) {
    let cart = held(world, "cart");
    change(world, &cart, vec![set("remind", 0, "pay")]);
    let consumed = ids(world, &cart);
    let turn = Turn { consumed: consumed.clone(), ..world.sending(&cart, &agent("ledger"), &["paid"]) };
    world.commit(Op::Turn(turn.clone()));
    world.commit(Op::Turn(turn));
    let again = Turn { consumed, ..world.sending(&cart, &agent("ledger"), &["paid twice"]) };
    assert_eq!(world.refused(Op::Turn(again)), Refusal::MessageGone { position: 0 });
    assert_eq!(world.inbox(&agent("ledger")), ["paid"]);
}

fn a_timer_set_anew_takes_the_place_of_the_first<S: Subject>(world: &mut World<S>) {
    let cart = held(world, "cart");
    change(world, &cart, vec![set("remind", 0, "pay")]);
    let first = ids(world, &cart);
    change(world, &cart, vec![set("remind", 500, "pay now")]);
    let old = fire(world, &cart, first);
    assert_eq!(world.refused(old), Refusal::MessageGone { position: 0 });
    let timers = world.subject.timers(&cart);
    let told: Vec<_> = timers.iter().map(|(timer, payload)| (timer.due, payload.as_ref())).collect();
    assert_eq!(told, [(world.now().plus_millis(500), b"pay now".as_slice())]);
    world.wait_ms(500);
    // The turn of a timer may set it again.
    let consumed = ids(world, &cart);
    let turn = Turn { consumed, timers: vec![set("remind", 9, "and again")], ..world.turn(&cart) };
    world.commit(Op::Turn(turn));
    assert_eq!(ids(world, &cart), [MessageId::of_timer(name("remind"), Version(3))]);
}

fn a_cancelled_timer_does_not_fire<S: Subject>(world: &mut World<S>) {
    let cart = held(world, "cart");
    change(world, &cart, vec![set("a", 0, ""), set("b", 0, ""), set("c", 0, ""), cancel("c")]);
    let [a, b] = ids(world, &cart).try_into().expect("of three timers one was cancelled at once");
    change(world, &cart, vec![cancel("a"), cancel("unknown")]);
    assert_eq!(ids(world, &cart), slice(&b));
    let turn = fire(world, &cart, vec![b, a]);
    assert_eq!(world.refused(turn), Refusal::MessageGone { position: 1 });
}

fn slice(id: &MessageId) -> &[MessageId] {
    std::slice::from_ref(id)
}

fn timers_outlive_their_agents_holder<S: Subject>(world: &mut World<S>) {
    let (lost, next) = (world.join("n1"), world.join("n2"));
    let cart = agent("cart");
    world.claim(&cart, 0, lost);
    change(world, &cart, vec![set("remind", 5, "pay")]);
    world.wait_ms(5);
    let consumed = ids(world, &cart);
    let firing = fire(world, &cart, consumed.clone());
    world.expire(lost);
    world.claim(&cart, 1, next);
    assert!(matches!(world.refused(firing), Refusal::Fenced { .. }));
    let turn = fire(world, &cart, consumed);
    world.commit(turn);
    assert_eq!(world.subject.timers(&cart), []);
}

fn a_timer_that_cannot_be_handled_is_kept_apart<S: Subject>(world: &mut World<S>) {
    let cart = held(world, "cart");
    change(world, &cart, vec![set("remind", 0, "gibberish")]);
    let [id] = ids(world, &cart).try_into().expect("one timer waits");
    let turn = Turn { buried: vec![(id.clone(), "it is no order".into())], ..world.turn(&cart) };
    world.commit(Op::Turn(turn));
    let timers = world.subject.timers(&cart);
    let told: Vec<_> = timers.iter().map(|(timer, payload)| (timer.buried.as_deref(), payload.as_ref())).collect();
    assert_eq!(told, [(Some("it is no order"), b"gibberish".as_slice())]);
    let digging = fire(world, &cart, vec![id]);
    assert_eq!(world.refused(digging), Refusal::MessageGone { position: 0 });
    change(world, &cart, vec![set("remind", 0, "an order")]);
    let consumed = ids(world, &cart);
    let turn = fire(world, &cart, consumed);
    world.commit(turn);
}

fn a_refused_turn_sets_no_timer<S: Subject>(world: &mut World<S>) {
    let cart = held(world, "cart");
    change(world, &cart, vec![set("kept", 1_000, "")]);
    let before = world.subject.timers(&cart);
    let timers = vec![set("new", 0, ""), cancel("kept")];
    let refused = Turn { timers, version: Version(0), ..world.turn(&cart) };
    assert!(matches!(world.refused(Op::Turn(refused)), Refusal::Fenced { .. }));
    assert_eq!(world.subject.timers(&cart), before);
}

fn a_clock_that_goes_back_fires_nothing_early<S: Subject>(world: &mut World<S>) {
    let cart = held(world, "cart");
    change(world, &cart, vec![set("remind", 100, "pay")]);
    world.clock_back_ms(50);
    world.wait_ms(100);
    let consumed = ids(world, &cart);
    let early = fire(world, &cart, consumed.clone());
    assert_eq!(world.refused(early), Refusal::TooEarly);
    world.wait_ms(50);
    let turn = fire(world, &cart, consumed);
    world.commit(turn);
}

fn agents_have_timers_of_their_own<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let [cart, till] = ["cart", "till"].map(agent);
    world.claim(&cart, 0, holder);
    world.claim(&till, 0, holder);
    change(world, &cart, vec![set("remind", 0, "cart")]);
    change(world, &till, vec![set("remind", 0, "till")]);
    change(world, &cart, vec![cancel("remind")]);
    assert_eq!(world.subject.timers(&cart), []);
    assert_eq!(world.subject.timers(&till).len(), 1);
    let consumed = ids(world, &till);
    let stolen = fire(world, &cart, consumed);
    assert_eq!(world.refused(stolen), Refusal::MessageGone { position: 0 });
}

fn an_agent_has_a_limit_of_timers<S: Subject>(world: &mut World<S>) {
    let cart = held(world, "cart");
    let all = (1..TIMERS_PER_AGENT_MAX).map(|n| set(&n.to_string(), 0, "")).collect();
    change(world, &cart, all);
    let two = Turn { timers: vec![set("last", 0, ""), set("above", 0, "")], ..world.turn(&cart) };
    assert!(matches!(world.refused(Op::Turn(two)), Refusal::TooLarge { .. }));
    assert_eq!(world.subject.timers(&cart).len(), TIMERS_PER_AGENT_MAX - 1, "neither of the two was set");
    change(world, &cart, vec![set("last", 0, "")]);
    let above = Turn { timers: vec![set("above", 0, "")], ..world.turn(&cart) };
    assert!(matches!(world.refused(Op::Turn(above)), Refusal::TooLarge { .. }));
    change(world, &cart, vec![set("last", 1, ""), set("above", 0, ""), cancel("1")]);
    assert_eq!(world.subject.timers(&cart).len(), TIMERS_PER_AGENT_MAX);
    let many = Turn { timers: vec![cancel("2"); TIMERS_PER_AGENT_MAX + 1], ..world.turn(&cart) };
    assert!(matches!(world.refused(Op::Turn(many)), Refusal::TooLarge { .. }));
}

fn a_timers_input_above_the_limit_is_refused<S: Subject>(world: &mut World<S>) {
    let cart = held(world, "cart");
    let large = "x".repeat(PAYLOAD_BYTES_MAX + 1);
    let turn = Turn { timers: vec![set("remind", 0, &large)], ..world.turn(&cart) };
    assert!(matches!(world.refused(Op::Turn(turn)), Refusal::TooLarge { .. }));
    change(world, &cart, vec![set("remind", 0, &large[1..])]);
    assert_eq!(world.subject.timers(&cart)[0].1.len(), PAYLOAD_BYTES_MAX);
}
