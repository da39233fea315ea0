//! `pelago up` as a user runs it: a mesh of real processes in a folder.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    net::TcpListener,
    path::Path,
    process::{Child, ChildStderr, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long anything may take that comes by itself.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_mesh_of_three_stops_cleanly_and_comes_up_again_where_it_was() {
    let home = Home::new();
    let up = home.up(&["--port", "0", "--mesh-port", "0"]);
    assert_eq!(up.names(), ["node-1", "node-2", "node-3"]);
    for (node, counted) in ["1\n", "2\n", "3\n"].iter().enumerate() {
        assert_eq!(up.ask(node, &["agent", "ask", "counter:a", "1"]), *counted, "by node {node}");
    }
    let status = up.status(1);
    assert_eq!((status["voters"].as_array().map(Vec::len), &status["can_lose"]), (Some(3), &json!(1)));
    let before = up.places();
    assert_eq!(up.end_by(Signal::TERM), Some(0), "{}", home.logs());
    assert!(!works_in(home.path()), "a node lives on");
    assert!(!home.logs().contains("ERROR"), "nothing failed: {}", home.logs());

    let up = home.up(&[]);
    assert_eq!(up.places(), before);
    assert_eq!(up.ask(2, &["agent", "ask", "counter:a", "1"]), "4\n");
    assert_eq!(up.end_by(Signal::INT), Some(0), "{}", home.logs());

    // Nobody listens where the others remember them.
    let up = home.up(&["--port", "0", "--mesh-port", "0"]);
    assert_ne!(up.places(), before);
    assert_eq!(up.ask(0, &["agent", "ask", "counter:a", "1"]), "5\n");
}

#[test]
fn a_folder_grows_and_does_not_shrink() {
    let home = Home::new();
    let up = home.up(&["1", "--port", "0", "--mesh-port", "0"]);
    assert_eq!(up.ask(0, &["agent", "ask", "counter:a", "1"]), "1\n");
    assert_eq!(up.end_by(Signal::TERM), Some(0), "{}", home.logs());
    let up = home.up(&["3", "--port", "0", "--mesh-port", "0"]);
    assert_eq!(up.names(), ["node-1", "node-2", "node-3"]);
    assert_eq!(up.ask(2, &["agent", "ask", "counter:a", "1"]), "2\n");
    assert_eq!(up.end_by(Signal::TERM), Some(0), "{}", home.logs());

    let refused = home.command(&["2"]).output().expect("the program runs");
    let problem = problem(&refused);
    assert_eq!((refused.status.code(), &problem["code"]), (Some(2), &json!("PLG-3020")));
    let detail = problem["detail"].as_str().unwrap_or("");
    assert!(detail.contains("node-1, node-2, node-3"), "{detail}");
}

#[test]
fn a_folder_in_use_is_refused_and_unharmed() {
    let home = Home::new();
    let up = home.up(&["1", "--port", "0", "--mesh-port", "0"]);
    let refused = home.command(&["1"]).output().expect("the program runs");
    assert_eq!((refused.status.code(), &problem(&refused)["code"]), (Some(5), &json!("PLG-3021")));
    assert_eq!(up.ask(0, &["agent", "ask", "counter:a", "1"]), "1\n");
}

#[test]
fn a_port_in_use_gives_way_with_a_notice_unless_it_was_named() {
    let home = Home::new();
    let up = home.up(&["1", "--port", "0", "--mesh-port", "0"]);
    let address = up.url(0).strip_prefix("http://").expect("it is an URL").to_owned();
    assert_eq!(up.end_by(Signal::TERM), Some(0), "{}", home.logs());
    let _taken = TcpListener::bind(&address).expect("nobody listens there any more");
    let port = address.rsplit(':').next().expect("it ends with the port");

    let refused = home.command(&["--port", port]).output().expect("the program runs");
    assert_eq!((refused.status.code(), &problem(&refused)["code"]), (Some(5), &json!("PLG-3026")));

    let mut up = home.start(pelago(&["up"]));
    let notice = up.until_said("is in use");
    assert!(notice.contains(&format!("port {port} is in use, so node-1 listens on ")), "{notice}");
    let said = up.until_said("next: pelago status --url http://127.0.0.1:");
    assert!(!said.contains(&address), "{said}");
}

#[test]
fn an_up_that_is_told_to_stop_says_what_it_waits_for() {
    let home = Home::new();
    let mut up = home.start(pelago(&["up", "1", "--port", "0", "--mesh-port", "0"]));
    up.until_said("Ctrl-C stops the nodes");
    up.signal(Signal::INT);
    let said = up.until_said("stopping");
    assert!(said.contains("stopping 1 node: ") && said.contains("Ctrl-C again"), "{said}");
    assert_eq!(up.wait(), Some(0), "{}", home.logs());
}

#[test]
fn a_node_that_dies_is_told_of_and_the_others_go_on_until_the_last() {
    let home = Home::new();
    let mut up = home.up(&["--port", "0", "--mesh-port", "0"]);
    assert_eq!(up.ask(0, &["agent", "ask", "counter:a", "1"]), "1\n");
    up.kill_node(0);
    let told: Value = serde_json::from_str(&up.until_said("PLG-3023")).expect("a problem is a document");
    assert_eq!(told["detail"], "node-1 was ended by signal 9");
    assert!(told["hint"].as_str().is_some_and(|hint| !hint.contains("says why")), "its log cannot: {told}");
    let urls = (0..3).map(|node| up.url(node)).collect::<Vec<_>>().join(",");
    home.until_shown(&["agent", "ask", "counter:a", "1", "--key", "k", "--url", &urls], "2\n");
    up.kill_node(1);
    up.kill_node(2);
    let told: Value = serde_json::from_str(&up.until_said("PLG-3024")).expect("a problem is a document");
    assert!(told["detail"].as_str().is_some_and(|detail| detail.contains("node is ready")), "{told}");
    assert_eq!(up.wait(), Some(1));
}

#[test]
fn a_node_that_was_lost_is_started_again_by_the_command_that_is_told() {
    let home = Home::new();
    let mut up = home.up(&["--port", "0", "--mesh-port", "0"]);
    up.kill_node(1);
    let told: Value = serde_json::from_str(&up.until_said("PLG-3023")).expect("a problem is a document");
    let again = told["try"].as_str().expect("it says what to run");
    assert_eq!(again, up.nodes()[1]["command"].as_str().expect("it was told before"));
    let alone = Alone::start(again);
    let until = Instant::now() + PATIENCE;
    while up.ask(0, &["status"]).contains("PROBLEM") || !up.ask(0, &["status"]).contains("3 up") {
        assert!(Instant::now() < until, "{}", up.ask(0, &["status"]));
        thread::sleep(Duration::from_millis(50));
    }
    // Where it was. Its row is there a moment before it answers.
    home.until_shown(&["agent", "ask", "counter:a", "1", "--key", "k", "--url", up.url(1)], "1\n");
    drop(alone);
}

#[test]
fn a_node_that_runs_already_is_named_before_its_ports_are_given_away() {
    let home = Home::new();
    let up = home.up(&["1", "--port", "0", "--mesh-port", "0"]);
    let (alone, url) = (up.nodes()[0]["command"].as_str().expect("it is told").to_owned(), up.url(0).to_owned());
    assert_eq!(up.end_by(Signal::TERM), Some(0), "{}", home.logs());
    let alone = Alone::start(&alone);
    home.until_shown(&["agent", "ask", "counter:a", "1", "--key", "k", "--url", &url], "1\n");

    let refused = home.command(&[]).output().expect("the program runs");
    let problem = problem(&refused);
    assert_eq!((refused.status.code(), &problem["code"]), (Some(5), &json!("PLG-3025")), "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("node-1 runs already")), "{problem}");
    drop(alone);
}

#[test]
fn a_node_that_was_removed_is_left_out_and_the_others_come_up() {
    let home = Home::new();
    let up = home.up(&["4", "--port", "0", "--mesh-port", "0"]);
    assert_eq!(up.ask(0, &["agent", "ask", "counter:a", "1"]), "1\n");
    up.kill_node(3);
    let until = Instant::now() + PATIENCE;
    let remove = ["node", "remove", "node-4", "--url", up.url(0)];
    while !pelago(&remove).output().expect("the program runs").status.success() {
        assert!(Instant::now() < until, "it is not removed");
    }
    assert_eq!(up.end_by(Signal::TERM), Some(0), "{}", home.logs());

    let mut up = home.start(pelago(&["up"]));
    let told = up.until_said("node-4");
    let is_told = told.contains("was removed from the mesh") && told.contains(".pelago/node-4 can be deleted");
    assert!(is_told, "{told}\n{}", home.logs());
    up.until_said("Ctrl-C stops the nodes");
    assert!(home.path().join(".pelago/node-4/node").exists(), "whoever runs it deletes it");
    assert_eq!(up.end_by(Signal::TERM), Some(0), "{}", home.logs());

    let up = home.up(&[]);
    assert_eq!(up.names(), ["node-1", "node-2", "node-3"]);
    assert_eq!(up.ask(2, &["agent", "ask", "counter:a", "1"]), "2\n");
    assert_eq!(up.end_by(Signal::TERM), Some(0), "{}", home.logs());
}

#[test]
#[cfg(target_os = "linux")]
fn no_node_outlives_an_up_that_is_killed() {
    let home = Home::new();
    let up = home.up(&["--port", "0", "--mesh-port", "0"]);
    assert!(works_in(home.path()));
    assert_eq!(up.end_by(Signal::KILL), None);
    let until = Instant::now() + PATIENCE;
    while works_in(home.path()) {
        assert!(Instant::now() < until, "a node lives on");
        thread::yield_now();
    }
}

#[test]
fn a_second_signal_waits_for_nobody() {
    let home = Home::new();
    let up = home.up(&["1", "--port", "0", "--mesh-port", "0"]);
    let task = up.ask(0, &["task", "run", "sleeper", "60000"]);
    let until = Instant::now() + PATIENCE;
    while !up.ask(0, &["task", "show", task.trim()]).contains("running") {
        assert!(Instant::now() < until, "it does not run");
    }
    let begun = Instant::now();
    up.signal(Signal::INT);
    let until = Instant::now() + PATIENCE;
    while !home.logs().contains("stopping") {
        assert!(Instant::now() < until, "{}", home.logs());
    }
    assert_eq!(up.end_by(Signal::INT), Some(130));
    assert!(begun.elapsed() < Duration::from_secs(15), "it waited for the turn");
    assert!(!works_in(home.path()), "a node lives on");
}

/// The folder that commands are run in.
struct Home(TempDir);

/// A process that is killed when this is dropped.
struct Alone(Child);

impl Alone {
    /// Runs a command that was told.
    fn start(told: &str) -> Self {
        let arguments = told.strip_prefix("pelago ").expect("it is ours").replace('\'', "");
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let alone = pelago(&arguments).current_dir("/").stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self(alone.expect("the program runs"))
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// An `up` that runs, and is killed when this is dropped: its nodes too.
struct Up {
    process: Child,
    /// What it said of its nodes once they were ready, with `-o json`.
    told: Value,
    stderr: Option<BufReader<ChildStderr>>,
}

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = pelago(&["up", "-o", "json"]);
        command.args(args).current_dir(self.path());
        command
    }

    /// Starts it and waits until all nodes are ready.
    fn up(&self, args: &[&str]) -> Up {
        let mut up = self.start(self.command(args));
        let stdout = up.process.stdout.take().expect("stdout is a pipe");
        let line = within_patience(move || BufReader::new(stdout).lines().next());
        let Some(Some(Ok(line))) = line else {
            let mut said = String::new();
            let _ended_already = up.process.kill();
            let stderr = up.stderr.as_mut().expect("nobody reads it yet");
            stderr.read_to_string(&mut said).expect("it says text");
            panic!("it did not come up: {said}\n{}", self.logs());
        };
        up.told = serde_json::from_str(&line).expect("it says a document");
        up
    }

    fn start(&self, mut command: Command) -> Up {
        command.current_dir(self.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("the program runs");
        let stderr = process.stderr.take().map(BufReader::new);
        Up { process, told: Value::Null, stderr }
    }

    fn until_shown(&self, args: &[&str], expected: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            let shown = pelago(args).output().expect("the program runs");
            if text(&shown.stdout) == expected {
                return;
            }
            assert!(Instant::now() < until, "{shown:?}\n{}", self.logs());
        }
    }

    /// What the nodes logged.
    fn logs(&self) -> String {
        let nodes = 1..=3;
        let log = |node| fs::read_to_string(self.path().join(format!(".pelago/node-{node}.log"))).unwrap_or_default();
        nodes.map(|node| format!("--- node-{node}\n{}", log(node))).collect()
    }
}

impl Up {
    fn nodes(&self) -> &[Value] {
        self.told["nodes"].as_array().expect("it tells of its nodes")
    }

    fn names(&self) -> Vec<&str> {
        self.nodes().iter().filter_map(|node| node["name"].as_str()).collect()
    }

    fn places(&self) -> Vec<(Value, Value)> {
        self.nodes().iter().map(|node| (node["http"].clone(), node["mesh"].clone())).collect()
    }

    fn url(&self, node: usize) -> &str {
        self.nodes()[node]["http"].as_str().expect("a node has an URL")
    }

    /// What a command shows that asks one of the nodes.
    fn ask(&self, node: usize, args: &[&str]) -> String {
        let shown = pelago(args).args(["--url", self.url(node)]).output().expect("the program runs");
        assert!(shown.status.success(), "{args:?}: {}", text(&shown.stderr));
        text(&shown.stdout).to_owned()
    }

    fn status(&self, node: usize) -> Value {
        serde_json::from_str(&self.ask(node, &["status", "-o", "json"])).expect("the status is a document")
    }

    fn kill_node(&self, node: usize) {
        let id = self.nodes()[node]["pid"].as_i64().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        kill_process(id.expect("a node has a process"), Signal::KILL).expect("it runs");
    }

    /// Waits for a line with `words` on stderr, and returns it.
    fn until_said(&mut self, words: &'static str) -> String {
        let mut stderr = self.stderr.take().expect("nobody else reads it");
        let read = within_patience(move || {
            let line = stderr.by_ref().lines().map_while(Result::ok).find(|line| line.contains(words));
            (line, stderr)
        });
        let (line, stderr) = read.unwrap_or_else(|| panic!("it does not say {words:?}"));
        self.stderr = Some(stderr);
        line.unwrap_or_else(|| panic!("it ended without {words:?}"))
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).expect("it runs");
    }

    /// Sends it a signal, and returns the code that it ends with.
    fn end_by(mut self, signal: Signal) -> Option<i32> {
        self.signal(signal);
        self.wait()
    }

    fn wait(&mut self) -> Option<i32> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(ended) = self.process.try_wait().expect("it is our child") {
                return ended.code();
            }
            assert!(Instant::now() < until, "it does not end");
            thread::yield_now();
        }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ended_already = self.process.kill();
        let _reaped = self.process.wait();
    }
}

/// The program, deaf to the environment of whoever runs the tests.
fn pelago(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pelago"));
    let ours = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PELAGO_"));
    for (name, _) in ours {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null());
    command
}

fn problem(shown: &Output) -> Value {
    serde_json::from_slice(&shown.stderr).unwrap_or_else(|_| panic!("no problem: {}", text(&shown.stderr)))
}

/// Whether any process has a working directory below `place`, as the nodes of a test do. Not known on other systems.
fn works_in(place: &Path) -> bool {
    let processes = fs::read_dir("/proc").into_iter().flatten().map_while(Result::ok);
    let mut directories = processes.filter_map(|process| fs::read_link(process.path().join("cwd")).ok());
    directories.any(|directory| directory.starts_with(place))
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).expect("what the program says is text")
}

/// What `wait` returns; `None` if that takes too long.
fn within_patience<T: Send + 'static>(wait: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(wait()));
    receiver.recv_timeout(PATIENCE).ok()
}
