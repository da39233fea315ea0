//! What a node does for whoever holds its [`Handle`]: the API, and programs that embed it.

mod documents;
mod error;
mod lists;
mod sessions;
mod signals;
mod work;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt as _, TryFutureExt as _};
use pelago_core::{
    id::{Address, Holder, MeshId, Name, NodeId},
    link::{self, Role},
    message::Content,
    record::{self, NodeState, Op, Outcome, Phase, Placement, TaskState},
    time::LogTime,
};
use pelago_net::{Guest, Links};
use pelago_store::sqlite::{self, Reader, View};
use tokio::time::timeout;

pub use crate::mesh::Reached;
pub use crate::signals::{SignalOptions, Trace};
pub use crate::topics::{Published, Subscription};
pub use crate::traces::Recorded;
pub use documents::{
    AgentDetail, AgentFilter, AskOptions, BuriedFilter, Connected, Declared, Enqueued, Page, SessionDetail,
    SessionFilter, Status, TaskDetail, TaskFilter,
};
pub use error::Error;
pub use pelago_wire::client::Why;

use crate::{
    agents::Told,
    committer, gossip,
    host::TaskRequest,
    mesh::{Forward, Held, Removal, Router, Whom},
    metrics::Metrics,
    raft::Consensus,
    scheduler,
    services::NodeServices,
    signals::Signals,
    view,
    waiters::TaskWaiters,
};

/// How long a majority may take to answer whoever asks how the mesh stands.
const HEARD_MAX: Duration = Duration::from_secs(1);

/// What a node does for others. Cheap to clone.
///
/// Reads are strict: they see all that was acknowledged anywhere before they began. [`Handle::stale`] reads what this
/// node knows, which is all that a node without a majority can do.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    stale: bool,
}

struct Shared {
    parts: Parts,
    stopping: AtomicBool,
    disk_full: AtomicBool,
}

/// What a handle is made of.
pub(crate) struct Parts {
    pub(crate) mesh: MeshId,
    pub(crate) mesh_name: Name,
    pub(crate) name: Name,
    pub(crate) holder: Holder,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) services: Arc<NodeServices>,
    pub(crate) signals: Arc<Signals>,
    pub(crate) scheduler: scheduler::Handle,
    pub(crate) waiters: Arc<TaskWaiters>,
    pub(crate) reader: Arc<Reader>,
    pub(crate) view: view::Reader,
    pub(crate) sights: gossip::Reader,
    pub(crate) consensus: Arc<Consensus>,
    pub(crate) committer: committer::Handle,
    pub(crate) forward: Forward,
    pub(crate) removal: Removal,
    pub(crate) lease: Held,
    pub(crate) links: Links,
}

impl Handle {
    pub(crate) fn new(parts: Parts) -> Self {
        let shared = Shared { parts, stopping: AtomicBool::new(false), disk_full: AtomicBool::new(false) };
        Self { shared: Arc::new(shared), stale: false }
    }

