use super::*;
use crate::id::{Incarnation, Key};

const NOW: LogTime = LogTime::from_millis(1_000);
const A: Holder = Holder { node: NodeId(1), incarnation: Incarnation(1) };
const B: Holder = Holder { node: NodeId(2), incarnation: Incarnation(2) };

#[test]
fn tasks_of_a_pool_go_to_the_node_with_the_least_load() {
    let mut mesh = Mesh::new();
    mesh.tell(up(A, 2));
    mesh.tell(up(B, 4));
    let assigned: Vec<Effect> = (1..=7).flat_map(|n| mesh.tell(Input::Queued(pool(n)))).collect();
    let to = [A, B, B, A, B, B];
    assert_eq!(assigned, (1..).zip(to).map(|(n, holder)| assign(n, holder)).collect::<Vec<_>>());
    assert_eq!((mesh.scheduler.running_on(A), mesh.scheduler.running_on(B)), (2, 4));
    assert_eq!(mesh.tell(Input::Ended(TaskId(4))), [assign(7, A)]);
}

#[test]
fn the_most_urgent_task_goes_first_and_a_delayed_one_when_its_time_has_come() {
    let mut mesh = Mesh::new();
    mesh.tell(Input::Queued(Waiting { priority: 5, ..pool(1) }));
    mesh.tell(Input::Queued(Waiting { priority: 1, ..pool(2) }));
    mesh.tell(Input::Queued(Waiting { priority: 0, run_at: NOW.plus_millis(10), ..pool(3) }));
    assert_eq!(mesh.tell(up(A, 2)), [assign(2, A), assign(1, A)]);
    mesh.tell(Input::Ended(TaskId(1)));
    assert_eq!(mesh.scheduler.deadline(), Some(NOW.plus_millis(10)));
    assert_eq!(mesh.expire(10), [assign(3, A)]);
}

#[test]
fn a_keyed_agents_task_waits_for_its_own_node() {
    let mut mesh = Mesh::new();
    mesh.tell(up(A, 1));
    mesh.tell(up(B, 1));
    let held = |n| Waiting { held_by: Some(A), ..keyed(n, "x") };
    assert_eq!(mesh.tell(Input::Queued(held(1))), [assign(1, A)]);
    assert_eq!(mesh.tell(Input::Queued(held(2))), []);
    // One that waits for a full node does not stand in the way of others.
    let elsewhere = Waiting { held_by: Some(B), ..keyed(3, "y") };
    assert_eq!(mesh.tell(Input::Queued(elsewhere)), [assign(3, B)]);
}

#[test]
fn what_waited_for_a_node_that_is_gone_goes_elsewhere_at_once() {
    let mut mesh = Mesh::new();
    mesh.tell(up(A, 1));
    mesh.tell(up(B, 1));
    mesh.tell(Input::Queued(Waiting { held_by: Some(A), ..keyed(1, "x") }));
    mesh.tell(Input::Queued(Waiting { held_by: Some(A), ..keyed(2, "x") }));
    assert_eq!(mesh.tell(Input::NodeGone(A)), [assign(2, B)]);
}

#[test]
fn tasks_for_a_node_that_is_away_are_in_nobodys_way_and_done_when_it_is_back() {
    let mut mesh = Mesh::new();
    mesh.tell(up(A, 1_000));
    let away = |n| Waiting { node: Some(B.node), ..if n % 2 == 0 { pool(n) } else { keyed(n, "x") } };
    let many = 2 * Config::default().look_ahead as u64;
    for n in 1..=many {
        assert_eq!(mesh.tell(Input::Queued(away(n))), []);
    }
    assert_eq!(mesh.scheduler.reserve(&pool(many + 1)), Some(A));
    assert_eq!(mesh.tell(Input::Queued(keyed(many + 2, "y"))), [assign(many + 2, A)]);
    mesh.tell(Input::Ended(TaskId(2)));
    assert_eq!(mesh.tell(up(B, 1_000)).len() as u64, many - 1, "but for the one that was called off");
}

