//! Who gets a link, and what both ends hear if not.

use bytes::{BufMut, BytesMut};
use pelago_core::{
    id::{BootId, MeshId},
    link::{Control, Ended, Goodbye, Hello, Refusal, Role, Versions},
};
use pelago_net::{Config, ListenError, Listener};
use pelago_wire::frame::{Frame, PREFACE};

use crate::world::{ECHO, HOLD, Node, Raw, Seen, config, hello, impatient, name, until, within};

use pelago_core::link::Lane;
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn both_ends_know_each_other_and_may_ask() {
    let (a, b) = (Node::start("a").await, Node::start("b").await);
    let to_b = a.link_to(&b).await;
    assert_eq!(to_b.terms().other, hello("b"));
    assert!(to_b.terms().dialled);
    until(|| b.links.get(&name("a"), Role::Main).is_some()).await;
    let to_a = b.links.get(&name("a"), Role::Main).expect("it was waited for");
    assert_eq!((to_a.terms().other.clone(), to_a.terms().dialled), (hello("a"), false));
    for link in [to_b, to_a] {
        let reply = within(link.request(Lane::Requests, ECHO, b"hello", WAIT)).await;
        assert_eq!(reply.as_deref(), Ok(&b"hello"[..]));
    }
}

#[tokio::test]
async fn a_refusal_is_reported_on_both_sides_with_its_reason() {
    let cases: [(Hello, Refusal); 5] = [
        (Hello { mesh_name: name("other"), ..hello("a") }, Refusal::OtherMesh { mesh_name: name("test") }),
        (Hello { mesh: Some(MeshId(u128::MAX)), ..hello("a") }, Refusal::OtherMesh { mesh_name: name("test") }),
        (Hello { boot: hello("b").boot, ..hello("a") }, Refusal::SameNode),
        (Hello { boot: BootId(1), ..hello("b") }, Refusal::NameTaken { name: name("b") }),
        (
            Hello { versions: Versions { oldest: 9, newest: 10 }, ..hello("a") },
            Refusal::UnknownVersion { oldest: 1, newest: 1 },
        ),
    ];
    for (me, refusal) in cases {
        let b = Node::start("b").await;
        let a = Node::with(config(), me).await;
        assert_eq!(a.dial(b.address).ended().await, Ended::RefusedThere(refusal));
        assert!(b.links.all().is_empty());
    }
}

#[tokio::test]
async fn nodes_that_met_before_one_of_them_belonged_to_a_mesh_meet_anew() {
    let a = Node::with(config(), Hello { mesh: None, ..hello("a") }).await;
    let stranger = |node| Hello { mesh: None, ..hello(node) };
    let mut met = Raw::greeted(a.address, stranger("b")).await;
    let mut meeting = Raw::connect(a.address).await;
    // It has begun to say who it is.
    within(meeting.stream.readable()).await.expect("it is there");
    a.links.introduce(|me| me.mesh = hello("a").mesh);
    meeting.greet(stranger("c")).await;
    let Some(Frame::Control(Control::Hello(said))) = meeting.frame().await else { panic!("no hello came") };
    assert_eq!(said.mesh, None);
    for raw in [&mut met, &mut meeting] {
        assert_eq!(raw.frame().await, Some(Frame::Control(Control::Goodbye(Goodbye::Replaced))));
    }
    let mut anew = Raw::connect(a.address).await;
    anew.greet(stranger("c")).await;
    let Some(Frame::Control(Control::Hello(said))) = anew.frame().await else { panic!("no hello came") };
    assert_eq!(said.mesh, hello("a").mesh);
}

#[tokio::test]
async fn a_node_that_dials_itself_finds_out() {
    let a = Node::start("a").await;
    assert_eq!(a.dial(a.address).ended().await, Ended::RefusedThere(Refusal::SameNode));
}

#[tokio::test]
async fn one_link_too_many_is_refused() {
    let b = Node::with(Config { links_max: 1, ..config() }, hello("b")).await;
    let (a, c) = (Node::start("a").await, Node::start("c").await);
    a.link_to(&b).await;
    assert_eq!(c.dial(b.address).ended().await, Ended::RefusedThere(Refusal::TooManyLinks { links_max: 1 }));
}

