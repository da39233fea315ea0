//! Signals through real nodes: the example of two nodes with its scripts, and agents whose node is killed.

use std::{
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use pelago::{
    Mesh,
    mesh::{Cut, Outcome, SignalOptions},
};
use pelago_api::client::Client;
use pelago_core::id::SignalId;
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long anything may take that a node does on its own.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn the_two_nodes_of_the_example_pass_a_signal_down_three_layers() {
    let example = Example::start();
    let ask = |args: &[&str]| example.pelago(args);
    let design =
        ["signal", "forward", "--from", "client", "--to", "strategic-main", "--content", "Design a task system"];
    let told = ask(&[&design[..], &["--wait"]].concat());
    let lines: Vec<&str> = text(&told.stdout).lines().collect();
    let beginnings = [
        "signal ",
        "strategic-main  on hal9-strategic  replied  ",
        "├─ architect-1  on hal9-workers  replied  ",
        "│  ├─ impl-1  on hal9-workers  replied  ",
        "│  └─ impl-2  on hal9-workers  replied  ",
        "└─ architect-2  on hal9-workers  replied  ",
        "   └─ impl-3  on hal9-workers  replied  ",
    ];
    assert_eq!(lines.len(), beginnings.len(), "{told:?}");
    for (line, beginning) in lines.iter().zip(beginnings) {
        assert!(line.starts_with(beginning), "{line:?} does not begin with {beginning:?}");
    }
    assert!(lines[1..].iter().all(|line| line.ends_with(" ms  \"Design a task system\"")), "{lines:#?}");

    // Without --wait there is an id, and what became of it is to be read later.
    let id = text(&ask(&design).stdout).trim().to_owned();
    let later = example.json(&["signal", "show", &id, "--wait", "30s"]);
    assert_eq!((&later["kind"], &later["id"], &later["whole"]), (&json!("Signal"), &json!(id), &json!(true)));
    assert_eq!(later["tree"]["branches"][1]["branches"][0]["to"], json!("impl-3"));
    // At any node.
    let other = example.second(&["signal", "show", &id, "-o", "json"]);
    assert_eq!(document(&other), later);
    let forgotten = example.second(&["signal", "show", &format!("{}{}", &id[..8], "0".repeat(24))]);
    assert_eq!(forgotten.status.code(), Some(3));
    assert!(text(&forgotten.stderr).contains("error[PLG-2038]"), "{forgotten:?}");

    let nodes = text(&ask(&["node", "ls", "-o", "wide"]).stdout).to_owned();
    for agent in ["strategic-main(L4)", "architect-1(L3)", "impl-3(L2)"] {
        assert!(nodes.contains(agent), "{agent} is not in {nodes}");
    }
    a_program_starts_and_follows_signals(&example);
    connections_change_at_any_node(&example);
    what_comes_to_nothing_says_why(&example);
    let metrics = example.metrics();
    for line in ["pelago_signals_total{outcome=\"whole\"} ", "pelago_signal_branches_total{outcome=\"hop_limit\"} "] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    example.stop();
}

fn a_program_starts_and_follows_signals(example: &Example) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        // The first listens for links at the third port, the second at the fourth.
        let connect = async |n: usize| Mesh::connect(&format!("127.0.0.1:{}", example.ports[n])).await;
        let (first, second) = (connect(2).await.expect("it listens"), connect(3).await.expect("it listens"));
        let options = || SignalOptions { from: "planner".into(), ..SignalOptions::default() };
        let waited = first.signal("strategic-main", "7", options(), Some(PATIENCE)).await.expect("it is taken");
        let tree = waited.tree.as_ref().expect("it has ended");
        let seen: Vec<String> = tree.all().map(|branch| format!("{} {}", branch.to, branch.outcome.word())).collect();
        let all = ["strategic-main", "architect-1", "impl-1", "impl-2", "architect-2", "impl-3"];
        assert_eq!(seen, all.map(|agent| format!("{agent} replied")));
        assert!(tree.all().all(|branch| branch.outcome.reply().is_some_and(|reply| reply == "7")));
        assert_eq!((waited.from.as_str(), waited.node.as_str()), ("planner", "hal9-strategic"));

        let sent = second.signal("strategic-main", "8", options(), None).await.expect("it is taken");
        assert_eq!((sent.tree.as_ref(), sent.node.as_str()), (None, "hal9-workers"));
        let ended = first.trace(sent.id, PATIENCE).await.expect("any node tells");
        assert!(ended.tree.is_some_and(|tree| tree.is_whole() && tree.all().count() == 6));

        let limited = SignalOptions { hops_max: Some(1), ..options() };
        let limited = first.signal("strategic-main", "9", limited, Some(PATIENCE)).await.expect("it is taken");
        assert!(limited.tree.is_some_and(|tree| tree.branches[0].outcome == Outcome::Cut(Cut::HopLimit)));
        let slow = SignalOptions { timeout: Duration::from_millis(200), ..options() };
        let slow = first.signal("sleeper", "60000", slow, Some(PATIENCE)).await.expect("it is taken");
        assert_eq!(slow.tree.map(|tree| tree.outcome), Some(Outcome::TimedOut));

        let refused = async |to: &str, options| {
            first.signal(to, "1", options, Some(PATIENCE)).await.expect_err("it makes no sense").code().as_str()
        };
        assert_eq!(refused("strategic-mian", options()).await, "PLG-2004");
        assert_eq!(refused("strategic-main", SignalOptions { hops_max: Some(0), ..options() }).await, "PLG-2003");
        let forgotten = SignalId(ended.id.0 ^ 1);
        assert_eq!(first.trace(forgotten, PATIENCE).await.expect_err("nobody knows it").code().as_str(), "PLG-2038");

        // Whoever goes away calls off what it waits for.
        let handled = async || client(&example.url(1)).metrics().await.expect("the node answers");
        let under_way = first.signal("hal9-workers/sleeper", "60000", options(), Some(PATIENCE));
        let has_it = async { while !handled().await.contains("pelago_signals_handled 1\n") {} };
        tokio::select! {
            ended = under_way => panic!("it ended: {ended:?}"),
            () = has_it => {}
        }
        let called_off = async { while !handled().await.contains("pelago_signals_handled 0\n") {} };
        tokio::time::timeout(PATIENCE, called_off).await.expect("it is called off");
    });
}

