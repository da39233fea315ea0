//! Timers: each wakes its agent once, wherever that lives by then, and not before its time.

use std::time::{Duration, Instant};

use pelago_core::agent;
use pelago_node::{Config, Handle, Node, handle::Error};

use crate::{
    several::{stop_all, three},
    world::{ask, config, kinds, poll, start, stop},
};

async fn fired(handle: &Handle, of: &str) -> Vec<String> {
    let told = ask(handle, of, "null").await.expect("the clock answers");
    serde_json::from_str(&told).expect("a list of names")
}

/// Waits until these timers have fired, and others have not.
async fn until_fired(handle: &Handle, of: &str, names: &[&str]) {
    poll(async || fired(handle, of).await.len() >= names.len()).await;
    assert_eq!(fired(handle, of).await, names, "{of}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timer_wakes_an_agent_that_was_put_away() {
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let short = agent::Config { idle_after: Duration::from_millis(20), ..agent::Config::default() };
    let node = Node::start(Config { agent: short, ..config(home.path()) }, kinds()).await.expect("the node starts");
    let begun = Instant::now();
    assert_eq!(ask(node.handle(), "clock:a", r#"{"set": ["tea", 400]}"#).await, Ok("[]".into()));
    let agent = async || node.handle().agent("clock:a").await.expect("it has a row");
    poll(async || agent().await.agent.phase == pelago_core::record::Phase::Free).await;
    assert!(begun.elapsed() < Duration::from_millis(400), "it was put away before its timer was due");
    let timers: Vec<_> = agent().await.timers.into_iter().map(|timer| timer.name.to_string()).collect();
    assert_eq!(timers, ["tea"]);
    // Nobody asks it meanwhile: its row alone says that it had a turn.
    poll(async || agent().await.agent.version.0 == 2).await;
    assert!(begun.elapsed() >= Duration::from_millis(400), "it fired {:?} after it was set", begun.elapsed());
    assert_eq!(fired(node.handle(), "clock:a").await, ["tea"]);
    assert_eq!(agent().await.timers, []);
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timer_outlives_its_node() {
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let node = start(home.path()).await;
    let set = ask(node.handle(), "clock:a", r#"{"set": ["tea", 300]}"#).await;
    assert_eq!(set, Ok("[]".into()));
    stop(node).await;
    let node = start(home.path()).await;
    until_fired(node.handle(), "clock:a", &["tea"]).await;
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timer_is_cancelled_set_anew_and_set_again_by_its_own_turn() {
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let node = start(home.path()).await;
    for wish in [
        r#"{"set": ["never", 150]}"#,
        r#"{"set": ["twice", 150]}"#,
        r#"{"set": ["twice", 250]}"#,
        r#"{"cancel": "never"}"#,
        r#"{"set": ["last", 400]}"#,
    ] {
        assert_eq!(ask(node.handle(), "clock:a", wish).await, Ok("[]".into()), "{wish}");
    }
    until_fired(node.handle(), "clock:a", &["twice", "last"]).await;
    assert_eq!(ask(node.handle(), "clock:b", r#"{"every": ["tick", 5, 4]}"#).await, Ok("[]".into()));
    until_fired(node.handle(), "clock:b", &["tick"; 4]).await;
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timer_that_fails_too_often_is_kept_with_the_reason() {
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let twice = agent::Config { message_attempts_max: 2, ..agent::Config::default() };
    let node = Node::start(Config { agent: twice, ..config(home.path()) }, kinds()).await.expect("the node starts");
    assert_eq!(ask(node.handle(), "clock:a", r#"{"fail": "spring"}"#).await, Ok("[]".into()));
    let reason = async || {
        let timers = node.handle().agent("clock:a").await.expect("it has a row").timers;
        timers.into_iter().next().expect("it is kept").buried
    };
    poll(async || reason().await.is_some()).await;
    assert_eq!(reason().await.as_deref(), Some("the spring is broken"));
    assert_eq!(fired(node.handle(), "clock:a").await, [""; 0]);
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_have_a_timer_is_told_why() {
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let node = start(home.path()).await;
    let refused = async |to: &str, wish: &str| match ask(node.handle(), to, wish).await {
        Err(Error::AgentFailed { reason, .. }) => reason,
        other => panic!("{wish} of {to} was answered with {other:?}"),
    };
    let reason = refused("clock-here", r#"{"set": ["tea", 1]}"#).await;
    assert_eq!(reason, "agent clock-here cannot have timers: only keyed agents are durable");
    let reason = refused("clock:a", r#"{"set": ["", 1]}"#).await;
    assert_eq!(reason, "\"\" is not valid: a timer's name has 1 to 128 bytes");
    let reason = refused("clock:a", r#"{"set": ["tea", 400000000000]}"#).await;
    assert_eq!(reason, "timer \"tea\" would be due in more than ten years");
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn timers_of_a_node_that_leaves_fire_once_elsewhere() {
    let (_homes, mut nodes) = three().await;
    for (n, node) in nodes.iter().enumerate() {
        for key in 0..8 {
            let to = format!("clock:{n}-{key}");
            assert_eq!(ask(node.handle(), &to, r#"{"set": ["tea", 1500]}"#).await, Ok("[]".into()));
        }
    }
    stop(nodes.remove(0)).await;
    for n in 0..3 {
        for key in 0..8 {
            until_fired(nodes[key % 2].handle(), &format!("clock:{n}-{key}"), &["tea"]).await;
        }
    }
    stop_all(nodes).await;
}