#[tokio::test]
async fn whoever_was_refused_for_want_of_a_place_has_a_link_once_there_is_one() {
    let b = Node::with(Config { links_max: 1, ..config() }, hello("b")).await;
    let (a, c) = (Node::start("a").await, Node::start("c").await);
    let first = a.link_to(&b).await;
    let mut waiting = c.dial(b.address);
    assert_eq!(waiting.ended().await, Ended::RefusedThere(Refusal::TooManyLinks { links_max: 1 }));
    a.links.close(Goodbye::Stopping).await;
    assert_eq!(within(first.ended()).await, Ended::ClosedHere(Goodbye::Stopping));
    assert_eq!(waiting.up().await.terms().other, hello("b"));
}

#[tokio::test]
async fn the_end_that_refuses_says_why_and_closes() {
    let a = Node::start("a").await;
    let mut raw = Raw::connect(a.address).await;
    raw.greet(Hello { mesh_name: name("other"), ..hello("b") }).await;
    let refuse = Control::Refuse(Refusal::OtherMesh { mesh_name: name("test") });
    assert_eq!(raw.frame().await, Some(Frame::Control(refuse)));
    assert_eq!(raw.frame().await, None);
}

#[tokio::test]
async fn what_is_no_frame_is_refused_before_the_handshake() {
    let mut large = BytesMut::from(&PREFACE[..]);
    large.put_slice(&[0, 0, 0, 0, 0x01, 0x10, 0, 0]);
    large.put_slice(&[0; 20]);
    let mut flipped = BytesMut::from(&PREFACE[..]);
    pelago_wire::frame::put_control(&mut flipped, &Control::Hello(Box::new(hello("b"))));
    flipped[40] ^= 4;
    let mut early = BytesMut::from(&PREFACE[..]);
    pelago_wire::frame::put_control(&mut early, &Control::Ping(1));
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &large, &flipped, &early] {
        let a = Node::start("a").await;
        let mut raw = Raw::connect(a.address).await;
        raw.write(bytes).await;
        assert_eq!(raw.frame().await, Some(Frame::Control(Control::Refuse(Refusal::NotTheProtocol))));
        assert_eq!(raw.frame().await, None);
    }
}

