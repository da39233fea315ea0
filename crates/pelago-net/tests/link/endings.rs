//! How links end, and how they come back.

use std::time::Duration;

use bytes::BytesMut;
use pelago_core::link::{self, Control, Ended, Goodbye, Hello, Lane, PerLane, Role};
use pelago_net::{Config, RequestError, SendError};
use pelago_wire::frame::{Form, Frame};
use tokio::{io::AsyncWriteExt, net::TcpListener};

use crate::world::{COLLECT, ECHO, Node, Raw, Seen, config, hello, impatient, name, until, within};

const WAIT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_goodbye_follows_all_that_was_sent() {
    let (a, mut b) = (Node::start("a").await, Node::start("b").await);
    let link = a.link_to(&b).await;
    for lane in [Lane::Bulk, Lane::Requests, Lane::Control] {
        for _ in 0..100 {
            link.send(lane, COLLECT, 0, &[0; 1_000]).await.expect("the link is up");
        }
    }
    a.links.close(Goodbye::Stopping).await;
    assert_eq!(link.has_ended(), Some(Ended::ClosedHere(Goodbye::Stopping)));
    let mut arrived = 0;
    while let Seen::Collected(payloads, _) = b.next().await {
        arrived += payloads.len();
    }
    assert_eq!(arrived, 300);
    assert!(b.links.all().is_empty());
}

#[tokio::test]
async fn the_end_that_did_not_close_knows_who_did_and_why() {
    let (a, b) = (Node::start("a").await, Node::start("b").await);
    a.link_to(&b).await;
    let there = b.links.all().pop().expect("the link is up");
    a.links.close(Goodbye::Stopping).await;
    assert_eq!(within(there.ended()).await, Ended::ClosedThere(Goodbye::Stopping));
}

#[tokio::test]
async fn requests_under_way_are_still_answered_after_a_goodbye_from_here() {
    let a = Node::start("a").await;
    let mut raw = Raw::greeted(a.address, hello("b")).await;
    let link = a.links.all().pop().expect("the link is up");
    let asking = link.clone();
    let pending = tokio::spawn(async move { asking.request(Lane::Requests, ECHO, b"", WAIT).await });
    let Some(Frame::Data { form: Form::Request { id, .. }, .. }) = raw.frame().await else { panic!("a request") };
    link.close(Goodbye::Stopping);
    assert_eq!(raw.frame().await, Some(Frame::Control(Control::Goodbye(Goodbye::Stopping))));
    let mut reply = BytesMut::new();
    pelago_wire::frame::put_data(&mut reply, Lane::Requests, Form::Reply(id), 0, b"after all");
    raw.write(&reply).await;
    raw.control(&Control::Goodbye(Goodbye::Stopping)).await;
    let reply = within(pending).await.expect("a request does not panic");
    assert_eq!(reply.as_deref(), Ok(&b"after all"[..]));
    assert_eq!(within(link.ended()).await, Ended::ClosedHere(Goodbye::Stopping));
}

#[tokio::test]
async fn nobody_is_in_doubt_when_either_end_says_goodbye() {
    for closes_here in [true, false] {
        let (a, b) = (Node::start("a").await, Node::start("b").await);
        let link = a.link_to(&b).await;
        let asking = |_| {
            let link = link.clone();
            tokio::spawn(async move {
                for asked in 0_u32.. {
                    match link.request(Lane::Requests, ECHO, b"", WAIT).await {
                        Ok(_) => {}
                        Err(RequestError::NotSent(SendError::Down)) => return asked,
                        Err(other) => panic!("after {asked}: {other}"),
                    }
                }
                unreachable!("the link is closed")
            })
        };
        let asking: Vec<_> = (0..64).map(asking).collect();
        let asked_some = async { while link.request(Lane::Bulk, ECHO, b"", WAIT).await.is_err() {} };
        within(asked_some).await;
        within(if closes_here { &a } else { &b }.links.close(Goodbye::Stopping)).await;
        for asking in asking {
            assert!(within(asking).await.expect("each is answered, or was not sent") > 0);
        }
    }
}

