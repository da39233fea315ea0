//! Nodes: admission, runs, expiry.

use pelago_core::{
    id::{DirectoryId, Epoch, Holder, Incarnation},
    record::{Assign, NewTask, NodeState, Op, Outcome, Refusal, Register, Remove, TaskState},
};

use super::{
    Subject, cases,
    world::{NUMBER_MAX, World, agent, claim, done, enqueue, register},
};

cases! {
    a_node_keeps_its_id_and_gets_an_incarnation_with_each_run,
    a_registration_sent_twice_is_one_run,
    a_name_admits_only_its_first_data_directory,
    a_registration_must_stand_alone,
    an_expiry_holds_until_the_node_registers_again,
    an_expiry_of_an_earlier_run_does_nothing,
    the_tasks_of_a_lost_node_wait_again,
    the_tasks_of_a_restarted_node_wait_again,
    a_task_that_loses_its_last_node_is_dead,
    a_node_that_leaves_costs_no_attempt,
    a_node_that_was_given_up_can_leave_no_more,
    a_node_that_left_unheard_costs_no_attempt_when_it_comes_back,
    a_node_that_is_up_is_not_removed,
    a_removed_node_leaves_its_name_and_its_agents_to_others,
}

fn a_node_keeps_its_id_and_gets_an_incarnation_with_each_run<S: Subject>(world: &mut World<S>) {
    let first = world.join("n1");
    let other = world.join("n2");
    let second = world.join("n1");
    assert_eq!(first.node, second.node);
    assert!(first.incarnation < other.incarnation && other.incarnation < second.incarnation);
    assert_ne!(first.node, other.node);
    let row = world.subject.node(first.node).expect("the node was admitted");
    assert_eq!((row.holder(), row.state), (second, NodeState::Up));
    assert_eq!(row.registered, world.now());
    assert_eq!(row.labels["zone"], "a");
    assert_eq!(row.offers.values().next().map(|offer| offer.tasks_max), Some(8));
}

fn a_registration_sent_twice_is_one_run<S: Subject>(world: &mut World<S>) {
    let op = register("n1", 7);
    let (first, _) = world.register(op.clone());
    let (second, freed) = world.register(op);
    assert_eq!((second, freed), (first, Vec::new()));
}

fn a_name_admits_only_its_first_data_directory<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let stranger = Register { directory: DirectoryId(42), ..register("n1", 8) };
    assert_eq!(world.refused(Op::Register(stranger)), Refusal::NameTaken(holder.node));
    assert_eq!(world.subject.node(holder.node).map(|row| row.holder()), Some(holder));
}

fn a_registration_must_stand_alone<S: Subject>(world: &mut World<S>) {
    let outcomes = world.batch(vec![Op::Register(register("n1", 1)), Op::Register(register("n2", 2))]);
    assert!(matches!(outcomes[0], Outcome::Registered { .. }), "{outcomes:?}");
    assert_eq!(outcomes[1], Outcome::Refused(Refusal::NotAlone));
}

fn an_expiry_holds_until_the_node_registers_again<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    assert_eq!(world.expire(holder), []);
    assert_eq!(world.expire(holder), [], "sent twice it is answered alike");
    assert_eq!(world.subject.node(holder.node).map(|row| row.state), Some(NodeState::Expired));
    assert_eq!(world.refused(claim(&agent("cart"), 0, holder)), Refusal::HolderGone(holder));
    let again = world.join("n1");
    assert_eq!(world.claim(&agent("cart"), 0, again), Epoch(1));
}

fn an_expiry_of_an_earlier_run_does_nothing<S: Subject>(world: &mut World<S>) {
    let earlier = world.join("n1");
    let present = world.join("n1");
    let (task, _) = world.running(present);
    assert_eq!(world.expire(earlier), []);
    assert_eq!(world.expire(Holder { incarnation: Incarnation(NUMBER_MAX), ..present }), []);
    assert_eq!(world.state(task), TaskState::Running);
    assert_eq!(world.subject.node(present.node).map(|row| row.state), Some(NodeState::Up));
}

fn the_tasks_of_a_lost_node_wait_again<S: Subject>(world: &mut World<S>) {
    let (lost, other) = (world.join("n1"), world.join("n2"));
    let (first, token) = world.running(lost);
    let (second, _) = world.running(lost);
    let (elsewhere, _) = world.running(other);
    assert_eq!(world.expire(lost), [first, second]);
    assert_eq!(world.story(first), "queued running retried");
    assert_eq!(world.task(first).run_at, world.now(), "at once: the task is not to blame");
    assert_eq!(world.state(elsewhere), TaskState::Running);
    assert_eq!(world.refused(done(first, token)), Refusal::StaleToken { task: first, token });
    let token = world.assign(first, other);
    world.commit(done(first, token));
    assert_eq!(world.task(first).attempt, 2);
}

fn the_tasks_of_a_restarted_node_wait_again<S: Subject>(world: &mut World<S>) {
    let earlier = world.join("n1");
    let (task, token) = world.running(earlier);
    let (present, freed) = world.register(register("n1", 99));
    assert_eq!(freed, [task]);
    assert_eq!(world.refused(done(task, token)), Refusal::StaleToken { task, token });
    let task = world.new_task("late");
    let id = task.id;
    assert_eq!(world.one(enqueue(task, Some(earlier))), Outcome::Enqueued { token: None }, "that run is over");
    world.assign(id, present);
}

