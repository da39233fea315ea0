//! One node: puts its loops together, and takes them apart again. What it does before they run is in `beginning`.

mod beginning;
mod error;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use opentelemetry_sdk::trace::SdkTracer;
use pelago_core::{
    agent,
    id::{BootId, Name},
    link::{Ended, Goodbye},
    membership::{self, Identity, Record, Stage},
    record::{Expire, Op, Refusal, RetryPolicy},
    task,
};
use pelago_net::{Links, Packing};
use pelago_store::{ProposeError, directory::Directory};
use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;

pub use self::error::Error;
use crate::{
    agents::{Agents, Context},
    clock,
    committer::{self, Committer},
    feed::{self, Feed},
    gossip,
    handle::Handle,
    host::Kind,
    ids,
    loops::Loops,
    mesh::{
        self, Answers, Balance, Balancing, Dials, End, Forward, Granting, Held, Holding, Homes, Receiver, Removal,
        Router, Unwanted,
    },
    metrics::Metrics,
    raft::{self, Consensus, Timing},
    scheduler,
    services::NodeServices,
    signals::{self, Signals},
    timers::{self, Timers},
    topics::Topics,
    traces::Traces,
    view,
    waiters::TaskWaiters,
};

/// How long a starting node waits for a leader.
const LEADER_MAX: Duration = Duration::from_secs(30);
/// How long consensus may take to say that it has failed, once a loop has ended.
const FAILED_MAX: Duration = Duration::from_secs(1);
/// How long a node that has registered waits for its first lease.
const LEASE_MAX: Duration = Duration::from_secs(5);
/// How long a node that stops tries to tell the mesh.
const LEAVE_MAX: Duration = Duration::from_secs(2);
/// How often a node that stops looks whether others still need its vote.
const VOTE_LOOK: Duration = Duration::from_millis(100);

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
    /// Where links from other nodes arrive; port 0 takes a free one.
    pub mesh_listen: SocketAddr,
    /// Nodes to meet at the start, as `host:port`.
    pub known: Vec<String>,
    /// How fast the mesh notices that its leader is gone.
    pub timing: Timing,
    /// How fast gossip notices that a node is gone.
    pub gossip: membership::Profile,
    /// What is counted; given on when a node starts again in one process.
    pub metrics: Metrics,
    /// What tasks that do not say otherwise do when an attempt fails.
    pub policy: RetryPolicy,
    /// Limits of activations.
    pub agent: agent::Config,
    /// Limits of the scheduler.
    pub scheduler: task::Config,
    /// How requests to pools are spread.
    pub balancing: Balancing,
    /// Below so much free space, in bytes, the node refuses new work. Leave room for the log to be cut.
    pub disk_free_bytes_min: u64,
    /// How long running turns may take to end when the node stops.
    pub drain_max: Duration,
    /// How many hops a signal has whose starter does not say.
    pub hops_max: u32,
    /// On which links large frames are made smaller.
    pub packing: Packing,
    /// Where spans of traces go, if anybody collects them.
    pub tracer: Option<SdkTracer>,
    /// The most connections with other nodes, two each, and with clients.
    pub connections_max: u32,
}

/// A running node.
pub struct Node {
    handle: Handle,
    mesh_address: SocketAddr,
    agents: Arc<Agents>,
    consensus: Arc<Consensus>,
    links: Links,
    receivers: (Receiver, raft::Receiver),
    lease: Held,
    /// Why another node wanted no link.
    refused: watch::Receiver<Option<Ended>>,
    committer: committer::Handle,
    gossip: gossip::Handle,
    signals: Arc<Signals>,
    loops: Loops,
    drain_max: Duration,
    /// Held until the node has stopped: the lock is in it.
    directory: Directory,
}

