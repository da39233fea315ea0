//! Pools on several nodes: which of them is asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use futures_util::future::join_all;
use pelago_core::{
    id::Name,
    route::{Prefer, Strategy},
};
use pelago_node::{Agent, Balancing, Config, Fault, Kind, Node, Rule, Turn, handle::Error, pool, resident};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::{
    several::{member, stop_all, until_whole},
    world::{ask, kinds, poll, stop},
};

/// Says on which node it runs.
#[derive(Default, Serialize, Deserialize)]
struct Who<const N: u64>;

impl<const N: u64> Agent for Who<N> {
    type Input = serde_json::Value;
    type Output = u64;

    async fn handle(&mut self, _any: serde_json::Value, _turn: &mut Turn) -> Result<u64, Fault> {
        Ok(N)
    }
}

/// Fails until it is mended.
#[derive(Default, Serialize, Deserialize)]
struct Broken;

/// Is stuck until it is let go.
#[derive(Default, Serialize, Deserialize)]
struct Stuck;

static LET_GO: AtomicBool = AtomicBool::new(false);

impl Agent for Stuck {
    type Input = serde_json::Value;
    type Output = ();

    async fn handle(&mut self, _any: serde_json::Value, _turn: &mut Turn) -> Result<(), Fault> {
        poll(async || LET_GO.load(Ordering::Acquire)).await;
        Ok(())
    }
}

static MENDED: AtomicBool = AtomicBool::new(false);

impl Agent for Broken {
    type Input = serde_json::Value;
    type Output = u64;