#[test]
fn a_reservation_that_comes_to_nothing_gives_its_room_back() {
    let mut mesh = Mesh::new();
    mesh.tell(up(A, 1));
    assert_eq!(mesh.scheduler.reserve(&pool(1)), Some(A));
    assert_eq!(mesh.scheduler.reserve(&pool(2)), None);
    mesh.tell(Input::Queued(pool(2)));
    assert_eq!(mesh.tell(Input::Refused(TaskId(1))), [assign(2, A)]);
}

#[test]
fn a_task_that_is_enqueued_twice_takes_room_once() {
    let mut mesh = Mesh::new();
    mesh.tell(up(A, 2));
    assert_eq!(mesh.scheduler.reserve(&pool(1)), Some(A));
    assert_eq!(mesh.scheduler.reserve(&pool(1)), None);
    mesh.tell(assigned(1, A));
    assert_eq!(mesh.scheduler.reserve(&pool(1)), None);
    assert_eq!(mesh.scheduler.running_on(A), 1);
    mesh.tell(Input::Ended(TaskId(1)));
    assert_eq!(mesh.scheduler.running_on(A), 0);
}

#[test]
fn a_new_leader_may_learn_of_tasks_before_their_nodes() {
    let mut mesh = Mesh::new();
    mesh.tell(assigned(1, A));
    mesh.tell(assigned(2, A));
    mesh.tell(up(A, 2));
    assert_eq!(mesh.tell(Input::Queued(pool(3))), []);
    assert_eq!(mesh.tell(Input::Ended(TaskId(1))), [assign(3, A)]);
    mesh.tell(Input::Ended(TaskId(2)));
    mesh.tell(Input::Ended(TaskId(3)));
    assert_eq!((mesh.scheduler.running_on(A), mesh.scheduler.load()), (0, (0, 0)));
}

#[test]
fn where_a_task_runs_is_what_the_store_says() {
    let mut mesh = Mesh::new();
    mesh.tell(up(A, 1));
    assert_eq!(mesh.tell(Input::Queued(pool(1))), [assign(1, A)]);
    mesh.tell(up(B, 1));
    mesh.tell(assigned(1, B));
    assert_eq!((mesh.scheduler.running_on(A), mesh.scheduler.running_on(B)), (0, 1));
}

#[test]
fn nothing_is_given_to_a_run_after_a_later_one_of_its_node() {
    let mut mesh = Mesh::new();
    let again = Holder { incarnation: Incarnation(9), ..A };
    mesh.tell(up(A, 1));
    mesh.tell(assigned(1, A));
    // Its task waits again, as it does when the store frees it.
    mesh.tell(up(again, 1));
    assert_eq!(mesh.tell(Input::Queued(pool(1))), [assign(1, again)]);
    assert_eq!(mesh.tell(Input::Queued(pool(2))), []);
}

#[test]
fn an_attempt_past_its_limit_is_ended_once() {
    let mut mesh = Mesh::new();
    mesh.tell(up(A, 1));
    mesh.tell(assigned(1, A));
    assert_eq!(mesh.scheduler.deadline(), Some(NOW.plus_millis(100)));
    assert_eq!(mesh.expire(99), []);
    assert_eq!(mesh.expire(100), [Effect::TimeOut { task: TaskId(1), token: token(1) }]);
    assert_eq!(mesh.expire(200), []);
}

