//! A node in this process, behind a real listener.

use std::{
    collections::BTreeMap,
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use pelago_api::{
    client::Client,
    http::{self, Limits},
};
use pelago_core::{agent, id::Name, record::RetryPolicy, task};
use pelago_node::{Agent, Config, Fault, Node, Packing, Timing, Turn, metrics::Metrics};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// Adds up, and remembers.
#[derive(Default, Serialize, Deserialize)]
struct Counter {
    count: i64,
}

impl Agent for Counter {
    type Input = i64;
    type Output = i64;

    async fn handle(&mut self, by: i64, turn: &mut Turn) -> Result<i64, Fault> {
        if by == 0 {
            return Err(Fault::hopeless("nothing to add"));
        }
        turn.progress(&format!("adding {by}")).await?;
        self.count += by;
        Ok(self.count)
    }
}

/// Says what it hears.
#[derive(Default, Serialize, Deserialize)]
struct Echo;

impl Agent for Echo {
    type Input = Value;
    type Output = Value;

    async fn handle(&mut self, heard: Value, _turn: &mut Turn) -> Result<Value, Fault> {
        Ok(heard)
    }
}

/// Says how many turns its session had before; nothing outside one.
#[derive(Default, Serialize, Deserialize)]
struct Talk;

impl Agent for Talk {
    type Input = Value;
    type Output = Option<u64>;

    async fn handle(&mut self, _heard: Value, turn: &mut Turn) -> Result<Option<u64>, Fault> {
        Ok(turn.session().map(|session| session.seen))
    }
}

/// The gate of the agent `gate:{key}`: one permit lets one turn through. Tests share the process, so each takes a key
/// of its own.
pub(crate) fn gate(key: &str) -> Arc<Semaphore> {
    static GATES: Mutex<BTreeMap<String, Arc<Semaphore>>> = Mutex::new(BTreeMap::new());
    let mut gates = GATES.lock().expect("no holder of the lock panics");
    Arc::clone(gates.entry(key.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(0))))
}

/// Waits at its [`gate`].
#[derive(Default, Serialize, Deserialize)]
struct Gate;

impl Agent for Gate {
    type Input = Value;
    type Output = &'static str;

    async fn handle(&mut self, _input: Value, turn: &mut Turn) -> Result<&'static str, Fault> {
        gate(turn.key()).acquire().await?.forget();
        Ok("through")
    }
}

pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) node: Node,
    pub(crate) port: u16,
    pub(crate) stop: CancellationToken,
    pub(crate) serving: JoinHandle<io::Result<()>>,
    _directory: tempfile::TempDir,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_within(Limits::default()).await
    }

    pub(crate) async fn start_within(limits: Limits) -> Self {
        Self::with(limits, 1_000).await
    }

    /// So many connections with nodes and clients at most.
    pub(crate) async fn with_connections(connections_max: u32) -> Self {
        Self::with(Limits::default(), connections_max).await
    }

    async fn with(limits: Limits, connections_max: u32) -> Self {
        let directory = tempfile::tempdir().expect("there is room for a directory");
        let kinds = vec![
            pelago_node::keyed::<Counter>("counter"),
            pelago_node::pool::<Echo>("echo"),
            pelago_node::keyed::<Gate>("gate"),
            pelago_node::pool::<Talk>("talk"),
        ];
        let node = Node::start(Config { connections_max, ..config(&directory) }, kinds)
            .await
            .expect("a node of its own starts");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(http::serve(listener, node.handle().clone(), limits, stop.clone()));
        let client = Client::new(&format!("http://127.0.0.1:{port}"));
        Self { client, node, port, stop, serving, _directory: directory }
    }

    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.node.begin_to_stop();
        self.serving.await.expect("serving does not panic").expect("the listener was sound");
        self.node.drain().await;
        self.node.close().await;
    }

    pub(crate) async fn raw(&self, request: &str) -> Raw {
        raw(self.port, request).await
    }

    /// GET with a head of its own.
    pub(crate) async fn get(&self, target: &str, head: &str) -> Raw {
        self.raw(&format!("GET {target} HTTP/1.1\r\nConnection: close\r\n{head}\r\n")).await
    }

    /// A request as a well-behaved program sends it.
    pub(crate) async fn request(&self, method: &str, target: &str, head: &str, body: &str) -> Raw {
        let length = body.len();
        self.raw(&format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n{head}\r\n{body}"
        ))
        .await
    }

    /// POST of JSON.
    pub(crate) async fn post(&self, target: &str, body: &str) -> Raw {
        self.request("POST", target, "Content-Type: application/json\r\n", body).await
    }

    /// Waits until the node has seen so many requests.
    pub(crate) async fn seen(&self, requests: u64) {
        let handle = self.node.handle();
        let waiting = async {
            while handle.metrics().http_requests.get() < requests {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("the requests arrive");
    }
}

/// Sends `request` as it is, on a connection of its own, and reads until the other end closes it.
pub(crate) async fn raw(port: u16, request: &str) -> Raw {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the listener is there");
    stream.write_all(request.as_bytes()).await.expect("the request fits the buffers");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("the answer is text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a head has a status");
    Raw { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

/// An answer.
pub(crate) struct Raw {
    pub(crate) status: u16,
    /// In lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n\n{:.500}", self.head, self.body)
    }
}

impl Raw {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn has(&self, line: &str) -> bool {
        self.head.lines().any(|found| found == line)
    }

    /// Checks that this is a problem with this code, and gives its detail and hint.
    pub(crate) fn problem(&self, status: u16, code: &str) -> (String, String) {
        assert!(self.has("content-type: application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(
            (self.status, &problem["code"], &problem["status"]),
            (status, &code.into(), &status.into()),
            "{self:?}"
        );
        let text = |field: &str| problem[field].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        (text("detail").expect("a problem has a detail"), text("hint").expect("a problem has a hint"))
    }
}

fn config(directory: &tempfile::TempDir) -> Config {
    Config {
        directory: directory.path().join("node"),
        mesh_name: Name::new("test").expect("valid"),
        name: Some(Name::new("n1").expect("valid")),
        found: true,
        labels: BTreeMap::new(),
        http_address: String::new(),
        mesh_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        known: Vec::new(),
        timing: Timing::Lan,
        gossip: pelago_core::membership::Profile::Local,
        metrics: Metrics::default(),
        policy: RetryPolicy { attempts_max: 3, attempt_ms_max: 60_000, backoff_ms: 1, backoff_ms_max: 10 },
        agent: agent::Config::default(),
        scheduler: task::Config::default(),
        balancing: pelago_node::Balancing::default(),
        disk_free_bytes_min: 0,
        drain_max: Duration::from_secs(5),
        hops_max: 16,
        packing: Packing::default(),
        tracer: None,
        connections_max: 1_000,
    }
}
