//! Programs that ask a real node over a link: the library's client, and `pelago bench`.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    num::NonZeroUsize,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use pelago::{
    Mesh, TaskRequest,
    mesh::{AskOptions, Error},
};
use pelago_api::{client::Client, problem::Code};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take that a node does on its own.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_program_asks_sends_and_gives_tasks_over_a_link() {
    let home = TempDir::new().expect("a temporary folder");
    let node = Node::start(&home, "127.0.0.1:0");
    let mesh = Mesh::connect(&node.mesh).await.expect("the node listens");

    assert_eq!(mesh.ask("counter:a", "5", PATIENCE).await.expect("a reply"), "5");
    let once = || AskOptions { idempotency_key: Some("once".into()), ..AskOptions::from(PATIENCE) };
    for _ in 0..2 {
        assert_eq!(mesh.ask("counter:a", "2", once()).await.expect("a reply"), "7");
    }
    assert_eq!(mesh.send("counter:b", "3", Some("m".into())).await, Ok(false));
    assert_eq!(mesh.send("counter:b", "3", Some("m".into())).await, Ok(true));
    let deadline = Instant::now() + PATIENCE;
    while mesh.ask("counter:b", "0", PATIENCE).await.expect("a reply") != "3" {
        assert!(Instant::now() < deadline, "the message does not arrive");
    }

    let request = TaskRequest { idempotency_key: Some("t".into()), attempts_max: Some(2), ..TaskRequest::default() };
    let first = mesh.enqueue("echo", r#"{"a": 1}"#, request.clone()).await.expect("a task");
    let again = mesh.enqueue("echo", r#"{"a": 1}"#, request).await.expect("the same task");
    assert_eq!((first.task, first.existing, again.existing), (again.task, false, true));
    assert_eq!(mesh.result(first.task, PATIENCE).await.expect("a result"), r#"{"a": 1}"#);
    let once = TaskRequest { idempotency_key: Some("r".into()), ..TaskRequest::default() };
    for _ in 0..2 {
        let run = mesh.run("counter:r", "4", once.clone(), PATIENCE).await;
        assert_eq!(run.expect("a result, the second time the same"), "4");
    }
}

#[tokio::test]
async fn a_program_tells_agents_of_any_node_things() {
    let (home, other) = (TempDir::new().expect("a temporary folder"), TempDir::new().expect("a temporary folder"));
    let node = Node::start(&home, "127.0.0.1:0");
    let joined = Node::join(&other, &node);
    let (first, second) = (Mesh::connect(&node.mesh).await, Mesh::connect(&joined.mesh).await);
    let (first, second) = (first.expect("the node listens"), second.expect("the node listens"));

    // Some are on the other node.
    let mut counters = Vec::new();
    for key in 0..8 {
        counters.push(first.recipient(&format!("counter:{key}")).await.expect("it can be meant"));
    }
    for _ in 0..250 {
        for counter in &mut counters {
            counter.tell("2").await.expect("the node is there");
        }
    }
    for key in 0..8 {
        until_replied(&second, &format!("counter:{key}"), "0", "500").await;
    }
    second.tell("tally", "not JSON").await.expect("the node is there");
    until_replied(&second, "tally", "null", r#"{"messages":1,"bytes":8}"#).await;
    let reached = first.broadcast("tally", "1").await.expect("the node is there");
    assert_eq!((reached.nodes, reached.agents, reached.missed.len()), (2, 2, 0));
    until_replied(&second, "tally", "null", r#"{"messages":2,"bytes":9}"#).await;
    assert_eq!(first.broadcast("tal*", "1").await.expect_err("no pattern").code(), Code::BadAddress);
    assert_eq!(first.recipient("conter:a").await.expect_err("nobody of this name").code(), Code::UnknownAgent);
    assert_eq!(first.tell("counter", "1").await.expect_err("no key").code(), Code::WrongKey);
    let large = first.tell("tally", vec![0; 2 << 20]).await.expect_err("it fits no frame");
    assert_eq!(large.code(), Code::TooLarge);
}

#[tokio::test]
async fn without_room_whoever_tells_is_refused_at_once_or_loses_the_oldest_as_it_chose() {
    let home = TempDir::new().expect("a temporary folder");
    let node = Node::start(&home, "127.0.0.1:0");
    let mesh = Mesh::connect(&node.mesh).await.expect("the node listens");
    let mut recipient = mesh.recipient("tally").await.expect("somebody hosts it");
    let latest = mesh.latest("tally", const { NonZeroUsize::new(16).expect("not zero") }).await;
    let latest = latest.expect("somebody hosts it");

    let message = vec![b'1'; 10_000];
    kill_process(Pid::from_child(&node.process), Signal::STOP).expect("it is ours");
    let mut told: u64 = 0;
    let refused = loop {
        match recipient.try_tell(&message) {
            Ok(()) => told += 1,
            Err(error) => break error,
        }
        assert!(told < 10_000, "a node that takes nothing has room for all");
    };
    assert_eq!(refused, Error::Busy);
    for _ in 0..1_000 {
        latest.tell(message.clone());
    }
    kill_process(Pid::from_child(&node.process), Signal::CONT).expect("it is ours");
    tokio::time::timeout(PATIENCE, latest.flushed()).await.expect("there is room again");
    let lost = latest.lost();
    assert!((900..1_000).contains(&lost), "{lost} gave way");
    until_replied(
        &mesh,
        "tally",
        "0",
        &format!(r#"{{"messages":{},"bytes":{}}}"#, told + 1_000 - lost, (told + 1_000 - lost) * 10_000),
    )
    .await;
}

#[tokio::test]
async fn a_program_hears_topics_again_after_its_node_was_lost() {
    let (home, other) = (TempDir::new().expect("a temporary folder"), TempDir::new().expect("a temporary folder"));
    let node = Node::start(&home, "127.0.0.1:0");
    let joined = Node::join(&other, &node);
    let (first, second) = (Mesh::connect(&node.mesh).await, Mesh::connect(&joined.mesh).await);
    let (first, second) = (first.expect("the node listens"), second.expect("the node listens"));
    let mut all = second.subscribe("**").await.expect("the node is there");
    let mut orders = second.subscribe("orders.*").await.expect("the node is there");
    assert_eq!(second.subscribe("or*").await.expect_err("no pattern").code(), Code::BadAddress);
    for n in 0..1_000 {
        let topic = if n % 2 == 0 { "orders.eu" } else { "news" };
        first.publish(topic, n.to_string()).await.expect("the node is there");
    }
    // What is told to one topic is heard in order, by whoever hears others too.
    let mut next = BTreeMap::from([("news".to_owned(), 1), ("orders.eu".to_owned(), 0)]);
    for _ in 0..1_000 {
        let heard = all.next().await.expect("the node is there");
        let next = next.get_mut(heard.topic.as_str()).expect("one of the two");
        assert_eq!((heard.content.payload, heard.missed), (next.to_string().into(), 0));
        *next += 2;
    }
    for n in (0..1_000).step_by(2) {
        assert_eq!(orders.next().await.expect("the node is there").content.payload, n.to_string());
    }
    drop(orders);

    let mesh = joined.mesh.clone();
    drop(joined);
    let _joined = Node::serve(&other, &["--name", "n2", "--mesh-addr", &mesh]);
    let deadline = Instant::now() + PATIENCE;
    let heard = loop {
        assert!(Instant::now() < deadline, "nothing is heard");
        first.publish("again", "1").await.expect("the node is there");
        if let Ok(heard) = tokio::time::timeout(Duration::from_millis(50), all.next()).await {
            // Until it listens, the node is not there.
            let Ok(heard) = heard else { continue };
            break heard;
        }
    };
    assert_eq!(heard.topic.as_str(), "again");
}

async fn until_replied(mesh: &Mesh, to: &str, question: &'static str, reply: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let replied = mesh.ask(to, question, PATIENCE).await.expect("a reply");
        if replied == reply {
            return;
        }
        assert!(Instant::now() < deadline, "{to} replies {replied:?} and not {reply}");
    }
}

#[tokio::test]
async fn a_program_calls_a_task_off_at_any_node() {
    let (home, other) = (TempDir::new().expect("a temporary folder"), TempDir::new().expect("a temporary folder"));
    let node = Node::start(&home, "127.0.0.1:0");
    let joined = Node::join(&other, &node);
    let first = Mesh::connect(&node.mesh).await.expect("the node listens");
    let second = Mesh::connect(&joined.mesh).await.expect("the node listens");
    let later = || TaskRequest { delay: Duration::from_hours(1), ..TaskRequest::default() };

    for (at, reason, said) in [(&second, Some("not needed"), "not needed"), (&first, None, "called off by a client")] {
        let task = first.enqueue("echo", "1", later()).await.expect("a task").task;
        at.cancel(task, reason).await.expect("it waits");
        let ended = first.result(task, PATIENCE).await.expect_err("it is called off");
        assert_eq!(ended, Error::Cancelled { reason: said.into() });
        assert_eq!(second.cancel(task, Some("another")).await, Ok(()), "it is called off already");
    }
    let once = TaskRequest { attempts_max: Some(1), ..TaskRequest::default() };
    let dead = first.enqueue("flaky", "1", once).await.expect("a task").task;
    first.result(dead, PATIENCE).await.expect_err("it has one attempt and needs two");
    assert_eq!(second.cancel(dead, None).await, Ok(()));

    let done = first.enqueue("echo", "1", TaskRequest::default()).await.expect("a task").task;
    first.result(done, PATIENCE).await.expect("a result");
    assert_eq!(second.cancel(done, None).await.expect_err("it is done").code(), Code::WrongState);
    let none = second.cancel(pelago_core::id::TaskId(1), None).await.expect_err("no such task");
    assert_eq!(none.code(), Code::UnknownTask);
}

#[tokio::test]
async fn what_comes_to_nothing_says_why() {
    let home = TempDir::new().expect("a temporary folder");
    let node = Node::start(&home, "127.0.0.1:0");
    let mesh = Mesh::connect(&node.mesh).await.expect("the node listens");

    let unknown = mesh.ask("conter:a", "1", PATIENCE).await.expect_err("nobody of this name");
    assert_eq!(unknown.code(), Code::UnknownAgent);
    assert!(unknown.to_string().contains("counter"), "{unknown}");
    let no_key = mesh.send("counter", "1", None).await.expect_err("no key");
    assert_eq!(no_key.code(), Code::WrongKey);
    let refused = mesh.ask("counter:a", "\"no number\"", PATIENCE).await.expect_err("no number");
    assert_eq!(refused.code(), Code::AgentRefused);
    let none = mesh.result(pelago_core::id::TaskId(1), PATIENCE).await.expect_err("no such task");
    assert_eq!(none.code(), Code::UnknownTask);

    // Larger than a payload may be, and larger than a frame may be.
    for (bytes, code) in [(600 << 10, Code::TooLarge), (2 << 20, Code::TooLarge)] {
        let large = mesh.send("counter:a", vec![b' '; bytes], None).await.expect_err("it is too large");
        assert_eq!(large.code(), code, "{large}");
    }
    let once = TaskRequest { attempts_max: Some(1), ..TaskRequest::default() };
    let dead = mesh.enqueue("flaky", "1", once).await.expect("a task").task;
    let ended = mesh.result(dead, PATIENCE).await.expect_err("it has one attempt and needs two");
    assert!(matches!(ended, Error::Dead { .. }), "{ended}");
    let long = mesh.enqueue("sleeper", "60000", TaskRequest::default()).await.expect("a task").task;
    let waited = mesh.result(long, Duration::from_millis(50)).await.expect_err("it sleeps for a minute");
    assert_eq!(waited.code(), Code::Timeout);

    let http = Mesh::connect(&node.http).await.expect_err("it speaks HTTP there");
    assert!(matches!(http, Error::Unreachable { .. }), "{http}");
}

#[tokio::test]
async fn a_client_outlives_the_node_it_has_a_link_with() {
    let home = TempDir::new().expect("a temporary folder");
    let node = Node::start(&home, "127.0.0.1:0");
    let mesh = Mesh::connect(&node.mesh).await.expect("the node listens");
    assert_eq!(mesh.ask("counter:a", "5", PATIENCE).await.expect("a reply"), "5");

    let address = node.mesh.clone();
    drop(node);
    let nobody = mesh.ask("counter:a", "1", Duration::from_millis(100)).await.expect_err("the node is dead");
    assert!(matches!(nobody, Error::Unreachable { .. } | Error::Unknown), "{nobody}");
    let _node = Node::start(&home, &address);
    assert_eq!(mesh.ask("counter:a", "0", PATIENCE).await.expect("a reply"), "5");
}

#[tokio::test]
async fn a_node_refuses_one_client_too_many_and_keeps_places_for_nodes() {
    let home = TempDir::new().expect("a temporary folder");
    std::fs::write(home.path().join("pelago.toml"), "mesh.connections_max = 4").expect("a small file");
    let node = Node::start(&home, "127.0.0.1:0");
    let first = Mesh::connect(&node.mesh).await.expect("there is a place");
    let second = Mesh::connect(&node.mesh).await.expect("there is a place");
    let refused = Mesh::connect(&node.mesh).await.expect_err("half of the places are for nodes");
    assert_eq!(refused.code(), Code::NoRoom, "{refused}");
    assert!(refused.to_string().contains("all 2 places"), "{refused}");
    let bench = pelago().args(["bench", "ask", "--url", &node.mesh, "--seconds", "1"]).output();
    let bench = bench.expect("the binary runs");
    assert!(!bench.status.success());
    let said = String::from_utf8_lossy(&bench.stderr).into_owned();
    assert!(
        said.contains("error[PLG-2033]") && said.contains("mesh.connections_max") && said.contains("hint:"),
        "{said}"
    );

    let other = TempDir::new().expect("a temporary folder");
    let joined = Node::join(&other, &node);
    let there = Mesh::connect(&joined.mesh).await.expect("it took the places for nodes");
    for mesh in [&first, &second, &there] {
        assert_eq!(mesh.ask("counter:a", "0", PATIENCE).await.expect("a reply"), "0");
    }
    drop(second);
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = Mesh::connect(&node.mesh).await {
        assert!(matches!(error, Error::NoRoom { .. }) && Instant::now() < deadline, "{error}");
    }
}

#[test]
fn scripts_of_the_example_start_signals_over_the_line_of_sight() {
    let home = TempDir::new().expect("a temporary folder");
    std::fs::write(home.path().join("pelago.toml"), "mesh.json.listen = \"127.0.0.1:0\"").expect("a small file");
    let node = Node::start(&home, "127.0.0.1:0");
    let json = node.json.as_deref().expect("it listens there");
    for (interpreter, script) in [("bash", "signal.sh"), ("python3", "signal.py")] {
        // A stranger's machine may have neither; the API's own tests speak to it in Rust.
        if Command::new(interpreter).arg("--version").output().is_err() {
            continue;
        }
        let path = format!("{}/../../examples/line-of-sight/{script}", env!("CARGO_MANIFEST_DIR"));
        let run = Command::new(interpreter).args([&path, json, "echo", "hello"]).output().expect("it is there");
        let said = String::from_utf8_lossy(&run.stdout).into_owned();
        assert!(run.status.success(), "{script}: {said}{}", String::from_utf8_lossy(&run.stderr));
        let answer: Value = serde_json::from_str(said.lines().last().expect("it prints")).expect("the last is JSON");
        assert_eq!(answer["signal"]["tree"]["reply"], "hello", "{script}: {answer}");
        assert_eq!(answer["metadata"]["hop_count"], "1", "{script}: {answer}");
    }
}

#[test]
fn bench_measures_over_a_link_and_over_http() {
    let home = TempDir::new().expect("a temporary folder");
    let node = Node::start(&home, "127.0.0.1:0");
    let url = format!("http://{}", node.http);
    for (what, url, over) in [("task", node.mesh.as_str(), "link"), ("propose", &url, "link"), ("turn", &url, "http")] {
        let mut command = pelago();
        command.args(["bench", what, "--seconds", "1", "--warm-up", "0", "--in-flight", "4", "-o", "json"]);
        command.args(["--url", url]).args((over == "http").then_some("--http"));
        let shown = command.output().expect("the binary runs");
        let stderr = String::from_utf8_lossy(&shown.stderr);
        assert!(shown.status.success(), "{what}: {stderr}");
        let figures: Value = serde_json::from_slice(&shown.stdout).expect("it shows JSON");
        assert_eq!((&figures["what"], &figures["over"]), (&what.into(), &over.into()), "{figures}");
        assert!(figures["answers"].as_u64() > Some(0) && figures["p99_us"].as_f64() > Some(0.0), "{figures}");
        assert!(figures["cores"].as_u64() > Some(0) && figures["kernel"].is_string(), "{figures}");
        assert!(figures["command"].as_str().is_some_and(|command| command.contains(what)), "{figures}");
    }
}

#[tokio::test]
async fn latency_at_a_rate_counts_from_when_a_request_was_due_though_the_node_stood_still() {
    let home = TempDir::new().expect("a temporary folder");
    let node = Node::start(&home, "127.0.0.1:0");
    for what in ["ask", "tell"] {
        let mut command = pelago();
        command.args(["bench", what, "--rate", "1000", "--seconds", "3", "--warm-up", "0", "-o", "json"]);
        command.args(["--url", &node.mesh]).stdout(Stdio::piped());
        let bench = command.spawn().expect("the binary runs");
        let begun = Instant::now();
        // For a second of the three, in their middle.
        thread::sleep(Duration::from_secs(1).saturating_sub(begun.elapsed()));
        let id = Pid::from_child(&node.process);
        kill_process(id, Signal::STOP).expect("it is ours");
        thread::sleep(Duration::from_secs(1));
        kill_process(id, Signal::CONT).expect("it is ours");
        let shown = bench.wait_with_output().expect("it ends");
        assert!(shown.status.success(), "{what}: {}", shown.status);
        let figures: Value = serde_json::from_slice(&shown.stdout).expect("it shows JSON");
        let micros = |name: &str| figures[name].as_f64().expect("a number");
        // A third of all was due meanwhile, and waited for half a second in the mean: closed loops would show one.
        assert!(micros("p90_us") > 300_000.0 && micros("p50_us") < 300_000.0, "{figures}");
        assert!(figures["unsent"].as_u64() < Some(300) && figures["rate"] == 1000, "{figures}");
    }
    let mesh = Mesh::connect(&node.mesh).await.expect("the node listens");
    mesh.ask("echo", "1", PATIENCE).await.expect("it goes on");
}

#[test]
fn bench_measures_inside_a_node_and_without_one() {
    let home = TempDir::new().expect("a temporary folder");
    let node = Node::start(&home, "127.0.0.1:0");
    let run = |words: &[&str]| {
        let mut command = pelago();
        command.args(["bench", "-o", "json"]).args(words);
        let shown = command.output().expect("the binary runs");
        assert!(shown.status.success(), "{words:?}: {}", String::from_utf8_lossy(&shown.stderr));
        serde_json::from_slice::<Value>(&shown.stdout).expect("it shows JSON")
    };
    for what in ["ask", "tell"] {
        let figures = run(&[what, "--same-node", "--seconds", "1", "--warm-up", "0", "--url", &node.mesh]);
        assert!(figures["over"] == "same node" && figures["per_second"].as_f64() > Some(0.0), "{figures}");
        assert!(what == "ask" || figures["lost"] == 0, "{figures}");
    }
    let figures = run(&["route"]);
    let choices = figures["choices"].as_array().expect("a list");
    assert!(choices.len() == 21 && choices.iter().all(|choice| choice["choice_ns"].as_f64() > Some(0.0)), "{figures}");

    for words in [&["tell", "--http"][..], &["turn", "--same-node"], &["route", "--rate", "5"], &["route", "--http"]] {
        let refused = pelago().args(["bench"]).args(words).output().expect("the binary runs");
        assert_eq!(refused.status.code(), Some(2), "{words:?}: {}", String::from_utf8_lossy(&refused.stderr));
    }
}

#[test]
fn what_is_due_and_not_sent_in_time_is_told_and_not_sent_later() {
    let home = TempDir::new().expect("a temporary folder");
    let node = Node::start(&home, "127.0.0.1:0");
    let mut command = pelago();
    // More than any machine answers.
    command.args(["bench", "ask", "--rate", "50000000", "--seconds", "1", "--warm-up", "0", "-o", "json"]);
    let shown = command.args(["--url", &node.mesh]).output().expect("the binary runs");
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    let figures: Value = serde_json::from_slice(&shown.stdout).expect("it shows JSON");
    let number = |name: &str| figures[name].as_u64().expect("a number");
    assert!(number("answers") > 0 && number("answers") < 10_000_000, "{figures}");
    assert_eq!(number("answers") + number("busy") + number("in_doubt") + number("unsent"), 50_000_000, "{figures}");
}

#[test]
fn fanout_at_a_rate_says_when_each_subscriber_heard_what_was_due() {
    let home = TempDir::new().expect("a temporary folder");
    let node = Node::start(&home, "127.0.0.1:0");
    let mut command = pelago();
    command.args(["bench", "fanout", "--rate", "500", "--in-flight", "3", "--seconds", "2", "-o", "json"]);
    let shown = command.args(["--url", &node.mesh]).output().expect("the binary runs");
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    let figures: Value = serde_json::from_slice(&shown.stdout).expect("it shows JSON");
    let number = |name: &str| figures[name].as_u64().expect("a number");
    assert_eq!((number("rate"), number("published") + number("unsent")), (500, 1_000), "{figures}");
    assert_eq!(number("heard") + number("missed"), 3 * number("published"), "{figures}");
    assert!(figures["p50_us"].as_f64() > Some(0.0), "{figures}");
}

#[test]
fn of_several_nodes_one_that_is_frozen_is_passed_by() {
    let (home, other) = (TempDir::new().expect("a temporary folder"), TempDir::new().expect("a temporary folder"));
    let node = Node::start(&home, "127.0.0.1:0");
    let frozen = Node::join(&other, &node);
    kill_process(Pid::from_child(&frozen.process), Signal::STOP).expect("it is ours");
    let urls = [&frozen, &node].map(|node| format!("http://{}", node.http));
    // Not to be sent to another node once one has it.
    let mut command = pelago();
    command.args(["agent", "ask", "echo", "7"]).args(urls.iter().flat_map(|url| ["--url", url]));
    let asked = command.output().expect("the binary runs");
    kill_process(Pid::from_child(&frozen.process), Signal::CONT).expect("it is ours");
    assert_eq!((asked.status.code(), String::from_utf8_lossy(&asked.stdout).trim()), (Some(0), "7"), "{asked:?}");
}

#[test]
fn a_bench_of_broadcasts_that_a_frozen_node_missed_says_so_and_fails() {
    let (home, other) = (TempDir::new().expect("a temporary folder"), TempDir::new().expect("a temporary folder"));
    let node = Node::start(&home, "127.0.0.1:0");
    let frozen = Node::join(&other, &node);
    let bench = || {
        let mut command = pelago();
        command.args(["bench", "broadcast", "--in-flight", "2", "--seconds", "1", "--warm-up", "0", "-o", "json"]);
        command.args(["--url", &node.mesh]).output().expect("the binary runs")
    };
    let deadline = Instant::now() + PATIENCE;
    let whole = loop {
        let whole = bench();
        assert!(whole.status.success(), "{}", String::from_utf8_lossy(&whole.stderr));
        let figures: Value = serde_json::from_slice(&whole.stdout).expect("it shows JSON");
        if figures["answers"].as_u64() > Some(0) {
            break figures;
        }
        assert!(Instant::now() < deadline, "nobody answers");
    };
    assert_eq!(whole["missed"], serde_json::json!({}), "{whole}");

    kill_process(Pid::from_child(&frozen.process), Signal::STOP).expect("it is ours");
    let missed = bench();
    kill_process(Pid::from_child(&frozen.process), Signal::CONT).expect("it is ours");
    let (figures, told) = (String::from_utf8_lossy(&missed.stdout), String::from_utf8_lossy(&missed.stderr));
    assert_eq!(missed.status.code(), Some(1), "{figures}{told}");
    let figures: Value = serde_json::from_str(&figures).expect("it shows JSON");
    assert_eq!(figures["missed"]["n2"], figures["answers"], "{figures}");
    assert!(told.contains("PLG-3029") && told.contains("no word from n2 of 2"), "{told}");
}

#[tokio::test]
async fn bench_propose_leaves_nothing_queued() {
    let home = TempDir::new().expect("a temporary folder");
    let node = Node::start(&home, "127.0.0.1:0");
    let client = Client::new(&format!("http://{}", node.http));
    let mut cancelled = 0;
    for http in [false, true] {
        let mut command = bench_propose(&node, http);
        let shown = command.args(["--seconds", "1", "-o", "json"]).output().expect("the binary runs");
        assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
        let figures: Value = serde_json::from_slice(&shown.stdout).expect("it shows JSON");
        assert_eq!((figures["keys"].as_u64(), figures["bytes"].as_u64()), (None, Some(100)), "{figures}");
        let tasks = client.status().await.expect("the node is there").tasks;
        assert_eq!(tasks["queued"], 0, "{tasks:?}");
        // Each is enqueued and cancelled: two answers, but for the last of each loop, whose second comes too late.
        let (ended, answers) = (tasks["cancelled"] - cancelled, figures["answers"].as_u64().expect("a number"));
        assert!(ended > 0 && (2 * ended).checked_sub(answers).is_some_and(|late| late <= 4), "{figures}, {tasks:?}");
        cancelled = tasks["cancelled"];
    }
}

#[tokio::test]
async fn bench_propose_leaves_nothing_queued_when_it_is_interrupted() {
    let home = TempDir::new().expect("a temporary folder");
    let node = Node::start(&home, "127.0.0.1:0");
    let client = Client::new(&format!("http://{}", node.http));
    let mut command = bench_propose(&node, false);
    let mut bench = command.args(["--seconds", "600"]).spawn().expect("the binary runs");
    let deadline = Instant::now() + PATIENCE;
    while client.status().await.expect("the node is there").tasks["cancelled"] == 0 {
        assert!(Instant::now() < deadline, "nothing is measured");
    }
    let id = Pid::from_child(&bench);
    kill_process(id, Signal::INT).expect("it runs");
    let ended = bench.wait().expect("it is ours");
    assert_eq!(ended.code(), Some(130), "{ended}");
    let tasks = client.status().await.expect("the node is there").tasks;
    assert_eq!(tasks["queued"], 0, "{tasks:?}");
}

fn bench_propose(node: &Node, http: bool) -> Command {
    let mut command = pelago();
    command.args(["bench", "propose", "--warm-up", "0", "--in-flight", "4", "--bytes", "100"]);
    match http {
        true => command.args(["--http", "--url", &format!("http://{}", node.http)]),
        false => command.args(["--url", &node.mesh]),
    };
    command
}

/// A node that runs; it is killed when it is dropped.
struct Node {
    process: Child,
    mesh: String,
    http: String,
    /// Where the line of sight is, if it is on.
    json: Option<String>,
}

impl Node {
    fn start(home: &TempDir, mesh_address: &str) -> Self {
        Self::serve(home, &["--found", "--name", "n1", "--mesh-addr", mesh_address])
    }

    fn join(home: &TempDir, other: &Self) -> Self {
        Self::serve(home, &["--join", &other.mesh, "--name", "n2", "--mesh-addr", "127.0.0.1:0"])
    }

    fn serve(home: &TempDir, options: &[&str]) -> Self {
        let mut command = pelago();
        command.args(["serve", "--port", "0", "--print-addr", "json", "--log-level", "error"]);
        command.args(options).current_dir(home.path());
        let mut process = command.stdout(Stdio::piped()).spawn().expect("the binary runs");
        let stdout = process.stdout.take().expect("stdout is a pipe");
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || sender.send(BufReader::new(stdout).lines().next()));
        let line = receiver.recv_timeout(PATIENCE).expect("it says where it listens within its time");
        let line = line.expect("it says where it listens").expect("it is text");
        let addresses: Value = serde_json::from_str(&line).expect("the line is JSON");
        let address = |name: &str| addresses[name].as_str().expect("it listens there").to_owned();
        Self {
            process,
            mesh: address("mesh"),
            http: address("http"),
            json: addresses["json"].as_str().map(str::to_owned),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ended_already = self.process.kill();
        let _reaped = self.process.wait();
    }
}

/// The binary, deaf to the environment of whoever runs the tests.
fn pelago() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pelago"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PELAGO_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}