fn connections_change_at_any_node(example: &Example) {
    let added = example.second(&["connection", "add", "impl-1", "counter:designs"]);
    assert_eq!(text(&added.stdout), "impl-1 is connected to counter:designs\n", "{added:?}");
    let only = example.second(&["connection", "add", "strategic-main", "impl-3", "--only", "urgent*"]);
    assert!(only.status.success(), "{only:?}");
    let listed = example.json(&["connection", "ls", "--from", "strategic-main"]);
    let expected = json!([
        { "from": "strategic-main", "to": "architect-1", "declared_by": "hal9-strategic" },
        { "from": "strategic-main", "to": "architect-2", "declared_by": "hal9-strategic" },
        { "from": "strategic-main", "to": "impl-3", "only": "urgent*" },
    ]);
    until(|| example.json(&["connection", "ls", "--from", "strategic-main"])["items"] == expected, &listed);
    let signal = example.signal(&["--to", "strategic-main", "--content", "5"]);
    let first = &signal["tree"]["branches"][0]["branches"][0];
    assert_eq!((&first["to"], &first["branches"][0]["reply"]), (&json!("impl-1"), &json!(5)), "{signal}");
    let urgent = example.signal(&["--to", "strategic-main", "--content", "\"urgent: rain\""]);
    assert_eq!(urgent["tree"]["branches"][2]["to"], json!("impl-3"), "{urgent}");
    // The counter takes no text: that branch failed, and said so.
    assert_eq!(urgent["whole"], json!(false), "{urgent}");

    for args in [["connection", "rm", "impl-1", "counter:designs"], ["connection", "rm", "strategic-main", "impl-3"]] {
        assert!(example.pelago(&args).status.success());
    }
    let again = example.pelago(&["connection", "rm", "impl-1", "counter:designs"]);
    assert_eq!((again.status.code(), text(&again.stderr).contains("PLG-2039")), (Some(3), true), "{again:?}");
    let declared = example.pelago(&["connection", "rm", "architect-1", "impl-1"]);
    assert_eq!(declared.status.code(), Some(5));
    assert!(text(&declared.stderr).contains("stands in the configuration of node hal9-workers"), "{declared:?}");
}

