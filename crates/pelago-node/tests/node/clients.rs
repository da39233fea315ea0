//! What a node says to clients that know no better.

use std::time::Duration;

use bytes::Bytes;
use pelago_core::{
    id::{BootId, Incarnation, Name, NodeId},
    link::{Account, Hello, LANE_BYTES_MIN, Lane, NAMES_MAX, NoReply, PerLane, RequestId, Role, Versions},
};
use pelago_net::{Config, Credit, Deliver, Dial, Handle, Incoming, Links, RequestError};
use pelago_node::Node;
use pelago_wire::{
    client::{self as wire, Why, answer::Answer},
    mesh,
};

use tokio::task::JoinHandle;

use crate::world::{ask, poll, start, stop};

const WAIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_client_that_sends_nonsense_is_told_so_and_may_not_act_as_a_node() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let node = start(home.path()).await;
    let (link, dial) = link_to(&node).await;

    let nonsense = (wire::kind::ASK..=wire::kind::CANCEL).map(|kind| (kind, Bytes::from_static(b"\xff\xff\xff")));
    let short = Bytes::from_static(b"short");
    let short_ids = [
        (wire::kind::RESULT, wire::encode(&wire::TaskResult { task: short.clone() })),
        (wire::kind::CANCEL, wire::encode(&wire::Cancel { task: short, reason: None })),
    ];
    let of = |priority| wire::Enqueue { to: "teller".into(), priority: Some(priority), ..wire::Enqueue::default() };
    let priorities = [10, 256, u32::MAX].map(|priority| (wire::kind::ENQUEUE, wire::encode(&of(priority))));
    let run = [(wire::kind::RUN, wire::encode(&of(10)))];
    for (kind, payload) in nonsense.chain(short_ids).chain(run).chain(priorities) {
        let answer = link.request(Lane::Requests, kind, &payload, WAIT).await.expect("every request is answered");
        let answer = wire::decode::<wire::Answer>("answer", answer).expect("it is an answer").answer;
        let Some(Answer::Failed(failed)) = answer else { panic!("{kind} is answered with {answer:?}") };
        assert_eq!(failed.why(), Why::Malformed, "{failed:?}");
        assert!(!failed.text.is_empty());
    }
    for kind in [mesh::kind::PROPOSE, mesh::kind::JOIN, mesh::kind::ASK, mesh::kind::HEARTBEAT, 99] {
        let refused = link.request(Lane::Requests, kind, b"", WAIT).await;
        assert_eq!(refused, Err(RequestError::NoReply(NoReply::UnknownKind)), "{kind}");
    }
    dial.abort();
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_tell_more_names_than_there_are_numbers() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let node = start(home.path()).await;
    let (link, dial) = link_to(&node).await;
    let mut here = link.recipient(Lane::Requests, "here".into());
    for round in 1..=3 {
        here.tell(b"1").await.expect("the link is up");
        // As many as take the number of every other.
        for n in 0..NAMES_MAX {
            let nobody = link.recipient(Lane::Requests, format!("nobody:{n}").into());
            nobody.clone().tell(b"1").await.expect("the link is up");
        }
        poll(async || ask(node.handle(), "here", "0").await == Ok(round.to_string())).await;
        let lost = format!("pelago_told_lost_total {}", round * NAMES_MAX);
        poll(async || node.handle().metrics().render().contains(&lost)).await;
    }
    dial.abort();
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_slow_holds_up_nobody_else_who_is_told_things_over_its_link() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let node = start(home.path()).await;
    let (link, dial) = link_to(&node).await;
    let mut slow = link.recipient(Lane::Bulk, "sleeper".into());
    let padded = |text: &str| format!("{text}{}", " ".repeat(8 << 10)).into_bytes();
    while slow.try_tell(&padded("100")) == Ok(()) {}
    let told = link.account().sent;

    // More than the lane's credit, and again to one whose every message is a commit.
    for (to, messages) in [("here", 2_000), ("counter:a", 200)] {
        let mut quick = link.recipient(Lane::Bulk, to.into());
        for _ in 0..messages {
            tokio::time::timeout(WAIT, quick.tell(&padded("1"))).await.expect("there is room").expect("the link is up");
        }
        poll(async || ask(node.handle(), to, "0").await == Ok(messages.to_string())).await;
    }
    assert!(link.account().under_way() > 0, "the slow one is done: nothing was shown");
    poll(async || link.account().under_way() == 0).await;
    assert_eq!(link.account(), Account { sent: told + 2_200, handled: told + 2_200, lost: 0 });
    dial.abort();
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_tells_hears_how_many_messages_came_to_nothing() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let node = start(home.path()).await;
    let (link, dial) = link_to(&node).await;
    for (to, message) in
        [("here", "1"), ("here", "no number"), ("counter:a", "-1"), ("panics", "null"), ("nobody", "1")]
    {
        link.recipient(Lane::Bulk, to.into()).tell(message.as_bytes()).await.expect("the link is up");
    }
    poll(async || link.account() == Account { sent: 5, handled: 1, lost: 4 }).await;
    dial.abort();
    stop(node).await;
}

async fn link_to(node: &Node) -> (Handle, JoinHandle<()>) {
    let links = Links::new(Config::default(), hello(), |_| Box::new(Nobody));
    let (dial, mut state) = Dial::new(&links, node.mesh_address(), Role::Client);
    let dial = tokio::spawn(dial.run());
    let link = state.wait_for(|state| state.up().is_some()).await.expect("it dials on").up().cloned();
    (link.expect("it is up"), dial)
}

fn hello() -> Hello {
    Hello {
        versions: Versions::HERE,
        mesh: None,
        mesh_name: Name::new("any").expect("valid"),
        node_name: Name::new("client").expect("valid"),
        node: NodeId(0),
        boot: BootId(7),
        incarnation: Incarnation(0),
        role: Role::Client,
        features: 0,
        credit: PerLane::all(LANE_BYTES_MIN),
        requests_max: 1,
    }
}

struct Nobody;

impl Deliver for Nobody {
    fn deliver(&mut self, _lane: Lane, _batch: &mut Vec<Incoming>, _credit: Credit) {}

    fn called_off(&mut self, _lane: Lane, _request: RequestId) {}
}
