//! The line of sight, frame by frame.

use std::time::Duration;

use pelago_api::line::{self, Limits};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    json_body,
    replay::replay,
    world::{World, gate},
};

const PATIENCE: Duration = Duration::from_secs(20);
const HELLO: &str = r#"{"type": "Hello", "name": "test", "version": 1}"#;

#[tokio::test]
async fn every_frame_of_its_page_is_answered_as_the_page_says() {
    let world = World::start().await;
    let (port, stop) = listen(&world, Limits::default()).await;
    let mut line = Line::connect(port).await;
    let mut compared = 0;
    let mut heard = None;
    for text in include_str!("../../../../docs/line-of-sight.md").lines() {
        if let Some(said) = text.strip_prefix("> ") {
            line.say(said).await;
            heard = Some(line.hear().await.expect("it is answered"));
        } else if let Some(expected) = text.strip_prefix("< ") {
            let heard = heard.take().expect("an answer follows a request");
            let expected: Value = serde_json::from_str(expected).expect("the page has JSON");
            assert!(fits(&expected, &heard), "the page says {expected}\nand the node {heard}");
            compared += 1;
        }
    }
    assert_eq!(compared, 11);
    stop.cancel();
    world.end().await;
}

#[tokio::test]
async fn a_frame_may_arrive_byte_by_byte_and_answers_come_as_they_are_ready() {
    let world = World::start().await;
    let (port, stop) = listen(&world, Limits::default()).await;
    let mut line = Line::greeted(port).await;
    line.say(r#"{"type": "Signal", "id": 1, "to": "gate:line", "wait": "20s"}"#).await;
    for byte in framed(r#"{"type": "Ping", "id": 2}"#) {
        line.write(&[byte]).await;
    }
    assert_eq!(line.hear().await, Some(json!({"type": "Pong", "id": 2})));
    gate("line").add_permits(1);
    let ended = line.hear().await.expect("it is answered");
    assert_eq!((&ended["id"], &ended["signal"]["tree"]["reply"]), (&json!(1), &json!("through")), "{ended}");
    stop.cancel();
    world.end().await;
}

#[tokio::test]
async fn who_has_said_all_hears_what_was_asked() {
    let world = World::start().await;
    let (port, stop) = listen(&world, Limits::default()).await;
    let mut line = Line::greeted(port).await;
    line.say(r#"{"type": "Signal", "id": 1, "to": "echo", "content": [1, "a"]}"#).await;
    line.0.shutdown().await.expect("it is open");
    let answer = line.hear().await.expect("it is answered");
    assert_eq!(answer["signal"]["tree"]["reply"], json!([1, "a"]), "{answer}");
    assert_eq!(line.hear().await, None);
    stop.cancel();
    world.end().await;
}

#[tokio::test]
async fn signals_of_a_line_that_breaks_off_are_called_off() {
    let world = World::start().await;
    let (port, stop) = listen(&world, Limits::default()).await;
    let mut line = Line::greeted(port).await;
    line.say(r#"{"type": "Signal", "to": "gate:broken", "wait": "60s"}"#).await;
    let handled = || world.node.handle().metrics().signals_handled.get();
    until(|| handled() == 1).await;
    line.0.set_zero_linger().expect("it is open");
    drop(line);
    until(|| handled() == 0).await;
    stop.cancel();
    world.end().await;
}

#[tokio::test]
async fn what_a_line_must_not_do_ends_it_with_a_reason() {
    let world = World::start().await;
    let short = Duration::from_millis(200);
    let limits = Limits { hello_max: short, frame_max: short, idle_max: short, ..Limits::default() };
    let (port, stop) = listen(&world, limits).await;
    let hello = framed(r#"{"type": "Hello", "name": "a", "version": 1}"#);
    for (written, greeted, code, said) in [
        // Announced and never sent: nobody waits for it.
        (vec![0, 0x10, 0, 1], true, "PLG-2014", "1048577 bytes"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), false, "PLG-2014", "\"GET \" is text"),
        (b"{\"type\": \"Hello\"}".to_vec(), false, "PLG-2014", "is text"),
        (framed(r#"{"type": "Ping"}"#), false, "PLG-2020", "the first frame must be a Hello"),
        (framed(r#"{"type": "Hello", "name": "a", "version": 2}"#), false, "PLG-2003", "version 1"),
        (framed(r#"{"type": "Hello", "name": "a\u001b[2J", "version": 1}"#), false, "PLG-2003", "control characters"),
        (framed("not JSON"), false, "PLG-2002", "not JSON"),
        (vec![0, 0], false, "PLG-2030", "no Hello"),
        (vec![0, 0, 0, 9, b'{'], true, "PLG-2030", "not whole"),
        (vec![], true, "PLG-2030", "nothing came"),
    ] {
        let mut line = Line::connect(port).await;
        if greeted {
            line.write(&hello).await;
            assert_eq!(line.hear().await.expect("it is answered")["type"], "Hello");
        }
        line.write(&written).await;
        let error = line.hear().await.expect("it says why");
        let problem = error["problem"].to_string();
        assert!(
            error["type"] == "Error" && problem.contains(code) && problem.contains(&said.replace('"', "\\\"")),
            "{error}"
        );
        assert_eq!(line.hear().await, None, "{said}");
    }
    stop.cancel();
    world.end().await;
}

#[tokio::test]
async fn a_bad_frame_is_refused_and_the_line_goes_on() {
    let world = World::start().await;
    let (port, stop) = listen(&world, Limits { requests_max: 1, ..Limits::default() }).await;
    let mut line = Line::greeted(port).await;
    for bad in ["", "{", "[]", r#"{"type": "Signal", "id": 3, "to": ""}"#, r#"{"type": "Signal", "to": 1}"#] {
        line.say(bad).await;
        let error = line.hear().await.expect("it is answered");
        assert_eq!((&error["type"], error["problem"]["hint"].is_string()), (&json!("Error"), true), "{bad}: {error}");
    }
    line.say(r#"{"type": "Signal", "id": 1, "to": "gate:busy", "wait": "20s"}"#).await;
    line.say(r#"{"type": "Discovery", "id": 2}"#).await;
    let busy = line.hear().await.expect("it is answered");
    assert_eq!((&busy["id"], &busy["problem"]["code"]), (&json!(2), &json!("PLG-2022")), "{busy}");
    gate("busy").add_permits(1);
    assert_eq!(line.hear().await.expect("it is answered")["id"], 1);
    line.say(r#"{"type": "Ping"}"#).await;
    assert_eq!(line.hear().await, Some(json!({"type": "Pong"})));
    stop.cancel();
    assert_eq!(line.hear().await.expect("it says why")["problem"]["code"], "PLG-2028");
    world.end().await;
}

#[tokio::test]
async fn lines_take_the_places_of_clients() {
    let world = World::with_connections(4).await;
    let (port, stop) = listen(&world, Limits::default()).await;
    let (first, _second) = (Line::greeted(port).await, Line::greeted(port).await);
    let mut third = Line::connect(port).await;
    third.say(HELLO).await;
    let refused = third.hear().await.expect("it says why");
    assert_eq!(refused["problem"]["code"], "PLG-2033", "{refused}");
    assert!(refused["problem"]["detail"].as_str().is_some_and(|said| said.contains("all 2 places")), "{refused}");
    assert_eq!(third.hear().await, None);
    assert_eq!(world.node.handle().metrics().connections.get(), 2);
    drop(first);
    let again = async {
        loop {
            let mut line = Line::connect(port).await;
            line.say(HELLO).await;
            if line.hear().await.is_some_and(|answer| answer["type"] == "Hello") {
                return;
            }
        }
    };
    timeout(PATIENCE, again).await.expect("the place is free again");
    stop.cancel();
    world.end().await;
}

#[tokio::test]
async fn who_says_nothing_takes_no_place_and_gives_way() {
    let world = World::with_connections(4).await;
    let (port, stop) = listen(&world, Limits { greetings_max: 3, ..Limits::default() }).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(Line::connect(port).await);
    }
    let mut greeted = Line::greeted(port).await;
    for line in &mut silent[..17] {
        let problem = line.hear().await.expect("it says why")["problem"].clone();
        assert_eq!((&problem["code"], line.hear().await), (&json!("PLG-2033"), None), "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|said| said.contains("no Hello")), "{problem}");
    }
    assert_eq!(world.node.handle().metrics().connections.get(), 1);
    // Whoever has greeted stays, however many come after.
    for _ in 0..10 {
        silent.push(Line::connect(port).await);
    }
    silent[19].hear().await.expect("it gave way to one of them");
    greeted.say(r#"{"type": "Ping"}"#).await;
    assert_eq!(greeted.hear().await, Some(json!({"type": "Pong"})));
    stop.cancel();
    world.end().await;
}

#[test]
fn the_corpus_of_json_frames_is_harmless_and_so_is_damage_to_it() {
    replay("json", 20_000, json_body::check);
}

async fn listen(world: &World, limits: Limits) -> (u16, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    let stop = CancellationToken::new();
    tokio::spawn(line::serve(listener, world.node.handle().clone(), limits, stop.clone()));
    (port, stop)
}

struct Line(TcpStream);

impl Line {
    async fn connect(port: u16) -> Self {
        Self(TcpStream::connect(("127.0.0.1", port)).await.expect("the listener is there"))
    }

    async fn greeted(port: u16) -> Self {
        let mut line = Self::connect(port).await;
        line.say(HELLO).await;
        assert_eq!(line.hear().await.expect("it is answered")["type"], "Hello");
        line
    }

    async fn say(&mut self, document: &str) {
        self.write(&framed(document)).await;
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("the node reads");
    }

    /// The next document; `None` once the node has ended the connection.
    async fn hear(&mut self) -> Option<Value> {
        let length = timeout(PATIENCE, self.0.read_u32()).await.expect("it answers in time").ok()?;
        let mut document = vec![0; length as usize];
        timeout(PATIENCE, self.0.read_exact(&mut document)).await.expect("in time").expect("a frame is whole");
        Some(serde_json::from_slice(&document).expect("a frame is JSON"))
    }
}

fn framed(document: &str) -> Vec<u8> {
    let length = u32::try_from(document.len()).expect("it is short");
    [&length.to_be_bytes(), document.as_bytes()].concat()
}

/// Whether `heard` is as the page says, where `…` is anything; as a key, any others.
fn fits(page: &Value, heard: &Value) -> bool {
    match (page, heard) {
        (Value::String(any), _) if any == "…" => true,
        (Value::Object(page), Value::Object(heard)) => {
            let all =
                |(key, page): (&String, &Value)| key == "…" || heard.get(key).is_some_and(|heard| fits(page, heard));
            page.iter().all(all) && (page.contains_key("…") || page.len() == heard.len())
        }
        (Value::Array(page), Value::Array(heard)) => {
            page.len() == heard.len() && page.iter().zip(heard).all(|(page, heard)| fits(page, heard))
        }
        (page, heard) => page == heard,
    }
}

async fn until(is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("it becomes so");
}
