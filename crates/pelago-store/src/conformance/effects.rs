//! The effects of a turn: replies, results, messages and tasks come with its commit, all or none.

use bytes::Bytes;
use pelago_core::{
    id::{AgentId, Holder},
    record::{
        BodyHash, IdempotencyKey, Op, Outcome, REPLY_KEPT_MS, Refusal, Remember, Sweep, TaskState, Turn, Verdict,
    },
};

use super::{
    Subject, cases,
    world::{World, agent, done, finish, key},
};

cases! {
    a_reply_is_remembered_under_its_key,
    a_key_stands_for_one_request,
    a_reply_is_forgotten_after_its_time,
    a_result_comes_with_its_turn,
    a_late_result_takes_its_whole_turn_down,
    a_turn_enqueues_a_keyed_task_once,
    a_refused_turn_has_no_effect_at_all,
}

fn remember(under: &IdempotencyKey, request: &str, reply: &'static str) -> Remember {
    let request = BodyHash::of(&agent("till"), request.as_bytes());
    Remember { key: under.clone(), request, reply: Bytes::from_static(reply.as_bytes()) }
}

fn held<S: Subject>(world: &mut World<S>, name: &str) -> (Holder, AgentId) {
    let holder = world.join("n1");
    world.claim(&agent(name), 0, holder);
    (holder, agent(name))
}

fn a_reply_is_remembered_under_its_key<S: Subject>(world: &mut World<S>) {
    let (_, till) = held(world, "till");
    let turn = Turn { replies: vec![remember(&key("a"), "pay", "paid")], ..world.turn(&till) };
    world.commit(Op::Turn(turn));
    let reply = world.subject.reply(&key("a")).expect("it is remembered");
    assert_eq!((reply.reply, reply.expires), (Bytes::from("paid"), world.now().plus_millis(REPLY_KEPT_MS)));
    let replies = vec![remember(&key("b"), "pay", "paid"), remember(&key("a"), "pay", "paid again")];
    let again = Turn { replies, ..world.sending(&till, &agent("ledger"), &["paid again"]) };
    assert_eq!(world.one(Op::Turn(again)), Outcome::Duplicate { position: 1, reply: Bytes::from("paid") });
    assert_eq!(world.subject.reply(&key("b")), None, "the other reply of the turn was not kept");
    assert_eq!(world.inbox(&agent("ledger")), [""; 0]);
    assert_eq!(world.subject.agent(&till).map(|row| row.version.0), Some(1));
}

fn a_key_stands_for_one_request<S: Subject>(world: &mut World<S>) {
    let (_, till) = held(world, "till");
    let turn = Turn { replies: vec![remember(&key("a"), "pay", "paid")], ..world.turn(&till) };
    world.commit(Op::Turn(turn));
    let other = Turn { replies: vec![remember(&key("a"), "refund", "refunded")], ..world.turn(&till) };
    assert_eq!(world.refused(Op::Turn(other)), Refusal::Conflict { key: "a".into() });
    let elsewhere = IdempotencyKey { namespace: super::world::name("other"), ..key("a") };
    let turn = Turn { replies: vec![remember(&elsewhere, "refund", "refunded")], ..world.turn(&till) };
    world.commit(Op::Turn(turn));
    assert_eq!(world.subject.reply(&key("a")).map(|reply| reply.reply), Some(Bytes::from("paid")));
}

fn a_reply_is_forgotten_after_its_time<S: Subject>(world: &mut World<S>) {
    let (_, till) = held(world, "till");
    for (under, wait_ms) in [("a", 1), ("b", 1), ("c", 0)] {
        let turn = Turn { replies: vec![remember(&key(under), "pay", "paid")], ..world.turn(&till) };
        world.commit(Op::Turn(turn));
        world.wait_ms(wait_ms);
    }
    let sweep = |rows_max| {
        let never = pelago_core::time::LogTime::ZERO;
        Op::Sweep(Sweep { ended_before: never, keyed_ended_before: never, rows_max })
    };
    assert_eq!(world.one(sweep(9)), Outcome::Swept { rows: 0 });
    world.wait_ms(REPLY_KEPT_MS);
    assert_eq!(world.one(sweep(1)), Outcome::Swept { rows: 1 });
    let left = ["a", "b", "c"].map(|text| world.subject.reply(&key(text)).is_some());
    assert_eq!(left, [false, true, true], "the oldest first");
    let turn = Turn { replies: vec![remember(&key("b"), "refund", "refunded")], ..world.turn(&till) };
    world.commit(Op::Turn(turn));
    assert_eq!(world.one(sweep(9)), Outcome::Swept { rows: 0 }, "b is new again, and the time of c is only just up");
    world.wait_ms(1);
    assert_eq!(world.one(sweep(9)), Outcome::Swept { rows: 1 });
    assert_eq!(world.subject.reply(&key("b")).map(|reply| reply.reply), Some(Bytes::from("refunded")));
}

