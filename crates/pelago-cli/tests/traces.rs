//! One trace follows a question, a signal and a task over two nodes, and reaches whoever collects traces by OTLP.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, common::v1::any_value::Value, trace::v1::Span,
};
use pelago_api::client::Client;
use pelago_core::message::{Headers, TraceContext};
use prost::Message as _;
use serde_json::json;
use tempfile::TempDir;

/// How long anything may take that a node does on its own.
const PATIENCE: Duration = Duration::from_secs(60);
const TRACE: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;

#[tokio::test]
async fn one_trace_follows_a_question_and_a_signal_over_nodes_to_whoever_collects_it() {
    let collector = Collector::start();
    let homes = [TempDir::new().expect("a temporary folder"), TempDir::new().expect("a temporary folder")];
    let first = Node::start(&homes[0], "n1", &["--found"], &collector);
    let join = first.mesh.clone();
    let _second = Node::start(&homes[1], "n2", &["--join", &join], &collector);
    let client = Client::new(&first.http);

    let asked = TraceContext { trace: TRACE, span: 0xb7, sampled: true, state: None };
    let question = Headers { trace: Some(asked), ..Headers::NONE }.of("5".to_owned().into());
    until(async || client.ask("n2/echo", question.clone(), None, None).await.is_ok()).await;
    // Without a trace of its own, a request begins one.
    let signal = json!({ "to": "n2/echo", "content": 1 });
    let started = post(&first.http, "/api/v1/signals?wait=10s", None, &signal.to_string());
    assert!(started.starts_with("HTTP/1.1 200"), "{started}");

    let of_asked = |span: &Seen| span.of_trace(TRACE);
    let ask = collector.span("ask n2/echo", of_asked).await;
    let turn = collector.span("turn echo", of_asked).await;
    assert_eq!((ask.parent, ask.node.as_str()), (0xb7_u64.to_be_bytes().to_vec(), "n1"));
    assert_eq!((&turn.parent, turn.node.as_str()), (&ask.id, "n2"), "it follows from the question");

    let begun = collector.span("signal n2/echo", |_| true).await;
    let taken = collector.span("signal echo", |_| true).await;
    assert_eq!((begun.parent.len(), &taken.parent, &taken.trace), (0, &begun.id, &begun.trace));
    assert_eq!((begun.node.as_str(), taken.node.as_str()), ("n1", "n2"));
    let turn = collector.span("turn echo", |span| span.trace == begun.trace).await;
    assert_eq!(turn.parent, taken.id);
}

#[tokio::test]
async fn one_trace_follows_a_task_and_each_attempt_at_it_over_nodes_to_whoever_collects_it() {
    let collector = Collector::start();
    let homes = [TempDir::new().expect("a temporary folder"), TempDir::new().expect("a temporary folder")];
    let first = Node::start(&homes[0], "n1", &["--found"], &collector);
    let join = first.mesh.clone();
    let _second = Node::start(&homes[1], "n2", &["--join", &join], &collector);

    // Fails once, and asks a counter each time.
    let task = json!({ "agent": "n2/flaky", "input": 1, "backoff_ms": 1 }).to_string();
    let submitted = TraceContext { trace: TRACE, span: 0xb7, sampled: true, state: Some("a=1".into()) };
    until(async || post(&first.http, "/api/v1/tasks", Some(&submitted), &task).starts_with("HTTP/1.1 202")).await;

    for (number, outcome) in [("1", "failed"), ("2", "done")] {
        let is_it = |span: &Seen| span.of_trace(TRACE) && span.what("pelago.attempt") == Some(number);
        let attempt = collector.span("attempt flaky", is_it).await;
        // Each request that was made too early has a span too.
        let submit = collector.span("task n2/flaky", |span| span.id == attempt.parent).await;
        assert_eq!((submit.parent, submit.node.as_str()), (0xb7_u64.to_be_bytes().to_vec(), "n1"));
        assert_eq!((attempt.what("pelago.outcome"), attempt.node.as_str()), (Some(outcome), "n2"));
        assert_eq!((attempt.what("pelago.agent"), attempt.of_trace(TRACE)), (Some("flaky"), true));
        let turn = collector.span("turn flaky", |span| span.parent == attempt.id).await;
        let asked = collector.span("turn counter", |span| span.parent == turn.id).await;
        assert!(turn.node == "n2" && asked.of_trace(TRACE), "what its turn asks is part of the trace");
    }
}

#[tokio::test]
async fn a_command_says_of_which_trace_its_task_or_signal_is_part() {
    let collector = Collector::start();
    let home = TempDir::new().expect("a temporary folder");
    let node = Node::start(&home, "n1", &["--found"], &collector);
    let parent = TraceContext { trace: TRACE, span: 0xb7, sampled: true, state: None }.to_string();
    let run = |args: &[&str], variable: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pelago"));
        command.args(["--url", &node.http]).args(args).envs(variable.map(|value| ("TRACEPARENT", value)));
        let ended = command.output().expect("the binary runs");
        assert!(ended.status.success(), "{ended:?}");
    };
    run(&["task", "run", "echo", "1", "--wait"], Some(&parent));
    run(&["signal", "forward", "--to", "echo", "--content", "1", "--traceparent", &parent], None);
    for name in ["task echo", "signal echo"] {
        let span = collector.span(name, |span| span.parent == 0xb7_u64.to_be_bytes()).await;
        assert!(span.of_trace(TRACE));
    }
}

