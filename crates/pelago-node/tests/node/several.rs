//! Meshes of several nodes: any of them answers for all.

use std::{collections::BTreeSet, path::Path, time::Duration};

use bytes::Bytes;
use pelago_core::{id::Name, record::TaskState};
use pelago_node::{
    Config, Node, TaskRequest,
    handle::{AgentFilter, Error},
};
use tempfile::TempDir;

use crate::world::{ask, config, kinds, poll, stop, task};

#[tokio::test(flavor = "multi_thread")]
async fn every_node_answers_for_every_agent_and_each_agent_has_one_holder() {
    let (_homes, nodes) = three().await;
    for key in 0..12 {
        for (count, node) in (1..).zip(&nodes) {
            let to = format!("counter:k{key}");
            assert_eq!(ask(node.handle(), &to, "1").await, Ok(format!("{count}")), "{to}");
        }
    }
    let filter = AgentFilter { limit: 100, ..AgentFilter::default() };
    let agents = nodes[1].handle().agents(filter).await.expect("they are listed").items;
    let holders: BTreeSet<_> = agents.iter().filter_map(|agent| agent.node.clone()).collect();
    assert_eq!(agents.len(), 12);
    assert!(holders.len() > 1, "one node holds them all: {holders:?}");
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_given_to_any_node_are_done_wherever_there_is_room() {
    let (_homes, nodes) = three().await;
    for (n, node) in nodes.iter().enumerate() {
        let done = task(node.handle(), "teller", &format!("\"counter:told{n}\"")).await;
        assert_eq!(done.task.state, TaskState::Done, "{done:?}");
        let keyed = task(node.handle(), &format!("counter:mine{n}"), "5").await;
        assert_eq!(keyed.result.as_deref(), Some(&b"5"[..]));
    }
    for n in 0..nodes.len() {
        let to = format!("counter:told{n}");
        poll(async || ask(nodes[0].handle(), &to, "0").await == Ok("2".into())).await;
    }
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_with_a_node_means_the_agent_there() {
    let (_homes, nodes) = three().await;
    for node in &nodes {
        let to = format!("{}/here", node.handle().name());
        assert_eq!(ask(nodes[0].handle(), &to, "7").await, Ok("7".into()), "{to}");
        assert_eq!(ask(nodes[2].handle(), &to, "1").await, Ok("8".into()), "{to}");
    }
    assert!(matches!(ask(nodes[0].handle(), "n9/here", "1").await, Err(Error::UnknownNode(_))));
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_for_an_agent_is_done_where_the_agent_is_though_it_is_pinned_elsewhere() {
    let (_homes, nodes) = three().await;
    let on = |node: &Node| format!("{}/counter:a", node.handle().name());
    assert_eq!(ask(nodes[0].handle(), &on(&nodes[1]), "4").await, Ok("4".into()));
    let done = task(nodes[0].handle(), &on(&nodes[2]), "5").await;
    assert_eq!((done.task.attempt, done.result.as_deref()), (1, Some(&b"9"[..])), "{done:?}");
    let holder = nodes[0].handle().agent("counter:a").await.expect("it had a turn").node;
    assert_eq!(holder.as_ref(), Some(nodes[1].handle().name()));
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_of_a_node_that_leaves_count_on_elsewhere() {
    let (_homes, mut nodes) = three().await;
    for key in 0..12 {
        assert_eq!(ask(nodes[0].handle(), &format!("counter:k{key}"), "3").await, Ok("3".into()));
    }
    // The founder leads, or has handed it over: whoever leads next goes on.
    stop(nodes.remove(0)).await;
    for key in 0..12 {
        let to = format!("counter:k{key}");
        poll(async || ask(nodes[0].handle(), &to, "0").await == Ok("3".into())).await;
    }
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_that_was_stopped_goes_on_where_it_was() {
    let (homes, nodes) = three().await;
    let addresses: Vec<_> = nodes.iter().map(Node::mesh_address).collect();
    assert_eq!(ask(nodes[1].handle(), "counter:a", "4").await, Ok("4".into()));
    stop_all(nodes).await;
    let again = homes.iter().zip(&addresses).enumerate().map(|(n, (home, address))| {
        let config = Config { mesh_listen: *address, ..member(home.path(), n, None) };
        Node::start(config, kinds())
    });
    let started = futures_util::future::join_all(again).await;
    let nodes: Vec<Node> = started.into_iter().map(|node| node.expect("it starts again")).collect();
    assert_eq!(ask(nodes[2].handle(), "counter:a", "1").await, Ok("5".into()));
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_directory_under_a_known_name_is_refused() {
    let (_homes, mut nodes) = three().await;
    stop(nodes.remove(2)).await;
    let empty = tempfile::tempdir().expect("a temporary directory can be made");
    let refused = Node::start(member(empty.path(), 2, Some(&nodes[0])), kinds()).await.err().expect("refused");
    assert!(matches!(refused, pelago_node::Error::Join(_)), "{refused}");
    let why = std::error::Error::source(&refused).map(ToString::to_string).unwrap_or_default();
    assert!(why.contains("pelago node remove n2"), "{why}");
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_node_is_replaced_by_another_of_its_name_and_does_not_come_back() {
    let (homes, mut nodes) = three().await;
    let removed = Name::new("n2").expect("valid");
    let refused = nodes[0].handle().remove_node(&removed).await;
    assert_eq!(refused, Err(Error::NodeUp(removed.clone())));
    let later = TaskRequest { delay: Duration::from_secs(600), ..TaskRequest::default() };
    let pinned = nodes[0].handle().enqueue("n2/teller", Bytes::from_static(b"\"counter:a\""), later).await;
    let pinned = pinned.expect("the task is taken").task;
    stop(nodes.remove(2)).await;

    // By one that may not lead.
    let row = nodes[1].handle().remove_node(&removed).await.expect("it is removed");
    assert_eq!(row.name, removed);
    let again = nodes[0].handle().remove_node(&removed).await;
    assert_eq!(again, Err(Error::UnknownNode(removed)));
    let left = nodes[1].handle().status().await.expect("the rows can be read");
    assert_eq!((left.nodes.len(), left.voters.len()), (2, 2), "{left:?}");
    let ended = nodes[0].handle().task(pinned, Some(Duration::from_secs(20))).await.expect("it is known");
    assert_eq!(ended.task.state, TaskState::Cancelled, "{ended:?}");

    let config = member(homes[2].path(), 2, Some(&nodes[0]));
    let refused = Node::start(config, kinds()).await.err().expect("refused");
    assert!(matches!(refused, pelago_node::Error::Removed { .. }), "{refused}");
    let empty = tempfile::tempdir().expect("a temporary directory can be made");
    nodes.push(Node::start(member(empty.path(), 2, Some(&nodes[0])), kinds()).await.expect("it is admitted"));
    until_whole(&nodes).await;
    assert_eq!(ask(nodes[2].handle(), "counter:b", "1").await, Ok("1".into()));
    assert_eq!(ask(nodes[0].handle(), "n2/here", "1").await, Ok("1".into()));
    // Not even while another has its name.
    let config = member(homes[2].path(), 2, Some(&nodes[0]));
    let refused = Node::start(config, kinds()).await.err().expect("refused");
    assert!(matches!(refused, pelago_node::Error::Removed { .. }), "{refused}");
    until_whole(&nodes).await;
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_whose_log_was_deleted_does_not_vote_again() {
    let (homes, mut nodes) = three().await;
    stop(nodes.remove(2)).await;
    let log = homes[2].path().join("node/log");
    std::fs::remove_dir_all(&log).expect("it is there");
    std::fs::create_dir(&log).expect("a directory can be made");
    let refused = Node::start(member(homes[2].path(), 2, Some(&nodes[0])), kinds()).await.err().expect("refused");
    assert!(matches!(refused, pelago_node::Error::Log(_)), "{refused}");
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_disk_is_full_hands_over_and_takes_no_new_work() {
    let homes: Vec<_> = (0..3).map(|_| tempfile::tempdir().expect("a temporary directory can be made")).collect();
    let full = Config { disk_free_bytes_min: u64::MAX, ..member(homes[0].path(), 0, None) };
    let mut nodes = vec![Node::start(full, kinds()).await.expect("it starts")];
    for n in [1, 2] {
        let config = member(homes[n].path(), n, nodes.first());
        nodes.push(Node::start(config, kinds()).await.expect("it starts"));
    }
    let leader = async || nodes[1].handle().status().await.expect("the rows can be read").leader;
    poll(async || leader().await.is_some_and(|leader| leader.as_str() != "n0")).await;
    assert_eq!(ask(nodes[0].handle(), "counter:a", "1").await, Err(Error::DiskFull));
    assert_eq!(ask(nodes[1].handle(), "counter:a", "1").await, Ok("1".into()));
    stop_all(nodes).await;
}

/// Three nodes that have met: n0, which founded their mesh, n1 and n2.
pub(crate) async fn three() -> (Vec<TempDir>, Vec<Node>) {
    let homes: Vec<_> = (0..3).map(|_| tempfile::tempdir().expect("a temporary directory can be made")).collect();
    let mut nodes = Vec::new();
    for (n, home) in homes.iter().enumerate() {
        let config = member(home.path(), n, nodes.first());
        nodes.push(Node::start(config, kinds()).await.expect("it starts"));
    }
    until_whole(&nodes).await;
    (homes, nodes)
}

/// Waits until three nodes know each other and vote.
pub(crate) async fn until_whole<'a>(nodes: impl IntoIterator<Item = &'a Node>) {
    for node in nodes {
        poll(async || {
            let status = node.handle().status().await.expect("the rows can be read");
            status.nodes.len() == 3 && status.linked.len() == 2 && status.voters.len() == 3 && status.can_lose == 1
        })
        .await;
    }
}

/// Node number `n`, which founds a mesh unless it meets `first`.
pub(crate) fn member(home: &Path, n: usize, first: Option<&Node>) -> Config {
    let name = Some(Name::new(&format!("n{n}")).expect("valid"));
    let known = first.map(|first| first.mesh_address().to_string()).into_iter().collect();
    Config { name, found: first.is_none(), known, ..config(home) }
}

pub(crate) async fn stop_all(nodes: Vec<Node>) {
    futures_util::future::join_all(nodes.into_iter().map(stop)).await;
}
