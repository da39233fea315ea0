//! What is answered before there is a node to ask.

use pelago_api::{
    client::{Client, Error},
    http::{self, Limits},
};
use pelago_node::metrics::Metrics;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::world::{World, raw};

const HEAD: &str = "Host: localhost\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_starts_is_alive_and_does_nothing_yet() {
    let (port, _stop) = start().await;
    let get = async |path: &str, head: &str| raw(port, &format!("GET {path} HTTP/1.1\r\n{head}\r\n")).await;
    let alive = get("/livez", HEAD).await;
    assert!(alive.status == 200 && alive.has("connection: close"), "{alive:?}");
    let ready = get("/readyz", HEAD).await;
    assert_eq!((ready.status, ready.json()["status"].as_str()), (503, Some("not ready")));
    for path in ["/health", "/api/v1/status", "/nowhere"] {
        let refused = get(path, HEAD).await;
        refused.problem(503, "PLG-2036");
        assert!(refused.has("retry-after: 1"), "{refused:?}");
    }
    get("/livez", "Host: example.com\r\n").await.problem(403, "PLG-2016");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_several_nodes_passes_by_one_that_starts() {
    let (starting, _stop) = start().await;
    let world = World::start().await;
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let client = Client::of([url(starting).as_str(), url(world.port).as_str()]);
    assert_eq!(client.ask("counter:a", "2", None, None).await.expect("the other one replies").json(), "2");
    let alone = Client::new(&url(starting)).status().await;
    let Err(Error::Problem(problem)) = alone else { panic!("a node that starts has no status: {alone:?}") };
    assert_eq!(problem.code, "PLG-2036");
    world.end().await;
}

async fn start() -> (u16, tokio_util::sync::DropGuard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    let stop = CancellationToken::new();
    tokio::spawn(http::serve_starting(listener, Metrics::default(), Limits::default(), stop.clone()));
    (port, stop.drop_guard())
}