/// A span as the collector has it.
#[derive(Debug, Clone)]
struct Seen {
    trace: Vec<u8>,
    id: Vec<u8>,
    parent: Vec<u8>,
    node: String,
    said: BTreeMap<String, String>,
}

impl Seen {
    fn of(span: Span) -> Self {
        let text = |value: Option<Value>| match value {
            Some(Value::StringValue(text)) => text,
            Some(Value::IntValue(number)) => number.to_string(),
            other => panic!("{other:?} is no value that a node gives"),
        };
        let said: BTreeMap<String, String> =
            span.attributes.into_iter().map(|it| (it.key, text(it.value.and_then(|value| value.value)))).collect();
        let node = said.get("pelago.node").cloned().expect("a span names its node");
        Self { trace: span.trace_id, id: span.span_id, parent: span.parent_span_id, node, said }
    }

    fn what(&self, name: &str) -> Option<&str> {
        self.said.get(name).map(String::as_str)
    }

    fn of_trace(&self, trace: u128) -> bool {
        self.trace == trace.to_be_bytes()
    }
}

/// Takes spans as an OTLP receiver does.
struct Collector {
    port: u16,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let spans = Arc::<Mutex<Vec<Span>>>::default();
        let taken = Arc::clone(&spans);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let taken = Arc::clone(&taken);
                thread::spawn(move || take(stream.expect("it connects"), &taken));
            }
        });
        Self { port, spans }
    }

    /// The span of this name, once it has come: nodes send theirs in batches, each in its own time.
    async fn span(&self, name: &str, is_it: impl Fn(&Seen) -> bool) -> Seen {
        let mut found = None;
        until(async || {
            found = self.spans(name).into_iter().find(|span| is_it(span));
            found.is_some()
        })
        .await;
        found.expect("it was found")
    }

    fn spans(&self, name: &str) -> Vec<Seen> {
        let spans = self.spans.lock().expect("nobody panics with it");
        spans.iter().filter(|span| span.name == name).cloned().map(Seen::of).collect()
    }
}

/// Answers the requests of one connection.
fn take(stream: TcpStream, taken: &Mutex<Vec<Span>>) {
    let mut reader = BufReader::new(stream.try_clone().expect("a socket has copies"));
    let mut writer = stream;
    loop {
        let mut length = 0;
        let mut first = String::new();
        if reader.read_line(&mut first).unwrap_or(0) == 0 {
            return;
        }
        assert!(first.starts_with("POST /v1/traces "), "{first}");
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).expect("a request has a head");
            if line.trim().is_empty() {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("it is a number");
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("a request has its body");
        let request = ExportTraceServiceRequest::decode(body.as_slice()).expect("it is OTLP");
        let spans = request.resource_spans.into_iter().flat_map(|of| of.scope_spans).flat_map(|of| of.spans);
        taken.lock().expect("nobody panics with it").extend(spans);
        let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        if writer.write_all(answer).is_err() {
            return;
        }
    }
}

/// A node as a process of its own, killed with this.
struct Node {
    process: Child,
    http: String,
    mesh: String,
}

impl Node {
    fn start(home: &TempDir, name: &str, args: &[&str], collector: &Collector) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_pelago"))
            .args(["serve", "--print-addr", "json", "--name", name, "--port", "0", "--mesh-addr", "127.0.0.1:0"])
            .arg("--data-dir")
            .arg(home.path().join("data"))
            .args(args)
            .env("PELAGO_TELEMETRY__OTLP_ENDPOINT", format!("http://127.0.0.1:{}", collector.port))
            .env("OTEL_BSP_SCHEDULE_DELAY", "100")
            .current_dir(home.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary is built");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("it says where it is");
        let said: serde_json::Value = serde_json::from_str(&line).expect("it is JSON");
        let of = |key: &str| said[key].as_str().expect("it is there").to_owned();
        Self { http: format!("http://{}", of("http")), mesh: of("mesh"), process }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A request without anything that a client adds.
fn post(base: &str, path: &str, trace: Option<&TraceContext>, body: &str) -> String {
    let host = base.strip_prefix("http://").expect("it is HTTP");
    let mut stream = TcpStream::connect(host).expect("it listens");
    let length = body.len();
    let traced = trace.map_or_else(String::new, |trace| {
        format!("traceparent: {trace}\r\ntracestate: {}\r\n", trace.state.as_deref().unwrap_or_default())
    });
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\n{traced}\
         Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

async fn until(mut is_true: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_true().await {
        assert!(Instant::now() < deadline, "it did not come true in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
