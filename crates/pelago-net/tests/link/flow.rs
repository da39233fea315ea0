//! Credit: a slow receiver slows its sender, in its lane, and holds no more than it granted.

use std::{sync::Arc, time::Duration};

use pelago_core::link::{Account, Goodbye, LANE_BYTES_MIN, Lane, PAYLOAD_BYTES_MAX, WINDOW_BYTES};
use pelago_net::{Config, Credit, Handle, Held, Packing, SendError};
use tokio::task::JoinHandle;

use crate::world::{COLLECT, ECHO, Node, Seen, config, hello, until, within};

const PAYLOAD: usize = 10_000;

#[tokio::test]
async fn credit_blocks_a_sender_and_lets_it_go_on() {
    let (a, mut b) = (Node::start("a").await, Node::start("b").await);
    let link = a.link_to(&b).await;
    let sender = send_numbers(&link, 1_000);
    let mut held = Vec::new();
    let mut numbers = Vec::new();
    // What arrives is kept, so the sender stops at what was granted, and another lane goes on.
    until(|| link.try_send(Lane::Bulk, COLLECT, 0, &[0; PAYLOAD]) == Err(SendError::Busy)).await;
    let echo = link.request(Lane::Requests, ECHO, b"on", Duration::from_secs(10));
    assert_eq!(within(echo).await.as_deref(), Ok(&b"on"[..]));
    while let Ok(seen) = b.seen.try_recv() {
        take(seen, &mut numbers, &mut held);
    }
    assert!(numbers.len() * PAYLOAD <= LANE_BYTES_MIN as usize);
    assert!(!sender.is_finished());
    held.clear();
    while numbers.len() < 1_000 {
        let seen = b.next().await;
        take(seen, &mut numbers, &mut held);
        held.clear();
    }
    assert!(numbers.is_sorted());
    within(sender).await.expect("the sender does not panic");
}

fn send_numbers(link: &Handle, count: u32) -> JoinHandle<()> {
    let link = link.clone();
    tokio::spawn(async move {
        for number in 1..=count {
            let mut payload = vec![0; PAYLOAD];
            payload[..4].copy_from_slice(&number.to_be_bytes());
            link.send(Lane::Bulk, COLLECT, 0, &payload).await.expect("the link is up");
        }
    })
}

/// Keeps the credit and the numbers, without what the test itself tried to send.
fn take(seen: Seen, numbers: &mut Vec<u32>, held: &mut Vec<Arc<Credit>>) {
    let Seen::Collected(payloads, credit) = seen else { panic!("{seen:?} is no message") };
    held.push(credit);
    let number = |payload: &bytes::Bytes| u32::from_be_bytes(payload[..4].try_into().expect("four bytes"));
    numbers.extend(payloads.iter().map(number).filter(|&number| number > 0));
}

