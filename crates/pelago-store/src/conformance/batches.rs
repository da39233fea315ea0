//! Entries of many items: each sees what those before it wrote, and none suffers for another.

use bytes::Bytes;
use pelago_core::{
    id::Version,
    record::{Assign, Cancel, NewTask, Op, Outcome, Refusal, Retry, RetryPolicy, TaskState, Turn},
};

use super::{
    Subject, cases,
    world::{NUMBER_MAX, World, agent, claim, done, enqueue, key},
};

cases! {
    an_item_sees_those_before_it,
    a_refused_item_leaves_its_neighbours_alone,
    an_entry_without_items_is_one_too,
    the_time_of_the_log_never_goes_back,
    numbers_at_their_limits_survive,
    text_of_every_kind_survives,
}

fn an_item_sees_those_before_it<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let till = agent("till");
    world.claim(&till, 0, holder);
    let [first, second] = [world.sending(&till, &till, &["note"]), world.turn(&till)];
    let second = Turn { version: Version(1), ..second };
    let keyed = |world: &mut World<S>| NewTask { idempotency: Some(key("a")), ..world.new_task("keyed") };
    let (task, same) = (keyed(world), keyed(world));
    let id = task.id;
    let outcomes = world.batch(vec![
        Op::Turn(first),
        Op::Turn(second.clone()),
        Op::Turn(second),
        claim(&agent("cart"), 0, holder),
        enqueue(task, None),
        enqueue(same, None),
        Op::Assign(Assign { task: id, holder }),
        Op::Cancel(Cancel { task: id, reason: String::new(), dead_too: false }),
        Op::Retry(Retry { task: id }),
        Op::Assign(Assign { task: id, holder }),
    ]);
    assert_eq!(outcomes[..3], vec![Outcome::Committed; 3]);
    assert!(outcomes[3].is_success(), "{outcomes:?}");
    assert_eq!(outcomes[5], Outcome::Existing { task: id });
    assert!([4, 6, 7, 8, 9].into_iter().all(|n| outcomes[n].is_success()), "{outcomes:?}");
    assert_ne!(outcomes[6], outcomes[9], "two attempts of one entry have different tokens");
    assert_eq!(world.story(id), "queued running cancelled queued running");
    assert_eq!(world.subject.agent(&till).map(|row| row.version), Some(Version(2)));
}

fn a_refused_item_leaves_its_neighbours_alone<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let (first, first_token) = world.running(holder);
    let (second, second_token) = world.running(holder);
    world.commit(Op::Cancel(Cancel { task: first, reason: String::new(), dead_too: false }));
    let outcomes = world.batch(vec![done(first, first_token), done(second, second_token)]);
    let stale = Outcome::Refused(Refusal::StaleToken { task: first, token: first_token });
    assert_eq!(outcomes, [stale, Outcome::Committed]);
    assert_eq!((world.state(first), world.state(second)), (TaskState::Cancelled, TaskState::Done));
}

fn an_entry_without_items_is_one_too<S: Subject>(world: &mut World<S>) {
    assert_eq!(world.batch(Vec::new()), []);
    world.join("n1");
}

fn the_time_of_the_log_never_goes_back<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let before = world.now();
    world.clock_back_ms(3_600_000);
    let delayed = NewTask { delay_ms: 10, ..world.new_task("later") };
    let id = world.enqueue(delayed);
    assert_eq!((world.task(id).created, world.task(id).run_at), (before, before.plus_millis(10)));
    world.wait_ms(3_600_000);
    assert_eq!(world.refused(Op::Assign(Assign { task: id, holder })), Refusal::TooEarly);
    world.wait_ms(10);
    world.assign(id, holder);
}

fn numbers_at_their_limits_survive<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let policy = RetryPolicy {
        attempts_max: u32::MAX,
        attempt_ms_max: NUMBER_MAX,
        backoff_ms: NUMBER_MAX,
        backoff_ms_max: NUMBER_MAX - 1,
    };
    let task = NewTask { priority: u8::MAX, policy, ..world.new_task("at the limits") };
    let never = NewTask { delay_ms: NUMBER_MAX, ..world.new_task("never") };
    let (id, never) = (world.enqueue(task), world.enqueue(never));
    assert_eq!((world.task(id).policy, world.task(id).priority), (policy, u8::MAX));
    world.wait_ms(1 << 40);
    assert_eq!(world.refused(Op::Assign(Assign { task: never, holder })), Refusal::TooEarly);
    let token = world.assign(id, holder);
    world.commit(done(id, token));
}

fn text_of_every_kind_survives<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let odd = super::world::keyed_agent("cart", "ä/ö:ü 'quoted' \"twice\" %_\\ 🐟");
    world.claim(&odd, 0, holder);
    let every_byte: Vec<u8> = (0..=255).collect();
    let mut turn = Turn { state: Some(Bytes::from(every_byte.clone())), ..world.sending(&odd, &odd, &[""]) };
    turn.sends[0].payload = every_byte.clone().into();
    world.commit(Op::Turn(turn));
    assert_eq!(world.subject.state(&odd).as_deref(), Some(every_byte.as_slice()));
    assert_eq!(world.inbox(&odd), [every_byte]);
    let strange = NewTask { idempotency: Some(key("\0'; --\n")), ..world.new_task("") };
    let again = NewTask { id: pelago_core::id::TaskId(world.id()), ..strange.clone() };
    let id = world.enqueue(strange);
    assert_eq!(world.one(enqueue(again, None)), Outcome::Existing { task: id });
    assert_eq!(world.subject.input(id), Some(Bytes::new()));
    assert_eq!(world.task(id).idempotency, Some(key("\0'; --\n")));
}
