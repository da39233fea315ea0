//! A recorded conversation that breaks off after each of its bytes: what the driver does then. How machines fare whose
//! links break and are made again is the simulator's (`pelago_sim::links`).

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pelago_core::link::{Account, Control, Goodbye, Lane, NoReply, RequestId, Settled};
use pelago_net::{Handle, RequestError};
use pelago_wire::{
    frame::{self, Form, PREFACE},
    tell::kind as tell,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::world::{COLLECT, HOLD, Node, Seen, hello, until, within};

const WAIT: Duration = Duration::from_secs(10);
const TOLD: [&[u8]; 3] = [b"1", b"22", b"333"];

/// What arrives before a break is a beginning of what was sent, in order; and the end is told once.
#[tokio::test]
async fn an_end_that_is_dialled_takes_a_beginning_whichever_byte_is_the_last() {
    let whole = said_by_a_dialler();
    let mut fullest = 0;
    for length in 0..=whole.len() {
        let mut b = Node::start("b").await;
        let mut stream = TcpStream::connect(b.address).await.expect("it listens");
        // In two pieces, so that frames arrive cut.
        let (first, second) = whole[..length].split_at(length / 2);
        stream.write_all(first).await.expect("it reads");
        stream.write_all(second).await.expect("it reads");
        stream.shutdown().await.expect("it is open");
        let mut ignored = Vec::new();
        within(stream.read_to_end(&mut ignored)).await.expect("it closes in order");
        until(|| b.links.all().is_empty()).await;
        drop(b.links);
        b.listener.abort();

        let (mut told, mut held, mut collected, mut gone) = (Vec::new(), 0, 0, 0);
        while let Some(seen) = within(b.seen.recv()).await {
            match seen {
                Seen::Told(1, payload, _) => told.push(payload),
                Seen::Bound(1, name) => assert_eq!(name, &b"agent"[..]),
                Seen::Held(_) => held += 1,
                Seen::Collected(payloads, _) => collected += payloads.len(),
                Seen::Gone => gone += 1,
                other @ (Seen::Told(..) | Seen::Bound(..) | Seen::CalledOff(_)) => panic!("at {length}: {other:?}"),
            }
        }
        assert!(told.iter().zip(TOLD).all(|(told, sent)| told == sent) && told.len() <= 3, "at {length}: {told:?}");
        assert!(held <= 1 && collected <= 1 && gone <= 1, "at {length}: {held}, {collected}, {gone}");
        assert!(told.is_empty() || gone == 1, "at {length}: who hears things hears of the end");
        let all = told.len() + held + collected;
        assert!(all >= fullest, "at {length}: more bytes bring less");
        fullest = all;
    }
    assert_eq!(fullest, 5, "a whole conversation arrives whole");
}

/// Each request ends once, and of each message it is known or counted as lost what became of it.
#[tokio::test]
async fn an_end_that_dials_ends_its_requests_whichever_byte_is_the_last() {
    let whole = said_by_an_accepter();
    let mut ends = [0; 3];
    for length in 0..=whole.len() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback can be bound");
        let a = Node::start("a").await;
        let mut dial = a.dial(listener.local_addr().expect("it is bound"));
        let (stream, _) = within(listener.accept()).await.expect("the dial comes");
        // Nobody answers a second dial.
        drop(listener);
        let (mut from, mut to) = stream.into_split();
        let greeting = whole.len().min(length).min(greeting_bytes());
        to.write_all(&whole[..greeting]).await.expect("it reads");
        if greeting < greeting_bytes() {
            drop((from, to));
            dial.ended().await;
            assert!(a.links.all().is_empty(), "at {length}");
            continue;
        }
        let link = dial.up().await;
        let requests = tokio::spawn(ask_and_tell(link.clone()));
        // All that it has to say is read before it hears on: replies follow requests.
        let mut heard = Vec::new();
        until_heard(&mut from, &mut heard).await;
        to.write_all(&whole[greeting..length]).await.expect("it reads");
        to.shutdown().await.expect("it is open");
        drop(tokio::spawn(async move { from.read_to_end(&mut heard).await }));
        within(link.ended()).await;
        let replies = within(requests).await.expect("each ends, and none twice");
        for reply in &replies {
            match reply {
                Ok(payload) => assert_eq!(payload, &b"reply"[..], "at {length}"),
                Err(RequestError::NoReply(NoReply::Busy) | RequestError::Unknown) => {}
                Err(other) => panic!("at {length}: {other}"),
            }
        }
        assert!(replies[1].is_err() && !matches!(replies[0], Err(RequestError::NoReply(_))), "at {length}");
        let Account { sent, handled, lost } = link.account();
        assert!(sent == 3 && [(0, 0), (2, 1)].contains(&(handled, lost)), "at {length}: {:?}", link.account());
        ends[0] += u32::from(replies[0].is_ok());
        ends[1] += u32::from(matches!(replies[1], Err(RequestError::NoReply(_))));
        ends[2] += u32::from(handled == 2);
    }
    assert!(ends.iter().all(|seen| *seen > 0), "nothing was ever answered: {ends:?}");
}