fn a_task_that_loses_its_last_node_is_dead<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let mut task = world.new_task("poison");
    task.policy.attempts_max = 1;
    let id = task.id;
    world.one(enqueue(task, Some(holder)));
    assert_eq!(world.expire(holder), [], "it does not wait again");
    assert_eq!(world.story(id), "queued running dead");
}

fn a_node_that_leaves_costs_no_attempt<S: Subject>(world: &mut World<S>) {
    let (leaving, other) = (world.join("n1"), world.join("n2"));
    let mut task = world.new_task("only once");
    task.policy.attempts_max = 1;
    let id = task.id;
    let outcome = world.one(enqueue(task, Some(leaving)));
    let Outcome::Enqueued { token: Some(token) } = outcome else { panic!("it was not assigned: {outcome:?}") };
    let (elsewhere, _) = world.running(other);
    assert_eq!(world.leave(leaving), [id]);
    assert_eq!(world.leave(leaving), [], "sent twice, it does no more");
    assert_eq!(world.subject.node(leaving.node).map(|row| row.state), Some(NodeState::Left));
    assert_eq!((world.story(id).as_str(), world.task(id).attempt), ("queued running retried", 0));
    assert_eq!(world.task(id).run_at, world.now(), "at once: the task is not to blame");
    assert_eq!(world.state(elsewhere), TaskState::Running);
    assert_eq!(world.refused(done(id, token)), Refusal::StaleToken { task: id, token });
    assert_eq!(
        world.refused(Op::Assign(Assign { task: id, holder: leaving })),
        Refusal::HolderGone(leaving),
        "what was on its way comes too late"
    );
    let token = world.assign(id, other);
    world.commit(done(id, token));
    assert_eq!(world.task(id).attempt, 1);
}

fn a_node_that_was_given_up_can_leave_no_more<S: Subject>(world: &mut World<S>) {
    let lost = world.join("n1");
    let mut task = world.new_task("poison");
    task.policy.attempts_max = 1;
    let id = task.id;
    world.one(enqueue(task, Some(lost)));
    world.expire(lost);
    assert_eq!(world.leave(lost), []);
    assert_eq!(world.state(id), TaskState::Dead);
}

fn a_node_that_left_unheard_costs_no_attempt_when_it_comes_back<S: Subject>(world: &mut World<S>) {
    let first = world.join("n1");
    let (task, token) = world.running(first);
    let second = Register { left: Some(first.incarnation), ..register("n1", 98) };
    let (present, freed) = world.register(second.clone());
    assert_eq!((freed, world.task(task).attempt), (vec![task], 0));
    assert_eq!(world.register(second).0, present, "sent twice, it is one run");
    assert_eq!(world.refused(done(task, token)), Refusal::StaleToken { task, token });
    world.assign(task, present);
    // What it says of an earlier run says nothing of the last one, which may have crashed.
    let (_, freed) = world.register(Register { left: Some(first.incarnation), ..register("n1", 99) });
    assert_eq!((freed, world.task(task).attempt), (vec![task], 1));
}

fn a_node_that_is_up_is_not_removed<S: Subject>(world: &mut World<S>) {
    let holder = world.join("n1");
    let (task, token) = world.running(holder);
    assert_eq!(world.refused(Op::Remove(Remove { node: holder.node })), Refusal::NodeUp(holder.node));
    world.commit(done(task, token));
}

fn a_removed_node_leaves_its_name_and_its_agents_to_others<S: Subject>(world: &mut World<S>) {
    let (lost, other) = (world.join("n1"), world.join("n2"));
    let held = agent("cart");
    let epoch = world.claim(&held, 0, lost);
    let pinned = NewTask { node: Some(lost.node), ..world.new_task("pinned") };
    let id = pinned.id;
    world.one(enqueue(pinned, None));
    world.expire(lost);
    let removal = Op::Remove(Remove { node: lost.node });
    world.commit(removal.clone());
    assert_eq!(world.subject.node(lost.node), None);
    assert_eq!(world.state(id), TaskState::Queued, "whoever leads calls it off");
    let late = Register { node: Some(lost.node), ..register("n1", 8) };
    assert_eq!(world.refused(Op::Register(late)), Refusal::NodeRemoved(lost.node), "its directory is no node's");
    // Another directory under the same name is another node: ids are never reused.
    let (new, _) = world.register(Register { directory: DirectoryId(42), ..register("n1", 9) });
    assert!(new.node > lost.node);
    world.commit(removal);
    assert_eq!(world.subject.node(new.node).map(|row| row.state), Some(NodeState::Up), "sent twice, it does no more");
    assert_eq!(
        world.refused(Op::Assign(Assign { task: id, holder: new })),
        Refusal::WrongState { task: id, state: "queued" }
    );
    assert_eq!(world.claim(&held, epoch.0, other), Epoch(epoch.0 + 1));
}
