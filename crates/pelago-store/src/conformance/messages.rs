//! Messages: each once, those of one sender in order, no inbox without a limit.

use bytes::Bytes;
use pelago_core::{
    id::AgentId,
    record::{
        BodyHash, DISMISSED_MAX, Dismiss, INBOX_MESSAGES_MAX, MessageId, Op, Outcome, PAYLOAD_BYTES_MAX, Refusal,
        SENDS_MAX, Send, Turn,
    },
};

use super::{
    Subject, cases,
    world::{World, agent, key, message},
};

cases! {
    a_message_waits_for_an_agent_that_never_was,
    a_message_is_handled_once,
    messages_of_one_sender_keep_their_order,
    messages_outlive_their_receivers_holder,
    a_clients_message_sent_twice_waits_once,
    a_clients_message_with_a_key_arrives_once_for_ever,
    an_agent_may_send_to_itself,
    a_buried_message_leaves_the_inbox,
    a_dismissal_takes_the_buried_messages_of_one_agent,
    a_dismissal_has_a_limit,
    an_inbox_has_a_limit,
    a_turn_has_a_limit_of_sends,
    a_message_above_the_limit_is_refused,
}

fn ids<S: Subject>(world: &World<S>, to: &AgentId) -> Vec<MessageId> {
    world.subject.inbox(to).into_iter().map(|message| message.id).collect()
}

fn a_message_waits_for_an_agent_that_never_was<S: Subject>(world: &mut World<S>) {
    let send = world.send(&agent("till"), "hello");
    world.commit(send);
    let inbox = world.subject.inbox(&agent("till"));
    let told: Vec<_> = inbox.iter().map(|message| (&message.to, message.payload.as_ref(), message.sent)).collect();
    assert_eq!(told, [(&agent("till"), b"hello".as_slice(), world.now())]);
    assert_eq!(world.subject.agent(&agent("till")), None);
}

fn a_message_is_handled_once<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let till = agent("till");
    world.claim(&till, 0, holder);
    let send = world.send(&till, "pay");
    world.commit(send);
    let consumed = ids(world, &till);
    let turn = Turn { consumed: consumed.clone(), ..world.sending(&till, &agent("ledger"), &["paid"]) };
    world.commit(Op::Turn(turn));
    assert_eq!(world.inbox(&till), [""; 0]);
    let again = Turn { consumed, ..world.sending(&till, &agent("ledger"), &["paid twice"]) };
    assert_eq!(world.refused(Op::Turn(again)), Refusal::MessageGone { position: 0 });
    assert_eq!(world.inbox(&agent("ledger")), ["paid"], "the whole turn was refused");
    assert_eq!(world.subject.agent(&till).map(|row| row.version.0), Some(1));
}

fn messages_of_one_sender_keep_their_order<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let [left, right, till] = ["left", "right", "till"].map(agent);
    world.claim(&left, 0, holder);
    world.claim(&right, 0, holder);
    for texts in [["l1", "l2"], ["l3", "l4"]] {
        let turn = world.sending(&left, &till, &texts);
        world.commit(Op::Turn(turn));
        let turn = world.sending(&right, &till, &[&texts[0].replace('l', "r")]);
        world.commit(Op::Turn(turn));
        world.wait_ms(1);
    }
    let inbox = world.inbox(&till);
    let of = |sender: u8| inbox.iter().filter(|text| text[0] == sender).cloned().collect::<Vec<_>>();
    assert_eq!(of(b'l'), ["l1", "l2", "l3", "l4"]);
    assert_eq!(of(b'r'), ["r1", "r3"]);
    assert_eq!(inbox.len(), 6);
}

fn messages_outlive_their_receivers_holder<S: Subject>(world: &mut World<S>) {
    let (lost, next) = (world.join("n1"), world.join("n2"));
    let till = agent("till");
    world.claim(&till, 0, lost);
    let sends = [world.send(&till, "first"), world.send(&till, "second")];
    for send in sends {
        world.commit(send);
        world.wait_ms(1);
    }
    let handling = Turn { consumed: ids(world, &till)[..1].to_vec(), ..world.turn(&till) };
    world.expire(lost);
    world.claim(&till, 1, next);
    assert!(matches!(world.refused(Op::Turn(handling)), Refusal::Fenced { .. }));
    assert_eq!(world.inbox(&till), ["first", "second"], "a refused turn handled nothing");
    let turn = Turn { consumed: ids(world, &till), ..world.turn(&till) };
    world.commit(Op::Turn(turn));
    assert_eq!(world.inbox(&till), [""; 0]);
}

fn a_clients_message_sent_twice_waits_once<S: Subject>(world: &mut World<S>) {
    let send = world.send(&agent("till"), "pay");
    world.commit(send.clone());
    world.commit(send);
    assert_eq!(world.inbox(&agent("till")), ["pay"]);
}

fn a_clients_message_with_a_key_arrives_once_for_ever<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let till = agent("till");
    world.claim(&till, 0, holder);
    let mut send = |text: &str| {
        let request = BodyHash::of(&till, text.as_bytes());
        Send { id: world.id(), idempotency: Some((key("order-1"), request)), body: message(&till, text) }
    };
    let (first, same, other) = (send("pay"), send("pay"), send("pay more"));
    world.commit(Op::Send(first.clone()));
    let turn = Turn { consumed: ids(world, &till), ..world.turn(&till) };
    world.commit(Op::Turn(turn));
    for again in [first, same] {
        assert_eq!(world.one(Op::Send(again)), Outcome::Duplicate { position: 0, reply: Bytes::new() });
    }
    assert_eq!(world.refused(Op::Send(other)), Refusal::Conflict { key: "order-1".into() });
    assert_eq!(world.inbox(&till), [""; 0]);
}

