//! One node: puts its loops together, and takes them apart again.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use pelago_core::{
    agent,
    id::{BootId, DirectoryId, Holder, Incarnation, MeshId, Name, NodeId},
    link::{Hello, LANE_BYTES_MIN, PerLane, Role, Versions},
    record::{Offer, Op, Outcome, Refusal, Register, RetryPolicy},
    task,
};
use pelago_net::Links;
use pelago_store::{
    ProposeError,
    directory::{self, Directory, Identity},
    sqlite,
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    agents::{Agents, Context},
    committer::Committer,
    feed::{self, Feed},
    handle::Handle,
    host::Kind,
    ids,
    loops::Loops,
    metrics::Metrics,
    raft::{self, Consensus},
    scheduler,
    services::NodeServices,
    view,
    waiters::TaskWaiters,
};

/// How long a starting node waits for a leader.
const LEADER_MAX: Duration = Duration::from_secs(30);

/// How a node is made.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its data directory.
    pub directory: PathBuf,
    /// The mesh's name.
    pub mesh_name: Name,
    /// The node's name; `None` takes the directory's, or makes one of the host's name and four letters.
    pub name: Option<Name>,
    /// Whether to found a mesh when the directory belongs to none.
    pub found: bool,
    /// Zone, region, capabilities.
    pub labels: BTreeMap<String, String>,
    /// Where clients reach it; empty when it serves none.
    pub http_address: String,
    /// Where other nodes reach it.
    pub mesh_address: String,
    /// What tasks that do not say otherwise do when an attempt fails.
    pub policy: RetryPolicy,
    /// Limits of activations.
    pub agent: agent::Config,
    /// Limits of the scheduler.
    pub scheduler: task::Config,
    /// Below so much free space, in bytes, the node refuses new work. Leave room for the log to be cut.
    pub disk_free_bytes_min: u64,
    /// How long running turns may take to end when the node stops.
    pub drain_max: Duration,
}

