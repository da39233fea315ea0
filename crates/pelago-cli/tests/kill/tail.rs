//! Whoever listens goes on listening though the node is killed.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use pelago_api::client::Client;
use rustix::process::Signal;
use serde_json::Value;
use tokio::{sync::mpsc, time::timeout};

use super::{
    mesh::{Mesh, PATIENCE},
    say,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_whose_node_is_killed_goes_on_at_another_at_once_and_says_that_it_heard_nothing_meanwhile() {
    let mut mesh = Mesh::start(3).await;
    let publishing = tokio::spawn(publish(mesh.nodes[2].client()));
    let mut tail = Tail::start(&mesh, &[0, 1]);
    let mut last = 0;
    for _ in 0..20 {
        last = tail.number().await;
    }
    mesh.kill(0);
    let moved = loop {
        let heard = tail.next().await;
        match heard["kind"].as_str() {
            Some("Published") => last = heard["message"].as_u64().expect("a number"),
            Some("Moved") => break heard,
            other => panic!("{other:?}: {heard}"),
        }
    };
    assert_eq!((&moved["from"], &moved["to"]), (&"n0".into(), &"n1".into()), "{moved}");
    // A link that is waited for is waited for five seconds.
    assert!(moved["deaf_ms"].as_u64().is_some_and(|deaf| deaf < 5_000), "{moved}");
    let first = tail.number().await;
    assert!(first > last, "{first} after {last}");
    for n in 1..20 {
        assert_eq!(tail.number().await, first + n, "from there on nothing is missed");
    }
    say(&format!("{moved}; {} messages were not heard", first - last - 1));
    publishing.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_whose_node_is_frozen_goes_on_at_another_while_it_is() {
    let mesh = Mesh::start(3).await;
    let publishing = tokio::spawn(publish(mesh.nodes[2].client()));
    let mut tail = Tail::start(&mesh, &[0, 1]);
    tail.number().await;
    mesh.nodes[0].signal(Signal::STOP);
    let moved = loop {
        let heard = tail.next().await;
        if heard["kind"] == "Moved" {
            break heard;
        }
    };
    assert_eq!((&moved["from"], &moved["to"]), (&"n0".into(), &"n1".into()), "{moved}");
    tail.number().await;
    mesh.nodes[0].signal(Signal::CONT);
    publishing.abort();
}

/// Publishes 1, 2, … until it is aborted.
async fn publish(client: Client) {
    for n in 1u64.. {
        // One that no node answers is published by nobody: it has its number all the same.
        let _told = client.publish("clock", n.to_string()).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// `pelago tail clock -o json` at some nodes.
struct Tail {
    process: Child,
    lines: mpsc::UnboundedReceiver<String>,
}

impl Tail {
    fn start(mesh: &Mesh, at: &[usize]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pelago"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PELAGO")) {
            command.env_remove(name);
        }
        for &node in at {
            command.args(["--url", &format!("http://{}", mesh.nodes[node].http)]);
        }
        command.args(["tail", "clock", "-o", "json"]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("the binary runs");
        let stdout = process.stdout.take().expect("stdout is a pipe");
        let (sender, lines) = mpsc::unbounded_channel();
        thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { process, lines }
    }

    async fn next(&mut self) -> Value {
        let line = timeout(PATIENCE, self.lines.recv()).await.expect("something comes in time").expect("it goes on");
        serde_json::from_str(&line).expect("each line is a document")
    }

    /// The number that was published.
    async fn number(&mut self) -> u64 {
        let heard = self.next().await;
        assert_eq!((&heard["kind"], &heard["missed"]), (&"Published".into(), &0.into()), "{heard}");
        heard["message"].as_u64().expect("a number")
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ended_already = self.process.kill();
        let _reaped = self.process.wait();
    }
}