#[tokio::test]
async fn a_frame_beyond_its_bound_ends_a_link() {
    let mut a = Node::start("a").await;
    let mut raw = Raw::greeted(a.address, hello("b")).await;
    // 1 MiB and one byte, announced by a header that is cut off: nobody waits for the rest.
    raw.write(&[0, 0, 0, 0, 0x01, 0, 0x10, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).await;
    assert_eq!(raw.frame().await, Some(Frame::Control(Control::Goodbye(Goodbye::Broken))));
    assert_eq!(raw.frame().await, None);
    assert!(matches!(a.next().await, Seen::Gone));
}

#[tokio::test]
async fn garbage_ends_a_link() {
    let a = Node::start("a").await;
    let mut raw = Raw::greeted(a.address, hello("b")).await;
    raw.write(&[0x55; 64]).await;
    assert_eq!(raw.frame().await, Some(Frame::Control(Control::Goodbye(Goodbye::Broken))));
}

#[tokio::test]
async fn whoever_says_nothing_is_given_up() {
    let a = Node::with(impatient(), hello("a")).await;
    let mut raw = Raw::connect(a.address).await;
    assert_eq!(raw.frame().await, None);
}

#[tokio::test]
async fn two_nodes_that_dial_each_other_end_with_one_link() {
    for _ in 0..100 {
        let (a, b) = (Node::start("a").await, Node::start("b").await);
        let (mut to_b, mut to_a) = (a.dial(b.address), b.dial(a.address));
        to_b.up().await;
        to_a.up().await;
        let both = || {
            let there =
                |node: &Node, other| node.links.get(&name(other), Role::Main).filter(|l| l.has_ended().is_none());
            there(&a, "b").zip(there(&b, "a"))
        };
        let is_one = || both().is_some_and(|(here, there)| here.terms().dialled != there.terms().dialled);
        until(is_one).await;
        let (link, _) = both().expect("it was waited for");
        assert!(within(link.request(Lane::Requests, ECHO, b"", WAIT)).await.is_ok());
        assert_eq!((a.links.all().len(), b.links.all().len()), (1, 1));
        within(async { tokio::join!(a.links.close(Goodbye::Stopping), b.links.close(Goodbye::Stopping)) }).await;
    }
}

#[tokio::test]
async fn whoever_knows_the_node_waits_for_its_link_and_does_not_replace_it() {
    let (mut a, b) = (Node::start("a").await, Node::start("b").await);
    let from_b = b.link_to(&a).await;
    let asking = tokio::spawn({
        let link = from_b.clone();
        async move { link.request(Lane::Requests, HOLD, b"", WAIT).await }
    });
    let held = a.held().await;
    // That of the node whose name is less would stay.
    let (dial, mut state) = pelago_net::Dial::new(&a.links, b.address, Role::Main);
    tokio::spawn(dial.expecting(|| Some(name("b"))).run());
    let up = within(state.wait_for(|state| state.up().is_some())).await.expect("the dial goes on");
    assert!(!up.up().expect("it was waited for").terms().dialled, "it is the link that b dialled");
    drop(up);
    held.reply(b"kept").await.expect("the link is up");
    assert_eq!(within(asking).await.expect("it does not panic").expect("it is answered"), &b"kept"[..]);
    assert_eq!(from_b.has_ended(), None);
}

#[tokio::test]
async fn roles_have_links_of_their_own() {
    let (a, b) = (Node::start("a").await, Node::start("b").await);
    let main = a.link_to(&b).await;
    let (dial, mut state) = pelago_net::Dial::new(&a.links, b.address, Role::Consensus);
    tokio::spawn(dial.run());
    within(state.wait_for(|state| state.up().is_some())).await.expect("the dial goes on");
    until(|| b.links.get(&name("a"), Role::Consensus).is_some()).await;
    assert!(main.has_ended().is_none());
    assert_eq!(b.links.all().len(), 2);
}

#[tokio::test]
async fn nobody_listens_beyond_loopback() {
    let a = Node::start("a").await;
    let address = "0.0.0.0:0".parse().expect("an address");
    let refused = Listener::bind(&a.links, address).await;
    assert!(matches!(refused, Err(ListenError::NotLoopback { .. })));
}

#[test]
fn links_of_consensus_are_driven_where_they_are_told_to_be() {
    let named = |name| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).thread_name(name).enable_all().build().expect("a runtime can be made")
    };
    let (data, consensus) = (named("data"), named("consensus"));
    let config = Config { consensus: Some(consensus.handle().clone()), ..config() };
    data.block_on(async {
        let (threads, mut seen) = tokio::sync::mpsc::unbounded_channel();
        let links = pelago_net::Links::new(config, hello("b"), move |_| Box::new(Threads(threads.clone())));
        let loopback = "127.0.0.1:0".parse().expect("an address");
        let listener = Listener::bind(&links, loopback).await.expect("loopback can be bound");
        let address = listener.address();
        tokio::spawn(listener.run());
        let a = Node::start("a").await;
        for (role, thread) in [(Role::Main, "data"), (Role::Consensus, "consensus")] {
            let (dial, mut state) = pelago_net::Dial::new(&a.links, address, role);
            tokio::spawn(dial.run());
            let up = within(state.wait_for(|state| state.up().is_some())).await.expect("the dial goes on");
            let link = up.up().expect("it was waited for").clone();
            drop(up);
            link.send(Lane::Control, 1, 0, b"where").await.expect("the link is up");
            assert_eq!(within(seen.recv()).await.as_deref(), Some(thread));
        }
        within(links.close(Goodbye::Stopping)).await;
    });
}

#[tokio::test]
async fn connections_that_say_nothing_keep_nobody_out() {
    let patient = pelago_core::link::Config { handshake_max: Duration::from_secs(3_600), ..config().link };
    let b = Node::with(Config { handshakes_max: 4, link: patient, ..config() }, hello("b")).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(Raw::connect(b.address).await);
    }
    let a = Node::start("a").await;
    a.link_to(&b).await;
    assert_eq!(silent[0].frame().await, None, "the oldest is given up");
}

/// Tells the thread it is called on.
struct Threads(tokio::sync::mpsc::UnboundedSender<String>);

impl pelago_net::Deliver for Threads {
    fn deliver(&mut self, _: Lane, batch: &mut Vec<pelago_net::Incoming>, _: pelago_net::Credit) {
        batch.clear();
        let thread = std::thread::current().name().map(str::to_owned);
        // The test may have ended.
        let _ = self.0.send(thread.expect("threads of a runtime have names"));
    }

    fn called_off(&mut self, _: Lane, _: pelago_core::link::RequestId) {}
}
