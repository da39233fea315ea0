//! Tasks: one result each, attempts fenced by tokens, keys that make a request the same task.

use bytes::Bytes;
use pelago_core::{
    id::{FencingToken, Holder, TaskId},
    record::{
        Assign, Cancel, EVENTS_PER_TASK_MAX, Finish, NewTask, Op, Outcome, Placement, Progress, Refusal, Retry, Return,
        Sweep, TaskState, TimeOut, Verdict,
    },
    time::LogTime,
};

use super::{
    Subject, cases,
    world::{ATTEMPT_MS_MAX, ATTEMPTS_MAX, NUMBER_MAX, World, agent, done, enqueue, failed, finish, key, message},
};

cases! {
    a_task_is_queued_running_and_done,
    an_enqueue_may_assign_at_once,
    an_enqueue_sent_twice_is_one_task,
    the_same_key_and_body_is_the_same_task,
    a_delayed_task_waits_for_its_time,
    a_pinned_task_runs_only_on_its_node,
    a_pinned_task_of_a_keyed_agent_runs_where_the_agent_is,
    an_assignment_sent_twice_is_one_attempt,
    only_a_live_node_takes_a_task,
    a_result_sent_twice_is_one_result,
    a_result_sends_and_enqueues_once,
    a_failed_task_is_tried_until_it_is_dead,
    a_hopeless_task_is_dead_at_once,
    a_returned_task_keeps_its_attempts,
    an_attempt_past_its_limit_is_taken_away,
    a_cancelled_task_wants_no_result,
    a_dead_task_is_called_off_if_that_is_meant,
    a_retried_task_starts_afresh,
    what_is_over_cannot_be_changed,
    progress_is_numbered_across_attempts,
    progress_sent_twice_is_told_once,
    a_task_has_a_limit_of_events,
    a_sweep_forgets_what_ended_before_its_time,
    a_sweep_has_a_limit,
    nobody_changes_a_task_that_never_was,
}

fn cancel(task: TaskId) -> Op {
    Op::Cancel(Cancel { task, reason: "not needed".into(), dead_too: false })
}

fn time_out(task: TaskId, token: FencingToken) -> Op {
    Op::TimeOut(TimeOut { task, token, retry_after_ms: 0 })
}

fn progress(task: TaskId, token: FencingToken, first: u64, notes: &[&'static str]) -> Op {
    Op::Progress(Progress { task, token, first, notes: notes.iter().map(|note| Bytes::from(*note)).collect() })
}

#[track_caller]
fn is_stale<S: Subject>(world: &mut World<S>, task: TaskId, token: FencingToken) {
    let before = (world.task(task), world.subject.result(task), world.story(task));
    for op in [done(task, token), failed(task, token, 0), progress(task, token, 0, &["late"]), time_out(task, token)] {
        assert_eq!(world.refused(op), Refusal::StaleToken { task, token });
    }
    assert_eq!((world.task(task), world.subject.result(task), world.story(task)), before);
}

fn a_task_is_queued_running_and_done<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let id = world.queued();
    let row = world.task(id);
    assert_eq!((row.state, row.attempt, row.token, row.holder), (TaskState::Queued, 0, None, None));
    assert_eq!((row.created, row.run_at, row.agent), (world.now(), world.now(), agent("reader")));
    world.wait_ms(5);
    let token = world.assign(id, holder);
    let row = world.task(id);
    assert_eq!((row.state, row.attempt, row.token, row.holder), (TaskState::Running, 1, Some(token), Some(holder)));
    world.wait_ms(5);
    world.commit(done(id, token));
    let row = world.task(id);
    assert_eq!((row.state, row.holder, row.changed), (TaskState::Done, None, world.now()));
    assert_eq!(world.subject.input(id), Some(Bytes::from("input")));
    assert_eq!(world.subject.result(id), Some(Bytes::from("result")));
    assert_eq!(world.story(id), "queued running done");
    assert_eq!(world.subject.events(id).iter().map(|event| event.attempt).collect::<Vec<_>>(), [0, 1, 1]);
}