#[tokio::test]
async fn a_node_that_comes_back_is_found_again() {
    let (a, b) = (Node::start("a").await, Node::start("b").await);
    let mut dial = a.dial(b.address);
    let first = dial.up().await;
    let address = b.address;
    b.links.close(Goodbye::Stopping).await;
    within(b.listener).await.expect("the listener ends");
    assert_eq!(within(first.ended()).await, Ended::ClosedThere(Goodbye::Stopping));
    within(dial.state.wait_for(|state| matches!(state, pelago_net::State::Unreachable(_)))).await.expect("it dials on");
    let again = pelago_core::link::Hello { boot: pelago_core::id::BootId(99), ..hello("b") };
    let _b = Node::at(address, config(), again).await;
    let second = dial.up().await;
    assert_eq!(second.terms().other.boot, pelago_core::id::BootId(99));
    assert!(within(second.request(Lane::Control, ECHO, b"", WAIT)).await.is_ok());
}

#[tokio::test]
async fn a_frozen_node_is_found_out() {
    let a = Node::with(impatient(), hello("a")).await;
    let mut raw = Raw::greeted(a.address, hello("b")).await;
    let link = a.links.all().pop().expect("the link is up");
    // It is asked for a sign of life first.
    assert!(matches!(raw.frame().await, Some(Frame::Control(Control::Ping(_)))));
    assert_eq!(within(link.ended()).await, Ended::Silent);
    assert!(a.links.all().is_empty());
}

#[tokio::test]
async fn an_end_that_never_reads_is_given_up_although_it_gives_signs_of_life() {
    let a = Node::with(impatient(), hello("a")).await;
    let generous = Hello { credit: PerLane::all(u32::MAX), ..hello("b") };
    let mut raw = Raw::greeted(a.address, generous).await;
    let link = a.links.all().pop().expect("the link is up");
    let sending = link.clone();
    let sent = tokio::spawn(async move { while sending.send(Lane::Bulk, COLLECT, 0, &[0; 64 << 10]).await.is_ok() {} });
    let alive = async {
        loop {
            raw.control(&Control::Ping(7)).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let ended = tokio::select! {
        ended = within(link.ended()) => ended,
        () = alive => unreachable!("it goes on until the link has ended"),
    };
    assert_eq!(ended, Ended::Stuck);
    within(sent).await.expect("whoever waits for room is told");
}

#[tokio::test]
async fn an_end_that_asks_on_and_never_reads_is_given_up_before_its_answers_fill_the_memory() {
    let patient = link::Config { stuck_after: Duration::from_secs(3_600), ..config().link };
    let a = Node::with(Config { link: patient, ..config() }, hello("a")).await;
    let mut raw = Raw::greeted(a.address, hello("b")).await;
    let link = a.links.all().pop().expect("the link is up");
    let mut pings = BytesMut::new();
    (0..10_000).for_each(|n| pelago_wire::frame::put_control(&mut pings, &Control::Ping(n)));
    let asking = async { while raw.stream.write_all(&pings).await.is_ok() {} };
    let ended = tokio::select! {
        ended = within(link.ended()) => ended,
        () = asking => within(link.ended()).await,
    };
    assert_eq!(ended, Ended::Stuck);
}

#[tokio::test]
async fn an_idle_link_lasts() {
    let a = Node::with(impatient(), hello("a")).await;
    let mut raw = Raw::greeted(a.address, hello("b")).await;
    let link = a.links.all().pop().expect("the link is up");
    // More pings than fit the time after which it would count as dead.
    for _ in 0..12 {
        let Some(Frame::Control(Control::Ping(number))) = raw.frame().await else { panic!("only pings come") };
        raw.control(&Control::Pong(number)).await;
    }
    assert_eq!(link.has_ended(), None);
}

#[tokio::test]
async fn a_dial_that_is_dropped_ends_its_link() {
    let (a, b) = (Node::start("a").await, Node::start("b").await);
    let mut dial = a.dial(b.address);
    let link = dial.up().await;
    dial.task.abort();
    assert_eq!(within(link.ended()).await, Ended::Lost);
    until(|| a.links.get(&name("b"), Role::Main).is_none() && b.links.all().is_empty()).await;
}

#[tokio::test]
async fn a_connection_that_is_cut_off_while_greeting_is_dialled_again() {
    let a = Node::start("a").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback can be bound");
    let mut dial = a.dial(listener.local_addr().expect("it is bound"));
    drop(within(listener.accept()).await.expect("the dial comes"));
    assert_eq!(dial.ended().await, Ended::Lost);
    let (stream, _) = within(listener.accept()).await.expect("the dial comes again");
    let mut raw = Raw::over(stream);
    assert!(matches!(raw.frame().await, Some(Frame::Control(Control::Hello(_)))));
    raw.greet(hello("b")).await;
    dial.up().await;
}