    async fn handle(&mut self, _any: serde_json::Value, _turn: &mut Turn) -> Result<u64, Fault> {
        if MENDED.load(Ordering::Acquire) { Ok(0) } else { Err(Fault::new("it is broken")) }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_is_asked_here_unless_another_rule_is_set() {
    let (_homes, nodes) = three(Balancing::default()).await;
    for (n, node) in (0u64..).zip(&nodes) {
        assert_eq!(ask_often(node, "who", 30).await, BTreeMap::from([(n, 30)]));
    }
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_strategy_spreads_a_pool_as_it_says() {
    let weights = [("n1", 2), ("n2", 3)].map(|(node, weight)| (name(node), weight.try_into().expect("it is not 0")));
    let rules = Strategy::ALL.map(|strategy| (name(strategy.name()), Rule { strategy, prefer: Prefer::None }));
    let balancing = Balancing { agents: rules.into(), weights: weights.into(), ..Balancing::default() };
    let (_homes, nodes) = three(balancing).await;
    assert_eq!(ask_often(&nodes[0], "round-robin", 30).await, BTreeMap::from([(0, 10), (1, 10), (2, 10)]));
    assert_eq!(ask_often(&nodes[0], "weighted", 30).await, BTreeMap::from([(0, 5), (1, 10), (2, 15)]));
    // Not `least-loaded`: what the nodes of one machine measure of it, each at its own moment, is not the same.
    for strategy in ["least-connections", "latency", "adaptive"] {
        let asked = ask_often(&nodes[0], strategy, 100).await;
        assert!(asked.len() == 3, "{strategy} leaves one out that is as good as the others: {asked:?}");
    }
    let mut places = BTreeSet::new();
    for key in 0..30 {
        let mut answers = Vec::new();
        for node in &nodes {
            answers.push(ask(node.handle(), "consistent-hash", &format!("\"key {key}\"")).await.expect("it answers"));
        }
        assert!(answers.iter().all(|answer| *answer == answers[0]), "the same question went to several nodes");
        places.extend(answers.pop());
    }
    assert_eq!(places.len(), 3, "all keys are on {places:?}");
    let text = nodes[0].handle().metrics().render();
    assert!(text.contains(r#"pelago_route_choices_total{strategy="round-robin",reason="strategy"} 30"#), "{text}");
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_least_loaded_node_is_found_by_what_gossip_says() {
    let rule = Rule { strategy: Strategy::LeastLoaded, prefer: Prefer::None };
    let (_homes, nodes) = three(Balancing { rule, ..Balancing::default() }).await;
    // More waits on this node than the processor, which all three share, can outweigh.
    for _ in 0..1_000 {
        nodes[2].handle().tell("stuck", Bytes::from_static(b"1")).await.expect("there is room");
    }
    poll(async || {
        let status = nodes[0].handle().status().await.expect("it answers");
        status.sights.values().any(|sight| sight.load.is_some_and(|load| load.queued > 900))
    })
    .await;
    let answers = ask_often(&nodes[0], "who", 100).await;
    assert!(answers.len() == 2 && !answers.contains_key(&2), "{answers:?}");
    LET_GO.store(true, Ordering::Release);
    poll(async || ask_often(&nodes[0], "who", 30).await.contains_key(&2)).await;
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_full_node_has_no_room_for_goes_to_others() {
    let (_homes, nodes) = three(Balancing::default()).await;
    // A node works on four at a time.
    let asked = join_all((0..9).map(|_| ask(nodes[0].handle(), "sleeper", "200"))).await;
    assert!(asked.iter().all(Result::is_ok), "{asked:?}");
    let text = nodes[0].handle().metrics().render();
    assert!(text.contains(r#"pelago_route_choices_total{strategy="adaptive",reason="strategy"} 4"#), "{text}");
    assert!(text.contains(r#"pelago_route_choices_total{strategy="adaptive",reason="farther"} 5"#), "{text}");
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_pool_is_told_is_spread_too() {
    let rule = Rule { strategy: Strategy::RoundRobin, prefer: Prefer::None };
    let (_homes, nodes) = three(Balancing { rule, ..Balancing::default() }).await;
    for _ in 0..30 {
        nodes[1].handle().tell("who", Bytes::from_static(b"1")).await.expect("there is room");
    }
    for node in &nodes {
        poll(async || node.handle().metrics().told.get() == 10).await;
    }
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_notices_that_one_of_the_nodes_of_a_pool_stops() {
    let rule = Rule { strategy: Strategy::RoundRobin, prefer: Prefer::None };
    let (_homes, mut nodes) = three(Balancing { rule, ..Balancing::default() }).await;
    assert_eq!(ask_often(&nodes[0], "who", 9).await.len(), 3);
    let stopping = tokio::spawn(stop(nodes.remove(2)));
    while !stopping.is_finished() {
        ask(nodes[0].handle(), "who", "1").await.expect("another node answers");
    }
    assert_eq!(ask_often(&nodes[0], "who", 10).await, BTreeMap::from([(0, 5), (1, 5)]));
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_fails_three_times_in_a_row_is_left_out_and_comes_back_when_it_is_mended() {
    let rule = Rule { strategy: Strategy::RoundRobin, prefer: Prefer::None };
    let (_homes, nodes) = three(Balancing { rule, ..Balancing::default() }).await;
    let (mut failed, mut answered) = (0, 0);
    let begun = tokio::time::Instant::now();
    while answered < 60 {
        match ask(nodes[0].handle(), "broken-at-n2", "1").await {
            Ok(_) => answered += 1,
            Err(Error::AgentFailed { hopeless: false, .. }) => failed += 1,
            Err(error) => panic!("{error}"),
        }
    }
    // And a probe after each pause, on a machine that is slow.
    let probes = begun.elapsed().as_secs();
    assert!((3..=3 + probes).contains(&failed), "{failed} failures, {probes} s");
    // Everywhere broken, it is refused without being tried.
    poll(async || matches!(ask(nodes[0].handle(), "broken", "1").await, Err(Error::BreakerOpen(_)))).await;
    assert_eq!(nodes[0].handle().metrics().route_breaker_openings.get(), 4);
    MENDED.store(true, Ordering::Release);
    for pool in ["broken", "broken-at-n2"] {
        poll(async || {
            let spread = join_all((0..30).map(|_| ask(nodes[0].handle(), pool, "1"))).await;
            spread.iter().all(Result::is_ok)
        })
        .await;
    }
    poll(async || {
        let _probes = join_all((0..10).map(|_| ask(nodes[0].handle(), "broken-at-n2", "1"))).await;
        let _probes = join_all((0..10).map(|_| ask(nodes[0].handle(), "broken", "1"))).await;
        nodes[0].handle().metrics().route_breaker_closings.get() == 4
    })
    .await;
    stop_all(nodes).await;
}

/// How often each node answered.
async fn ask_often(node: &Node, pool: &str, times: usize) -> BTreeMap<u64, usize> {
    let mut answers = BTreeMap::new();
    for _ in 0..times {
        let answer = ask(node.handle(), pool, "1").await.expect("it answers");
        *answers.entry(answer.parse().expect("a number")).or_default() += 1;
    }
    answers
}

/// Three nodes that have met, on each of which pools say where they run.
async fn three(balancing: Balancing) -> (Vec<TempDir>, Vec<Node>) {
    let homes: Vec<_> = (0..3).map(|_| tempfile::tempdir().expect("a temporary directory can be made")).collect();
    let mut nodes: Vec<Node> = Vec::new();
    for (n, home) in homes.iter().enumerate() {
        let config = Config { balancing: balancing.clone(), ..member(home.path(), n, nodes.first()) };
        let mut hosted = kinds();
        hosted.push(pool::<Broken>("broken"));
        hosted.push(resident::<Stuck>("stuck"));
        hosted.push(if n == 2 { pool::<Broken>("broken-at-n2") } else { pool::<Who<0>>("broken-at-n2") });
        let names = ["who"].into_iter().chain(Strategy::ALL.map(Strategy::name));
        hosted.extend(names.map(|pool| who(n).named(name(pool))));
        nodes.push(Node::start(config, hosted).await.expect("it starts"));
    }
    until_whole(&nodes).await;
    (homes, nodes)
}

fn who(node: usize) -> Kind {
    match node {
        0 => pool::<Who<0>>("who"),
        1 => pool::<Who<1>>("who"),
        _ => pool::<Who<2>>("who"),
    }
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a short name is valid")
}