impl Node {
    /// Opens the data directory, joins the mesh or founds it, and hosts `kinds`.
    ///
    /// # Errors
    /// See [`Error`]. Nothing runs on.
    pub async fn start(config: Config, kinds: Vec<Kind>) -> Result<Self, Error> {
        let path = config.directory.clone();
        let started = Self::begin(config, kinds).await;
        started.map_err(|error| error.or_disk_full(&path))
    }

    async fn begin(config: Config, kinds: Vec<Kind>) -> Result<Self, Error> {
        let opened = Directory::open(&config.directory, config.name.as_ref())?;
        let name = match &opened {
            Some(directory) => directory.identity().node.clone(),
            None => config.name.clone().unwrap_or_else(beginning::made_up_name),
        };
        let kinds: Vec<Kind> = kinds.into_iter().filter(|kind| kind.fits(&name, &config.labels)).collect();
        let metrics = Arc::new(config.metrics.clone());
        let boot = BootId(ids::random());

        // Links first: a new node meets its mesh over them. What arrives is refused until there is somebody to answer.
        let runtime = raft::Runtime::new()?;
        let (receiver, voice) = (Receiver::new(config.metrics.told_lost.clone()), runtime.receiver());
        let links = beginning::links(&config, &name, boot, &runtime, (receiver.clone(), voice.clone()));
        if let Some(directory) = &opened {
            beginning::introduce(&links, directory.identity());
        }
        let last_port = opened.as_ref().and_then(|directory| directory.identity().mesh_port);
        let listener = beginning::listen(&links, config.mesh_listen, last_port).await?;
        let mesh_address = listener.address();
        let (mut view_writer, view) = view::new();
        let mut loops = Loops::default();
        let (sights_writer, sights) = gossip::sights();
        let known = (view.clone(), sights.clone());
        let (dials, mut refused) =
            Dials::new(links.clone(), config.known.clone(), mesh_address, known, runtime.handle().clone());
        loops.start("listener", listener.run());
        loops.start("dials", dials.run());

        let mut directory = match opened {
            Some(directory) => directory,
            None => beginning::make_directory(&config, &links, &refused, name.clone()).await?,
        };
        beginning::introduce(&links, directory.identity());
        let proposed = clock::now();
        let registration = beginning::registration(&config, directory.identity(), boot, mesh_address, &kinds);
        let record = Record {
            stage: Stage::Joining,
            http_address: registration.http_address.clone(),
            labels: registration.labels.clone(),
            offers: registration.offers.iter().map(|(name, offer)| (name.clone(), offer.into())).collect(),
        };
        let raft_id = match directory.identity().raft_id {
            Some(raft_id) => raft_id,
            None => {
                let holder = mesh::join(&links, &registration, LEADER_MAX).await?;
                directory.admit(holder.node.0)?;
                holder.node.0
            }
        };

        let (feed, mut told) = mpsc::channel(feed::BATCHES_MAX);
        let start = raft::Start {
            directory: &directory,
            raft_id,
            found: raft_id == raft::FOUNDER,
            timing: config.timing,
            feed,
            runtime,
            receiver: voice.clone(),
            links: links.clone(),
            wall: clock::wall,
        };
        let consensus = Arc::new(Consensus::start(start).await?);
        let reader = Arc::clone(consensus.reader());
        // Whom it knew before is dialled now, so that nodes that were all stopped find each other.
        let index = consensus.progress().index();
        let standing = feed::read_standing(&reader).await?;
        view_writer.replace(standing.nodes, standing.connections);
        view_writer.seen(index);
        let log = view.clone();
        links.refuse(move |other| log.objection(other));
        let forward = Forward::new(Arc::clone(&consensus), links.clone());
        let anywhere = Arc::new(forward.clone());
        let (committer, committing) = Committer::new(Arc::clone(&consensus), anywhere, Arc::clone(&metrics));
        loops.start("committer", committer.run());
        let registering = beginning::register(&consensus, &committing, registration, &links);
        let holder = tokio::select! {
            holder = beginning::while_discarding(&mut told, registering) => match holder {
                Err(Error::Refused(Refusal::NodeRemoved(_))) => {
                    return Err(Error::of(Unwanted::Removed, directory.path()));
                }
                holder => holder?,
            },
            reason = consensus.failed() => return Err(Error::ConsensusStopped(reason)),
            () = mesh::doubled(refused.clone(), LEADER_MAX) => {
                let at = view.get().named(&name).map(view::place).unwrap_or_default();
                return Err(Error::of(Unwanted::Displaced { at }, directory.path()));
            }
            why = mesh::unwanted(&mut refused) => return Err(Error::of(why, directory.path())),
        };
        directory.begin(holder.node, mesh_address.port())?;
        links.introduce(|me| (me.node, me.incarnation) = (holder.node, holder.incarnation));

        let index = consensus.progress().index();
        let standing = feed::read_standing(&reader).await?;
        view_writer.replace(standing.nodes, standing.connections);
        // Not before: a node that joined meanwhile would be refused as one that was removed.
        view_writer.seen(index);
        mesh::part_with_unwanted(&links, &view);
        let waiters = Arc::new(TaskWaiters::default());
        let (homes, lease) = (Homes::new(holder, view.clone(), sights.clone()), Held::default());
        let services = Arc::new(OnceLock::new());
        let context = Context {
            homes: homes.clone(),
            lease: lease.clone(),
            committer: committing.clone(),
            forward: forward.clone(),
            reader: Arc::clone(&reader),
            consensus: Arc::clone(&consensus),
            metrics: Arc::clone(&metrics),
            services: Arc::clone(&services),
        };
        let agents = Agents::new(kinds, config.agent, context);
        let router = Router {
            homes: homes.clone(),
            balance: Balance::new(holder, (view.clone(), sights.clone()), config.balancing, Arc::clone(&metrics)),
            links: links.clone(),
            reader: Arc::clone(&reader),
            agents: Arc::downgrade(&agents),
            places: mesh::Places::default(),
            topics: Topics::new(Arc::clone(&metrics)),
            questions: TaskTracker::new(),
        };
        let node_services = Arc::new(NodeServices {
            view: view.clone(),
            committer: committing.clone(),
            consensus: Arc::clone(&consensus),
            lease: lease.clone(),
            router,
            policy: config.policy,
            told_lost: metrics.told_lost.clone(),
            traces: Traces::new(config.tracer.clone(), name.clone()),
        });
        let signals = Signals::new(signals::Parts {
            me: name.clone(),
            holder,
            hops_max: config.hops_max,
            services: Arc::clone(&node_services),
            agents: Arc::downgrade(&agents),
            metrics: Arc::clone(&metrics),
        });
        let set = services.set(Arc::clone(&node_services) as _);
        assert!(set.is_ok(), "services are set once");

        let (scheduling, scheduler) = scheduler::Loop::new(
            config.scheduler,
            committing.clone(),
            Arc::clone(&consensus),
            Arc::clone(&reader),
            view.clone(),
        );
        let me = Identity { holder, renewal: 0, name: name.clone(), mesh_address: mesh_address.to_string() };
        let (gossiping, gossip) = gossip::Loop::new(gossip::Parts {
            me,
            record,
            profile: config.gossip,
            links: links.clone(),
            agents: Arc::clone(&agents),
            metrics: Arc::clone(&metrics),
            sights: sights_writer,
        });
        let (grants, heartbeats) = mesh::heartbeats();
        let granting = Granting {
            me: name.clone(),
            consensus: Arc::clone(&consensus),
            committer: committing.clone(),
            reader: Arc::clone(&reader),
            links: links.clone(),
            scheduler: scheduler.clone(),
            heartbeats,
        };
        let holding = Holding {
            name: name.clone(),
            holder,
            proposed,
            consensus: Arc::clone(&consensus),
            links: links.clone(),
            grants: grants.clone(),
            held: lease.clone(),
        };
        let timers_set = Arc::new(timers::Set::default());
        let waking = Timers {
            agents: Arc::clone(&agents),
            homes: homes.clone(),
            view: view.clone(),
            reader: Arc::clone(&reader),
            consensus: Arc::clone(&consensus),
            set: Arc::clone(&timers_set),
        };
        let feed = Feed {
            told,
            timers: timers_set,
            agents: Arc::clone(&agents),
            waiters: Arc::clone(&waiters),
            scheduler: scheduler.clone(),
            view: view_writer,
            reader: Arc::clone(&reader),
            metrics: Arc::clone(&metrics),
        };
        lease.begin(proposed);
        // Given to this run while it was put together.
        standing.running.iter().for_each(|task| agents.task_changed(task, None));
        loops.start("feed", feed.run());
        loops.start("scheduler", scheduling.run());
        loops.start("timers", waking.run());
        loops.start("gossip", gossiping.run());
        loops.start("leases granted", granting.run());
        loops.start("lease held", holding.run());
        loops.start("leader teller", Arc::clone(&consensus).tell_leaders(metrics.leader_changes.clone()));
        loops.start("sign of life", Arc::clone(&consensus).show_life());
        loops.start("log keeper", Arc::clone(&consensus).keep_short());
        loops.start(
            "voters keeper",
            Arc::clone(&consensus).keep_voters({
                let view = view.clone();
                move || mesh::candidates(&view)
            }),
        );
        let removal = Removal {
            consensus: Arc::clone(&consensus),
            forward: forward.clone(),
            reader: Arc::clone(&reader),
            view: view.clone(),
        };
        let handle = Handle::new(crate::handle::Parts {
            mesh: directory.identity().mesh,
            mesh_name: config.mesh_name,
            name,
            holder,
            metrics,
            services: node_services,
            signals: Arc::clone(&signals),
            scheduler,
            waiters,
            reader: Arc::clone(&reader),
            view: view.clone(),
            sights,
            consensus: Arc::clone(&consensus),
            committer: committing.clone(),
            forward: forward.clone(),
            removal: removal.clone(),
            lease: lease.clone(),
            links: links.clone(),
        });
        receiver.open(Answers {
            consensus: Arc::clone(&consensus),
            committer: committing.clone(),
            forward,
            removal,
            agents: Arc::clone(&agents),
            leases: grants,
            gossip: gossip.clone(),
            handle: handle.clone(),
            signals: Arc::clone(&signals),
        });
        let keeper = crate::keeper::Keeper {
            handle: handle.clone(),
            agents: Arc::clone(&agents),
            homes,
            view,
            reader,
            directory: directory.path().to_owned(),
            disk_free_bytes_min: config.disk_free_bytes_min,
        };
        loops.start("keeper", keeper.run());
        // Who waited for its mesh proposed its registration so long ago that the first heartbeat has to be answered.
        let _late = tokio::time::timeout(LEASE_MAX, lease.granted()).await;
        gossip.stage(Stage::Up);
        Ok(Self {
            handle,
            mesh_address,
            agents,
            consensus,
            links,
            receivers: (receiver, voice),
            lease,
            refused,
            committer: committing,
            gossip,
            signals,
            loops,
            drain_max: config.drain_max,
            directory,
        })
    }

