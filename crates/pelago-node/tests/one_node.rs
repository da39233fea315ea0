//! A mesh of one node, on real files: agents keep what they were told across restarts.

use std::{collections::BTreeMap, path::Path, time::Duration};

use bytes::Bytes;
use pelago_core::{
    agent,
    id::Name,
    record::{RetryPolicy, TaskState},
    task,
};
use pelago_node::{
    Agent, Config, Fault, Handle, Kind, Node, TaskRequest, Turn,
    handle::{AskOptions, Error, TaskDetail},
    keyed, pool, resident,
};
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Counter {
    count: i64,
}

impl Agent for Counter {
    type Input = i64;
    type Output = i64;

    async fn handle(&mut self, by: i64, _turn: &mut Turn) -> Result<i64, Fault> {
        self.count += by;
        if self.count < 0 {
            return Err(Fault::hopeless("a count is not negative"));
        }
        Ok(self.count)
    }
}

/// Adds to a counter by a durable message, and reports how.
#[derive(Default, Serialize, Deserialize)]
struct Teller;

impl Agent for Teller {
    type Input = String;
    type Output = String;

    async fn handle(&mut self, to: String, turn: &mut Turn) -> Result<String, Fault> {
        turn.progress(&"telling").await?;
        turn.send(&to, &1)?;
        turn.send(&to, &1)?;
        Ok(format!("told {to}"))
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Panics;

impl Agent for Panics {
    type Input = ();
    type Output = ();

    async fn handle(&mut self, (): (), _turn: &mut Turn) -> Result<(), Fault> {
        panic!("this agent is broken")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_counts_on_after_a_restart() {
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let node = start(home.path()).await;
    assert_eq!(ask(node.handle(), "counter:a", "2").await, Ok("2".into()));
    assert_eq!(ask(node.handle(), "counter:a", "3").await, Ok("5".into()));
    assert_eq!(ask(node.handle(), "counter:b", "1").await, Ok("1".into()));
    stop(node).await;
    let node = start(home.path()).await;
    assert_eq!(ask(node.handle(), "counter:a", "0").await, Ok("5".into()));
    let agent = node.handle().agent("counter:a").await.expect("it has a state");
    assert_eq!((agent.agent.version.0, agent.state.as_deref()), (3, Some(&b"{\"count\":5}"[..])));
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_fails_has_no_effect() {
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let node = start(home.path()).await;
    assert_eq!(ask(node.handle(), "counter:a", "2").await, Ok("2".into()));
    let failed = ask(node.handle(), "counter:a", "-9").await;
    assert_eq!(failed, Err(Error::AgentFailed { reason: "a count is not negative".into(), hopeless: true }));
    assert_eq!(ask(node.handle(), "counter:a", "1").await, Ok("3".into()));
    assert!(matches!(ask(node.handle(), "panics", "null").await, Err(Error::AgentFailed { .. })));
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_question_under_one_key_is_answered_once() {
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let node = start(home.path()).await;
    let ask = |body: &'static str| {
        let options = AskOptions { wait: Duration::from_secs(10), idempotency_key: Some("k".into()) };
        node.handle().ask("counter:a", Bytes::from_static(body.as_bytes()), options)
    };
    assert_eq!(ask("2").await.as_deref(), Ok(&b"2"[..]));
    assert_eq!(ask("2").await.as_deref(), Ok(&b"2"[..]));
    assert_eq!(ask("3").await, Err(Error::Conflict { key: "k".into() }));
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_done_and_what_it_sends_arrives_exactly_once() {
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let node = start(home.path()).await;
    let done = task(node.handle(), "teller", "\"counter:told\"").await;
    assert_eq!((done.task.state, done.result.as_deref()), (TaskState::Done, Some(&b"\"told counter:told\""[..])));
    let events = node.handle().events(done.task.id, 0, 100, None).await.expect("it has events");
    assert_eq!(events.iter().map(|event| event.n).collect::<Vec<_>>(), [1, 2, 3, 4]);
    poll(async || ask(node.handle(), "counter:told", "0").await == Ok("2".into())).await;
    let keyed = task(node.handle(), "counter:told", "5").await;
    assert_eq!(keyed.result.as_deref(), Some(&b"7"[..]));
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_fails_is_tried_again_and_dies_at_last() {
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let node = start(home.path()).await;
    let dead = task(node.handle(), "panics", "null").await;
    assert_eq!((dead.task.state, dead.task.attempt), (TaskState::Dead, 3));
    assert!(dead.task.reason.expect("it says why").contains("this agent is broken"));
    let hopeless = task(node.handle(), "counter:c", "\"no number\"").await;
    assert_eq!((hopeless.task.state, hopeless.task.attempt), (TaskState::Dead, 1));
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_names_and_wrong_keys_are_refused_with_the_nearest_names() {
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let node = start(home.path()).await;
    let unknown = ask(node.handle(), "countr:a", "1").await;
    let nearest = vec![Name::new("counter").expect("valid")];
    assert_eq!(unknown, Err(Error::UnknownAgent { name: Name::new("countr").expect("valid"), nearest }));
    assert!(matches!(ask(node.handle(), "counter", "1").await, Err(Error::WrongKey(_))));
    assert!(matches!(ask(node.handle(), "teller:x", "1").await, Err(Error::WrongKey(_))));
    assert!(matches!(ask(node.handle(), "nowhere/counter:a", "1").await, Err(Error::UnknownNode(_))));
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_and_nothing_is_done() {
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let node = start(home.path()).await;
    let large = format!("\"{}\"", "x".repeat(600 << 10));
    assert!(matches!(ask(node.handle(), "teller", &large).await, Err(Error::TooLarge(_))));
    let enqueued = node.handle().enqueue("teller", Bytes::from(large), TaskRequest::default()).await;
    assert!(matches!(enqueued, Err(Error::TooLarge(_))), "{enqueued:?}");
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_node_on_the_same_directory_is_refused() {
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let node = start(home.path()).await;
    let second = Node::start(config(home.path()), kinds()).await.err().expect("refused");
    assert!(matches!(second, pelago_node::Error::Directory(_)), "{second}");
    stop(node).await;
}

async fn start(home: &Path) -> Node {
    Node::start(config(home), kinds()).await.expect("the node starts")
}

async fn stop(node: Node) {
    node.begin_to_stop();
    node.drain().await;
    node.close().await;
}

fn kinds() -> Vec<Kind> {
    vec![keyed::<Counter>("counter"), pool::<Teller>("teller"), pool::<Panics>("panics"), resident::<Counter>("here")]
}

fn config(home: &Path) -> Config {
    Config {
        directory: home.join("node"),
        mesh_name: Name::new("test").expect("valid"),
        name: None,
        found: true,
        labels: BTreeMap::new(),
        http_address: String::new(),
        mesh_address: String::new(),
        policy: RetryPolicy { attempts_max: 3, attempt_ms_max: 10_000, backoff_ms: 10, backoff_ms_max: 50 },
        agent: agent::Config::default(),
        scheduler: task::Config::default(),
        disk_free_bytes_min: 0,
        drain_max: Duration::from_secs(5),
    }
}

async fn ask(handle: &Handle, to: &str, body: &str) -> Result<String, Error> {
    let options = AskOptions { wait: Duration::from_secs(10), idempotency_key: None };
    let reply = handle.ask(to, Bytes::copy_from_slice(body.as_bytes()), options).await?;
    Ok(String::from_utf8(reply.to_vec()).expect("replies are JSON"))
}

async fn task(handle: &Handle, to: &str, input: &str) -> TaskDetail {
    let input = Bytes::copy_from_slice(input.as_bytes());
    let enqueued = handle.enqueue(to, input, TaskRequest::default()).await.expect("the task is taken");
    handle.task(enqueued.task, Some(Duration::from_secs(20))).await.expect("the task is known")
}

/// Asks until the answer is yes.
async fn poll(mut question: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !question().await {
        assert!(tokio::time::Instant::now() < deadline, "it did not come true in time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