fn an_enqueue_may_assign_at_once<S: Subject>(world: &mut World<S>) {
    let (lost, holder) = (world.join("n1"), world.join("n2"));
    let (id, token) = world.running(holder);
    assert_eq!((world.task(id).token, world.story(id).as_str()), (Some(token), "queued running"));
    world.expire(lost);
    let late = world.new_task("late");
    let pinned = NewTask { node: Some(holder.node), ..world.new_task("pinned") };
    let delayed = NewTask { delay_ms: 1, ..world.new_task("delayed") };
    for (task, to) in [(late, lost), (pinned, lost), (delayed, holder)] {
        let id = task.id;
        assert_eq!(world.one(enqueue(task, Some(to))), Outcome::Enqueued { token: None });
        assert_eq!(world.state(id), TaskState::Queued, "it may not run there, so it waits");
    }
}

fn an_enqueue_sent_twice_is_one_task<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let op = enqueue(world.new_task("input"), Some(holder));
    let first = world.one(op.clone());
    assert_eq!(world.one(op.clone()), first);
    let Outcome::Enqueued { token: Some(token) } = first else { panic!("it was not assigned: {first:?}") };
    let Op::Enqueue(enqueued) = &op else { panic!("it is an enqueue") };
    world.commit(done(enqueued.task.id, token));
    assert_eq!(world.one(op.clone()), Outcome::Enqueued { token: None }, "it is in the store, and nothing runs");
    assert_eq!(world.story(enqueued.task.id), "queued running done");
}

fn the_same_key_and_body_is_the_same_task<S: Subject>(world: &mut World<S>) {
    let keyed = |world: &mut World<S>, input| NewTask { idempotency: Some(key("a")), ..world.new_task(input) };
    let (first, same, other) = (keyed(world, "sum"), keyed(world, "sum"), keyed(world, "product"));
    let id = first.id;
    world.enqueue(first);
    assert_eq!(world.one(enqueue(same.clone(), None)), Outcome::Existing { task: id });
    assert_eq!(world.refused(enqueue(other.clone(), None)), Refusal::Conflict { key: "a".into() });
    assert_eq!((world.subject.task(same.id), world.subject.task(other.id)), (None, None));
    world.commit(cancel(id));
    assert_eq!(world.one(enqueue(same, None)), Outcome::Existing { task: id }, "whatever became of it");
    let mut elsewhere = keyed(world, "product");
    elsewhere.idempotency.as_mut().expect("it has a key").namespace = super::world::name("other");
    world.enqueue(elsewhere);
}

fn a_delayed_task_waits_for_its_time<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let task = NewTask { delay_ms: 10, ..world.new_task("later") };
    let id = world.enqueue(task);
    world.wait_ms(9);
    assert_eq!(world.refused(Op::Assign(Assign { task: id, holder })), Refusal::TooEarly);
    world.wait_ms(1);
    world.assign(id, holder);
}

fn a_pinned_task_runs_only_on_its_node<S: Subject>(world: &mut World<S>) {
    let (home, other) = (world.join("n1"), world.join("n2"));
    let task = NewTask { node: Some(home.node), ..world.new_task("pinned") };
    let id = world.enqueue(task);
    assert!(matches!(world.refused(Op::Assign(Assign { task: id, holder: other })), Refusal::WrongState { .. }));
    world.assign(id, home);
}

fn a_pinned_task_of_a_keyed_agent_runs_where_the_agent_is<S: Subject>(world: &mut World<S>) {
    let (home, other) = (world.join("n1"), world.join("n2"));
    let task = NewTask { node: Some(home.node), placement: Placement::Keyed, ..world.new_task("pinned") };
    let id = world.enqueue(task);
    world.assign(id, other);
}