/// Why a node did not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data directory.
    #[error("failed to open the data directory")]
    Directory(#[from] directory::Error),
    /// The directory belongs to no mesh, and the node was not told to found one.
    #[error("{} belongs to no mesh yet: start the node with --found to found one", path.display())]
    NoMesh {
        /// The directory.
        path: PathBuf,
    },
    /// The control log.
    #[error("failed to take part in the control log")]
    Log(#[from] raft::Error),
    /// Nobody leads.
    #[error("no node leads the mesh after {} s", LEADER_MAX.as_secs())]
    NoLeader,
    /// The mesh refused the node.
    #[error("the mesh refused this node")]
    Refused(#[source] Refusal),
    /// The rows cannot be read.
    #[error("failed to read the store")]
    Rows(#[from] sqlite::Error),
    /// Consensus stopped by itself, so nothing more can be made durable here.
    #[error("consensus has stopped on this node: {0}")]
    ConsensusStopped(String),
    /// A loop that the others need ended: a defect.
    #[error("the node's {0} loop ended by itself")]
    LoopEnded(&'static str),
}

/// A running node.
pub struct Node {
    handle: Handle,
    agents: Arc<Agents>,
    consensus: Arc<Consensus>,
    loops: Loops,
    drain_max: Duration,
    /// Held until the node has stopped: the lock is in it.
    _directory: Directory,
}

impl Node {
    /// Opens the data directory, takes part in the mesh and hosts `kinds`.
    ///
    /// # Errors
    /// See [`Error`]. Nothing runs on.
    pub async fn start(config: Config, kinds: Vec<Kind>) -> Result<Self, Error> {
        let (directory, founded) = open_directory(&config)?;
        let name = directory.identity().node.clone();
        let kinds: Vec<Kind> = kinds.into_iter().filter(|kind| kind.fits(&name, &config.labels)).collect();
        let metrics = Arc::new(Metrics::default());
        let (feed, mut told) = mpsc::channel(feed::BATCHES_MAX);
        let runtime = raft::Runtime::new()?;
        let receiver = runtime.receiver();
        let links = no_links(&runtime, &receiver, &config, &directory);
        let start = raft::Start {
            directory: &directory,
            raft_id: raft::FOUNDER,
            found: founded || config.found,
            timing: raft::Timing::Lan,
            feed,
            runtime,
            receiver,
            links,
        };
        let consensus = Arc::new(Consensus::start(start).await?);
        let mut loops = Loops::default();
        let (committer, committing) = Committer::new(Arc::clone(&consensus), Arc::clone(&metrics));
        loops.start("committer", committer.run());

        let registering = register(&consensus, &committing, &config, &directory, &kinds);
        let holder = while_discarding(&mut told, registering).await?;
        let reader = Arc::clone(consensus.reader());
        let (nodes, standing) = read_standing(&reader).await?;
        let (view_writer, view) = view::new(nodes);
        let waiters = Arc::new(TaskWaiters::default());

        let services = Arc::default();
        let context = Context {
            holder,
            committer: committing.clone(),
            reader: Arc::clone(&reader),
            metrics: Arc::clone(&metrics),
            services: Arc::clone(&services),
        };
        let agents = Agents::new(kinds, config.agent, context);
        let node_services = Arc::new(NodeServices {
            view: view.clone(),
            committer: committing.clone(),
            consensus: Arc::clone(&consensus),
            agents: Arc::downgrade(&agents),
            policy: config.policy,
        });
        let set = services.set(Arc::clone(&node_services) as _);
        assert!(set.is_ok(), "services are set once");

        let (scheduling, scheduler) =
            scheduler::Loop::new(config.scheduler, committing.clone(), Arc::clone(&consensus), Arc::clone(&reader));
        let feed = Feed {
            told,
            reader: Arc::clone(&reader),
            agents: Arc::clone(&agents),
            waiters: Arc::clone(&waiters),
            scheduler: scheduler.clone(),
            view: view_writer,
        };
        let live: Vec<_> = view.get().nodes().filter(|node| node.is_live(node.incarnation)).cloned().collect();
        loops.start("feed", feed.run());
        loops.start("scheduler", scheduling.run(standing));
        for node in live {
            scheduler.node_up(node.holder(), node.offers.clone()).await;
        }
        loops.start("log keeper", Arc::clone(&consensus).keep_short());
        let handle = Handle::new(crate::handle::Parts {
            mesh: directory.identity().mesh,
            mesh_name: config.mesh_name,
            name,
            holder,
            metrics,
            services: node_services,
            scheduler,
            waiters,
            reader: Arc::clone(&reader),
            view,
            consensus: Arc::clone(&consensus),
            committer: committing,
        });
        let keeper = crate::keeper::Keeper {
            handle: handle.clone(),
            agents: Arc::clone(&agents),
            reader,
            directory: directory.path().to_owned(),
            disk_free_bytes_min: config.disk_free_bytes_min,
        };
        loops.start("keeper", keeper.run());
        Ok(Self { handle, agents, consensus, loops, drain_max: config.drain_max, _directory: directory })
    }

    /// What the node does for others.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Resolves, with the reason, when the node cannot go on by itself.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn failed(&mut self) -> Error {
        tokio::select! {
            reason = self.consensus.failed() => Error::ConsensusStopped(reason),
            name = self.loops.ended() => Error::LoopEnded(name),
        }
    }

    /// First step of a graceful stop: takes no more work.
    pub fn begin_to_stop(&self) {
        self.handle.begin_to_stop();
    }

    /// Second step: lets what runs end, within the configured time, and puts the agents away.
    pub async fn drain(&self) {
        self.handle.take_no_tasks().await;
        self.agents.drain(self.drain_max).await;
    }

    /// Last step: ends the loops and closes the log. What was acknowledged is durable already.
    pub async fn close(mut self) {
        self.loops.stop().await;
        self.consensus.stop().await;
    }
}

/// Opens the directory, or makes one for a new mesh. Says whether it was made.
fn open_directory(config: &Config) -> Result<(Directory, bool), Error> {
    if let Some(directory) = Directory::open(&config.directory, config.name.as_ref())? {
        return Ok((directory, false));
    }
    if !config.found {
        return Err(Error::NoMesh { path: config.directory.clone() });
    }
    let node = config.name.clone().unwrap_or_else(made_up_name);
    let identity = Identity { mesh: MeshId(ids::random()), directory: DirectoryId(ids::random()), node };
    Ok((Directory::create(&config.directory, identity)?, true))
}

/// The host's name and four letters, as far as a name may hold them.
fn made_up_name() -> Name {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let allowed = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
    let host: String = host.chars().filter(allowed).take(32).collect();
    let host = if host.is_empty() { "node".to_owned() } else { host };
    let letters: String = ids::random().to_le_bytes()[..4].iter().map(|byte| char::from(b'a' + byte % 26)).collect();
    Name::new(&format!("{host}-{letters}")).expect("made of allowed characters")
}

/// Links of a node that has none.
fn no_links(runtime: &raft::Runtime, receiver: &raft::Receiver, config: &Config, directory: &Directory) -> Links {
    let me = Hello {
        versions: Versions::HERE,
        mesh: Some(directory.identity().mesh),
        mesh_name: config.mesh_name.clone(),
        node_name: directory.identity().node.clone(),
        node: NodeId(0),
        boot: BootId(ids::random()),
        incarnation: Incarnation(0),
        role: Role::Main,
        features: 0,
        credit: PerLane::all(LANE_BYTES_MIN),
        requests_max: 1_024,
    };
    let receiver = receiver.clone();
    let on_consensus = pelago_net::Config { consensus: Some(runtime.handle().clone()), ..Default::default() };
    Links::new(on_consensus, me, move |link| receiver.deliver(link))
}

async fn register(
    consensus: &Consensus,
    committer: &crate::committer::Handle,
    config: &Config,
    directory: &Directory,
    kinds: &[Kind],
) -> Result<Holder, Error> {
    let offers: BTreeMap<Name, Offer> = kinds.iter().map(|kind| (kind.name.clone(), kind.offer())).collect();
    let op = Op::Register(Register {
        name: directory.identity().node.clone(),
        directory: directory.identity().directory,
        boot: BootId(ids::random()),
        mesh_address: config.mesh_address.clone(),
        http_address: config.http_address.clone(),
        labels: config.labels.clone(),
        offers,
    });
    let deadline = tokio::time::Instant::now() + LEADER_MAX;
    loop {
        consensus.led(LEADER_MAX).await.map_err(|_| Error::NoLeader)?;
        match committer.propose(op.clone()).await {
            Ok(Outcome::Registered { holder, .. }) => return Ok(holder),
            Ok(Outcome::Refused(refusal)) => return Err(Error::Refused(refusal)),
            Ok(outcome) => unreachable!("a registration is answered with {outcome:?}"),
            Err(ProposeError::Stopped) => return Err(Error::ConsensusStopped("while the node started".into())),
            // Whoever was elected has not committed its first entry yet. The boot id makes it one registration.
            Err(_) if tokio::time::Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(_) => return Err(Error::NoLeader),
        }
    }
}

/// Awaits `future` while entries of before are applied: what they say is read from the rows afterwards.
async fn while_discarding<T>(told: &mut mpsc::Receiver<raft::Told>, future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    loop {
        tokio::select! {
            biased;
            done = &mut future => return done,
            Some(_told_by_the_rows) = told.recv() => {}
        }
    }
}

/// Reads what the loops begin with: the nodes, and the tasks that have not ended.
async fn read_standing(
    reader: &Arc<sqlite::Reader>,
) -> Result<(Vec<pelago_core::record::Node>, Vec<pelago_core::record::Task>), Error> {
    let reader = Arc::clone(reader);
    let (answer, answered) = oneshot::channel();
    tokio::task::spawn_blocking(move || {
        let read = reader.view(|view| {
            let mut standing = view.running_tasks()?;
            standing.extend(view.queued_tasks(None, u32::MAX)?);
            Ok((view.nodes()?, standing))
        });
        // The node gave up starting if nobody waits.
        let _gone = answer.send(read);
    });
    Ok(answered.await.expect("the query answers before it ends")?)
}
