//! A partition in one direction: one node hears another, which does not hear it.

use std::time::{Duration, Instant};

use pelago_api::model::Status;

use super::{
    mesh::{Mesh, Node},
    namespaces::{address, enter},
    register::Writers,
    say,
};

/// How long a link stays that says nothing, or whose bytes nobody takes.
const SEEN_MAX: Duration = Duration::from_secs(15);
/// How long a leader whom nobody hears believes that it leads, and others take to find another.
const DEPOSED_MAX: Duration = Duration::from_secs(15);

#[test]
fn who_is_heard_by_nobody_acknowledges_nothing_and_comes_back() {
    let Some(namespaces) = enter("partition::who_is_heard_by_nobody_acknowledges_nothing_and_comes_back", 3) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let places = (0..3).map(|node| namespaces.place(node)).collect();
        let mesh = Mesh::start_at(places, &[]).await;
        let leader = mesh.leader().await;
        let writers = Writers::start(&mesh.clients(), "append:r", 3);
        writers.acknowledge(50).await;

        // One of two followers does not hear the leader, who hears it.
        let deaf = (leader + 1) % 3;
        let connections = mesh.nodes[leader].connections_with(address(number(deaf)));
        namespaces.cut(number(leader), number(deaf));
        let cut = Instant::now();
        for (at, other) in [(leader, deaf), (deaf, leader)] {
            mesh.nodes[at].until("the link is lost", |status| !is_linked(status, &mesh.nodes[other])).await;
            let took = cut.elapsed();
            assert!(took < SEEN_MAX, "{} sees it after {took:?}", mesh.nodes[at].name);
            say(&format!("{} has lost its link with {} after {} ms", at, other, took.as_millis()));
        }
        // Two who hear each other are a majority.
        writers.acknowledge(50).await;
        namespaces.heal(number(leader), number(deaf));
        mesh.until_whole().await;
        for (at, other) in [(leader, deaf), (deaf, leader)] {
            let healed = mesh.nodes[at].connections_with(address(number(other)));
            assert_eq!(healed, connections, "connections of n{at} with n{other}");
        }

        // Nobody hears the leader, who hears all.
        let leader = mesh.leader().await;
        let others = [(leader + 1) % 3, (leader + 2) % 3];
        others.into_iter().for_each(|other| namespaces.cut(number(leader), number(other)));
        let cut = Instant::now();
        mesh.nodes[leader].until("it leads no more", |status| !status.quorum).await;
        let deposed = cut.elapsed();
        mesh.nodes[others[0]]
            .until("another one leads", |status| {
                status.quorum && status.leader.as_ref().is_some_and(|name| *name != mesh.nodes[leader].name)
            })
            .await;
        let replaced = cut.elapsed();
        say(&format!(
            "unheard: no quorum after {} ms, replaced after {} ms",
            deposed.as_millis(),
            replaced.as_millis()
        ));
        assert!(deposed < DEPOSED_MAX && replaced < DEPOSED_MAX, "{deposed:?} {replaced:?}");
        writers.acknowledge(50).await;
        others.into_iter().for_each(|other| namespaces.heal(number(leader), number(other)));
        mesh.until_whole().await;
        writers.acknowledge(50).await;
        let checked = writers.check(&mesh.nodes[leader].client()).await;
        say(&format!("{checked} acknowledged writes are there, once"));
    });
}

fn number(node: usize) -> u8 {
    u8::try_from(node).expect("there are three")
}

fn is_linked(status: &Status, other: &Node) -> bool {
    status.nodes.iter().any(|node| node.name == other.name && node.linked)
}