fn an_agent_may_send_to_itself<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let clock = agent("clock");
    world.claim(&clock, 0, holder);
    for _ in 0..3 {
        let turn = Turn { consumed: ids(world, &clock), ..world.sending(&clock, &clock, &["tick"]) };
        world.commit(Op::Turn(turn));
        assert_eq!(world.inbox(&clock), ["tick"]);
    }
}

fn a_buried_message_leaves_the_inbox<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let till = agent("till");
    world.claim(&till, 0, holder);
    let send = world.send(&till, "gibberish");
    world.commit(send);
    let [id] = ids(world, &till).try_into().expect("one message waits");
    let turn = Turn { buried: vec![(id.clone(), "it is no order".into())], ..world.turn(&till) };
    world.commit(Op::Turn(turn));
    assert_eq!(world.inbox(&till), [""; 0]);
    let buried = world.subject.buried(&till);
    assert_eq!(buried.iter().map(|message| message.buried.as_deref()).collect::<Vec<_>>(), [Some("it is no order")]);
    assert_eq!(buried[0].payload, "gibberish");
    let digging = Turn { consumed: vec![id], ..world.turn(&till) };
    assert_eq!(world.refused(Op::Turn(digging)), Refusal::MessageGone { position: 0 });
    assert_eq!(world.subject.buried(&till), buried);
}

fn a_dismissal_takes_the_buried_messages_of_one_agent<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let [till, ledger] = ["till", "ledger"].map(agent);
    for to in [&till, &ledger] {
        world.claim(to, 0, holder);
        let send = world.send(to, "gibberish");
        world.commit(send);
        bury_all(world, to);
    }
    let waiting = world.send(&till, "pay");
    world.commit(waiting);
    let dismiss = Op::Dismiss(Dismiss { agent: till.clone() });
    assert_eq!(world.one(dismiss.clone()), Outcome::Swept { rows: 1 });
    assert_eq!((world.subject.buried(&till), world.inbox(&till)), (vec![], vec![Bytes::from("pay")]));
    assert_eq!(world.subject.buried(&ledger).len(), 1);
    assert_eq!(world.one(dismiss), Outcome::Swept { rows: 0 });
    let turn = Turn { consumed: ids(world, &till), ..world.turn(&till) };
    world.commit(Op::Turn(turn));
}

fn a_dismissal_has_a_limit<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let [busy, till] = ["busy", "till"].map(agent);
    world.claim(&busy, 0, holder);
    world.claim(&till, 0, holder);
    for texts in [vec!["x"; SENDS_MAX], vec!["y"]] {
        let turn = world.sending(&busy, &till, &texts);
        world.commit(Op::Turn(turn));
    }
    bury_all(world, &till);
    let dismiss = Op::Dismiss(Dismiss { agent: till.clone() });
    assert_eq!(world.one(dismiss.clone()), Outcome::Swept { rows: DISMISSED_MAX.into() });
    let left = world.subject.buried(&till);
    assert_eq!(left.iter().map(|message| message.payload.as_ref()).collect::<Vec<_>>(), [b"y"]);
    assert_eq!(world.one(dismiss), Outcome::Swept { rows: 1 });
}

fn bury_all<S: Subject>(world: &mut World<S>, agent: &AgentId) {
    let buried = ids(world, agent).into_iter().map(|id| (id, "it is no order".into())).collect();
    let turn = Turn { buried, ..world.turn(agent) };
    world.commit(Op::Turn(turn));
}

fn an_inbox_has_a_limit<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let [busy, till] = ["busy", "till"].map(agent);
    world.claim(&busy, 0, holder);
    world.claim(&till, 0, holder);
    // All but one place, then a turn that needs two.
    for batch in 0..INBOX_MESSAGES_MAX / 1_000 {
        let sends = if batch == 0 { 999 } else { 1_000 };
        let turn = world.sending(&busy, &till, &vec!["x"; sends]);
        world.commit(Op::Turn(turn));
    }
    let two = world.sending(&busy, &till, &["x", "y"]);
    assert_eq!(world.refused(Op::Turn(two.clone())), Refusal::Full(till.clone()));
    assert_eq!(world.subject.inbox(&till).len() as u64, INBOX_MESSAGES_MAX - 1, "neither of the two came in");
    let [last, above] = ["last", "above"].map(|text| world.send(&till, text));
    world.commit(last);
    assert_eq!(world.refused(above.clone()), Refusal::Full(till.clone()));
    let handled = Turn { consumed: ids(world, &till)[..2].to_vec(), ..world.turn(&till) };
    world.commit(Op::Turn(handled));
    world.commit(Op::Turn(two));
    assert_eq!(world.refused(above), Refusal::Full(till));
}

fn a_turn_has_a_limit_of_sends<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let [busy, till] = ["busy", "till"].map(agent);
    world.claim(&busy, 0, holder);
    let turn = world.sending(&busy, &till, &vec!["x"; SENDS_MAX + 1]);
    assert!(matches!(world.refused(Op::Turn(turn)), Refusal::TooLarge { .. }));
    assert_eq!(world.inbox(&till), [""; 0]);
}

fn a_message_above_the_limit_is_refused<S: Subject>(world: &mut World<S>) {
    let send = world.send(&agent("till"), &"x".repeat(PAYLOAD_BYTES_MAX + 1));
    assert!(matches!(world.refused(send), Refusal::TooLarge { .. }));
    let send = world.send(&agent("till"), &"x".repeat(PAYLOAD_BYTES_MAX));
    world.commit(send);
    assert_eq!(world.inbox(&agent("till"))[0].len(), PAYLOAD_BYTES_MAX);
}
