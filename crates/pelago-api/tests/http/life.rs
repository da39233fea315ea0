//! What a well-behaved client does.

use std::time::Duration;

use pelago_api::{
    client::{AgentQuery, DeadMessageQuery, Error, TaskQuery},
    model::{Happening, NewTask, Node},
};
use pelago_core::record::TaskState;
use serde_json::{json, value::RawValue};
use tokio::task::JoinSet;

use crate::world::{World, gate};

const LONG: Option<Duration> = Some(Duration::from_secs(30));

fn raw(json: &str) -> &RawValue {
    serde_json::from_str(json).expect("the test writes JSON")
}

fn task<'a>(agent: &'a str, input: &'a RawValue) -> NewTask<'a> {
    NewTask { agent: agent.into(), input: Some(input), ..NewTask::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_lives_from_its_request_to_its_result() {
    let world = World::start().await;
    let client = &world.client;
    let new = NewTask { priority: Some(2), attempts_max: Some(7), ..task("counter:a", raw("5")) };
    let enqueued = client.enqueue(&new, None).await.expect("the agent is declared");
    assert!(!enqueued.existing);

    let done = client.task(enqueued.id, LONG).await.expect("the task is there");
    assert_eq!(
        (done.state, done.agent.as_str(), done.priority, done.attempts_max),
        (TaskState::Done, "counter:a", 2, 7)
    );
    assert_eq!(done.input.expect("one task shows its input").json(), "5");
    assert_eq!(done.result.expect("it is done").json(), "5");

    let events = client.events(enqueued.id, 0, None, None).await.expect("the task is there");
    let told: Vec<_> = events.items.iter().map(|event| (event.n, event.event)).collect();
    assert_eq!(told, [(1, Happening::Queued), (2, Happening::Running), (3, Happening::Progress), (4, Happening::Done)]);
    assert_eq!(events.items[1].node.as_deref(), Some("n1"));
    assert_eq!(events.items[2].note.as_ref().map(|note| note.json()), Some("\"adding 5\""));
    let rest = client.events(enqueued.id, 3, Some(1), LONG).await.expect("the task is there");
    assert_eq!((rest.items.len(), rest.next), (1, 4));

    let agent = client.agent("counter:a").await.expect("it had a turn");
    assert_eq!((agent.version, agent.node.as_deref(), agent.key.as_deref()), (1, Some("n1"), Some("a")));
    assert_eq!(agent.state.expect("one agent shows its state").json(), r#"{"count":5}"#);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_key_is_the_same_task_unless_the_body_differs() {
    let world = World::start().await;
    let head = "Content-Type: application/json\r\nIdempotency-Key: order-1\r\n";
    let body = r#"{"agent": "counter:b", "input": 3}"#;
    let first = world.request("POST", "/api/v1/tasks", head, body).await;
    let id = first.json()["id"].as_str().expect("it has an id").to_owned();
    assert_eq!((first.status, first.json()["existing"].as_bool()), (202, Some(false)));
    assert!(first.has(&format!("location: /api/v1/tasks/{id}")) && !first.head.contains("idempotent-replayed"));

    let again = world.request("POST", "/api/v1/tasks", head, body).await;
    assert_eq!((again.status, again.json()["id"].as_str()), (200, Some(id.as_str())));
    assert!(again.has("idempotent-replayed: true") && again.has(&format!("location: /api/v1/tasks/{id}")));

    let quoted = "Content-Type: application/json\r\nIdempotency-Key: \"order-1\"\r\n";
    let other = world.request("POST", "/api/v1/tasks", quoted, r#"{"agent": "counter:b", "input": 4}"#).await;
    other.problem(409, "PLG-2019");
    let urgent = r#"{"agent": "counter:b", "input": 3, "priority": 0}"#;
    world.request("POST", "/api/v1/tasks", head, urgent).await.problem(409, "PLG-2019");

    world.client.task(id.parse().expect("an id"), LONG).await.expect("the task is there");
    let agent = world.client.agent("counter:b").await.expect("it had a turn");
    assert_eq!(agent.state.expect("it has state").json(), r#"{"count":3}"#);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ask_gets_its_reply_and_a_repeated_one_the_same() {
    let world = World::start().await;
    let client = &world.client;
    let question = r#"{"deep": [1, 2.50, "ü"]}"#;
    let reply = client.ask("echo", question, None, None).await.expect("the agent replies");
    assert_eq!(reply.parse::<serde_json::Value>().expect("JSON"), json!({"deep": [1, 2.5, "ü"]}));
    let nothing = client.ask("echo", "", None, None).await.expect("an absent question is null");
    assert_eq!(nothing.json(), "null");

    for _ in 0..2 {
        let reply = client.ask("counter:c", "2", LONG, Some("ask-1")).await.expect("the agent replies");
        assert_eq!(reply.json(), "2");
    }
    let Err(Error::Problem(problem)) = client.ask("counter:c", "9", LONG, Some("ask-1")).await else {
        panic!("another question under the same key passed")
    };
    assert_eq!((problem.status, problem.code.as_ref()), (409, "PLG-2019"));
    let sent = client.send("counter:c", "2", Some("ask-1")).await;
    assert!(matches!(sent, Err(Error::Problem(problem)) if problem.code == "PLG-2019"), "a message is no question");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_handled_once_however_often_it_is_sent() {
    let world = World::start().await;
    let client = &world.client;
    let address = "counter:a b/ü%2F";
    let first = client.send(address, "40", Some("m-1")).await.expect("it is durable");
    let again = client.send(address, "40", Some("m-1")).await.expect("it is known");
    assert_eq!((first.to.as_str(), first.existing, again.existing), (address, false, true));
    let handled = async { while client.status().await.expect("the node is there").messages_waiting > 0 {} };
    tokio::time::timeout(Duration::from_secs(20), handled).await.expect("the message is handled");
    let pinned = format!("n1/{address}");
    let refused = client.send(&pinned, "1", None).await;
    assert!(matches!(refused, Err(Error::Problem(problem)) if problem.code == "PLG-2008"), "a message has no pin");
    let sum = client.ask(&pinned, "2", None, None).await.expect("the agent replies");
    assert_eq!(sum.json(), "42");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_failed_too_often_is_listed_and_counted_until_it_is_dismissed() {
    let world = World::start().await;
    let client = &world.client;
    for address in ["counter:a", "counter:b"] {
        // Nothing to add, or no number: each fails, however often it is tried.
        client.send(address, "0", None).await.expect("it is durable");
        client.send(address, "\"five\"", None).await.expect("it is durable");
    }
    let buried = async { while client.status().await.expect("the node is there").messages_dead < 4 {} };
    tokio::time::timeout(Duration::from_secs(60), buried).await.expect("they are given up");
    assert_eq!(client.status().await.expect("the node is there").messages_waiting, 0);
    assert_eq!(world.node.handle().metrics().messages_buried.get(), 4);
    assert!(client.metrics().await.expect("the node is there").contains("pelago_messages_dead_total 4"));

    let of_one = DeadMessageQuery { agent: Some("counter:b".into()), ..DeadMessageQuery::default() };
    let list = client.dead_messages(&of_one).await.expect("the agent is declared");
    let mut told: Vec<_> = list.items.iter().map(|dead| (dead.message.json(), dead.to.as_str())).collect();
    told.sort_unstable();
    assert_eq!((told, list.next), (vec![("\"five\"", "counter:b"), ("0", "counter:b")], None));
    let nothing = list.items.iter().find(|dead| dead.message.json() == "0").expect("it is listed");
    assert!(nothing.reason.contains("nothing to add") && nothing.from.starts_with("client "), "{nothing:?}");

    let mut query = DeadMessageQuery { limit: Some(3), ..DeadMessageQuery::default() };
    let first = client.dead_messages(&query).await.expect("no cursor is needed");
    query.cursor = first.next;
    let rest = client.dead_messages(&query).await.expect("the cursor was given out");
    assert_eq!((first.items.len(), rest.items.len(), rest.next), (3, 1, None));
    let foreign = DeadMessageQuery { agent: Some("counter:a".into()), ..query };
    assert!(client.dead_messages(&foreign).await.is_err(), "the cursor is of another list");
    world.get("/api/v1/messages/dead?cursor=zz", "Host: localhost\r\n").await.problem(400, "PLG-2010");
    world.get("/api/v1/messages/dead?agent=conter:a", "Host: localhost\r\n").await.problem(404, "PLG-2004");

    let dismissed = client.dismiss("counter:a").await.expect("the agent is declared");
    assert_eq!((dismissed.agent.as_str(), dismissed.messages), ("counter:a", 2));
    assert_eq!(client.dismiss("counter:a").await.expect("the agent is declared").messages, 0);
    assert_eq!(client.status().await.expect("the node is there").messages_dead, 2);
    assert_eq!(client.dead_messages(&of_one).await.expect("the agent is declared").items.len(), 2);
    world.request("DELETE", "/api/v1/messages/dead", "", "").await.problem(400, "PLG-2009");
    world.request("DELETE", "/api/v1/messages/dead?agent=conter:a", "", "").await.problem(404, "PLG-2004");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_guide_of_the_seed_works_as_written() {
    let world = World::start().await;
    let created = world.post("/api/tasks", r#"{"agent": "echo", "prompt": "Hello from \"distributed\" mesh"}"#).await;
    assert_eq!(created.status, 202, "{created:?}");
    let id = created.json()["id"].as_str().expect("it has an id").parse().expect("an id");
    let done = world.client.task(id, LONG).await.expect("the task is there");
    assert_eq!(done.result.expect("it is done").json(), r#""Hello from \"distributed\" mesh""#);
    assert_eq!(done.placement, pelago_core::record::Placement::Pool);

    let unknown = world.post("/api/tasks", r#"{"agent": "eco", "prompt": "Hello"}"#).await;
    let (detail, hint) = unknown.problem(404, "PLG-2004");
    assert!(detail.contains("eco") && hint.contains("echo"), "{detail} {hint}");

    let health = world.client.health().await.expect("the node is there");
    assert_eq!((health.status.as_str(), health.node_id.as_str(), health.mesh.connected_peers), ("healthy", "n1", 0));
    let shape = world.get("/health", "Host: localhost\r\n").await;
    let fields: Vec<_> = shape.json().as_object().expect("an object").keys().cloned().collect();
    assert_eq!(fields, ["agents", "mesh", "node_id", "status", "version"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_task_is_dead_until_it_is_retried_or_called_off() {
    let world = World::start().await;
    let client = &world.client;
    let id = client.enqueue(&task("counter:z", raw("0")), None).await.expect("the agent is declared").id;
    let dead = client.task(id, LONG).await.expect("the task is there");
    assert_eq!((dead.state, dead.attempt), (TaskState::Dead, 1));
    assert!(dead.reason.expect("it says why").contains("nothing to add"));

    client.retry(id).await.expect("a dead task can be retried");
    let dead = client.task(id, LONG).await.expect("the task is there");
    assert_eq!(dead.state, TaskState::Dead);
    let queued = client.events(id, 0, None, None).await.expect("the task is there");
    assert_eq!(queued.items.iter().filter(|event| event.event == Happening::Queued).count(), 2);

    let dismissed = client.cancel(id, Some("seen")).await.expect("a dead task can be called off");
    assert_eq!((dismissed.state, dismissed.reason.as_deref()), (TaskState::Cancelled, Some("seen")));
    let counts = client.status().await.expect("the node is there").tasks;
    assert_eq!((counts.get("dead"), counts.get("cancelled")), (Some(&0), Some(&1)));

    let id = client.enqueue(&task("echo", raw("1")), None).await.expect("the agent is declared").id;
    client.task(id, LONG).await.expect("the task is there");
    let Err(Error::Problem(problem)) = client.cancel(id, None).await else { panic!("a done task was cancelled") };
    assert_eq!((problem.code.as_ref(), problem.next), ("PLG-2020", Some(format!("pelago task show {id}"))));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_task_is_called_off_with_the_clients_words() {
    let world = World::start().await;
    let client = &world.client;
    let new = NewTask { delay_ms: Some(3_600_000), ..task("echo", raw("1")) };
    let id = client.enqueue(&new, None).await.expect("the agent is declared").id;
    let standing = client.task(id, Some(Duration::from_millis(1))).await.expect("the task is there");
    assert_eq!(standing.state, TaskState::Queued);
    let cancelled = client.cancel(id, Some("not needed")).await.expect("it waits");
    assert_eq!((cancelled.state, cancelled.reason.as_deref()), (TaskState::Cancelled, Some("not needed")));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_who_wait_for_a_task_are_told_at_once() {
    let world = World::start().await;
    let id = world.client.enqueue(&task("gate:one", raw("1")), None).await.expect("the agent is declared").id;
    let mut waiting = JoinSet::new();
    for _ in 0..50 {
        let client = world.client.clone();
        waiting.spawn(async move { client.task(id, LONG).await });
    }
    world.seen(51).await;
    assert!(waiting.try_join_next().is_none(), "somebody did not wait");
    gate("one").add_permits(1);
    while let Some(told) = waiting.join_next().await {
        let task = told.expect("a client does not panic").expect("the task is there");
        assert_eq!((task.state, task.result.expect("it is done").json()), (TaskState::Done, "\"through\""));
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_come_in_parts_that_join_without_a_gap() {
    let world = World::start().await;
    let client = &world.client;
    let mut ids = Vec::new();
    for n in 0..7 {
        let agent = format!("counter:k{n}");
        let id = client.enqueue(&task(&agent, raw("1")), None).await.expect("the agent is declared").id;
        client.task(id, LONG).await.expect("the task is there");
        ids.push(id);
    }
    client.enqueue(&task("echo", raw("1")), None).await.expect("the agent is declared");
    ids.reverse();

    let mut listed = Vec::new();
    let mut query = TaskQuery {
        state: Some(TaskState::Done),
        agent: Some("counter".into()),
        limit: Some(3),
        ..TaskQuery::default()
    };
    loop {
        let part = client.tasks(&query).await.expect("the cursor was given out");
        assert!(part.items.len() <= 3 && part.items.iter().all(|task| task.input.is_none()));
        listed.extend(part.items.iter().map(|task| task.id));
        query.cursor = part.next;
        if query.cursor.is_none() {
            break;
        }
    }
    assert_eq!(listed, ids);

    for id in &ids {
        let id = id.to_string();
        for prefix in [&id[..31], &id] {
            let query = TaskQuery { id: Some(prefix.to_owned()), ..TaskQuery::default() };
            let found = client.tasks(&query).await.expect("it is the beginning of an id").items;
            assert!(found.iter().any(|task| task.id.to_string() == id) && found.len() <= 7, "{prefix}: {found:?}");
            assert!(found.iter().all(|task| task.id.to_string().starts_with(prefix)), "{prefix}: {found:?}");
        }
    }
    for wrong in ["xyz", "0123456789abcdef0123456789abcdef0"] {
        let path = format!("/api/v1/tasks?id={wrong}");
        world.get(&path, "Host: localhost\r\n").await.problem(400, "PLG-2009");
    }

    let query = AgentQuery { name: Some("counter".into()), limit: Some(5), cursor: None };
    let part = client.agents(&query).await.expect("no cursor is needed");
    let rest = client.agents(&AgentQuery { cursor: part.next, ..query }).await.expect("the cursor was given out");
    let keys: Vec<_> = part.items.iter().chain(&rest.items).filter_map(|agent| agent.key.as_deref()).collect();
    assert_eq!(keys, ["k0", "k1", "k2", "k3", "k4", "k5", "k6"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mesh_tells_who_is_there_and_how_it_stands() {
    let world = World::start().await;
    let client = &world.client;
    let status = client.status().await.expect("the node is there");
    assert_eq!((status.node.as_str(), status.leader.as_deref(), status.quorum), ("n1", Some("n1"), true));
    assert_eq!((status.mesh.as_str(), status.can_lose, status.voters.as_slice()), ("test", 0, &["n1".to_owned()][..]));
    let nodes = client.nodes().await.expect("the node is there").items;
    // What gossip says has an age.
    let logged = |nodes: &[Node]| nodes.iter().map(|node| Node { seen: None, ..node.clone() }).collect::<Vec<_>>();
    assert_eq!(logged(&nodes), logged(&status.nodes));
    assert!(
        nodes[0].leader && nodes[0].voter && nodes[0].offers.contains_key("counter") && nodes[0].http_address.is_none()
    );

    assert!(client.is_ready().await.expect("the node is there"));
    let checks = world.get("/readyz?verbose", "Host: localhost\r\n").await;
    assert_eq!((checks.status, checks.json()["checks"]["quorum"].as_bool()), (200, Some(true)));
    let metrics = world.get("/metrics", "Host: localhost\r\n").await;
    assert!(metrics.has("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(metrics.body.contains("http_requests") && metrics.body.ends_with("# EOF\n"), "{}", metrics.body);
    world.end().await;
}