fn a_result_comes_with_its_turn<S: Subject>(world: &mut World<S>) {
    let (holder, reader) = held(world, "reader");
    let (task, token) = world.running(holder);
    let (broken, broken_token) = world.running(holder);
    let finishes = vec![
        finish(task, token, Verdict::Done(Bytes::from_static(b"42"))),
        finish(broken, broken_token, Verdict::Hopeless { reason: "unreadable".into() }),
    ];
    let turn = Turn { finishes, state: Some(Bytes::from_static(b"read")), ..world.turn(&reader) };
    world.commit(Op::Turn(turn.clone()));
    world.commit(Op::Turn(turn));
    assert_eq!(world.subject.result(task), Some(Bytes::from("42")));
    assert_eq!(world.story(task), "queued running done", "sent twice it ended once");
    assert_eq!((world.state(broken), world.subject.result(broken)), (TaskState::Dead, None));
    assert_eq!(world.task(broken).reason.as_deref(), Some("unreadable"));
}

fn a_late_result_takes_its_whole_turn_down<S: Subject>(world: &mut World<S>) {
    let (holder, reader) = held(world, "reader");
    let (first, token) = world.running(holder);
    let (taken, taken_token) = world.running(holder);
    world.commit(Op::Cancel(pelago_core::record::Cancel { task: taken, reason: "not needed".into(), dead_too: false }));
    let verdict = || Verdict::Done(Bytes::from_static(b"42"));
    let finishes = vec![finish(first, token, verdict()), finish(taken, taken_token, verdict())];
    let turn = Turn { finishes, state: Some(Bytes::from_static(b"read")), ..world.turn(&reader) };
    assert_eq!(world.refused(Op::Turn(turn)), Refusal::StaleToken { task: taken, token: taken_token });
    assert_eq!((world.state(first), world.subject.result(first)), (TaskState::Running, None));
    assert_eq!(world.subject.state(&reader), None);
    world.commit(done(first, token));
}

fn a_turn_enqueues_a_keyed_task_once<S: Subject>(world: &mut World<S>) {
    let (_, till) = held(world, "till");
    let keyed = |world: &mut World<S>, input: &str| {
        let mut task = world.new_task(input);
        task.idempotency = Some(key("daily"));
        task
    };
    let (first, same, other) = (keyed(world, "sum"), keyed(world, "sum"), keyed(world, "product"));
    let plain = world.new_task("sum");
    let ids = [first.id, same.id, plain.id, other.id];
    let turn = Turn { enqueues: vec![first, same.clone(), plain], ..world.turn(&till) };
    world.commit(Op::Turn(turn));
    let turn = Turn { enqueues: vec![same], ..world.turn(&till) };
    world.commit(Op::Turn(turn));
    let turn = Turn { enqueues: vec![other], ..world.turn(&till) };
    assert_eq!(world.refused(Op::Turn(turn)), Refusal::Conflict { key: "daily".into() });
    assert_eq!(ids.map(|id| world.subject.task(id).is_some()), [true, false, true, false]);
    assert_eq!(world.subject.input(ids[0]), Some(Bytes::from("sum")));
}

fn a_refused_turn_has_no_effect_at_all<S: Subject>(world: &mut World<S>) {
    let (holder, till) = held(world, "till");
    let send = world.send(&till, "pay");
    world.commit(send);
    let (running, token) = world.running(holder);
    let new = world.new_task("sum");
    let new_id = new.id;
    let whole = Turn {
        state: Some(Bytes::from_static(b"state")),
        consumed: world.subject.inbox(&till).into_iter().map(|message| message.id).collect(),
        replies: vec![remember(&key("a"), "pay", "paid")],
        finishes: vec![finish(running, token, Verdict::Done(Bytes::from_static(b"42")))],
        enqueues: vec![new.clone()],
        ..world.sending(&till, &agent("ledger"), &["paid"])
    };
    let before = world.subject.agent(&till);
    // The tasks are looked at last: by then every other effect was decided.
    let mut too_large = new;
    too_large.input = vec![0; pelago_core::record::PAYLOAD_BYTES_MAX + 1].into();
    let refused = Turn { enqueues: vec![too_large], ..whole.clone() };
    assert!(matches!(world.refused(Op::Turn(refused)), Refusal::TooLarge { .. }));
    assert_eq!(world.subject.agent(&till), before);
    assert_eq!((world.subject.state(&till), world.subject.reply(&key("a"))), (None, None));
    assert_eq!((world.inbox(&till), world.inbox(&agent("ledger"))), (vec![Bytes::from("pay")], vec![]));
    assert_eq!((world.story(running).as_str(), world.subject.task(new_id)), ("queued running", None));
    world.commit(Op::Turn(whole));
    assert_eq!(world.subject.state(&till), Some(Bytes::from("state")));
    assert_eq!(world.subject.reply(&key("a")).map(|reply| reply.reply), Some(Bytes::from("paid")));
    assert_eq!((world.inbox(&till), world.inbox(&agent("ledger"))), (vec![], vec![Bytes::from("paid")]));
    assert_eq!((world.state(running), world.state(new_id)), (TaskState::Done, TaskState::Queued));
}