fn an_assignment_sent_twice_is_one_attempt<S: Subject>(world: &mut World<S>) {
    let (holder, other) = (world.join("n1"), world.join("n2"));
    let id = world.queued();
    let token = world.assign(id, holder);
    assert_eq!(world.assign(id, holder), token);
    assert_eq!(world.task(id).attempt, 1);
    let refused = world.refused(Op::Assign(Assign { task: id, holder: other }));
    assert_eq!(refused, Refusal::WrongState { task: id, state: "running" });
}

fn only_a_live_node_takes_a_task<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let id = world.queued();
    world.expire(holder);
    let stranger = Holder { node: pelago_core::id::NodeId(NUMBER_MAX), ..holder };
    for holder in [holder, stranger] {
        assert_eq!(world.refused(Op::Assign(Assign { task: id, holder })), Refusal::HolderGone(holder));
    }
    assert_eq!(world.story(id), "queued");
}

fn a_result_sent_twice_is_one_result<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let (id, token) = world.running(holder);
    world.commit(done(id, token));
    world.commit(done(id, token));
    assert_eq!(world.story(id), "queued running done");
    let stranger = FencingToken { item: token.item + 1, ..token };
    assert_eq!(world.refused(done(id, stranger)), Refusal::StaleToken { task: id, token: stranger });
}

fn a_result_sends_and_enqueues_once<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let (id, token) = world.running(holder);
    let follower = world.new_task("next");
    let follower_id = follower.id;
    let sends = vec![message(&agent("till"), "one"), message(&agent("till"), "two")];
    let result = Verdict::Done(Bytes::from_static(b"result"));
    let op = Op::Finish(Finish { sends, enqueues: vec![follower], ..finish(id, token, result) });
    world.commit(op.clone());
    world.commit(op);
    assert_eq!(world.inbox(&agent("till")), ["one", "two"]);
    assert_eq!(world.story(follower_id), "queued");
}

fn a_failed_task_is_tried_until_it_is_dead<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let id = world.queued();
    for attempt in 1..=ATTEMPTS_MAX {
        let token = world.assign(id, holder);
        assert_eq!(world.task(id).attempt, attempt);
        world.commit(failed(id, token, 250));
        world.commit(failed(id, token, 250));
        if attempt < ATTEMPTS_MAX {
            assert_eq!(world.task(id).run_at, world.now().plus_millis(250));
            assert_eq!(world.refused(Op::Assign(Assign { task: id, holder })), Refusal::TooEarly);
            world.wait_ms(250);
        }
    }
    assert_eq!(world.story(id), "queued running retried running retried running dead");
    assert_eq!(world.task(id).reason.as_deref(), Some("it broke"));
    assert_eq!(world.subject.result(id), None);
}

fn a_hopeless_task_is_dead_at_once<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let (id, token) = world.running(holder);
    world.commit(Op::Finish(finish(id, token, Verdict::Hopeless { reason: "no such file".into() })));
    assert_eq!((world.state(id), world.task(id).reason.as_deref()), (TaskState::Dead, Some("no such file")));
}

fn a_returned_task_keeps_its_attempts<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let id = world.queued();
    for _ in 0..=ATTEMPTS_MAX {
        let token = world.assign(id, holder);
        world.commit(Op::Finish(finish(id, token, Verdict::Returned(Return::NotTaken))));
        assert_eq!((world.state(id), world.task(id).attempt), (TaskState::Queued, 0));
        world.wait_ms(world.task(id).run_at.as_millis() - world.now().as_millis());
    }
    let token = world.assign(id, holder);
    world.commit(done(id, token));
}

fn an_attempt_past_its_limit_is_taken_away<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let (id, token) = world.running(holder);
    world.wait_ms(ATTEMPT_MS_MAX - 1);
    assert_eq!(world.refused(time_out(id, token)), Refusal::TooEarly);
    world.wait_ms(1);
    world.commit(time_out(id, token));
    assert_eq!(world.story(id), "queued running retried");
    is_stale(world, id, token);
    let second = world.assign(id, holder);
    is_stale(world, id, token);
    world.commit(done(id, second));
}

