//! How the API ends: nobody is cut off, nobody new is let in.

use std::time::Duration;

use pelago_api::model::NewTask;
use pelago_core::record::TaskState;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::world::{World, gate};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_api_ends_what_runs_and_refuses_what_comes() {
    let world = World::start().await;
    let (asking, watching) = (world.client.clone(), world.client.clone());
    let delayed = NewTask { agent: "echo".into(), delay_ms: Some(3_600_000), ..NewTask::default() };
    let waiting = world.client.enqueue(&delayed, None).await.expect("the agent is declared").id;
    let ask = tokio::spawn(async move { asking.ask("gate:last", "1", None, None).await });
    let watch = tokio::spawn(async move { watching.task(waiting, Some(Duration::from_secs(60))).await });
    let mut open = TcpStream::connect(("127.0.0.1", world.port)).await.expect("the listener is there");
    world.seen(3).await;

    world.stop.cancel();
    let stands = watch.await.expect("a client does not panic").expect("a waiting read is answered at once");
    assert_eq!(stands.state, TaskState::Queued);
    let refused = world.get("/api/v1/status", "Host: localhost\r\n").await;
    refused.problem(503, "PLG-2028");
    assert!(refused.has("retry-after: 1") && refused.has("connection: close"), "{refused:?}");
    assert_eq!(world.get("/livez", "Host: localhost\r\n").await.status, 200);
    assert_eq!(world.get("/readyz", "Host: localhost\r\n").await.status, 503);
    open.write_all(b"GET /api/v1/nodes HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("it is open");
    let mut answer = String::new();
    open.read_to_string(&mut answer).await.expect("the node closes it after its answer");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");

    gate("last").add_permits(1);
    let reply = ask.await.expect("a client does not panic").expect("an ask under way gets its reply");
    assert_eq!(reply.json(), "\"through\"");
    let ended = tokio::time::timeout(Duration::from_secs(10), world.serving).await;
    ended.expect("nothing is under way").expect("serving does not panic").expect("the listener was sound");
    TcpStream::connect(("127.0.0.1", world.port)).await.expect_err("the listener is closed");
    world.node.begin_to_stop();
    world.node.drain().await;
    world.node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_do_not_hold_up_the_end() {
    let world = World::start().await;
    let silent = TcpStream::connect(("127.0.0.1", world.port)).await.expect("the listener is there");
    let mut halfway = TcpStream::connect(("127.0.0.1", world.port)).await.expect("the listener is there");
    assert!(world.client.is_ready().await.expect("the node is there"), "its connection stays open, idle");
    halfway.write_all(b"GET /livez HTTP/1.1\r\nHost: loc").await.expect("it is open");
    tokio::time::timeout(Duration::from_secs(10), world.end()).await.expect("only idle connections were left");
    drop((silent, halfway));
}
