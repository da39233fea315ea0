//! A partition in one direction: one node hears another, which does not hear it.

use std::time::{Duration, Instant};

use pelago::mesh::{Recipient, Subscription};
use pelago_api::model::Status;
use tokio::{sync::watch, time::timeout};

use super::{
    mesh::{Mesh, Node, PATIENCE},
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

#[test]
fn what_is_published_while_a_link_is_broken_is_heard_or_counted_as_missed() {
    let Some(namespaces) =
        enter("partition::what_is_published_while_a_link_is_broken_is_heard_or_counted_as_missed", 3)
    else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let places = (0..3).map(|node| namespaces.place(node)).collect();
        let mesh = Mesh::start_at(places, &[]).await;
        // Neither leads: who does not hear the leader is given up, and begins again without its links.
        let leader = mesh.leader().await;
        let (from, to) = ((leader + 1) % 3, (leader + 2) % 3);
        let connect = async |node: usize| pelago::Mesh::connect(&mesh.nodes[node].mesh_address()).await;
        let (publishing, listening) =
            (connect(from).await.expect("it is there"), connect(to).await.expect("it is there"));
        let mut heard = listening.subscribe("numbers").await.expect("it is there");
        let topic = publishing.recipient("#numbers").await.expect("anybody may publish");
        let (stop, stopped) = watch::channel(false);
        let publisher = tokio::spawn(publish(topic, stopped));
        let mut tally = Tally::default();
        tally.hear(&mut heard, 100).await;

        namespaces.cut(number(from), number(to));
        let listener = tokio::spawn(async move {
            // Until it has heard what was published after all was well again.
            while tally.missed == 0 {
                tally.hear(&mut heard, 1).await;
            }
            (tally, heard)
        });
        mesh.nodes[from].until("the link is lost", |status| !is_linked(status, &mesh.nodes[to])).await;
        // Some are published while there is no link at all.
        tokio::time::sleep(Duration::from_millis(200)).await;
        namespaces.heal(number(from), number(to));
        mesh.until_whole().await;
        let (mut tally, mut heard) = timeout(PATIENCE, listener).await.expect("it hears again").expect("no panic");
        stop.send_replace(true);
        let published = publisher.await.expect("it does not panic");
        while tally.last < published {
            tally.hear(&mut heard, 1).await;
        }
        say(&format!("{published} published, {tally:?}"));
        assert_eq!(tally.heard + tally.missed, published, "{tally:?}");
        assert_eq!(publishing.account().lost, 0, "all of them came to the first node");
    });
}

/// What was heard of numbers that are published one after the other.
#[derive(Debug, Default)]
struct Tally {
    heard: u64,
    missed: u64,
    last: u64,
}

impl Tally {
    async fn hear(&mut self, subscription: &mut Subscription, messages: usize) {
        for _ in 0..messages {
            let next = timeout(PATIENCE, subscription.next()).await.expect("something comes in time");
            let published = next.expect("the link to this node is whole");
            let number = std::str::from_utf8(&published.content.payload).ok().and_then(|text| text.parse().ok());
            let number: u64 = number.expect("a number");
            assert!(number > self.last, "{number} after {self:?}");
            self.heard += 1;
            self.missed += published.missed;
            self.last = number;
        }
    }
}

/// Publishes 1, 2, … until it is stopped, and says how far it came.
async fn publish(mut topic: Recipient, stopped: watch::Receiver<bool>) -> u64 {
    let mut last = 0;
    while !*stopped.borrow() {
        last += 1;
        topic.tell(last.to_string()).await.expect("its node takes it");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    last
}

fn number(node: usize) -> u8 {
    u8::try_from(node).expect("there are three")
}

fn is_linked(status: &Status, other: &Node) -> bool {
    status.nodes.iter().any(|node| node.name == other.name && node.linked)
}