fn a_cancelled_task_wants_no_result<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let waiting = world.queued();
    let (id, token) = world.running(holder);
    for task in [waiting, id] {
        world.commit(cancel(task));
        world.commit(cancel(task));
        assert_eq!((world.state(task), world.task(task).reason.as_deref()), (TaskState::Cancelled, Some("not needed")));
    }
    assert_eq!(world.story(id), "queued running cancelled");
    is_stale(world, id, token);
    let refused = world.refused(Op::Assign(Assign { task: waiting, holder }));
    assert_eq!(refused, Refusal::WrongState { task: waiting, state: "cancelled" });
}

fn a_dead_task_is_called_off_if_that_is_meant<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let (id, token) = world.running(holder);
    world.commit(Op::Finish(finish(id, token, Verdict::Hopeless { reason: "no such file".into() })));
    assert_eq!(world.refused(cancel(id)), Refusal::WrongState { task: id, state: "dead" });
    let dead_too = Op::Cancel(Cancel { task: id, reason: "seen".into(), dead_too: true });
    world.commit(dead_too.clone());
    world.commit(dead_too.clone());
    let row = world.task(id);
    assert_eq!((row.state, row.reason.as_deref(), row.token), (TaskState::Cancelled, Some("seen"), None));
    assert_eq!(world.story(id), "queued running dead cancelled");
    world.commit(Op::Retry(Retry { task: id }));
    let token = world.assign(id, holder);
    world.commit(done(id, token));
    assert_eq!(world.refused(dead_too), Refusal::WrongState { task: id, state: "done" });
}

fn a_retried_task_starts_afresh<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let (id, token) = world.running(holder);
    world.commit(Op::Finish(finish(id, token, Verdict::Hopeless { reason: "no such file".into() })));
    world.commit(Op::Retry(Retry { task: id }));
    world.commit(Op::Retry(Retry { task: id }));
    let row = world.task(id);
    assert_eq!((row.state, row.attempt, row.reason, row.run_at), (TaskState::Queued, 0, None, world.now()));
    is_stale(world, id, token);
    let token = world.assign(id, holder);
    world.commit(done(id, token));
    assert_eq!(world.story(id), "queued running dead queued running done");
}

fn what_is_over_cannot_be_changed<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let (id, token) = world.running(holder);
    let running = Refusal::WrongState { task: id, state: "running" };
    assert_eq!(world.refused(Op::Retry(Retry { task: id })), running);
    world.commit(done(id, token));
    let over = Refusal::WrongState { task: id, state: "done" };
    for op in [cancel(id), Op::Retry(Retry { task: id }), Op::Assign(Assign { task: id, holder })] {
        assert_eq!(world.refused(op), over);
    }
    assert_eq!(world.story(id), "queued running done");
}

fn progress_is_numbered_across_attempts<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let (id, token) = world.running(holder);
    world.commit(progress(id, token, 0, &["a", "b"]));
    world.commit(progress(id, token, 2, &["c"]));
    world.commit(failed(id, token, 0));
    let second = world.assign(id, holder);
    assert_eq!(world.refused(progress(id, token, 3, &["late"])), Refusal::StaleToken { task: id, token });
    world.commit(progress(id, second, 0, &["a", "b"]));
    world.commit(done(id, second));
    assert_eq!(world.story(id), "queued running “a” “b” “c” retried running “a” “b” done");
}

fn progress_sent_twice_is_told_once<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let (id, token) = world.running(holder);
    world.commit(progress(id, token, 0, &["a", "b"]));
    world.commit(progress(id, token, 0, &["a", "b"]));
    world.commit(progress(id, token, 1, &["b", "c"]));
    assert_eq!(world.story(id), "queued running “a” “b” “c”");
}

