//! More connections than there are places for.

use std::{net::Ipv4Addr, time::Duration};

use pelago_api::{http::Limits, model::NewTask};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::world::World;

/// How long anything may take that comes by itself.
const PATIENCE: Duration = Duration::from_secs(20);
const FEW: Limits = Limits {
    connections_max: 3,
    probes_max: 2,
    head_max: Duration::from_secs(60),
    probe_max: Duration::from_millis(300),
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_connections_leave_room_for_probes_only() {
    let world = World::start_within(FEW).await;
    let delayed = NewTask { agent: "echo".into(), delay_ms: Some(3_600_000), ..NewTask::default() };
    let task = world.client.enqueue(&delayed, None).await.expect("the agent is declared").id;
    let before = world.node.handle().metrics().http_requests.get();
    let mut waiting = Vec::new();
    // The client's own connection stays open, idle, and has the first place.
    for _ in 1..FEW.connections_max {
        let mut stream = connect(&world).await;
        let request = format!("GET /api/v1/tasks/{task}?wait=60s HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("it is open");
        waiting.push(stream);
    }
    world.seen(before + waiting.len() as u64).await;

    // More often than there are places for probes: each answer frees its own.
    for _ in 0..4 {
        for target in ["/livez", "/readyz", "/health", "/metrics"] {
            let answer = world.raw(&format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
            assert_eq!(answer.status, 200, "{target}: {answer:?}");
            assert!(answer.has("connection: close"), "{answer:?}");
        }
        let refused = world.request("POST", "/api/v1/tasks", "Content-Type: application/json\r\n", "{}").await;
        let (detail, hint) = refused.problem(503, "PLG-2033");
        assert!(detail.contains("connections") && hint.contains("another node"), "{detail} {hint}");
        assert!(refused.has("retry-after: 1") && refused.has("connection: close"), "{refused:?}");
    }
    world.get("/livez", "Host: evil.example\r\n").await.problem(403, "PLG-2016");
    world.get("/api/v1/status", "Host: evil.example\r\n").await.problem(403, "PLG-2016");

    drop(waiting);
    let served = async {
        while world.get("/api/v1/status", "Host: localhost\r\n").await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, served).await.expect("places that were left are free again");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_keep_no_place_that_is_for_probes() {
    let world = World::start_within(FEW).await;
    let mut silent = Vec::new();
    for _ in 0..FEW.connections_max + 3 * FEW.probes_max {
        let mut stream = connect(&world).await;
        stream.write_all(b"GET /api/v1/status HTTP/1.1\r\nHost: loc").await.expect("it is open");
        silent.push(stream);
    }
    let answer = tokio::time::timeout(PATIENCE, world.get("/livez", "Host: localhost\r\n")).await;
    assert_eq!(answer.expect("those before it lose their places").status, 200);
    let (with_places, beyond) = silent.split_at_mut(FEW.connections_max);
    for stream in beyond {
        let ended = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 64])).await;
        assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
    }
    for stream in with_places {
        stream.write_all(b"alhost\r\nConnection: close\r\n\r\n").await.expect("it is open");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("the answer is text");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_does_not_end_frees_its_place() {
    let world = World::start_within(Limits { head_max: Duration::from_millis(200), ..FEW }).await;
    let mut slow = Vec::new();
    for _ in 0..FEW.connections_max {
        let mut stream = connect(&world).await;
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: loc").await.expect("it is open");
        slow.push(stream);
    }
    for mut stream in slow {
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await;
        ended.expect("it is closed").ok();
    }
    assert_eq!(world.get("/api/v1/status", "Host: localhost\r\n").await.status, 200);
    world.end().await;
}

async fn connect(world: &World) -> TcpStream {
    TcpStream::connect((Ipv4Addr::LOCALHOST, world.port)).await.expect("the listener is there")
}