    /// What the node does for others.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Where links from other nodes arrive.
    #[must_use]
    pub fn mesh_address(&self) -> SocketAddr {
        self.mesh_address
    }

    /// Resolves, with the reason, when the node cannot go on by itself.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn failed(&mut self) -> Error {
        tokio::select! {
            reason = self.consensus.failed() => self.stopped_by(reason),
            end = self.lease.over() => match end {
                End::Expired => Error::Expired,
                End::Displaced { by } => Error::of(Unwanted::Displaced { at: by }, self.directory.path()),
            },
            why = mesh::unwanted(&mut self.refused) => Error::of(why, self.directory.path()),
            name = self.loops.ended() => {
                // Some loops end with consensus, which may be the last to say so.
                match tokio::time::timeout(FAILED_MAX, self.consensus.failed()).await {
                    Ok(reason) => self.stopped_by(reason),
                    Err(_it_runs) => Error::LoopEnded(name),
                }
            }
        }
    }

    fn stopped_by(&self, reason: String) -> Error {
        let error = Error::ConsensusStopped(reason).or_disk_full(self.directory.path());
        if matches!(error, Error::DiskFull { .. }) {
            self.handle.set_disk_full(true);
        }
        error
    }

    /// First step of a graceful stop: takes no more work.
    pub fn begin_to_stop(&self) {
        self.handle.begin_to_stop();
        self.gossip.stage(Stage::Draining);
    }

    /// Second step: lets what runs end, within the configured time, and puts the agents away.
    pub async fn drain(&self) {
        self.handle.take_no_tasks().await;
        tokio::select! {
            () = self.let_work_end() => {}
            // Its agents and tasks belong to others, or come again.
            _ = self.lease.over() => {}
            // Without a majority no turn can end.
            () = self.lease.missing(LEAVE_MAX) => tracing::warn!("no majority answers: running turns were given up"),
        }
    }

    async fn let_work_end(&self) {
        let deadline = tokio::time::Instant::now() + self.drain_max;
        let (agents, router) = (&self.agents, self.handle.router());
        tokio::join!(agents.drain(self.drain_max), self.signals.drain(deadline), router.drain(deadline));
    }

    /// Last step: hands leadership over, takes leave of the mesh, ends the loops and closes the log. What was
    /// acknowledged is durable already.
    pub async fn close(mut self) {
        self.handle.router().topics.close();
        if self.handle.has_others() && self.handle.leads() && !self.consensus.hand_over().await {
            tracing::info!("no other voter took the lead in time: they elect one");
        }
        // Who was given up has none to take.
        if !self.lease.is_over() {
            self.take_leave().await;
        }
        self.vote_for_others().await;
        self.gossip.leave().await;
        // None is left unless the drain was cut short.
        self.signals.drain(tokio::time::Instant::now()).await;
        // What comes until others hear the goodbye is refused, and tried elsewhere.
        self.receivers.0.shut();
        self.links.close(Goodbye::Stopping).await;
        self.receivers.1.shut();
        self.loops.stop().await;
        self.consensus.stop().await;
    }

    /// Stays as a voter, for as long as its own turns might have taken, while others work on tasks whose results would find
    /// no majority without it: they may be stopping too.
    async fn vote_for_others(&self) {
        if !self.handle.is_vote_needed().await {
            return;
        }
        tracing::info!("other nodes end their tasks, for which they need this one's vote");
        let enough = Instant::now() + self.drain_max;
        while Instant::now() < enough && self.handle.is_vote_needed().await {
            tokio::time::sleep(VOTE_LOOK).await;
        }
    }

    /// Says that this run is over. A leader may have given it a task after it had put its agents away, and a new one
    /// may do so even later, since it knows only from heartbeats who stops: none of that counts.
    async fn take_leave(&mut self) {
        let holder = self.handle.holder();
        // The last of several has no majority to tell.
        if self.handle.has_others() || self.consensus.standing().voters.len() == 1 {
            let leave = self.committer.propose(Op::Expire(Expire { holder, left: true }));
            match tokio::time::timeout(LEAVE_MAX, leave).await {
                // If consensus has failed here, so may what this node had.
                Ok(Ok(_) | Err(ProposeError::Stopped)) => return,
                Ok(Err(_)) | Err(_) => {
                    tracing::warn!(
                        "nobody was told in time that this node leaves: the others wait until its lease ends"
                    );
                }
            }
        }
        if let Err(error) = self.directory.leave(holder.incarnation) {
            tracing::warn!(%error, "the next run will not know that this one ended in order");
        }
    }
}
