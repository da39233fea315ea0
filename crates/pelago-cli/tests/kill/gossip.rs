//! What nodes know of each other without a majority.

use std::time::{Duration, Instant};

use pelago_api::{
    client::{Client, Error},
    model::{NewSignal, Status},
};
use pelago_core::membership::State;

use super::{mesh::Mesh, say};

#[tokio::test(flavor = "multi_thread")]
async fn residents_are_reached_without_a_majority() {
    let settings = &[
        ("PELAGO_MESH__GOSSIP__PROFILE", "local"),
        // n3 does not host it: it has to find who does.
        ("PELAGO_AGENTS__TALLY__NODE_AFFINITY", "n0,n1,n2,n4"),
    ];
    let mut mesh = Mesh::start_with(5, settings).await;
    let (n3, n4) = (mesh.nodes[3].client(), mesh.nodes[4].client());
    let voters = n3.status().await.expect("it answers").voters;
    assert_eq!(voters, ["n0", "n1", "n2"]);
    [0, 1, 2].into_iter().for_each(|voter| mesh.kill(voter));

    // Whom it asks first may be dead: it looks on until gossip says so.
    let killed = Instant::now();
    assert_eq!(ask(&n3, "tally").await, Ok(0));
    let found = killed.elapsed();
    for _ in 0..10 {
        n3.tell("n4/tally", "1").await.expect("it is on its way");
        n4.tell("tally", "1").await.expect("it is on its way");
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while ask(&n3, "n4/tally").await != Ok(20) {
        assert!(Instant::now() < deadline, "what was told did not arrive");
    }
    let lost = n3.ask("append:r", "1", Some(Duration::from_secs(60)), None).await;
    let Err(Error::Problem(problem)) = lost else { panic!("nothing durable has a majority: {lost:?}") };
    assert_eq!(problem.code, "PLG-2026", "{problem:?}");
    // Long after every lease has ended too.
    assert_eq!(ask(&n3, "tally").await, Ok(20));
    let signal = NewSignal { from: None, to: "n4/tally".into(), content: None, timeout_ms: None, hops_max: None };
    let handled = n3.forward(&signal, Some(Duration::from_secs(30))).await.expect("signals go on too");
    assert_eq!(handled.whole, Some(true), "{handled:?}");
    for node in &mesh.nodes[3..] {
        node.until("the dead are seen", |status| {
            let down = ["n0", "n1", "n2"].into_iter().all(|name| seen(status, name) == Some(State::Down));
            down && ["n3", "n4"].into_iter().all(|name| seen(status, name) == Some(State::Up)) && !status.quorum
        })
        .await;
        assert_eq!(node.metric("pelago_gossip_members{state=\"down\"}").await, 3);
        assert!(node.metric("pelago_gossip_suspects_total").await >= 3);
    }
    say(&format!("a resident answered {} ms after all voters were killed", found.as_millis()));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_a_killed_node_by_name_hears_that_it_is_down_and_does_not_wait_for_it() {
    let mut mesh = Mesh::start(3).await;
    let client = mesh.nodes[0].client();
    mesh.kill(2);
    let asked = client.ask("n2/echo", "1", Some(Duration::from_secs(60)), None).await;
    let Err(Error::Problem(problem)) = asked else { panic!("it is dead: {asked:?}") };
    assert_eq!((&*problem.code, &*problem.detail), ("PLG-2020", "node n2 is down"), "{problem:?}");
    mesh.kill(1);
    // Of what nobody can be asked any more nobody says that its mailbox is full.
    let told = client.tell("n1/tally", "1").await;
    let Err(Error::Problem(problem)) = told else { panic!("it is dead: {told:?}") };
    assert!(!problem.detail.contains("mailbox"), "{problem:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_is_seen_within_the_bounds_of_a_lan() {
    let mut mesh = Mesh::start(3).await;
    for node in &mesh.nodes {
        node.until("all are seen, with what they have to do", |status| {
            status.nodes.iter().all(|node| {
                node.seen.as_ref().is_some_and(|seen| {
                    seen.state == State::Up && seen.load.as_ref().is_some_and(|load| load.memory.is_some())
                })
            })
        })
        .await;
    }
    mesh.kill(2);
    let killed = Instant::now();
    for node in &mesh.nodes[..2] {
        node.until("the killed one is seen", |status| seen(status, "n2") == Some(State::Down)).await;
        let took = killed.elapsed();
        assert!((5.0..15.0).contains(&took.as_secs_f64()), "{} has it after {took:?}", node.name);
        say(&format!("{} has it as down after {} ms", node.name, took.as_millis()));
    }
}

fn seen(status: &Status, name: &str) -> Option<State> {
    let node = status.nodes.iter().find(|node| node.name == name)?;
    node.seen.as_ref().map(|seen| seen.state)
}

/// How many messages a tally was told.
async fn ask(client: &Client, to: &str) -> Result<u64, String> {
    let asked = client.ask(to, "null", Some(Duration::from_secs(30)), None).await;
    let reply = asked.map_err(|error| error.to_string())?;
    let told: serde_json::Value = reply.parse().map_err(|error| error.to_string())?;
    told["messages"].as_u64().ok_or_else(|| told.to_string())
}