    /// The same, but its reads answer with what this node has applied, however old that is.
    #[must_use]
    pub fn stale(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), stale: true }
    }

    /// The node's name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.parts().name
    }

    /// The name of a node, once this one has heard of it.
    #[must_use]
    pub fn name_of(&self, node: NodeId) -> Option<Name> {
        self.parts().view.get().name_of(node)
    }

    /// What the node counts, as of now.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        let Parts { metrics, consensus, links, .. } = self.parts();
        let (sent, received) = links.take_traffic();
        metrics.link_bytes_sent.inc_by(sent);
        metrics.link_bytes_received.inc_by(received);
        metrics.connections.set(i64::try_from(links.connections()).unwrap_or(i64::MAX));
        let standing = consensus.standing();
        metrics.leads.set(i64::from(standing.leads));
        metrics.consensus_term.set(standing.term);
        metrics.applied_index.set(consensus.progress().index());
        metrics.log_flushes.inc_by(consensus.flushes().saturating_sub(metrics.log_flushes.get()));
        metrics
    }

    /// A place among the clients of this node, for one that has no link. It is free again once this is dropped.
    ///
    /// # Errors
    /// Why there is none.
    pub fn client_place(&self) -> Result<Guest, link::Refusal> {
        self.parts().links.guest()
    }

    /// Whether the node takes requests: a majority answers it, and it is not stopping.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.is_stopping() && self.has_quorum()
    }

    /// Whether there was a majority a moment ago: a lease outlasts it by a few seconds.
    fn has_quorum(&self) -> bool {
        self.parts().lease.is_valid() && self.parts().consensus.leader_name().is_some()
    }

    /// Whether a majority answers now.
    async fn is_heard(&self) -> bool {
        self.has_quorum() && matches!(timeout(HEARD_MAX, self.parts().forward.catch_up()).await, Ok(Ok(())))
    }

    /// Whether the node takes no more work.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::Acquire)
    }

    /// The kinds that nodes of the mesh host.
    #[must_use]
    pub fn declared(&self) -> Vec<Declared> {
        self.parts().view.get().declared()
    }

    /// How the mesh and this node stand, as this node knows; whether there is a majority, it asks.
    ///
    /// # Errors
    /// [`Error::Store`] when the rows cannot be read.
    pub async fn status(&self) -> Result<Status, Error> {
        let quorum = self.is_heard().await;
        let (totals, nodes) = self.stale().read(|view| Ok((view.totals()?, view.nodes()?))).await?;
        let parts = self.parts();
        let standing = parts.consensus.standing();
        let voters = standing.voters.iter().filter_map(|name| Name::new(name).ok()).collect::<Vec<_>>();
        let majority = voters.len() / 2 + 1;
        let links = parts.links.all();
        let links = links.iter().map(pelago_net::Handle::terms).filter(|terms| terms.other.role == Role::Main);
        let linked: BTreeSet<Name> = links.map(|terms| terms.other.node_name.clone()).collect();
        // One that has a link may have started a moment ago, and not know who leads.
        let is_up = |name: &Name| nodes.iter().any(|node| node.name == *name && node.state == NodeState::Up);
        let is_there = |name: &&Name| **name == parts.name || (linked.contains(*name) && is_up(name));
        let there = voters.iter().filter(is_there).count();
        Ok(Status {
            mesh: parts.mesh,
            mesh_name: parts.mesh_name.clone(),
            node: parts.name.clone(),
            holder: parts.holder,
            // Who led before is not who leads.
            leader: standing.leader.as_deref().filter(|_| quorum).and_then(|name| Name::new(name).ok()),
            term: standing.term,
            leader_changes: parts.metrics.leader_changes.get(),
            quorum,
            sights: parts.sights.get().nodes().map(|sight| (sight.holder.node, sight.clone())).collect(),
            nodes,
            can_lose: u32::try_from(there.saturating_sub(majority)).unwrap_or(u32::MAX),
            voters,
            linked,
            last_index: standing.last_index,
            applied_index: parts.consensus.progress().index(),
            log_time: parts.consensus.progress().time(),
            heard: if quorum { parts.consensus.log_time() } else { parts.consensus.progress().time() },
            agents_active: u64::try_from(parts.metrics.agents_active.get()).unwrap_or(0),
            tasks: BTreeMap::from([
                (TaskState::Queued.name(), totals.tasks_queued),
                (TaskState::Running.name(), totals.tasks_running),
                (TaskState::Done.name(), totals.tasks_done),
                (TaskState::Dead.name(), totals.tasks_dead),
                (TaskState::Cancelled.name(), totals.tasks_cancelled),
            ]),
            messages_waiting: totals.messages_waiting,
            messages_buried: totals.messages_buried,
            turns: totals.turns,
            draining: self.is_stopping(),
            disk_full: self.is_disk_full(),
        })
    }

    /// Removes a node that is gone for good: it has no vote any more, its name is free, and its data directory is
    /// refused. Returns what it was.
    ///
    /// # Errors
    /// [`Error::UnknownNode`]; [`Error::NodeUp`] as long as it takes part; [`Error::NoQuorum`] when the others are no
    /// majority, and it may be removed all the same: ask again.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the removal in doubt.
    pub async fn remove_node(&self, name: &Name) -> Result<record::Node, Error> {
        let nodes = self.read(|view| view.nodes()).await?;
        let row = nodes.into_iter().find(|node| node.name == *name).ok_or_else(|| Error::UnknownNode(name.clone()))?;
        match self.parts().removal.remove(row.id).await?.not_refused() {
            Ok(_) => Ok(row),
            Err(record::Refusal::NodeUp(_)) => Err(Error::NodeUp(name.clone())),
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Begins a span for what a program does with a message, which `name` says: as part of the trace that the message
    /// brings, or of a new one. What follows from the message is part of it.
    #[must_use]
    pub fn record(&self, content: &mut Content, name: impl FnOnce() -> String) -> Option<Recorded> {
        self.parts().services.traces.begin(content, name)
    }

    /// The same for a task that is to be enqueued: each attempt at it is part of the trace.
    #[must_use]
    pub fn record_task(&self, request: &mut TaskRequest, name: impl FnOnce() -> String) -> Option<Recorded> {
        self.parts().services.traces.begin_task(request, name)
    }

    /// The time of the log.
    pub(crate) fn log_time(&self) -> LogTime {
        self.parts().consensus.log_time()
    }

    pub(crate) fn propose(&self, op: Op) -> impl Future<Output = Result<Outcome, Error>> + Send {
        self.parts().committer.propose(op).map_err(Error::from)
    }

    /// Whom an address means.
    ///
    /// # Errors
    /// [`Error`] says what is wrong with it.
    pub(crate) fn find(&self, to: &str) -> Result<(Address, Placement), Error> {
        self.parts().services.find(&Name::default_namespace(), to)
    }

    /// Whom something is to be told.
    pub(crate) fn whom(&self, to: &str) -> Result<Whom, Error> {
        self.parts().services.whom(&Name::default_namespace(), to)
    }

    /// Finds agents, and tells them things.
    pub(crate) fn router(&self) -> &Router {
        &self.parts().services.router
    }

    /// Messages on their way to an agent.
    pub(crate) fn told(&self, messages: Vec<Content>) -> Told {
        Told::new(messages, None, &self.parts().metrics.told_lost)
    }

    /// This run of the node.
    pub(crate) fn holder(&self) -> Holder {
        self.parts().holder
    }

    /// Whether another node takes part.
    pub(crate) fn has_others(&self) -> bool {
        let parts = self.parts();
        parts.view.get().live().any(|node| node.id != parts.holder.node)
    }

    /// Whether tasks run on other nodes, and there is a majority for their results only with this one's vote.
    pub(crate) async fn is_vote_needed(&self) -> bool {
        let parts = self.parts();
        let voters = parts.consensus.standing().voters;
        let reader = Arc::clone(&parts.reader);
        let read = move || reader.view(|view| Ok((view.nodes()?, view.running_tasks()?)));
        // Unread, nobody is kept waiting for it.
        let Ok(Ok((nodes, running))) = tokio::task::spawn_blocking(read).await else { return false };
        let is_voter = |name: &Name| voters.iter().any(|voter| voter == name.as_str());
        let is_other = |node: &&record::Node| node.state == NodeState::Up && node.id != parts.holder.node;
        let others: Vec<&record::Node> = nodes.iter().filter(is_other).collect();
        let works = others.iter().any(|node| running.iter().any(|task| task.holder == Some(node.holder())));
        let votes = others.iter().filter(|node| is_voter(&node.name)).count();
        works && is_voter(&parts.name) && votes <= voters.len() / 2
    }

    /// Whether this node leads the mesh.
    pub(crate) fn leads(&self) -> bool {
        self.parts().consensus.standing().leads
    }

    /// Lets another voter lead. Says whether one does.
    pub(crate) async fn hand_over(&self) -> bool {
        self.parts().consensus.hand_over().await
    }

    /// Sees to it that no more tasks are given to this node.
    pub(crate) async fn take_no_tasks(&self) {
        self.parts().lease.drain();
        self.parts().scheduler.node_gone(self.parts().holder).await;
    }

    pub(crate) fn begin_to_stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
    }

    fn is_disk_full(&self) -> bool {
        self.shared.disk_full.load(Ordering::Acquire)
    }

    pub(crate) fn set_disk_full(&self, full: bool) {
        if self.shared.disk_full.swap(full, Ordering::AcqRel) != full {
            tracing::warn!(full, "free space of the data directory crossed store.disk_free_bytes_min");
        }
    }

    fn parts(&self) -> &Parts {
        &self.shared.parts
    }

    fn takes_work(&self) -> Result<(), Error> {
        // A node whose disk is full stops too, and only the first of the two can be mended.
        if self.is_disk_full() {
            return Err(Error::DiskFull);
        }
        if self.is_stopping() {
            return Err(Error::Stopping);
        }
        Ok(())
    }

    fn commit(&self, op: Op) -> impl Future<Output = Result<(), Error>> + Send {
        self.propose(op).map(|outcome| {
            outcome?.not_refused()?;
            Ok(())
        })
    }

    /// An agent as it is told. One whose holder is no more is nobody's, though its row says so only once it is claimed.
    fn detail(&self, mut agent: record::Agent, state: Option<Bytes>, timers: Vec<record::Timer>) -> AgentDetail {
        let view = self.parts().view.get();
        if !view.is_live(agent.holder) {
            agent.phase = Phase::Free;
        }
        AgentDetail { node: view.name_of(agent.holder.node), agent, state, timers }
    }

    /// Runs a query where blocking is allowed, once this node knows what it has to.
    async fn read<T: std::marker::Send + 'static>(
        &self,
        query: impl FnOnce(&View<'_>) -> Result<T, sqlite::Error> + std::marker::Send + 'static,
    ) -> Result<T, Error> {
        if !self.stale {
            self.parts().forward.catch_up().await?;
        }
        let reader = Arc::clone(&self.parts().reader);
        let read = tokio::task::spawn_blocking(move || reader.view(query)).await;
        read.map_err(|_stopping| Error::Stopping)?.map_err(|error| Error::Store(error.to_string()))
    }
}