fn what_comes_to_nothing_says_why(example: &Example) {
    let forward = |args: &[&str]| example.pelago(&[&["signal", "forward", "--wait"], args].concat());
    let unknown = forward(&["--to", "strategic-mian", "--content", "1"]);
    assert_eq!(unknown.status.code(), Some(3));
    let told = text(&unknown.stderr);
    assert!(told.contains("error[PLG-2004]") && told.contains("strategic-main"), "{told}");

    let limited = forward(&["--to", "strategic-main", "--content", "1", "--hops", "2"]);
    assert_eq!(limited.status.code(), Some(1));
    assert!(text(&limited.stdout).contains("│  ├─ impl-1  hop limit  (PLG-2037)\n"), "{limited:?}");
    let told = text(&limited.stderr);
    assert!(told.contains("error[PLG-3027]") && told.contains("impl-3 hop limit (PLG-2037)"), "{told}");

    for (from, to) in [("impl-2", "strategic-main"), ("impl-2", "sleeper")] {
        assert!(example.pelago(&["connection", "add", from, to]).status.success());
    }
    until(|| example.json(&["connection", "ls", "--from", "impl-2"])["items"].as_array().map(Vec::len) == Some(2), &"");
    let cyclic = forward(&["--to", "strategic-main", "--content", "1"]);
    assert!(cyclic.status.success(), "{cyclic:?}");
    assert!(text(&cyclic.stdout).contains("│  └─ impl-2  on hal9-workers  replied"), "{cyclic:?}");
    assert!(text(&cyclic.stdout).contains("─ strategic-main  cycle\n"), "{cyclic:?}");

    let slow = forward(&["--to", "strategic-main", "--content", "60000", "--timeout", "1s"]);
    assert_eq!(slow.status.code(), Some(1));
    let told = text(&slow.stderr);
    assert!(told.contains("sleeper timed out (PLG-2025)"), "{slow:?}");
    assert!(!told.contains("impl-3"), "{told}");
    // Whoever goes away calls off what is under way, on both nodes.
    let waits = ["signal", "forward", "--to", "strategic-main", "--content", "60000", "--wait"];
    let mut starter = pelago(&example.url(0)).args(waits).stdout(Stdio::null()).spawn().expect("the binary runs");
    let handled = |n: usize| metrics(&[&example.url(n)]).contains("pelago_signals_handled 0\n").then_some(0);
    until(|| handled(0).is_none() && handled(1).is_none(), &"both nodes have it");
    starter.kill().expect("it waits");
    starter.wait().expect("it was killed");
    until(|| handled(0).is_some() && handled(1).is_some(), &"it is called off on both");
    for to in ["strategic-main", "sleeper"] {
        assert!(example.pelago(&["connection", "rm", "impl-2", to]).status.success());
    }
    let refused = forward(&["--to", "strategic-main", "--content", "1", "--hops", "0"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
}

#[test]
fn signals_take_the_other_node_of_a_role_when_one_is_killed() {
    let homes = [(); 3].map(|()| TempDir::new().expect("a temporary folder"));
    let role = "[agents.main]\nkind = \"echo\"\nforward_connections = [\"role\"]\n[agents.role]\nkind = \"sleeper\"\n\
                node_affinity = [\"n2\", \"n3\"]\n";
    for home in &homes {
        std::fs::write(home.path().join("pelago.toml"), role).expect("a small file");
    }
    let first = Node::serve(&homes[0], &["--found", "--name", "n1"]);
    let mut others = vec![("n2", Node::join(&homes[1], &first, "n2")), ("n3", Node::join(&homes[2], &first, "n3"))];
    until(|| first.json(&["status"])["can_lose"] == json!(1), &"three nodes vote");
    let signal = |content: &str| first.json(&["signal", "forward", "--to", "main", "--content", content, "--wait"]);
    let handled_by = |signal: &Value| {
        assert_eq!(
            (&signal["whole"], &signal["tree"]["branches"][0]["reply"]),
            (&json!(true), &json!(signal["tree"]["reply"]))
        );
        signal["tree"]["branches"][0]["node"].as_str().expect("somebody handled it").to_owned()
    };
    handled_by(&signal("1"));
    let taken_by = |node: &Node| {
        node.json(&["signal", "forward", "--to", "main", "--content", "1"])["id"]
            .as_str()
            .expect("it is text")
            .to_owned()
    };
    let taken: Vec<String> = others.iter().map(|(_, node)| taken_by(node)).collect();
    for id in &taken {
        assert_eq!(first.json(&["signal", "show", id, "--wait", "30s"])["whole"], json!(true));
    }
    let under_way = thread::spawn({
        let url = first.http.clone();
        move || {
            output(pelago(&url).args([
                "-o",
                "json",
                "signal",
                "forward",
                "--to",
                "main",
                "--content",
                "3000",
                "--wait",
            ]))
        }
    });
    let has_it = |(_, node): &(&str, Node)| metrics(&[&node.http]).contains("pelago_signals_handled 1\n");
    until(|| others.iter().any(has_it), &"an agent has the signal");
    let at = others.iter().position(has_it).expect("it keeps it for three seconds");
    let (lost, mut killed) = others.remove(at);
    killed.process.kill().expect("it runs");
    let told = under_way.join().expect("it does not panic");
    let survivor = others[0].0;
    assert_eq!(handled_by(&serde_json::from_slice(&told.stdout).expect("a signal")), survivor, "{told:?}");
    // At once, long before the mesh gives the lost node up.
    assert_eq!(handled_by(&signal("2")), survivor);
    let away = output(pelago(&first.http).args(["signal", "show", &taken[at]]));
    let told = text(&away.stderr);
    assert!(told.contains("error[PLG-2046]") && told.contains(&format!("node {lost}, which took signal")), "{away:?}");
}

/// The example of the repository, started by its script.
struct Example {
    home: TempDir,
    ports: [String; 4],
}

impl Example {
    fn start() -> Self {
        let free = [(); 4].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port is free"));
        let ports = free.each_ref().map(|port| port.local_addr().expect("it has one").port().to_string());
        drop(free);
        let example = Self { home: TempDir::new().expect("a temporary folder"), ports };
        let started = example.script("run-distributed.sh");
        assert!(started.status.success(), "{started:?}");
        assert!(text(&started.stdout).contains("workers answers at "), "{started:?}");
        example
    }

    fn script(&self, name: &str) -> Output {
        let mut script = deaf(Command::new("sh"));
        script.arg(repository().join("scripts").join(name)).current_dir(self.home.path());
        script.env("PELAGO", env!("CARGO_BIN_EXE_pelago")).env("RUN", self.home.path().join("run"));
        for (name, port) in ["HTTP_PORT", "HTTP_PORT_2", "MESH_PORT", "MESH_PORT_2"].iter().zip(&self.ports) {
            script.env(name, port);
        }
        output(&mut script)
    }

    fn url(&self, node: usize) -> String {
        format!("http://127.0.0.1:{}", self.ports[node])
    }

    /// Asks the first node.
    fn pelago(&self, args: &[&str]) -> Output {
        output(pelago(&self.url(0)).args(args))
    }

    /// Asks the second node.
    fn second(&self, args: &[&str]) -> Output {
        output(pelago(&self.url(1)).args(args))
    }

    fn json(&self, args: &[&str]) -> Value {
        document(&self.pelago(&[args, &["-o", "json"]].concat()))
    }

    fn signal(&self, args: &[&str]) -> Value {
        self.json(&[&["signal", "forward", "--wait"], args].concat())
    }

    fn metrics(&self) -> String {
        metrics(&[&self.url(0), &self.url(1)])
    }

    fn stop(&self) {
        let stopped = self.script("stop-distributed.sh");
        assert!(stopped.status.success(), "{stopped:?}");
        assert_eq!(text(&stopped.stdout), "workers has stopped\nstrategic has stopped\n");
        assert_eq!(self.pelago(&["status"]).status.code(), Some(6));
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // Also when a test fails; after `stop` it finds nobody.
        let _stopped = self.script("stop-distributed.sh");
    }
}

struct Node {
    process: Child,
    mesh: String,
    http: String,
}

impl Node {
    fn join(home: &TempDir, other: &Self, name: &str) -> Self {
        Self::serve(home, &["--join", &other.mesh, "--name", name])
    }

    fn serve(home: &TempDir, options: &[&str]) -> Self {
        let mut command = deaf(Command::new(env!("CARGO_BIN_EXE_pelago")));
        command.args(["serve", "--port", "0", "--mesh-addr", "127.0.0.1:0", "--print-addr", "json"]);
        command.args(["--log-level", "error"]).args(options).current_dir(home.path());
        let mut process = command.stdout(Stdio::piped()).spawn().expect("the binary runs");
        let stdout = process.stdout.take().expect("stdout is a pipe");
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || sender.send(BufReader::new(stdout).lines().next()));
        let line = receiver.recv_timeout(PATIENCE).expect("it says where it listens within its time");
        let line = line.expect("it says where it listens").expect("it is text");
        let addresses: Value = serde_json::from_str(&line).expect("the line is JSON");
        let address = |name: &str| addresses[name].as_str().expect("it listens there").to_owned();
        Self { process, mesh: address("mesh"), http: address("http") }
    }

    fn json(&self, args: &[&str]) -> Value {
        document(&output(pelago(&self.http).args(args).args(["-o", "json"])))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ended_already = self.process.kill();
        let _reaped = self.process.wait();
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A command of the binary, asked of the node at `url`.
fn pelago(url: &str) -> Command {
    let mut command = deaf(Command::new(env!("CARGO_BIN_EXE_pelago")));
    command.args(["--url", url]);
    command
}

/// Deaf to the environment of whoever runs the tests.
fn deaf(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PELAGO")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

fn output(command: &mut Command) -> Output {
    command.output().expect("the program runs")
}

/// A node says where it listens without a scheme.
fn client(address: &str) -> Client {
    Client::new(&if address.contains("://") { address.to_owned() } else { format!("http://{address}") })
}

/// What nodes count.
fn metrics(urls: &[&str]) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let of = |url: &&str| runtime.block_on(client(url).metrics()).expect("the node answers");
    urls.iter().map(of).collect()
}

fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("stdout is no document: {output:?}"))
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("it is text")
}

fn until(mut is_so: impl FnMut() -> bool, what: &dyn std::fmt::Debug) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "it did not come true in time: {what:?}");
        thread::sleep(Duration::from_millis(50));
    }
}
