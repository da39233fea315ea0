//! A mesh of real processes, each of which may be killed at any moment.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use pelago_api::{client::Client, model::Status};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tempfile::TempDir;

use super::say;

/// How long anything may take to come true.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// More nodes do not vote.
const VOTERS_MAX: usize = 3;

/// Nodes n0, n1, …, of which n0 founded the mesh.
pub(crate) struct Mesh {
    pub(crate) nodes: Vec<Node>,
    home: TempDir,
}

/// One node: its place, and its process while it has one.
pub(crate) struct Node {
    pub(crate) name: String,
    /// Its folder in the home of the mesh, and what its log is called there.
    folder: String,
    pub(crate) http: SocketAddr,
    mesh: SocketAddr,
    process: Option<Child>,
    settings: &'static [(&'static str, &'static str)],
    /// The network namespace that it runs in, if it has one of its own.
    namespace: Option<String>,
}

/// What `--print-addr json` prints.
#[derive(Deserialize)]
struct Addresses {
    http: SocketAddr,
    mesh: SocketAddr,
}

impl Mesh {
    /// Starts `n` nodes, and waits until they are a mesh that can lose as many as it should.
    pub(crate) async fn start(n: usize) -> Self {
        Self::start_with(n, &[]).await
    }

    /// The same, with settings as variables of their environment.
    pub(crate) async fn start_with(n: usize, settings: &'static [(&'static str, &'static str)]) -> Self {
        let here = (None, IpAddr::from([127, 0, 0, 1]));
        Self::start_at(vec![here; n], settings).await
    }

