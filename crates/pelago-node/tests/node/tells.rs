//! Messages that nobody answers: in order, at most once, counted when they are lost.

use std::time::Duration;

use bytes::Bytes;
use pelago_core::record::TaskState;
use pelago_node::{
    Handle, Node,
    handle::{AskOptions, Error, Published, Reached, Subscription},
};

use crate::{
    several::{stop_all, three},
    world::{ask, poll, start, stop, task},
};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_is_handled_in_order_wherever_the_agent_is() {
    let (_homes, nodes) = three().await;
    for (n, from) in nodes.iter().enumerate() {
        let to = format!("diary:{n}");
        for entry in 0..300 {
            tell(from.handle(), &to, &format!(r#"{{"write": {entry}}}"#)).await;
        }
        let whole = serde_json::to_string(&(0..300).collect::<Vec<u64>>()).expect("numbers are JSON");
        for node in &nodes {
            poll(async || ask(node.handle(), &to, r#""read""#).await.as_ref() == Ok(&whole)).await;
        }
    }
    assert_eq!(counted(&nodes, "pelago_told_total"), 900);
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn residents_and_pools_of_any_node_are_told_things() {
    let (_homes, nodes) = three().await;
    for node in &nodes {
        let to = format!("{}/here", node.handle().name());
        for _ in 0..100 {
            tell(nodes[0].handle(), &to, "2").await;
        }
        poll(async || ask(nodes[1].handle(), &to, "0").await == Ok("200".into())).await;
        tell(node.handle(), "teller", r#""counter:told""#).await;
    }
    // Each of the three sends two messages that add one.
    poll(async || ask(nodes[1].handle(), "counter:told", "0").await == Ok("6".into())).await;
    assert_eq!(counted(&nodes, "pelago_told_lost_total"), 0);
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_reaches_every_agent_in_memory_whose_name_meets_the_pattern() {
    let (_homes, nodes) = three().await;
    let broadcast = async |to: &'static str| nodes[0].handle().broadcast(to, Bytes::from_static(b"1")).await;
    for n in 0..30 {
        assert_eq!(ask(nodes[n % 3].handle(), &format!("counter:b{n}"), "0").await, Ok("0".into()));
    }
    let reached = |nodes, agents| Ok(Reached { nodes, agents, missed: Vec::new() });
    assert_eq!(broadcast("counter").await, reached(3, 30));
    assert_eq!(broadcast("here").await, reached(3, 3));
    assert_eq!(broadcast("here.**").await, reached(0, 0));
    for n in 0..30 {
        poll(async || ask(nodes[0].handle(), &format!("counter:b{n}"), "0").await == Ok("1".into())).await;
    }
    for node in &nodes {
        poll(async || ask(node.handle(), &format!("{}/here", node.handle().name()), "0").await == Ok("1".into())).await;
    }
    // All of them at once, some of which cannot read it: that is theirs.
    let all = broadcast("**").await.expect("a pattern");
    assert!(all.nodes == 3 && all.agents >= 33 && all.missed.is_empty(), "{all:?}");
    assert!(matches!(broadcast("countr").await, Err(Error::UnknownAgent { .. })));
    assert!(matches!(broadcast("counter*").await, Err(Error::Invalid(_))));
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_to_a_topic_reaches_those_who_subscribe_on_any_node() {
    let (_homes, nodes) = three().await;
    let mut heard = Vec::new();
    for node in &nodes {
        heard.push(node.handle().subscribe("orders.*").expect("a pattern"));
    }
    for n in 0..200 {
        tell(nodes[0].handle(), "#orders.eu", &n.to_string()).await;
        tell(nodes[0].handle(), "#other", "0").await;
    }
    for heard in &mut heard {
        for n in 0..200 {
            assert_eq!(next(heard).await, ("orders.eu".into(), n.to_string()));
        }
    }
    // From an agent's turns, once they count.
    let whisper = r##"{"whisper": ["#orders.diary", {"start": 0, "end": 3}]}"##;
    assert_eq!(ask(nodes[1].handle(), "diary:orders", whisper).await, Ok("[]".into()));
    for heard in &mut heard {
        for n in 0..3 {
            assert_eq!(next(heard).await, ("orders.diary".into(), format!(r#"{{"write":{n}}}"#)));
        }
    }
    assert!(matches!(nodes[0].handle().tell("#orders.", Bytes::new()).await, Err(Error::Invalid(_))));
    assert!(nodes[0].handle().subscribe("orders*").is_err());
    assert_eq!(counted(&nodes, "pelago_published_missed_total"), 0);
    stop_all(nodes).await;
    assert_eq!(heard[0].next().await, None);
}

async fn next(heard: &mut Subscription) -> (String, String) {
    let published = tokio::time::timeout(Duration::from_secs(20), heard.next()).await.expect("it comes");
    let Published { topic, content, missed } = published.expect("the node is there");
    assert_eq!(missed, 0);
    (topic.to_string(), String::from_utf8(content.payload.to_vec()).expect("text"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_tells_leaves_in_order_when_its_turn_counts() {
    let (_homes, nodes) = three().await;
    for (n, node) in nodes.iter().enumerate() {
        let (from, to) = (format!("diary:from{n}"), format!("diary:to{n}"));
        let ask = async |to: &str, note: &str| ask(node.handle(), to, note).await;
        for first in [0, 100] {
            let whisper = format!(r#"{{"whisper": ["{to}", {{"start": {first}, "end": {}}}]}}"#, first + 100);
            assert_eq!(ask(&from, &whisper).await, Ok("[]".into()));
            let retract = format!(r#"{{"retract": ["{to}", 7]}}"#);
            assert!(matches!(ask(&from, &retract).await, Err(Error::AgentFailed { .. })));
        }
        let whole = serde_json::to_string(&(0..200).collect::<Vec<u64>>()).expect("numbers are JSON");
        poll(async || ask(&to, r#""read""#).await.as_ref() == Ok(&whole)).await;
    }
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_tasks_and_residents_tell_is_told_once() {
    let (_homes, nodes) = three().await;
    for (n, node) in nodes.iter().enumerate() {
        for to in ["crier", "crier-here"] {
            let done = task(node.handle(), to, &format!("\"counter:cried{n}\"")).await;
            assert_eq!(done.task.state, TaskState::Done, "{done:?}");
            assert_eq!(ask(node.handle(), to, &format!("\"counter:cried{n}\"")).await, Ok("null".into()));
        }
        let to = format!("counter:cried{n}");
        poll(async || ask(nodes[0].handle(), &to, "0").await == Ok("12".into())).await;
    }
    assert_eq!(counted(&nodes, "pelago_told_lost_total"), 0);
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_is_asked_twice_under_its_key_tells_once() {
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let node = start(home.path()).await;
    for round in 0..20_u64 {
        let (to, key) = (format!("diary:to{round}"), Some(format!("k{round}")));
        let whisper = Bytes::from(format!(r#"{{"whisper": ["{to}", {{"start": 0, "end": 3}}]}}"#));
        let options = || AskOptions { idempotency_key: key.clone(), ..AskOptions::from(Duration::from_secs(10)) };
        let twice = (0..2).map(|_| node.handle().ask("diary:from", whisper.clone(), options()));
        for reply in futures_util::future::join_all(twice).await {
            reply.expect("the same reply");
        }
        poll(async || ask(node.handle(), &to, r#""read""#).await == Ok("[0,1,2]".into())).await;
    }
    poll(async || counted(std::slice::from_ref(&node), "pelago_told_total") == 60).await;
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_told_more_than_a_link_holds_still_commits() {
    let (_homes, nodes) = three().await;
    let (leader, other) = (nodes[0].handle(), nodes[1].handle());
    let to = format!("{}/counter:flooded", other.name());
    assert_eq!(ask(other, &to, "0").await, Ok("0".into()));
    // Its commits need replies over the very link that brings what it is told.
    let padded = format!("1{}", " ".repeat(8 << 10));
    for _ in 0..3_000 {
        tell(leader, "counter:flooded", &padded).await;
    }
    poll(async || ask(leader, "counter:flooded", "0").await == Ok("3000".into())).await;
    assert_eq!(counted(&nodes, "pelago_told_lost_total"), 0);
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_its_agent_fails_at_is_lost_alone_and_counted() {
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let node = start(home.path()).await;
    for to in ["counter:a", "here"] {
        for by in ["1", "-5", "no number", "2"] {
            tell(node.handle(), to, by).await;
        }
    }
    tell(node.handle(), "panics", "null").await;
    poll(async || counted(std::slice::from_ref(&node), "pelago_told_lost_total") == 6).await;
    assert_eq!(ask(node.handle(), "counter:a", "0").await, Ok("3".into()));
    // What failed is kept in memory by an agent whose state is nowhere else: it says so itself.
    assert_eq!(counted(std::slice::from_ref(&node), "pelago_told_total"), 3);
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_cannot_be_meant_is_refused_before_anything_is_told() {
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let node = start(home.path()).await;
    let told = async |to: &str| node.handle().tell(to, Bytes::from_static(b"1")).await;
    assert!(matches!(told("countr:a").await, Err(Error::UnknownAgent { .. })));
    assert!(matches!(told("counter").await, Err(Error::WrongKey(_))));
    assert!(matches!(told("nowhere/here").await, Err(Error::UnknownNode(_))));
    let large = Bytes::from(vec![b'1'; 600 << 10]);
    assert!(matches!(node.handle().tell("here", large).await, Err(Error::TooLarge(_))));
    stop(node).await;
}

async fn tell(handle: &Handle, to: &str, message: &str) {
    let told = handle.tell(to, Bytes::copy_from_slice(message.as_bytes()));
    tokio::time::timeout(Duration::from_secs(20), told).await.expect("there is room").expect("it is told");
}

/// What all of them counted together.
fn counted(nodes: &[Node], name: &str) -> u64 {
    let of = |node: &Node| {
        let text = node.handle().metrics().render();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        line.unwrap_or_else(|| panic!("{name} is not in {text}"))
    };
    nodes.iter().map(of).sum()
}
