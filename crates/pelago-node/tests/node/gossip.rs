//! What nodes of a mesh hear of each other besides the log.

use std::{collections::BTreeMap, net::TcpListener};

use pelago_core::{
    id::Name,
    membership::{Record, State},
    record::Placement,
};
use pelago_node::{Config, Node, gossip::Sight};

use crate::{
    several::{member, stop_all, three, until_whole},
    world::{ask, kinds, poll, stop},
};

#[tokio::test(flavor = "multi_thread")]
async fn every_node_sees_what_the_others_host_and_have_to_do() {
    let (_homes, nodes) = three().await;
    for (node, of) in nodes.iter().flat_map(|node| ["n0", "n1", "n2"].map(|of| (node, of))) {
        poll(async || {
            let Some(Sight { state: State::Up, record: Some(record), load: Some(load), .. }) = sight(node, of).await
            else {
                return false;
            };
            let here = record.offers.get(&name("here")).map(|offer| offer.placement);
            let whole = |share: Option<u16>| share.is_none_or(|share| share <= 1_000);
            assert!(whole(load.cpu) && whole(load.memory) && whole(load.network), "{load:?}");
            here == Some(Placement::Resident) && (load.memory.is_some() || !cfg!(target_os = "linux"))
        })
        .await;
    }
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_stopped_has_left_and_is_found_where_it_starts_again() {
    let (homes, mut nodes) = three().await;
    let last = nodes.remove(2);
    let address = last.mesh_address();
    stop(last).await;
    for node in &nodes {
        poll(async || sight(node, "n2").await.is_some_and(|sight| sight.state == State::Left)).await;
    }
    // It cannot listen where it did.
    let taken = TcpListener::bind(address).expect("it is free");
    let labels = BTreeMap::from([("zone".to_owned(), "west".to_owned())]);
    let config = Config { labels: labels.clone(), ..member(homes[2].path(), 2, nodes.first()) };
    nodes.push(Node::start(config, kinds()).await.expect("it starts again"));
    drop(taken);
    let address = nodes[2].mesh_address().to_string();
    for node in &nodes {
        poll(async || {
            let sight = sight(node, "n2").await.expect("it was seen before");
            let of_now = |record: &Record| record.labels == labels;
            sight.state == State::Up && sight.mesh_address == address && sight.record.as_ref().is_some_and(of_now)
        })
        .await;
    }
    until_whole(&nodes).await;
    assert_eq!(ask(nodes[0].handle(), "n2/here", "1").await, Ok("1".into()));
    stop_all(nodes).await;
}

async fn sight(node: &Node, of: &str) -> Option<Sight> {
    let status = node.handle().status().await.expect("the rows can be read");
    status.sights.into_values().find(|sight| sight.name.as_str() == of)
}

fn name(name: &str) -> Name {
    Name::new(name).expect("valid")
}
