//! Topics over HTTP.

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_comes_as_events_until_the_node_stops() {
    let world = World::start().await;
    let mut heard = Events::of(&world, "orders.*").await;
    let publish = async |topic: &str, message: &str| world.post(&format!("/api/v1/topics/{topic}"), message).await;
    for (topic, message) in [("orders.eu", "1"), ("orders", "2"), ("orders.us", r#"{"id": 3}"#)] {
        assert_eq!(publish(topic, message).await.status, 202);
    }
    assert_eq!(heard.next().await, r##"{"topic":"orders.eu","message":1,"missed":0}"##);
    assert_eq!(heard.next().await, r##"{"topic":"orders.us","message":{"id": 3},"missed":0}"##);
    assert_eq!(publish("orders..eu", "1").await.status, 400);
    assert_eq!(publish("orders.eu", "no JSON").await.status, 400);
    assert_eq!(world.get("/api/v1/topics/or*", "Host: localhost\r\n").await.status, 400);
    // A stream is a request under way: it ends with the node, and does not keep it.
    world.end().await;
    assert_eq!(heard.rest().await, "0\r\n\r\n");
}

/// A response that goes on.
struct Events {
    stream: TcpStream,
    read: String,
}

impl Events {
    async fn of(world: &World, pattern: &str) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", world.port)).await.expect("it listens");
        let request = format!("GET /api/v1/topics/{pattern} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut events = Self { stream, read: String::new() };
        let head = events.until("\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/event-stream"), "{head}");
        events
    }

    async fn next(&mut self) -> String {
        let event = self.until("\n\n").await;
        event.split_once("data: ").expect("an event has data").1.trim_end().to_owned()
    }

    async fn rest(&mut self) -> String {
        self.stream.read_to_string(&mut self.read).await.expect("it ends in order");
        std::mem::take(&mut self.read).trim_start_matches("\r\n").to_owned()
    }

    /// What comes up to `end`, and with it.
    async fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.read.find(end) {
                return self.read.drain(..at + end.len()).collect();
            }
            let mut more = [0; 1_024];
            let count = self.stream.read(&mut more).await.expect("it goes on");
            assert!(count > 0, "it ended: {}", self.read);
            self.read.push_str(std::str::from_utf8(&more[..count]).expect("text"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_asks_tells_and_listens_until_the_node_stops() {
    let world = World::start().await;
    let mut socket = Socket::open(&world).await;
    let answers = [
        (r#"{"id": 1, "ask": "counter:ws", "message": 5}"#, r#"{"id":1,"reply":5}"#),
        (r#"{"id": 2, "subscribe": "orders.*"}"#, r#"{"id":2,"subscribed":"orders.*"}"#),
        (r#"{"id": 3, "tell": "counter:ws", "message": 2}"#, r#"{"id":3,"told":"counter:ws"}"#),
        (r#"{"id": 4, "broadcast": "echo", "message": 1}"#, r#"{"id":4,"nodes":1,"agents":1,"missed":[]}"#),
        (r#"{"id": 5, "ask": "counter:ws", "message": 1, "wait": "5s"}"#, r#"{"id":5,"reply":8}"#),
    ];
    for (command, answer) in answers {
        assert_eq!(socket.ask(command).await, answer);
    }
    let mut heard = vec![socket.ask(r#"{"id": 6, "publish": "orders.eu", "message": [7]}"#).await, socket.next().await];
    heard.sort();
    let published = r#"{"subscription":2,"topic":"orders.eu","message":[7],"missed":0}"#;
    assert_eq!(heard, [r##"{"id":6,"told":"#orders.eu"}"##, published]);
    for seen in 0..2 {
        let within = r#"{"id": 27, "ask": "talk", "message": "hello", "session": "ws", "session_ttl": "1h"}"#;
        assert_eq!(socket.ask(within).await, format!(r#"{{"id":27,"reply":{seen}}}"#));
    }
    let alike = r#"{"id": 28, "ask": "talk", "affinity": "a"}"#;
    assert_eq!(socket.ask(alike).await, r#"{"id":28,"reply":null}"#);
    assert_eq!(socket.ask(r#"{"id": 7, "unsubscribe": 2}"#).await, r#"{"id":7,"unsubscribed":2}"#);
    assert_eq!(socket.ask(r#"{"id": 8, "publish": "orders.eu"}"#).await, r##"{"id":8,"told":"#orders.eu"}"##);

    for (command, id, code) in [
        (r#"{"id": 9, "ask": "conter:ws"}"#, "9", "PLG-2004"),
        (r#"{"id": 10, "ask": "echo", "tell": "echo"}"#, "10", "PLG-2003"),
        (r#"{"id": 11}"#, "11", "PLG-2003"),
        (r#"{"id": 12, "ask": "echo", "wait": "soon"}"#, "12", "PLG-2003"),
        (r#"{"id": 13, "subscribe": "or*"}"#, "13", "PLG-2001"),
        (r#"{"id": 14, "aks": "echo"}"#, "14", "PLG-2003"),
        (r#"{"id": 15, "ask": "echo", "wait": 5}"#, "15", "PLG-2003"),
        (r#"{"id": 16, "tell": "echo", "priority": 10}"#, "16", "PLG-2003"),
        (r#"{"id": 17, "tell": "echo", "traceparent": "00-1"}"#, "17", "PLG-2003"),
        (r#"{"id": 18, "unsubscribe": 99}"#, "18", "PLG-2003"),
        (r#"{"id": 21, "ask": "talk", "session": "no name"}"#, "21", "PLG-2009"),
        (r#"{"id": 22, "ask": "talk", "session": "s", "session_busy": "wait"}"#, "22", "PLG-2009"),
        (r#"{"id": 23, "ask": "talk", "session": "s", "session_ttl": "999ms"}"#, "23", "PLG-2009"),
        (r#"{"id": 24, "ask": "talk", "session_ttl": "1h"}"#, "24", "PLG-2009"),
        (r#"{"id": 25, "ask": "talk", "session": "s", "affinity": "a"}"#, "25", "PLG-2009"),
        (r#"{"id": 26, "tell": "talk", "session": "s"}"#, "26", "PLG-2009"),
        (r#"{"ask": "echo"}"#, "null", "PLG-2003"),
        (r#"[19, "echo"]"#, "null", "PLG-2003"),
        ("no JSON", "null", "PLG-2003"),
    ] {
        let answer = socket.ask(command).await;
        assert!(answer.starts_with(&format!(r#"{{"id":{id},"problem":"#)) && answer.contains(code), "{answer}");
    }
    let subscribe = r#"{"id": 20, "subscribe": "a"}"#;
    assert_eq!(socket.ask(subscribe).await, r#"{"id":20,"subscribed":"a"}"#);
    assert!(socket.ask(subscribe).await.contains("PLG-2003"), "the first goes on");
    world.end().await;
    assert_eq!(socket.end().await, "the node is stopping");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_breaks_the_rules_is_told_why_it_ends() {
    let world = World::start().await;
    let mut socket = Socket::open(&world).await;
    socket.0.send(Message::text("x".repeat((1 << 20) + 1))).await.expect("it is open");
    assert!(socket.end().await.contains("1 MiB at most"));
    world.get("/api/v1/socket", "Host: localhost\r\n").await.problem(400, "PLG-2050");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_message_says_about_itself_comes_with_it() {
    let world = World::start().await;
    let mut heard = Events::of(&world, "orders").await;
    let publish = async |head: &str, body: &str| world.request("POST", "/api/v1/topics/orders", head, body).await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
    let head =
        format!("Content-Type: image/png\r\nPelago-Message-Type: 7\r\nPelago-Priority: 0\r\ntraceparent: {trace}\r\n");
    assert_eq!(publish(&head, "no JSON").await.status, 202);
    let told = format!(
        r##"{{"topic":"orders","message":{{"base64":"bm8gSlNPTg=="}},"missed":0,"message_type":7,"content_type":"image/png","priority":0,"traceparent":"{trace}"}}"##
    );
    assert_eq!(heard.next().await, told);
    // A trace that cannot be read is none, and no fault of the message.
    assert_eq!(publish("Content-Type: application/json\r\ntraceparent: 00-1\r\n", "1").await.status, 202);
    assert_eq!(heard.next().await, r##"{"topic":"orders","message":1,"missed":0}"##);
    for (head, status, code) in [
        ("Content-Type: image/png\r\nPelago-Priority: 10\r\n", 400, "PLG-2050"),
        ("Content-Type: image/png\r\nPelago-Message-Type: -1\r\n", 400, "PLG-2050"),
        ("Content-Type: image/png\r\nPelago-Within: soon\r\n", 400, "PLG-2050"),
        ("Content-Type: image/png\r\nPelago-Within: 1s\r\nPelago-Within: 2s\r\n", 400, "PLG-2050"),
        ("Content-Type: image\r\n", 415, "PLG-2015"),
        // A page in a browser could have sent it without asking first.
        ("Content-Type: text/plain\r\n", 415, "PLG-2015"),
    ] {
        publish(head, "x").await.problem(status, code);
    }
    assert_eq!(publish("Content-Type: text/plain\r\nPelago-Priority: 4\r\n", "x").await.status, 202);
    for (path, body) in [
        ("/api/v1/agents/counter:a/send", "1"),
        ("/api/v1/tasks", r#"{"agent":"echo"}"#),
        ("/api/v1/signals", r#"{"to":"echo"}"#),
    ] {
        let head = "Content-Type: application/json\r\nPelago-Within: 1s\r\n";
        world.request("POST", path, head, body).await.problem(400, "PLG-2050");
    }
    assert_eq!(publish("Content-Type: application/json\r\n", "\"bad \u{fffd}\"").await.status, 202);
    world.end().await;
}

struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    async fn open(world: &World) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", world.port)).await.expect("it listens");
        let url = format!("ws://localhost:{}/api/v1/socket", world.port);
        Self(tokio_tungstenite::client_async(url, stream).await.expect("it is a socket").0)
    }

    async fn ask(&mut self, command: &str) -> String {
        self.0.send(Message::text(command)).await.expect("it is open");
        self.next().await
    }

    async fn next(&mut self) -> String {
        self.0.next().await.expect("it is open").expect("it goes on").into_text().expect("text").to_string()
    }

    /// Why it was closed.
    async fn end(&mut self) -> String {
        let last = self.0.next().await.expect("it says why").expect("it ends in order");
        let Message::Close(Some(frame)) = last else { panic!("{last:?} is no farewell") };
        frame.reason.to_string()
    }
}