#[tokio::test]
async fn what_one_end_sends_the_other_receives_and_both_count_it() {
    let (a, b) = (Node::start("a").await, Node::start("b").await);
    let link = a.link_to(&b).await;
    let echo = link.request(Lane::Requests, ECHO, &[0; PAYLOAD], Duration::from_secs(10));
    assert!(within(echo).await.is_ok());
    within(async { tokio::join!(a.links.close(Goodbye::Stopping), b.links.close(Goodbye::Stopping)) }).await;
    let ((sent, received), of_b) = (a.links.take_traffic(), b.links.take_traffic());
    assert_eq!((received, sent), of_b);
    assert!(sent > PAYLOAD as u64 && received > PAYLOAD as u64 && sent < 3 * PAYLOAD as u64, "{sent}, {received}");
    assert_eq!(a.links.take_traffic(), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_of_one_sender_arrive_in_order_whatever_their_size() {
    let (a, mut b) = (Node::start("a").await, Node::start("b").await);
    let link = a.link_to(&b).await;
    let sender = tokio::spawn(async move {
        for number in 0..20_000_u32 {
            let size = if number % 1_000 == 0 { PAYLOAD_BYTES_MAX as usize } else { 4 + number as usize % 300 };
            let mut payload = vec![7; size];
            payload[..4].copy_from_slice(&number.to_be_bytes());
            link.send(Lane::Requests, COLLECT, 0, &payload).await.expect("the link is up");
        }
    });
    let mut next = 0_u32;
    while next < 20_000 {
        let Seen::Collected(payloads, _credit) = b.next().await else { panic!("only messages come") };
        for payload in payloads {
            assert_eq!(payload[..4], next.to_be_bytes());
            next += 1;
        }
    }
    within(sender).await.expect("the sender does not panic");
}

#[tokio::test]
async fn a_payload_that_no_frame_holds_is_not_sent() {
    let (a, b) = (Node::start("a").await, Node::start("b").await);
    let link = a.link_to(&b).await;
    let bytes = PAYLOAD_BYTES_MAX as usize + 1;
    let sent = within(link.send(Lane::Bulk, COLLECT, 0, &vec![0; bytes])).await;
    assert_eq!(sent, Err(SendError::TooLarge { bytes }));
}

#[tokio::test]
async fn requests_and_replies_of_the_largest_size_pass_both_ways_at_once() {
    let (a, b) = (Node::start("a").await, Node::start("b").await);
    let there = a.link_to(&b).await;
    let back = b.links.all().pop().expect("the link is up");
    let payload = vec![9; PAYLOAD_BYTES_MAX as usize - 4];
    let ask = |link: Handle| {
        let payload = payload.clone();
        tokio::spawn(async move { link.request(Lane::Bulk, ECHO, &payload, Duration::from_secs(15)).await })
    };
    let asked: Vec<_> = (0..8).flat_map(|_| [ask(there.clone()), ask(back.clone())]).collect();
    for request in asked {
        let reply = within(request).await.expect("a request does not panic");
        assert_eq!(reply.map(|reply| reply.len()), Ok(payload.len()));
    }
}

#[tokio::test]
async fn a_name_goes_over_the_link_once_however_much_it_is_told() {
    let (a, mut b) = (Node::start("a").await, Node::start("b").await);
    let link = a.link_to(&b).await;
    let recipient = |name: &'static str| link.recipient(Lane::Requests, name.into());
    // Two that know nothing of each other mean the same.
    let mut recipients = [recipient("cart:1"), recipient("order:2"), recipient("cart:1")];
    for (who, text) in [(0, "one"), (1, "two"), (0, "three"), (2, "four")] {
        within(recipients[who].tell(text.as_bytes())).await.expect("the link is up");
    }
    for expected in ["1 is cart:1", "1 one", "2 is order:2", "2 two", "1 three", "1 four"] {
        let seen = match b.next().await {
            Seen::Bound(number, name) => format!("{number} is {}", name.escape_ascii()),
            Seen::Told(number, payload, _held) => format!("{number} {}", payload.escape_ascii()),
            other @ (Seen::Held(_) | Seen::CalledOff(_) | Seen::Collected(..) | Seen::Gone) => panic!("{other:?}"),
        };
        assert_eq!(seen, expected);
    }
    let large = vec![0; PAYLOAD_BYTES_MAX as usize + 1];
    assert_eq!(recipients[0].try_tell(&large), Err(SendError::TooLarge { bytes: large.len() }));
}

#[tokio::test]
async fn who_is_slow_slows_those_who_tell_it_things_and_nobody_else() {
    let (a, mut b) = (Node::start("a").await, Node::start("b").await);
    let link = a.link_to(&b).await;
    let (mut slow, mut quick) = (link.recipient(Lane::Bulk, "slow".into()), link.recipient(Lane::Bulk, "quick".into()));
    let payload = [1; PAYLOAD];
    let mut told = 0;
    while slow.try_tell(&payload) == Ok(()) {
        told += 1;
    }
    assert!((told - 1) * PAYLOAD < WINDOW_BYTES as usize && told * (PAYLOAD + 20) >= WINDOW_BYTES as usize, "{told}");
    let mut patient = slow.clone();
    let waits = tokio::spawn(async move { patient.tell(&[2]).await });
    let telling = tokio::spawn(async move {
        for _ in 0..2_000 {
            quick.tell(&payload).await.expect("the link is up");
        }
    });
    let mut held = Vec::new();
    until(|| {
        settle_all_but(1, &mut b, &mut held);
        telling.is_finished()
    })
    .await;
    assert!(!waits.is_finished());
    assert_eq!(slow.try_tell(&[3]), Err(SendError::Busy));

    until(|| {
        settle_all_but(1, &mut b, &mut held);
        held.len() == told
    })
    .await;
    // One of them comes to nothing.
    held.drain(..).skip(1).for_each(handle);
    assert_eq!(within(waits).await.expect("it does not panic"), Ok(()));
    until(|| {
        settle_all_but(0, &mut b, &mut held);
        link.account().under_way() == 0
    })
    .await;
    assert_eq!(link.account(), Account { sent: told as u64 + 2_001, handled: told as u64 + 2_000, lost: 1 });
}

#[tokio::test]
async fn who_waits_for_a_window_hears_that_the_link_has_ended() {
    let (a, b) = (Node::start("a").await, Node::start("b").await);
    let link = a.link_to(&b).await;
    let mut slow = link.recipient(Lane::Bulk, "slow".into());
    while slow.try_tell(&[1; PAYLOAD]) == Ok(()) {}
    let told = link.account().sent;
    let waits = tokio::spawn(async move { slow.tell(&[2]).await });
    b.links.all().pop().expect("the link is up").close(Goodbye::Stopping);
    assert_eq!(within(waits).await.expect("it does not panic"), Err(SendError::Down));
    // What came is held by the test until the end: nobody said what became of it.
    assert_eq!(link.account(), Account { sent: told, handled: 0, lost: 0 });
}

/// Takes what has come, and keeps what the recipient with this number was told.
fn settle_all_but(kept: u64, node: &mut Node, held: &mut Vec<Held>) {
    while let Ok(seen) = node.seen.try_recv() {
        match seen {
            Seen::Told(number, _, place) if number == kept => held.push(place),
            Seen::Told(_, _, place) => handle(place),
            Seen::Bound(..) => {}
            other @ (Seen::Held(_) | Seen::CalledOff(_) | Seen::Collected(..) | Seen::Gone) => panic!("{other:?}"),
        }
    }
}

fn handle(mut held: Held) {
    held.handle(1);
}

#[tokio::test]
async fn a_large_text_takes_little_of_a_link_that_packs_and_arrives_as_it_was() {
    let text: Vec<u8> = (0_u32..).flat_map(|n| format!("{n} green bottles, ").into_bytes()).take(900_000).collect();
    for (packing, least, most) in [(Packing::Never, 900_000, 1_000_000), (Packing::Always, 1_000, 450_000)] {
        let packs = || Config { packing, ..config() };
        let (a, b) = (Node::with(packs(), hello("a")).await, Node::with(packs(), hello("b")).await);
        let link = a.link_to(&b).await;
        let _greeting = (a.links.take_traffic(), b.links.take_traffic());
        let reply = within(link.request(Lane::Requests, ECHO, &text, Duration::from_secs(15))).await;
        assert!(reply.as_deref() == Ok(&text[..]), "{packing:?}");
        let (sent, received) = a.links.take_traffic();
        assert!((least..most).contains(&sent) && (least..most).contains(&received), "{packing:?}: {sent}, {received}");
    }
}
