//! Many nodes, and many clients.

use std::time::Instant;

use futures_util::future::try_join_all;

use super::{
    mesh::{Mesh, PATIENCE},
    say,
};

/// Links that are not used: many, since memory comes in pages, and fewer than the 744 that a node has for clients.
const IDLE: usize = 600;
/// A node lets 64 connections introduce themselves at a time.
const AT_ONCE: usize = 50;
/// What each of them may cost a node, in KiB. The goal is 16; what else the node does makes a page more or less.
const IDLE_KIB_MAX: u64 = 20;
/// How many nodes a mesh has at most.
const NODES: usize = 64;
/// The slow test runs if this is set.
const SLOW: &str = "PELAGO_TEST_64_NODES";

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_link_costs_a_node_little() {
    let mesh = Mesh::start(1).await;
    let node = &mesh.nodes[0];
    let address = node.mesh_address();
    let connect = || pelago::Mesh::connect(&address);
    // What the first ones need is there for all.
    let first = try_join_all((0..AT_ONCE).map(|_| connect())).await.expect("the node is there");
    try_join_all(first.iter().map(ask)).await.expect("it answers");
    let without = node.memory_kib();
    let mut links = Vec::new();
    for _ in 0..IDLE / AT_ONCE {
        links.extend(try_join_all((0..AT_ONCE).map(|_| connect())).await.expect("the node is there"));
    }
    // Each has been used once.
    for some in links.chunks(AT_ONCE) {
        try_join_all(some.iter().map(ask)).await.expect("it answers");
    }
    let with = node.memory_kib();
    let each = with.saturating_sub(without).div_ceil(IDLE as u64);
    say(&format!("{without} KiB without links, {with} KiB with {IDLE}: {each} KiB each"));
    assert!(each <= IDLE_KIB_MAX, "an idle link costs {each} KiB");
}

async fn ask(mesh: &pelago::Mesh) -> Result<(), pelago::mesh::Error> {
    mesh.ask("echo", "1", PATIENCE).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_nodes_form_a_mesh_and_all_reach_all() {
    if std::env::var_os(SLOW).is_none() {
        return say(&format!("skipped: {SLOW} is not set, and 64 nodes take minutes"));
    }
    let begun = Instant::now();
    let mesh = Mesh::start(NODES).await;
    let formed = begun.elapsed();
    let memory: Vec<u64> = mesh.nodes.iter().map(|node| node.memory_kib()).collect();
    let clients = mesh.clients();
    let begun = Instant::now();
    for client in &clients {
        for node in &mesh.nodes {
            let asked = client.ask(&format!("{}/tally", node.name), "null".to_owned(), Some(PATIENCE), None).await;
            asked.unwrap_or_else(|error| panic!("{} is not reached: {error}", node.name));
        }
    }
    say(&format!(
        "{NODES} nodes are whole after {} ms; {} asks from each to each in {} ms; memory of a node {} to {} KiB",
        formed.as_millis(),
        NODES * NODES,
        begun.elapsed().as_millis(),
        memory.iter().min().expect("there are some"),
        memory.iter().max().expect("there are some")
    ));
}