#[test]
fn tasks_of_a_session_run_one_at_a_time_where_it_is_and_are_in_nobodys_way() {
    let mut mesh = Mesh::new();
    mesh.tell(up(A, 2));
    mesh.tell(up(B, 2));
    let of = |key, held_by| move |n| Waiting { held_by, stick: Some(Stick { key, is_session: true }), ..pool(n) };
    let many = 2 * Config::default().look_ahead as u64;
    let session = of(7, Some(B));
    assert_eq!(mesh.tell(Input::Queued(session(1))), [assign(1, B)]);
    for n in 2..=many {
        assert_eq!(mesh.tell(Input::Queued(session(n))), []);
    }
    assert_eq!(mesh.tell(Input::Queued(of(8, Some(B))(900))), [assign(900, B)], "another session");
    assert_eq!(mesh.tell(Input::Queued(of(9, Some(B))(901))), [], "it waits for room where it is");
    assert_eq!(mesh.tell(Input::Queued(pool(902))), [assign(902, A)], "it goes anywhere");
    assert_eq!(mesh.scheduler.reserve(&session(903)), None);
    assert_eq!(mesh.tell(Input::Ended(TaskId(1))), [assign(2, B)], "in order");
    // One that waits is called off, and one that is next while there is no room.
    assert_eq!(mesh.tell(Input::Ended(TaskId(3))), []);
    assert_eq!(mesh.tell(Input::Ended(TaskId(900))), [assign(901, B)]);
    mesh.tell(up(B, 0));
    assert_eq!(mesh.tell(Input::Ended(TaskId(2))), []);
    assert_eq!(mesh.tell(Input::Ended(TaskId(4))), []);
    // It fails, and goes on elsewhere once its node is gone.
    assert_eq!(mesh.tell(Input::NodeGone(B)), [assign(5, A)]);
    mesh.tell(Input::Ended(TaskId(902)));
    assert_eq!(mesh.tell(Input::Queued(session(5))), [assign(5, A)]);
}

#[test]
fn tasks_with_an_affinity_go_to_one_node_and_several_at_a_time() {
    let mut mesh = Mesh::new();
    let alike = |n, key| Waiting { stick: Some(Stick { key, is_session: false }), ..pool(n) };
    mesh.tell(up(A, 100));
    mesh.tell(up(B, 100));
    for n in 1..=40 {
        let home = route::sticking(n % 10, [A, B]).expect("there are candidates");
        assert_eq!(mesh.tell(Input::Queued(alike(n, n % 10))), [assign(n, home)]);
    }
    assert!(mesh.scheduler.running_on(A) > 0 && mesh.scheduler.running_on(B) > 0);
    // However many wait for room where they belong, others go where there is some.
    let full = route::sticking(1, [A, B]).expect("there are candidates");
    let other = if full == A { B } else { A };
    mesh.tell(up(full, 0));
    for n in 100..100 + 2 * Config::default().look_ahead as u64 {
        assert_eq!(mesh.tell(Input::Queued(alike(n, 1))), []);
    }
    assert_eq!(mesh.tell(Input::Queued(pool(1_000))), [assign(1_000, other)]);
}

struct Mesh {
    scheduler: Scheduler,
}

impl Mesh {
    fn new() -> Self {
        Self { scheduler: Scheduler::new(Config::default()) }
    }

    fn tell(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.scheduler.handle(NOW, input, &mut effects);
        effects
    }

    fn expire(&mut self, after_ms: u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.scheduler.expire(NOW.plus_millis(after_ms), &mut effects);
        effects
    }
}

fn name(text: &str) -> Name {
    Name::new(text).expect("valid")
}

fn up(holder: Holder, tasks_max: u32) -> Input {
    let offer = |placement| Offer::new(placement, tasks_max);
    let offers = [(name("reader"), offer(Placement::Pool)), (name("cart"), offer(Placement::Keyed))];
    Input::NodeUp { holder, offers: BTreeMap::from(offers) }
}

fn pool(n: u64) -> Waiting {
    Waiting {
        task: TaskId(u128::from(n)),
        agent: AgentId { namespace: Name::default_namespace(), name: name("reader"), key: None },
        placement: Placement::Pool,
        node: None,
        priority: 4,
        run_at: NOW,
        held_by: None,
        stick: None,
    }
}

fn keyed(n: u64, key: &str) -> Waiting {
    let key = Some(Key::new(key).expect("valid"));
    let agent = AgentId { namespace: Name::default_namespace(), name: name("cart"), key };
    Waiting { agent, placement: Placement::Keyed, ..pool(n) }
}

fn token(n: u64) -> FencingToken {
    FencingToken { index: n, item: 0 }
}

fn assigned(n: u64, holder: Holder) -> Input {
    Input::Assigned { waiting: pool(n), holder, token: token(n), until: NOW.plus_millis(100) }
}

fn assign(n: u64, holder: Holder) -> Effect {
    Effect::Assign { task: TaskId(u128::from(n)), holder }
}