/// Two requests at once, and three messages.
async fn ask_and_tell(link: Handle) -> [Result<Bytes, RequestError>; 2] {
    let mut agent = link.recipient(Lane::Bulk, Bytes::from_static(b"agent"));
    for told in TOLD {
        agent.try_tell(told).expect("there is room");
    }
    let (first, second) =
        (link.request(Lane::Requests, HOLD, b"first", WAIT), link.request(Lane::Requests, HOLD, b"second", WAIT));
    let (first, second) = tokio::join!(first, second);
    [first, second]
}

/// Until the last message, which is written after the requests.
async fn until_heard(from: &mut (impl AsyncReadExt + Unpin), heard: &mut Vec<u8>) {
    let is_last = |heard: &[u8]| heard.windows(3).any(|bytes| bytes == TOLD[2]);
    let has_asked = |heard: &[u8]| heard.windows(6).any(|bytes| bytes == b"second");
    while !is_last(heard) || !has_asked(heard) {
        assert!(within(from.read_buf(heard)).await.expect("it is open") > 0, "it says all before it ends");
    }
}

fn greeting() -> BytesMut {
    let mut bytes = BytesMut::from(&PREFACE[..]);
    frame::put_control(&mut bytes, &Control::Hello(Box::new(hello("c"))));
    bytes
}

fn greeting_bytes() -> usize {
    greeting().len()
}

fn said_by_a_dialler() -> BytesMut {
    let mut bytes = greeting();
    frame::put_data(&mut bytes, Lane::Bulk, Form::OneWay { number: 1 }, tell::BIND, b"agent");
    for told in TOLD {
        frame::put_data(&mut bytes, Lane::Bulk, Form::OneWay { number: 1 }, tell::TELL, told);
    }
    let request = Form::Request { id: RequestId(1), wait: WAIT };
    frame::put_data(&mut bytes, Lane::Requests, request, HOLD, b"question");
    frame::put_data(&mut bytes, Lane::Requests, Form::OneWay { number: 0 }, COLLECT, b"last");
    frame::put_control(&mut bytes, &Control::Goodbye(Goodbye::Stopping));
    bytes
}

fn said_by_an_accepter() -> BytesMut {
    let mut bytes = greeting();
    let settled = Settled { number: 1, before: 0, bytes: 3 * 20 + 6, handled: 2, lost: 1 };
    frame::put_control(&mut bytes, &Control::Settled { lane: Lane::Bulk, settled });
    frame::put_no_reply(&mut bytes, Lane::Requests, RequestId(2), NoReply::Busy);
    frame::put_data(&mut bytes, Lane::Requests, Form::Reply(RequestId(1)), 0, b"reply");
    frame::put_control(&mut bytes, &Control::Ping(7));
    frame::put_control(&mut bytes, &Control::Goodbye(Goodbye::Stopping));
    bytes
}
