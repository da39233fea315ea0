//! Nodes in this process, on real files and real sockets, and the agents they host.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use bytes::Bytes;
use pelago_core::{agent, id::Name, record::RetryPolicy, task};
use pelago_node::{
    Agent, Config, Fault, Handle, Kind, Node, TaskRequest, Turn,
    handle::{AskOptions, Error, TaskDetail},
    keyed,
    metrics::Metrics,
    pool, resident,
};
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Counter {
    count: i64,
}

impl Agent for Counter {
    type Input = i64;
    type Output = i64;

    async fn handle(&mut self, by: i64, _turn: &mut Turn) -> Result<i64, Fault> {
        self.count += by;
        if self.count < 0 {
            return Err(Fault::hopeless("a count is not negative"));
        }
        Ok(self.count)
    }
}

/// Adds to a counter by a durable message, and reports how.
#[derive(Default, Serialize, Deserialize)]
struct Teller;

impl Agent for Teller {
    type Input = String;
    type Output = String;

    async fn handle(&mut self, to: String, turn: &mut Turn) -> Result<String, Fault> {
        turn.progress(&"telling").await?;
        turn.send(&to, &1)?;
        turn.send(&to, &1)?;
        Ok(format!("told {to}"))
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Panics;

impl Agent for Panics {
    type Input = ();
    type Output = ();

    async fn handle(&mut self, (): (), _turn: &mut Turn) -> Result<(), Fault> {
        panic!("this agent is broken")
    }
}

/// The founder of a mesh.
pub(crate) async fn start(home: &Path) -> Node {
    Node::start(config(home), kinds()).await.expect("the node starts")
}

pub(crate) async fn stop(node: Node) {
    node.begin_to_stop();
    node.drain().await;
    node.close().await;
}

pub(crate) fn kinds() -> Vec<Kind> {
    vec![keyed::<Counter>("counter"), pool::<Teller>("teller"), pool::<Panics>("panics"), resident::<Counter>("here")]
}

pub(crate) fn config(home: &Path) -> Config {
    Config {
        directory: home.join("node"),
        mesh_name: Name::new("test").expect("valid"),
        name: None,
        found: true,
        labels: BTreeMap::new(),
        http_address: String::new(),
        mesh_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        known: Vec::new(),
        timing: pelago_node::Timing::Lan,
        metrics: Metrics::default(),
        policy: RetryPolicy { attempts_max: 3, attempt_ms_max: 10_000, backoff_ms: 10, backoff_ms_max: 50 },
        agent: agent::Config::default(),
        scheduler: task::Config::default(),
        disk_free_bytes_min: 0,
        drain_max: Duration::from_secs(5),
    }
}

pub(crate) async fn ask(handle: &Handle, to: &str, body: &str) -> Result<String, Error> {
    let options = AskOptions { wait: Duration::from_secs(10), idempotency_key: None };
    let reply = handle.ask(to, Bytes::copy_from_slice(body.as_bytes()), options).await?;
    Ok(String::from_utf8(reply.to_vec()).expect("replies are JSON"))
}

pub(crate) async fn task(handle: &Handle, to: &str, input: &str) -> TaskDetail {
    let input = Bytes::copy_from_slice(input.as_bytes());
    let enqueued = handle.enqueue(to, input, TaskRequest::default()).await.expect("the task is taken");
    handle.task(enqueued.task, Some(Duration::from_secs(20))).await.expect("the task is known")
}

/// Asks until the answer is yes.
pub(crate) async fn poll(mut question: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !question().await {
        assert!(tokio::time::Instant::now() < deadline, "it did not come true in time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
