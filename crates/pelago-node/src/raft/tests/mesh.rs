//! Several nodes in one process, over real links on loopback.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use pelago_core::{
    id::{AgentId, BootId, DirectoryId, Incarnation, MeshId, Name, NodeId},
    link::{Goodbye, Hello, LANE_BYTES_MIN, Pauses, PerLane, Role, Versions},
    record::{MessageBody, Op, Outcome, Send},
    time::LogTime,
};
use pelago_net::{Config, Dial, Links, Listener};
use pelago_store::{
    Propose as _, ProposeError,
    directory::{Directory, Identity},
    sqlite,
};
use tempfile::TempDir;
use tokio::{
    runtime,
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{SOON, nothing, register};
use crate::clock;
use crate::raft::{Candidate, Consensus, ENTRIES_KEPT, FOUNDER, Receiver, Runtime, Start, Timing, Told};

/// The Raft ids of a mesh's nodes, the founder first.
const IDS: [u64; 3] = [FOUNDER, 11, 12];

#[tokio::test]
async fn three_members_become_voters_and_all_apply_a_batch() {
    let mesh = Mesh::of_three(Timing::Slow).await;
    let leader = mesh.leader().await;
    assert_eq!(leader.consensus.standing().observers, Vec::<String>::new());
    register(&leader.consensus).await;
    mesh.agree().await;
    for node in &mesh.nodes {
        let nodes = node.consensus.reader().view(|view| view.nodes()).expect("the rows can be read");
        assert_eq!(nodes.len(), 1, "{} has applied the batch", node.name);
    }
    assert_eq!(mesh.nodes[1].consensus.leader_name(), Some(leader.name.clone()));
    mesh.stop().await;
}

#[tokio::test]
async fn two_members_have_one_voter_and_one_observer() {
    let mut mesh = Mesh::begin(Timing::Slow).await;
    mesh.join().await;
    let founder = &mesh.nodes[0].consensus;
    register(founder).await;
    mesh.agree().await;
    // Longer than it takes to look for voters, twice.
    sleep(Duration::from_millis(1_200)).await;
    let standing = founder.standing();
    assert_eq!((standing.voters, standing.observers), (vec!["n0".to_owned()], vec!["n1".to_owned()]));
    mesh.stop().await;
}

#[tokio::test]
async fn another_leads_when_the_leader_stops_and_nothing_acknowledged_is_lost() {
    let mut mesh = Mesh::of_three(Timing::Lan).await;
    let leader = mesh.leader().await;
    register(&leader.consensus).await;
    for n in 0..20 {
        nothing(&leader.consensus, n).await;
    }
    let acknowledged = leader.consensus.progress().index();
    let name = leader.name.clone();
    mesh.stop_node(&name).await;
    let next = mesh.leader().await;
    assert_ne!(next.name, name);
    let read = until_ok(|| next.consensus.read_index()).await;
    assert!(read >= acknowledged, "{read} covers {acknowledged}");
    assert!(next.consensus.applied(read, SOON).await);
    let nodes = next.consensus.reader().view(|view| view.nodes()).expect("the rows can be read");
    assert_eq!(nodes.len(), 1, "the registration is there");
    nothing(&next.consensus, 100).await;
    mesh.stop().await;
}

#[tokio::test]
async fn another_leads_while_the_rest_of_the_leaders_node_stands_still() {
    let mesh = Mesh::of_three(Timing::Lan).await;
    let leader = mesh.leader().await;
    register(&leader.consensus).await;
    // One sign of life, and no other.
    leader.consensus.signs.give();
    let others = || mesh.nodes.iter().filter(|node| node.name != leader.name);
    until("another leads", || others().any(|node| node.consensus.standing().leads)).await;
    let next = others().find(|node| node.consensus.standing().leads).expect("it leads");
    nothing(&next.consensus, 1).await;
    // It goes on, as one of those who follow, and may lead again.
    leader.consensus.signs.give();
    until("it follows", || leader.consensus.leader_name().is_some_and(|name| name == next.name)).await;
    mesh.stop().await;
}

#[tokio::test]
async fn a_member_that_lacks_purged_entries_gets_the_database_and_then_the_log() {
    let mut mesh = Mesh::begin(Timing::Slow).await;
    mesh.purge().await;
    // Entries that only a dump made later than the handle holds.
    for n in 0..10 {
        nothing(&mesh.nodes[0].consensus, n).await;
    }
    let told = mesh.join().await;
    mesh.agree().await;
    nothing(&mesh.nodes[0].consensus, 7).await;
    mesh.agree().await;
    let told = told.await.expect("whoever listens does not panic");
    assert!(matches!(told, Told::Replaced), "first of all {told:?}");
    assert!(mesh.nodes[0].dump() == mesh.nodes[1].dump(), "both have the same rows");
    mesh.stop().await;
}

#[tokio::test]
async fn a_dump_that_breaks_off_halfway_is_begun_anew() {
    let mut mesh = Mesh::begin(Timing::Slow).await;
    for n in 0..60 {
        large_message(&mesh.nodes[0].consensus, n).await;
    }
    mesh.purge().await;
    let told = mesh.join().await;
    let arriving = mesh.nodes[1].directory.database().parent().expect("a file is in a directory").to_owned();
    let has_begun = || {
        let files = std::fs::read_dir(&arriving).expect("the directory can be read").filter_map(Result::ok);
        // Whatever is not there from the start is the new database.
        let new =
            |name: &str| name.starts_with("state.db") && !["", "-wal", "-shm"].contains(&&name["state.db".len()..]);
        let sizes =
            files.filter(|file| file.file_name().to_str().is_some_and(new)).filter_map(|file| file.metadata().ok());
        sizes.map(|data| data.len()).sum::<u64>() > 1 << 20
    };
    until("a part of the dump has come", has_begun).await;
    mesh.cut_all().await;
    assert_eq!(mesh.nodes[1].consensus.progress().index(), 0, "nothing of half a dump is to be seen");
    assert!(!told.is_finished());
    mesh.link_all();
    mesh.agree().await;
    assert!(matches!(told.await.expect("whoever listens does not panic"), Told::Replaced));
    assert!(mesh.nodes[0].dump() == mesh.nodes[1].dump(), "both have the same rows");
    mesh.stop().await;
}

#[tokio::test]
async fn without_a_quorum_nothing_is_acknowledged() {
    let mut mesh = Mesh::of_three(Timing::Slow).await;
    let leader = mesh.leader().await.name.clone();
    mesh.cut_all().await;
    let consensus = &mesh.node(&leader).consensus;
    let alone = timeout(Duration::from_secs(2), consensus.propose(&[nothing_op()])).await;
    assert!(!matches!(alone, Ok(Ok(_))), "one of three acknowledged: {alone:?}");
    assert!(!matches!(timeout(Duration::from_secs(2), consensus.read_index()).await, Ok(Ok(_))));
    mesh.link_all();
    // Whoever leads first may not for long: an election may have been on its way.
    let outcomes = until_ok(async || mesh.leader().await.consensus.propose(&[nothing_op()]).await).await;
    assert_eq!(outcomes.len(), 1);
    mesh.agree().await;
    mesh.stop().await;
}

#[tokio::test]
async fn a_voter_that_was_stopped_takes_part_again() {
    let mut mesh = Mesh::of_three(Timing::Slow).await;
    let leader = mesh.leader().await.name.clone();
    let other = mesh.nodes.iter().map(|node| node.name.clone()).find(|name| *name != leader).expect("there are three");
    mesh.stop_node(&other).await;
    register(&mesh.node(&leader).consensus).await;
    mesh.start_again(&other).await;
    mesh.agree().await;
    assert!(mesh.node(&leader).dump() == mesh.node(&other).dump(), "both have the same rows");
    assert_eq!(mesh.node(&other).consensus.standing().voters.len(), 3);
    mesh.stop().await;
}

#[tokio::test]
async fn a_leader_whose_clock_is_an_hour_ahead_does_not_move_the_logs_time() {
    let ahead = IDS[1];
    let mesh = Mesh::of_three_with(Timing::Slow, Some(ahead)).await;
    let before = mesh.leader().await;
    nothing(&before.consensus, 1).await;
    let all_have_it = || mesh.nodes.iter().all(|node| node.consensus.standing().voters.len() == 3);
    until("three vote", all_have_it).await;
    before.consensus.raft.trigger().transfer_leader(ahead).await.expect("it may be asked");
    until("it leads", || mesh.nodes[1].consensus.standing().leads).await;
    until_ok(async || mesh.nodes[1].consensus.propose(&[nothing_op()]).await).await;
    let log = mesh.nodes[1].consensus.progress().time();
    assert!(log <= clock::wall().plus_millis(60_000), "{log:?}");
    assert!(mesh.nodes[1].consensus.log_time() <= clock::wall().plus_millis(60_000));
    mesh.stop().await;
}

fn an_hour_ahead() -> LogTime {
    clock::wall().plus_millis(3_600_000)
}

#[tokio::test]
async fn a_leader_hands_over() {
    let mesh = Mesh::of_three(Timing::Slow).await;
    let before = mesh.leader().await;
    let others = mesh.nodes.iter().find(|node| node.name != before.name).expect("there are three");
    assert_eq!(others.consensus.read_index().await, Err(ProposeError::NotLeader));
    assert!(before.consensus.hand_over().await);
    let after = mesh.leader().await;
    assert_ne!(after.name, before.name);
    nothing(&after.consensus, 1).await;
    let refused = before.consensus.propose(&[nothing_op()]).await;
    assert_eq!(refused, Err(ProposeError::NotLeader));
    mesh.stop().await;
}

#[tokio::test]
async fn a_batch_too_large_for_a_frame_is_refused_and_a_large_one_replicated() {
    let mesh = Mesh::of_three(Timing::Slow).await;
    let leader = mesh.leader().await;
    let large = |bytes| {
        let reason = "x".repeat(bytes);
        vec![Op::Cancel(pelago_core::record::Cancel { task: pelago_core::id::TaskId(1), reason, dead_too: false })]
    };
    let refused = leader.consensus.propose(&large(1 << 20)).await;
    assert!(matches!(refused, Err(ProposeError::Malformed { .. })), "{refused:?}");
    until_ok(async || leader.consensus.propose(&large(1_000 << 10)).await).await;
    mesh.agree().await;
    mesh.stop().await;
}

/// Nodes that know each other. Each dials those before it.
struct Mesh {
    home: TempDir,
    timing: Timing,
    /// The Raft id of the node whose clock is an hour ahead.
    ahead: Option<u64>,
    nodes: Vec<Node>,
    candidates: watch::Sender<Vec<Candidate>>,
    dials: Vec<JoinHandle<()>>,
    keepers: Vec<JoinHandle<()>>,
}

pub(super) struct Node {
    pub(super) consensus: Arc<Consensus>,
    directory: Directory,
    name: Name,
    raft_id: u64,
    links: Links,
    address: SocketAddr,
    runtime: runtime::Handle,
    listener: JoinHandle<()>,
    told: Option<mpsc::Receiver<Told>>,
}

impl Mesh {
    async fn begin(timing: Timing) -> Self {
        Self::begin_with(timing, None).await
    }

    async fn begin_with(timing: Timing, ahead: Option<u64>) -> Self {
        let home = TempDir::new().expect("a temporary directory can be made");
        let (candidates, _) = watch::channel(Vec::new());
        let (nodes, dials, keepers) = Default::default();
        let mut mesh = Self { home, timing, ahead, nodes, candidates, dials, keepers };
        let told = mesh.add().await;
        drop(told);
        mesh.nodes[0].consensus.led(SOON).await.expect("a founder leads");
        mesh
    }

    async fn of_three(timing: Timing) -> Self {
        Self::of_three_with(timing, None).await
    }

    async fn of_three_with(timing: Timing, ahead: Option<u64>) -> Self {
        let mut mesh = Self::begin_with(timing, ahead).await;
        drop(mesh.join().await);
        drop(mesh.join().await);
        let voters = || mesh.nodes.iter().all(|node| node.consensus.standing().voters.len() == 3);
        until("three vote", voters).await;
        mesh
    }

    /// Writes to the founder alone until its log no longer holds all, and what it holds no longer is a whole.
    async fn purge(&self) {
        let founder = &self.nodes[0].consensus;
        register(founder).await;
        for n in 0..ENTRIES_KEPT + 500 {
            nothing(founder, n).await;
        }
        founder.raft.trigger().snapshot().await.expect("a checkpoint can be made");
        let purged = |metrics: &openraft::RaftMetrics<_>| metrics.purged.is_some_and(|id| id.index >= 400);
        founder.raft.wait(Some(SOON)).metrics(purged, "the log is purged").await.expect("the log is purged");
    }

    /// Adds a node and admits it. What it is told first comes back.
    async fn join(&mut self) -> JoinHandle<Told> {
        let told = self.add().await;
        let node = self.nodes.last().expect("one was added");
        let (founder, id, name) = (Arc::clone(&self.nodes[0].consensus), node.raft_id, node.name.clone());
        until_ok(|| founder.admit(id, &name)).await;
        founder.admit(id, &name).await.expect("it is admitted already");
        told
    }

    async fn add(&mut self) -> JoinHandle<Told> {
        let n = self.nodes.len();
        let name = super::name(&format!("n{n}"));
        let candidate = Candidate { name: name.clone(), zone: None, live: true };
        self.candidates.send_modify(|candidates| candidates.push(candidate));
        self.start(&name, IDS[n]).await
    }

    async fn start_again(&mut self, name: &Name) {
        let id = (0..).zip(IDS).find(|(n, _)| name.as_str() == format!("n{n}")).map(|(_, id)| id);
        drop(self.start(name, id.expect("it was there before")).await);
    }

    async fn start(&mut self, name: &Name, raft_id: u64) -> JoinHandle<Told> {
        let wall = if self.ahead == Some(raft_id) { an_hour_ahead } else { clock::wall };
        let mut node = Node::start_with(&self.home.path().join(name.as_str()), name, raft_id, self.timing, wall).await;
        let mut told = node.told.take().expect("nobody listened yet");
        let first = tokio::spawn(async move {
            let first = told.recv().await.expect("something is told");
            tokio::spawn(async move { while told.recv().await.is_some() {} });
            first
        });
        let keeping = Arc::clone(&node.consensus).keep_voters({
            let candidates = self.candidates.subscribe();
            move || candidates.borrow().clone()
        });
        self.keepers.push(tokio::spawn(keeping));
        self.nodes.push(node);
        self.link(self.nodes.len() - 1);
        first
    }

    fn link(&mut self, n: usize) {
        for other in 0..n {
            let dial = self.nodes[n].dial(self.nodes[other].address);
            self.dials.push(dial);
        }
    }

    fn link_all(&mut self) {
        (0..self.nodes.len()).for_each(|n| self.link(n));
    }

    /// Ends all links for good.
    async fn cut_all(&mut self) {
        self.dials.drain(..).for_each(|dial| dial.abort());
        until("all links are cut", || self.nodes.iter().all(|node| node.links.all().is_empty())).await;
    }

    /// Whoever leads, once most of those here agree on it.
    async fn leader(&self) -> &Node {
        let leads = |node: &&Node| {
            let standing = node.consensus.standing();
            let agree = |other: &&Node| {
                let others = other.consensus.standing();
                others.leader == standing.leader && others.term == standing.term
            };
            standing.leads
                && standing.leader.as_deref() == Some(node.name.as_str())
                && self.nodes.iter().filter(agree).count() == self.nodes.len()
        };
        let deadline = Instant::now() + SOON;
        loop {
            // Whoever is found may be deposed in this moment: an election may have been on its way.
            if let Some(leader) = self.nodes.iter().find(leads)
                && leader.consensus.read_index().await.is_ok()
            {
                return leader;
            }
            assert!(Instant::now() < deadline, "in vain until somebody leads");
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn node(&self, name: &Name) -> &Node {
        self.nodes.iter().find(|node| node.name == *name).expect("it is there")
    }

    /// Waits until all have applied the same.
    async fn agree(&self) {
        let all = || {
            let last = self.nodes.iter().filter_map(|node| node.consensus.raft_last()).max();
            self.nodes.iter().all(|node| Some(node.consensus.progress().index()) == last)
        };
        until("all have applied the same", all).await;
    }

    async fn stop_node(&mut self, name: &Name) {
        let at = self.nodes.iter().position(|node| node.name == *name).expect("it is there");
        self.keepers.remove(at).abort();
        self.nodes.remove(at).stop().await;
    }

    async fn stop(mut self) {
        self.keepers.drain(..).for_each(|keeper| keeper.abort());
        for node in self.nodes.drain(..) {
            node.stop().await;
        }
    }
}

impl Consensus {
    fn raft_last(&self) -> Option<u64> {
        Some(self.standing().last_index)
    }
}

impl Node {
    pub(super) async fn start(path: &Path, name: &Name, raft_id: u64, timing: Timing) -> Self {
        Self::start_with(path, name, raft_id, timing, clock::wall).await
    }

    async fn start_with(path: &Path, name: &Name, raft_id: u64, timing: Timing, wall: fn() -> LogTime) -> Self {
        let path = path.join("node");
        let directory = match Directory::open(&path, None).expect("the directory can be read") {
            Some(directory) => directory,
            None => Directory::create(&path, identity(name)).expect("the directory can be made"),
        };
        let runtime = Runtime::new().expect("a thread");
        let receiver = runtime.receiver();
        let links = links(&runtime, receiver.clone(), name, raft_id);
        let listener = Listener::bind(&links, "127.0.0.1:0".parse().expect("an address")).await;
        let listener = listener.expect("loopback can be bound");
        let (feed, told) = mpsc::channel(1);
        let handle = runtime.handle().clone();
        let address = listener.address();
        let start = Start {
            directory: &directory,
            raft_id,
            found: raft_id == FOUNDER,
            timing,
            feed,
            runtime,
            receiver,
            links: links.clone(),
            wall,
        };
        let consensus = Arc::new(Consensus::start(start).await.expect("consensus starts"));
        let listener = tokio::spawn(listener.run());
        let name = name.clone();
        Self { consensus, directory, name, raft_id, links, address, runtime: handle, listener, told: Some(told) }
    }

    /// Without its links: it will have none.
    pub(super) fn alone(self) -> (Consensus, Directory) {
        self.listener.abort();
        let consensus = Arc::into_inner(self.consensus).expect("nobody else has it");
        (consensus, self.directory)
    }

    fn dial(&self, address: SocketAddr) -> JoinHandle<()> {
        let (dial, _) = Dial::new(&self.links, address, Role::Consensus);
        self.runtime.spawn(dial.run())
    }

    fn dump(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        sqlite::dump(self.consensus.reader(), &mut bytes).expect("the rows can be read");
        bytes
    }

    async fn stop(self) {
        self.consensus.stop().await;
        self.links.close(Goodbye::Stopping).await;
        self.listener.abort();
    }
}

fn links(runtime: &Runtime, receiver: Receiver, name: &Name, raft_id: u64) -> Links {
    let pauses = Pauses {
        first: Duration::from_millis(5),
        max: Duration::from_millis(50),
        stable_after: Duration::from_secs(60),
    };
    let config = Config { pauses, consensus: Some(runtime.handle().clone()), ..Config::default() };
    let me = Hello {
        versions: Versions::HERE,
        mesh: Some(MeshId(1)),
        mesh_name: super::name("test"),
        node_name: name.clone(),
        node: NodeId(raft_id),
        boot: BootId(raft_id.into()),
        incarnation: Incarnation(0),
        role: Role::Main,
        features: 0,
        credit: PerLane::all(LANE_BYTES_MIN),
        requests_max: 1_024,
    };
    Links::new(config, me, move |link| receiver.deliver(link))
}

fn identity(name: &Name) -> Identity {
    Identity {
        mesh: MeshId(1),
        directory: DirectoryId(2),
        node: name.clone(),
        raft_id: None,
        node_id: None,
        log_begun: false,
        left: None,
        mesh_port: None,
    }
}

fn nothing_op() -> Op {
    Op::Retry(pelago_core::record::Retry { task: pelago_core::id::TaskId(99) })
}

/// A message of half a mebibyte for an agent that nobody hosts.
async fn large_message(consensus: &Consensus, n: u128) {
    let to = AgentId { namespace: Name::default_namespace(), name: super::name("sink"), key: None };
    let body = MessageBody { to, payload: vec![n as u8; 500 << 10].into() };
    let outcome = super::propose(consensus, Op::Send(Send { id: n, idempotency: None, body })).await;
    assert_eq!(outcome, Outcome::Committed);
}

/// Looks again and again, giving way in between.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "in vain until {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Tries again and again, as whoever is in doubt does.
pub(super) async fn until_ok<T>(attempt: impl AsyncFn() -> Result<T, ProposeError>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        match attempt().await {
            Ok(done) => return done,
            Err(error) => assert!(Instant::now() < deadline, "in vain: {error}"),
        }
        sleep(Duration::from_millis(5)).await;
    }
}