fn a_task_has_a_limit_of_events<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let (id, token) = world.running(holder);
    let room = EVENTS_PER_TASK_MAX - 2;
    world.commit(progress(id, token, 0, &vec!["x"; room as usize - 1]));
    assert!(matches!(world.refused(progress(id, token, room - 1, &["y", "z"])), Refusal::TooLarge { .. }));
    world.commit(progress(id, token, room - 1, &["y"]));
    assert!(matches!(world.refused(progress(id, token, room, &["z"])), Refusal::TooLarge { .. }));
    assert_eq!(world.subject.events(id).len() as u64, EVENTS_PER_TASK_MAX);
    world.commit(done(id, token));
    assert_eq!(world.state(id), TaskState::Done, "its end is told all the same");
}

fn a_sweep_forgets_what_ended_before_its_time<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let keyed = NewTask { idempotency: Some(key("a")), ..world.new_task("keyed") };
    let keyed = world.enqueue(keyed);
    world.commit(cancel(keyed));
    let (old, token) = world.running(holder);
    world.commit(done(old, token));
    let (waiting, (running, _)) = (world.queued(), world.running(holder));
    world.wait_ms(10);
    let before = world.now();
    let (young, token) = world.running(holder);
    world.commit(done(young, token));
    world.wait_ms(10);
    let sweep = |plain, keyed| Op::Sweep(Sweep { ended_before: plain, keyed_ended_before: keyed, rows_max: 100 });
    assert_eq!(world.one(sweep(before, LogTime::ZERO)), Outcome::Swept { rows: 1 });
    let kept = [keyed, old, waiting, running, young].map(|id| world.subject.task(id).is_some());
    assert_eq!(kept, [true, false, true, true, true]);
    assert_eq!((world.subject.input(old), world.subject.result(old)), (None, None));
    assert_eq!(world.subject.events(old), []);
    assert_eq!(world.one(sweep(before, before)), Outcome::Swept { rows: 1 });
    let again = NewTask { idempotency: Some(key("a")), ..world.new_task("another body") };
    world.enqueue(again);
    let never = LogTime::from_millis(NUMBER_MAX);
    let (fresh, token) = world.running(holder);
    world.commit(done(fresh, token));
    assert_eq!(world.one(sweep(never, never)), Outcome::Swept { rows: 1 }, "nothing before its time in the log");
    assert_eq!(world.state(fresh), TaskState::Done);
}

fn a_sweep_has_a_limit<S: Subject>(world: &mut World<S>) {
    let ids: Vec<_> = (0..40)
        .map(|_| {
            let id = world.queued();
            world.commit(cancel(id));
            world.wait_ms(1);
            id
        })
        .collect();
    let sweep = Op::Sweep(Sweep { ended_before: world.now(), keyed_ended_before: world.now(), rows_max: 35 });
    assert_eq!(world.one(sweep.clone()), Outcome::Swept { rows: 35 });
    let (gone, kept) = ids.split_at(35);
    assert!(gone.iter().all(|id| world.subject.task(*id).is_none() && world.subject.events(*id).is_empty()));
    assert!(kept.iter().all(|id| world.subject.task(*id).is_some()), "the oldest first");
    assert_eq!(world.one(sweep.clone()), Outcome::Swept { rows: 5 });
    assert_eq!(world.one(sweep), Outcome::Swept { rows: 0 });
}

fn nobody_changes_a_task_that_never_was<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let task = TaskId(404);
    let token = FencingToken { index: 1, item: 0 };
    for op in [cancel(task), Op::Retry(Retry { task }), Op::Assign(Assign { task, holder })] {
        assert_eq!(world.refused(op), Refusal::NoTask(task));
    }
    for op in [done(task, token), progress(task, token, 0, &["x"]), time_out(task, token)] {
        assert_eq!(world.refused(op), Refusal::StaleToken { task, token });
    }
}
