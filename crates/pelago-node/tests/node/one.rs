//! A mesh of one node, on real files: agents keep what they were told across restarts.

use std::time::Duration;

use bytes::Bytes;
use pelago_core::{id::Name, record::TaskState};
use pelago_node::{
    Node, TaskRequest,
    handle::{AskOptions, Error},
};

use crate::world::{ask, config, kinds, poll, start, stop, task};

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
async fn a_node_that_may_take_any_port_is_found_where_it_was() {
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let node = start(home.path()).await;
    let address = node.mesh_address();
    stop(node).await;
    let node = start(home.path()).await;
    assert_eq!(node.mesh_address(), address);
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
        let options = AskOptions { idempotency_key: Some("k".into()), ..AskOptions::from(Duration::from_secs(10)) };
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
async fn messages_of_one_sender_are_handled_in_order_also_when_they_come_faster() {
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let node = start(home.path()).await;
    for first in (0..2_000).step_by(500) {
        let dictate = format!(r#"{{"dictate": ["diary:b", {{"start": {first}, "end": {}}}]}}"#, first + 500);
        assert_eq!(ask(node.handle(), "diary:a", &dictate).await, Ok("[]".into()));
    }
    let all = serde_json::to_string(&(0..2_000).collect::<Vec<u64>>()).expect("numbers");
    poll(async || ask(node.handle(), "diary:b", "\"read\"").await.is_ok_and(|read| read.len() >= all.len())).await;
    assert_eq!(ask(node.handle(), "diary:b", "\"read\"").await, Ok(all));
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_does_not_end_in_time_is_told_as_it_stands_by_then() {
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let node = start(home.path()).await;
    let later = TaskRequest { delay: Duration::from_millis(300), ..TaskRequest::default() };
    let enqueued = node.handle().enqueue("sleeper", Bytes::from_static(b"60000"), later).await.expect("it is taken");
    let waited = node.handle().task(enqueued.task, Some(Duration::from_secs(4))).await.expect("it is known");
    assert_eq!((waited.task.state, waited.task.attempt), (TaskState::Running, 1));
    node.handle().cancel(enqueued.task, None).await.expect("it runs");
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
    let pinned = format!("{}/counter:a", node.handle().name());
    assert!(matches!(node.handle().send(&pinned, "1".into(), None).await, Err(Error::WrongKey(_))));
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
async fn a_node_that_is_up_is_not_removed_and_nothing_is_proposed() {
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let node = start(home.path()).await;
    let name = node.handle().name().clone();
    let last = async || node.handle().status().await.expect("the rows can be read").last_index;
    // A proposed removal could take effect after its node was given up. What a node proposes on its own is rare.
    poll(async || {
        let before = last().await;
        assert_eq!(node.handle().remove_node(&name).await, Err(Error::NodeUp(name.clone())));
        last().await == before
    })
    .await;
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
