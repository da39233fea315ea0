//! Requests that a browser sends for somebody else.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebound_name_is_refused_everywhere() {
    let world = World::start().await;
    for target in ["/api/v1/status", "/health", "/livez", "/metrics", "/nowhere"] {
        let answer = world.get(target, "Host: evil.example:8080\r\n").await;
        let (detail, hint) = answer.problem(403, "PLG-2016");
        assert!(detail.contains("evil.example") && hint.contains("localhost"), "{detail} {hint}");
    }
    for head in ["", "Host:\r\n", "Host: localhost\r\nHost: evil.example\r\n", "Host: 127.0.0.1.nip.io\r\n"] {
        world.get("/livez", head).await.problem(403, "PLG-2016");
    }
    world.get("http://evil.example/livez", "Host: localhost\r\n").await.problem(403, "PLG-2016");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_page_is_refused_and_does_nothing() {
    let world = World::start().await;
    for origin in
        ["https://evil.example", "null", "http://localhost.evil.example", "file://", "http://evil.example@localhost"]
    {
        let head = format!("Content-Type: application/json\r\nOrigin: {origin}\r\n");
        let answer = world.request("POST", "/api/v1/agents/counter:a/ask", &head, "1").await;
        answer.problem(403, "PLG-2017");
    }
    let untouched = world.get("/api/v1/agents/counter:a", "Host: localhost\r\n").await;
    untouched.problem(404, "PLG-2007");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn this_machine_is_let_in_by_all_its_names() {
    let world = World::start().await;
    for head in [
        "Host: localhost\r\n",
        "Host: LOCALHOST:1\r\n",
        "Host: 127.0.0.1:8080\r\n",
        "Host: [::1]:8080\r\n",
        "Host: localhost\r\nOrigin: http://localhost:3000\r\n",
        "Host: localhost\r\nOrigin: https://127.0.0.1\r\n",
    ] {
        assert_eq!(world.get("/livez", head).await.status, 200, "{head}");
    }
    world.end().await;
}

/// A listener that is no node: it reads one request and says `answer`.
pub(crate) async fn answering(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("somebody comes");
        let mut head = [0; 4_096];
        let read = stream.read(&mut head).await.expect("somebody asks");
        assert_ne!(read, 0, "somebody hung up");
        stream.write_all(answer.as_bytes()).await.expect("somebody listens");
    });
    address
}