    /// The same, each in a network namespace, at an address there.
    pub(crate) async fn start_at(
        places: Vec<(Option<String>, IpAddr)>,
        settings: &'static [(&'static str, &'static str)],
    ) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        let mut nodes: Vec<Node> = Vec::new();
        for (number, (namespace, ip)) in places.into_iter().enumerate() {
            let any = SocketAddr::from((ip, 0));
            let name = format!("n{number}");
            let folder = name.clone();
            let mut node = Node { folder, name, http: any, mesh: any, process: None, settings, namespace };
            node.spawn(home.path(), &nodes.iter().map(|other| other.mesh).collect::<Vec<_>>());
            node.ready();
            nodes.push(node);
        }
        let mesh = Self { nodes, home };
        mesh.until_whole().await;
        mesh
    }

    /// Waits until all nodes are there again, and voters enough.
    pub(crate) async fn until_whole(&self) {
        let n = self.nodes.len();
        for node in &self.nodes {
            node.until("the mesh is whole", |status| {
                status.quorum
                    && status.nodes.iter().filter(|node| node.linked).count() == n
                    && status.can_lose as usize == (n.min(VOTERS_MAX) - 1) / 2
            })
            .await;
        }
    }

    /// Starts the processes of nodes again, at the addresses they had.
    pub(crate) fn start_again(&mut self, numbers: &[usize]) {
        self.begin(numbers);
        // None of them is ready before a majority is there.
        self.ready(numbers);
    }

    /// The same, without waiting until they are ready.
    pub(crate) fn begin(&mut self, numbers: &[usize]) {
        let addresses: Vec<_> = self.nodes.iter().map(|node| node.mesh).collect();
        for &number in numbers {
            let others = addresses.iter().enumerate().filter(|(other, _)| *other != number);
            let others: Vec<_> = others.map(|(_, address)| *address).collect();
            self.nodes[number].spawn(self.home.path(), &others);
        }
    }

    pub(crate) fn ready(&mut self, numbers: &[usize]) {
        numbers.iter().for_each(|&number| self.nodes[number].ready());
    }

    pub(crate) fn kill(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        let mut process = node.process.take().expect("it runs");
        process.kill().expect("it is our child");
        process.wait().expect("it is our child");
    }

    /// Deletes all that a node has on disk.
    pub(crate) fn wipe(&self, number: usize) {
        std::fs::remove_dir_all(self.home.path().join(&self.nodes[number].folder)).expect("it has a data directory");
    }

    /// Copies the data directory of a node, which has to be down.
    pub(crate) fn copy(&self, number: usize) -> PathBuf {
        let (from, to) = (self.home.path().join(&self.nodes[number].folder), self.home.path().join("copy"));
        copy_all(&from, &to);
        to
    }

    /// Starts a process on the copy of a node's directory, at addresses of its own.
    pub(crate) fn double(&self, number: usize) -> Node {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let name = self.nodes[number].name.clone();
        let settings = self.nodes[number].settings;
        let mut double =
            Node { name, folder: "copy".into(), http: any, mesh: any, process: None, settings, namespace: None };
        let others = self.nodes.iter().enumerate().filter(|(other, _)| *other != number);
        double.spawn(self.home.path(), &others.map(|(_, node)| node.mesh).collect::<Vec<_>>());
        double
    }

    /// What a node has logged.
    pub(crate) fn log(&self, node: &Node) -> String {
        std::fs::read_to_string(self.home.path().join(format!("{}.log", node.folder))).expect("it has a log")
    }

    /// The number of the node that leads, and runs.
    pub(crate) async fn leader(&self) -> usize {
        let deadline = Instant::now() + PATIENCE;
        loop {
            for (number, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.process.is_some()) {
                let status = node.client().status().await;
                if status.is_ok_and(|status| status.quorum && status.leader.as_ref() == Some(&node.name)) {
                    return number;
                }
            }
            assert!(Instant::now() < deadline, "nobody leads");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn clients(&self) -> Vec<Client> {
        self.nodes.iter().map(Node::client).collect()
    }
}

impl Node {
    fn spawn(&mut self, home: &Path, others: &[SocketAddr]) {
        let mut command = match &self.namespace {
            Some(_) => Command::new("ip"),
            None => Command::new(env!("CARGO_BIN_EXE_pelago")),
        };
        if let Some(namespace) = &self.namespace {
            // It becomes the program: whoever has its id has the node's.
            command.args(["netns", "exec", namespace, env!("CARGO_BIN_EXE_pelago")]);
        }
        command.args(["serve", "--print-addr", "json", "--log-level", "warn", "--name", &self.name]);
        command.envs(self.settings.iter().copied());
        command.arg("--data-dir").arg(home.join(&self.folder));
        command.arg("--host").arg(self.http.ip().to_string());
        command.arg("--port").arg(self.http.port().to_string()).arg("--mesh-addr").arg(self.mesh.to_string());
        if others.is_empty() {
            command.arg("--found");
        }
        for other in others {
            command.arg("--join").arg(other.to_string());
        }
        let log = File::options().create(true).append(true).open(home.join(format!("{}.log", self.folder)));
        command.current_dir(home).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log.expect("a log"));
        self.process = Some(command.spawn().expect("the program starts"));
    }

    /// Waits until the process says where it is reached.
    fn ready(&mut self) {
        let stdout = self.process.as_mut().and_then(|process| process.stdout.take()).expect("stdout is piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("stdout can be read");
        let Addresses { http, mesh } = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        (self.http, self.mesh) = (http, mesh);
    }

    /// The code that its process ended with, if it has.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let ended = self.process.as_mut().expect("it was started").try_wait().expect("it is our child");
        ended.map(|ended| ended.code().expect("nobody killed it"))
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&format!("http://{}", self.http))
    }

    /// Where other nodes and clients reach it.
    pub(crate) fn mesh_address(&self) -> String {
        self.mesh.to_string()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.id()).ok().and_then(Pid::from_raw).expect("a process has an id");
        kill_process(id, signal).expect("it is our child");
    }

    fn id(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    /// What it has in memory, in KiB. Nothing if the system does not say.
    pub(crate) fn memory_kib(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
    }

    /// How many files and sockets it has open.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.id())).map_or(0, Iterator::count)
    }

    /// How many TCP connections it has with an IPv4 address, as its network namespace sees them.
    pub(crate) fn connections_with(&self, ip: Ipv4Addr) -> usize {
        let text = std::fs::read_to_string(format!("/proc/{}/net/tcp", self.id())).unwrap_or_default();
        let wanted = format!("{:08X}:", u32::from_ne_bytes(ip.octets()));
        let established = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        established.filter(|line| line.get(3) == Some(&"01") && line[2].starts_with(&wanted)).count()
    }

    /// Waits until the node says of the mesh what is wanted.
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(&Status) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.client().status().await;
            if status.as_ref().is_ok_and(&is_so) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: it did not come true for {}: {status:?}", self.name);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A counter of the node, as `/metrics` shows it.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let text = self.client().metrics().await.expect("the node answers");
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
        line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a counter is a number")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // The test has failed already, or is done.
            let _ended = process.kill();
            let _ended = process.wait();
        }
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let last = |text: &str| {
                text.lines().rev().take(30).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
            };
            self.nodes.iter().for_each(|node| say(&format!("--- {}\n{}", node.name, last(&self.log(node)))));
        }
    }
}

fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder can be made");
    for entry in std::fs::read_dir(from).expect("it is a folder") {
        let path = entry.expect("it can be listed").path();
        let to = to.join(path.file_name().expect("it has a name"));
        if path.is_dir() {
            copy_all(&path, &to);
        } else {
            std::fs::copy(&path, &to).expect("it can be copied");
        }
    }
}
