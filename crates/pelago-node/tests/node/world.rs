//! Nodes in this process, on real files and real sockets, and the agents they host.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    path::Path,
    sync::Mutex,
    time::Duration,
};

use bytes::Bytes;
use pelago_core::{agent, id::Name, message::Headers, record::RetryPolicy, task};
use pelago_node::{
    Agent, Config, Fault, Handle, Kind, Node, Packing, Raw, TaskRequest, Turn,
    handle::{AskOptions, Error, TaskDetail},
    keyed,
    metrics::Metrics,
    pool, resident,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

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

/// Keeps what it is told in the order in which it comes.
#[derive(Default, Serialize, Deserialize)]
struct Diary {
    entries: Vec<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Note {
    Write(u64),
    /// Send these numbers, each in a message, to be written down there.
    Dictate(String, std::ops::Range<u64>),
    /// Tell these numbers there, in messages that nobody answers.
    Whisper(String, std::ops::Range<u64>),
    /// Tell this number there, and fail.
    Retract(String, u64),
    Read,
}

impl Agent for Diary {
    type Input = Note;
    type Output = Vec<u64>;

    async fn handle(&mut self, note: Note, turn: &mut Turn) -> Result<Vec<u64>, Fault> {
        match note {
            Note::Write(entry) => self.entries.push(entry),
            Note::Dictate(to, entries) => {
                for entry in entries {
                    turn.send(&to, &Note::Write(entry))?;
                }
            }
            Note::Whisper(to, entries) => {
                for entry in entries {
                    turn.tell(&to, &Note::Write(entry))?;
                }
            }
            Note::Retract(to, entry) => {
                turn.tell(&to, &Note::Write(entry))?;
                return Err(Fault::hopeless("it takes that back"));
            }
            Note::Read => return Ok(self.entries.clone()),
        }
        Ok(Vec::new())
    }
}

/// Tells a counter three times to add one.
#[derive(Default, Serialize, Deserialize)]
struct Crier;

impl Agent for Crier {
    type Input = String;
    type Output = ();

    async fn handle(&mut self, to: String, turn: &mut Turn) -> Result<(), Fault> {
        for _ in 0..3 {
            turn.tell(&to, &1)?;
        }
        Ok(())
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

/// Takes as many milliseconds as it is told.
#[derive(Default, Serialize, Deserialize)]
struct Sleeper;

impl Agent for Sleeper {
    type Input = u64;
    type Output = ();

    async fn handle(&mut self, ms: u64, _turn: &mut Turn) -> Result<(), Fault> {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        Ok(())
    }
}

/// Writes down what it is asked and told, and what that says about itself. It holds on at `hold` until the gate opens.
#[derive(Default, Serialize, Deserialize)]
struct Witness;

/// What witnesses of this process wrote down: the agent, the headers, the payload.
static WITNESSED: Mutex<Vec<(String, Headers, String)>> = Mutex::new(Vec::new());
static GATE: Semaphore = Semaphore::const_new(0);

impl Agent for Witness {
    type Input = Raw;
    type Output = ();

    async fn handle(&mut self, Raw(payload): Raw, turn: &mut Turn) -> Result<(), Fault> {
        let text = String::from_utf8(payload.to_vec())?;
        let seen = (turn.agent().to_string(), turn.headers().clone(), text.clone());
        WITNESSED.lock().expect("nobody panics here").push(seen);
        if text == "hold" {
            GATE.acquire().await?.forget();
        }
        Ok(())
    }
}

/// What witnesses wrote down whose address begins so.
pub(crate) fn witnessed(by: &str) -> Vec<(Headers, String)> {
    let all = WITNESSED.lock().expect("nobody panics here");
    let of = all.iter().filter(|(agent, _, _)| agent.starts_with(by));
    of.map(|(_, headers, text)| (headers.clone(), text.clone())).collect()
}

/// Lets so many witnesses go on that hold on.
pub(crate) fn open_gate(witnesses: usize) {
    GATE.add_permits(witnesses);
}

/// Keeps the names of its timers that fired.
#[derive(Default, Serialize, Deserialize)]
struct Clock {
    fired: Vec<String>,
}

/// What a clock is to do.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Wish {
    /// Set a timer that is due after so many milliseconds.
    Set(String, u64),
    /// Set a timer again and again, so often.
    Every(String, u64, u32),
    /// Set a timer whose turn fails.
    Fail(String),
    Cancel(String),
    /// Take note.
    Note,
    Break,
}

impl Agent for Clock {
    type Input = Option<Wish>;
    type Output = Vec<String>;

    async fn handle(&mut self, wish: Option<Wish>, turn: &mut Turn) -> Result<Vec<String>, Fault> {
        self.fired.extend(turn.timer().map(str::to_owned));
        match wish {
            Some(Wish::Set(name, ms)) => turn.set_timer(&name, Duration::from_millis(ms), &Wish::Note)?,
            Some(Wish::Every(_, _, 0)) | Some(Wish::Note) | None => {}
            Some(Wish::Every(name, ms, times)) => {
                let next = Wish::Every(name.clone(), ms, times - 1);
                turn.set_timer(&name, Duration::from_millis(ms), &next)?;
            }
            Some(Wish::Fail(name)) => turn.set_timer(&name, Duration::ZERO, &Wish::Break)?,
            Some(Wish::Cancel(name)) => turn.cancel_timer(&name)?,
            Some(Wish::Break) => return Err(Fault::new("the spring is broken")),
        }
        Ok(self.fired.clone())
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
    vec![
        keyed::<Counter>("counter"),
        keyed::<Clock>("clock"),
        keyed::<Diary>("diary"),
        pool::<Teller>("teller"),
        pool::<Crier>("crier"),
        resident::<Crier>("crier-here"),
        pool::<Panics>("panics"),
        pool::<Sleeper>("sleeper").at_most(const { NonZeroU32::new(4).expect("not zero") }),
        resident::<Counter>("here"),
        resident::<Clock>("clock-here"),
        keyed::<Witness>("witness"),
        pool::<Witness>("witness-pool").at_most(NonZeroU32::MIN),
        resident::<Witness>("witness-here"),
    ]
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
        gossip: pelago_core::membership::Profile::Local,
        metrics: Metrics::default(),
        policy: RetryPolicy { attempts_max: 3, attempt_ms_max: 10_000, backoff_ms: 10, backoff_ms_max: 50 },
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

pub(crate) async fn ask(handle: &Handle, to: &str, body: &str) -> Result<String, Error> {
    let options = AskOptions::from(Duration::from_secs(10));
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
