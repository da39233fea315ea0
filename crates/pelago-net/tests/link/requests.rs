//! Requests end exactly once: by a reply, a deadline, their caller, or the end of the link.

use std::time::Duration;

use pelago_core::link::{Goodbye, Lane, NoReply};
use pelago_net::RequestError;
use tokio::task::JoinSet;

use crate::world::{DROP, ECHO, HOLD, Node, Raw, Seen, config, hello, within};

const WAIT: Duration = Duration::from_secs(15);

#[tokio::test]
async fn ten_thousand_requests_in_flight_get_their_own_replies_out_of_order() {
    let (a, mut b) = (Node::start("a").await, Node::start("b").await);
    let link = a.link_to(&b).await;
    let mut requests = JoinSet::new();
    for number in 0..10_000_u32 {
        let link = link.clone();
        requests.spawn(async move { (number, link.request(Lane::Requests, HOLD, &[], WAIT).await) });
    }
    let mut asks = Vec::new();
    while asks.len() < 10_000 {
        asks.push(b.held().await);
    }
    for ask in asks.into_iter().rev() {
        let id = ask.id().0.to_le_bytes();
        within(ask.reply(&id)).await.expect("the link is up");
    }
    let mut replies: Vec<_> = Vec::new();
    while let Some(ended) = within(requests.join_next()).await {
        let (number, reply) = ended.expect("a request does not panic");
        replies.push((number, reply.expect("every request is answered")));
    }
    // Each caller has one reply, and no two the same.
    replies.sort_by(|a, b| a.1.cmp(&b.1));
    replies.dedup_by(|a, b| a.1 == b.1);
    assert_eq!(replies.len(), 10_000);
}

#[tokio::test]
async fn requests_beyond_what_the_other_end_takes_wait_for_replies() {
    let a = Node::start("a").await;
    let few = pelago_core::link::Hello { requests_max: 2, ..hello("b") };
    let mut b = Node::with(config(), few).await;
    let link = a.link_to(&b).await;
    let mut requests = JoinSet::new();
    for _ in 0..3 {
        let link = link.clone();
        requests.spawn(async move { link.request(Lane::Requests, HOLD, &[], WAIT).await });
    }
    let (first, second) = (b.held().await, b.held().await);
    let late = link.request(Lane::Requests, HOLD, &[], Duration::from_millis(20));
    assert_eq!(within(late).await, Err(RequestError::NotSent(pelago_net::SendError::Busy)));
    assert!(b.seen.try_recv().is_err(), "a third request came while two were open");
    first.refuse(NoReply::Busy);
    let third = b.held().await;
    drop((second, third));
    let mut ends = Vec::new();
    while let Some(ended) = within(requests.join_next()).await {
        ends.push(ended.expect("a request does not panic"));
    }
    let dropped = Err(RequestError::NoReply(NoReply::Dropped));
    ends.sort_by_key(|end| *end == dropped);
    assert_eq!(ends, [Err(RequestError::NoReply(NoReply::Busy)), dropped.clone(), dropped]);
}

#[tokio::test]
async fn a_deadline_ends_a_request_and_calls_it_off_there() {
    let (a, mut b) = (Node::start("a").await, Node::start("b").await);
    let link = a.link_to(&b).await;
    let request = link.request(Lane::Requests, HOLD, b"", Duration::from_millis(30));
    assert_eq!(within(request).await, Err(RequestError::Deadline));
    let ask = b.held().await;
    let Seen::CalledOff(id) = b.next().await else { panic!("the request is called off") };
    assert_eq!(id, ask.id());
    // Its reply is too late and harms nothing.
    within(ask.reply(b"late")).await.expect("the link is up");
    let next = link.request(Lane::Requests, ECHO, b"next", WAIT);
    assert_eq!(within(next).await.as_deref(), Ok(&b"next"[..]));
}

#[tokio::test]
async fn a_caller_that_goes_calls_its_request_off() {
    let (a, mut b) = (Node::start("a").await, Node::start("b").await);
    let link = a.link_to(&b).await;
    let caller = tokio::spawn(async move { link.request(Lane::Requests, HOLD, b"", WAIT).await });
    let ask = b.held().await;
    caller.abort();
    let Seen::CalledOff(id) = b.next().await else { panic!("the request is called off") };
    assert_eq!(id, ask.id());
}

#[tokio::test]
async fn an_ask_that_is_dropped_tells_the_caller() {
    let (a, b) = (Node::start("a").await, Node::start("b").await);
    let link = a.link_to(&b).await;
    let request = link.request(Lane::Bulk, DROP, b"", WAIT);
    assert_eq!(within(request).await, Err(RequestError::NoReply(NoReply::Dropped)));
}

#[tokio::test]
async fn a_node_killed_in_the_middle_of_a_frame_ends_requests_at_once() {
    let a = Node::start("a").await;
    let mut raw = Raw::greeted(a.address, hello("b")).await;
    let link = a.links.all().pop().expect("the link is up");
    let pending = tokio::spawn(async move { link.request(Lane::Requests, HOLD, b"", WAIT).await });
    raw.frame().await.expect("the request came");
    raw.write(&[1, 2, 3, 4, 200, 0, 0, 1, 10, 0]).await;
    drop(raw);
    let ended = within(pending).await.expect("a request does not panic");
    assert_eq!(ended, Err(RequestError::Unknown));
}

#[tokio::test]
async fn nothing_is_sent_over_a_link_that_has_ended() {
    let (a, b) = (Node::start("a").await, Node::start("b").await);
    let link = a.link_to(&b).await;
    link.close(Goodbye::Stopping);
    let request = within(link.request(Lane::Requests, ECHO, b"", WAIT)).await;
    assert_eq!(request, Err(RequestError::NotSent(pelago_net::SendError::Down)));
}
