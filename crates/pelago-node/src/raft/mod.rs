//! The control log: openraft, whose types end here.
//!
//! Implements [`Propose`] over Raft, the segment log and the SQLite machine. A mesh of one node is a Raft of one.
//! Consensus has a thread of its own, so that no turn can hold it up.
//!
//! A node begins in this order: [`Runtime`], whose thread drives the links of consensus; [`Receiver`], which takes what
//! comes over them; the links; [`Consensus::start`].

mod clock;
mod dump;
mod leading;
mod log;
mod machine;
mod network;
mod receive;
mod rpc;
mod standstill;
#[cfg(test)]
mod tests;
mod types;
mod voters;

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use openraft::{
    Config, Raft, ReadPolicy, SnapshotPolicy,
    async_runtime::watch::WatchReceiver as _,
    errors::{ClientWriteError, Fatal, LinearizableReadError, RaftError},
};
use pelago_core::{
    id::Name,
    record::{Op, Outcome, Write},
    time::LogTime,
};
use pelago_net::Links;
use pelago_store::{Propose, ProposeError, directory::Directory, files, log::Log, sqlite};
use pelago_wire::record;
use tokio::{
    runtime,
    sync::{Semaphore, mpsc, watch},
};

pub(crate) use receive::Receiver;
pub(crate) use voters::Candidate;

use crate::{
    clock::{LogClock, now},
    committer::Here,
};
use machine::{Database, Machine};
use network::Urgency;
use standstill::Signs;
use types::{Member, Proposal, Types};

/// The Raft id of a mesh's founder. Others have the id that the mesh gave their node, and keep it whether they vote or
/// not: openraft wants a new id only for a node whose log was wiped, and a node's never is.
pub(crate) const FOUNDER: u64 = 1;
/// How many entries stay in the log behind a snapshot.
const ENTRIES_KEPT: u64 = 1_000;
/// A checkpoint follows after so many entries …
const CHECKPOINT_ENTRIES: u64 = 10_000;
/// … and so much time; …
const CHECKPOINT_AFTER: Duration = Duration::from_secs(30);
/// … or once SQLite's log has so many bytes: writing waits while they are flushed, and more would take seconds.
const CHECKPOINT_BYTES: u64 = 128 << 20;
/// How often that is looked at.
const CHECKPOINT_LOOK: Duration = Duration::from_millis(500);
/// The most bytes of an entry: it has to fit into a frame, with what is around it.
const ENTRY_BYTES_MAX: usize = (1 << 20) - (4 << 10);
/// How long a leader may take to answer. One that was cut off from the others would never.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How long a hand-over may take.
const HAND_OVER_MAX: Duration = Duration::from_secs(1);
/// How long a graceful stop waits for Raft.
const STOP_MAX: Duration = Duration::from_secs(5);
/// How long a dump that was sent may take to get into its place, in milliseconds.
const INSTALL_MS_MAX: u64 = 120_000;
/// Connections that read the database at a time.
const READERS: usize = 4;

/// The thread of consensus.
pub(crate) struct Runtime(Option<runtime::Runtime>);

/// With what a node takes part in the control log.
pub(crate) struct Start<'a> {
    pub(crate) directory: &'a Directory,
    /// [`FOUNDER`], or the id that the mesh gave the node.
    pub(crate) raft_id: u64,
    /// Whether to make the first voter of a new mesh.
    pub(crate) found: bool,
    pub(crate) timing: Timing,
    /// What becomes true here, in order.
    pub(crate) feed: mpsc::Sender<Told>,
    pub(crate) runtime: Runtime,
    /// The one that `links` were made with.
    pub(crate) receiver: Receiver,
    pub(crate) links: Links,
    /// The wall clock.
    pub(crate) wall: fn() -> LogTime,
}

/// How fast a mesh notices that its leader is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timing {
    /// Within half a second.
    Lan,
    /// Within a few seconds: for wide networks, and for tests that do not measure it.
    Slow,
}

/// What became true on this node.
#[derive(Debug)]
pub(crate) enum Told {
    /// The log was applied up to here, and this is what it wrote.
    Writes { index: u64, writes: Vec<Write> },
    /// Another database took the place of this one: read it all again.
    Replaced,
}

/// This node's part in the control log.
pub(crate) struct Consensus {
    raft: Raft<Types, Machine>,
    runtime: Mutex<Option<Runtime>>,
    reader: Arc<sqlite::Reader>,
    progress: Arc<Progress>,
    /// The clock of the term in which this node leads. A short-lived lock: nothing is awaited under it.
    clock: Mutex<Option<(u64, LogClock)>>,
    wall: fn() -> LogTime,
    links: Links,
    flushes: Arc<pelago_store::log::Counters>,
    urgency: Arc<Urgency>,
    signs: Signs,
    /// One change of the members at a time, and none once the lead is handed over: openraft would call it an error.
    member_changes: Semaphore,
}

/// How far this node has applied the log.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    index: watch::Sender<u64>,
    time_ms: AtomicU64,
    /// By how much the log's time was ahead of this process's clock when the last stamp was applied, in milliseconds.
    ahead_ms: AtomicU64,
}

/// Why a node cannot take part in the control log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log's directory.
    #[error("failed to open the control log's directory")]
    Files(#[source] io::Error),
    /// The log's files.
    #[error("failed to open the control log")]
    Log(#[from] pelago_store::log::Error),
    /// The database.
    #[error("failed to open the state machine's database")]
    Database(#[from] sqlite::Error),
    /// The log is empty, and it was not.
    #[error(
        "the control log in {} is gone: this node may have acknowledged what was in it, and would vote as if it had \
         not. Bring the files back, or remove the node from the mesh (`pelago node remove`) and start it again in a \
         new data directory",
        path.display()
    )]
    LogGone {
        /// Where it was.
        path: std::path::PathBuf,
    },
    /// Raft did not start.
    #[error("failed to start consensus")]
    Raft(#[source] io::Error),
}

/// How the log stands, as far as this node knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) leads: bool,
    pub(crate) leader: Option<String>,
    pub(crate) term: u64,
    pub(crate) voters: Vec<String>,
    /// Who keeps the log without a vote.
    pub(crate) observers: Vec<String>,
    pub(crate) last_index: u64,
}

impl Progress {
    fn applied(&self, index: u64, time: LogTime) {
        // Entries without a stamp repeat the last one: they say nothing of what time it is.
        if self.time_ms.fetch_max(time.as_millis(), Ordering::AcqRel) < time.as_millis() {
            self.ahead_ms.store(time.as_millis().saturating_sub(uptime_ms()), Ordering::Release);
        }
        self.index.send_replace(index);
    }

    pub(crate) fn index(&self) -> u64 {
        *self.index.borrow()
    }

    pub(crate) fn time(&self) -> LogTime {
        LogTime::from_millis(self.time_ms.load(Ordering::Acquire))
    }

    /// The log's time now, as far as the last stamp tells: hardly ever ahead of the leader, who decides.
    fn time_now(&self) -> LogTime {
        LogTime::from_millis(self.ahead_ms.load(Ordering::Acquire)).plus_millis(uptime_ms()).max(self.time())
    }
}

fn uptime_ms() -> u64 {
    now().as_micros() / 1_000
}

impl Runtime {
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn new() -> Result<Self, Error> {
        let mut builder = runtime::Builder::new_multi_thread();
        // One thread for consensus; files are read, dumped and filled on threads that may block.
        builder.worker_threads(1).max_blocking_threads(16).thread_name("pelago-raft").enable_all();
        Ok(Self(Some(builder.build().map_err(Error::Raft)?)))
    }

    /// Where the links of consensus are driven.
    pub(crate) fn handle(&self) -> &runtime::Handle {
        self.0.as_ref().expect("it is taken only in drop").handle()
    }

    /// Who takes what comes over the links of consensus.
    pub(crate) fn receiver(&self) -> Receiver {
        Receiver::new(self.handle().clone())
    }
}

impl Drop for Runtime {
    /// A runtime must not wait for its threads where it is dropped by a loop of another.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Consensus {
    /// Opens what the directory holds and takes part.
    ///
    /// # Errors
    /// See [`Error`].
    pub(crate) async fn start(start: Start<'_>) -> Result<Self, Error> {
        let Start { directory, raft_id, found, timing, feed, runtime, receiver, links, wall } = start;
        let mesh = directory.identity().mesh;
        let files = files::OsDirectory::open(directory.log()).map_err(Error::Files)?;
        let log = Log::open(Arc::new(files), pelago_store::log::Config::new(mesh.0))?;
        let reader = log.reader();
        let is_empty = reader.range()?.is_empty() && reader.purged()?.is_none();
        if is_empty && directory.identity().log_begun {
            return Err(Error::LogGone { path: directory.log() });
        }
        let flushes = log.counters();
        let progress = Arc::new(Progress::default());
        let path = directory.database();
        sqlite::Fresh::sweep(&path)?;
        let rows = sqlite::Machine::open(&path, mesh)?;
        let reader = Arc::new(sqlite::Reader::open(&path, READERS)?);
        let database = Database::new(path, mesh, Arc::clone(&reader));
        let machine = Machine::new(rows, database.clone(), feed, Arc::clone(&progress)).map_err(Error::Raft)?;
        let name = directory.identity().node.to_string();
        let urgency = Arc::new(Urgency::default());
        let network =
            network::Network { links: links.clone(), reader: Arc::clone(&reader), urgency: Arc::clone(&urgency) };
        let mut log = log::Storage::new(log, Arc::clone(&urgency));
        let signs = Signs::default();
        let watched = signs.clone();
        let starting = runtime.handle().spawn(async move {
            let config = Arc::new(timing.config().validate().map_err(io::Error::other)?);
            if let Some(applied) = machine.last_applied() {
                log.agree(applied).await?;
            }
            let raft = Raft::new(raft_id, config, network, log, machine);
            let raft = raft.await.map_err(io::Error::other)?;
            receiver.begin(receive::Part { raft: raft.clone(), dumps: dump::Receiver::new(database), wall });
            if found && !raft.is_initialized().await.map_err(io::Error::other)? {
                let founders = BTreeMap::from([(raft_id, Member(name))]);
                raft.initialize(founders).await.map_err(io::Error::other)?;
            } else if raft.voter_ids().eq([raft_id]) {
                // There is nobody to wait for.
                raft.trigger().elect(false).await.map_err(io::Error::other)?;
            }
            // It ends with the runtime.
            tokio::spawn(standstill::watch(raft.clone(), watched));
            Ok(raft)
        });
        let raft = starting.await.map_err(|error| Error::Raft(io::Error::other(error)))?.map_err(Error::Raft)?;
        let (runtime, clock) = (Mutex::new(Some(runtime)), Mutex::new(None));
        let member_changes = Semaphore::new(1);
        Ok(Self { raft, runtime, reader, progress, clock, wall, links, flushes, urgency, signs, member_changes })
    }

    /// Waits until somebody leads.
    ///
    /// # Errors
    /// When nobody does within `max`.
    pub(crate) async fn led(&self, max: Duration) -> Result<(), ProposeError> {
        let me = *self.raft.node_id();
        // Whoever was elected leads once its first entry is committed.
        let led = move |metrics: &openraft::RaftMetrics<Types>| match metrics.current_leader {
            Some(leader) if leader == me => {
                let applied = metrics.last_applied.map(|id| id.leader_id.term);
                metrics.state.is_leader() && applied == Some(metrics.current_term)
            }
            leader => leader.is_some(),
        };
        self.raft.wait(Some(max)).metrics(led, "a leader").await.map_err(|_| ProposeError::Unknown)?;
        Ok(())
    }

    /// The rows as this node has them. It stays valid when another database takes the place.
    pub(crate) fn reader(&self) -> &Arc<sqlite::Reader> {
        &self.reader
    }

    pub(crate) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// The log's time now, if this node leads and its clock has begun; else an estimate from the last entry applied
    /// here.
    pub(crate) fn log_time(&self) -> LogTime {
        let time = self.leading_term().ok().and_then(|term| self.time_in(term));
        time.unwrap_or_else(|| self.progress.time_now())
    }

    pub(crate) fn flushes(&self) -> u64 {
        self.flushes.flushes()
    }

    pub(crate) fn standing(&self) -> Standing {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let membership = metrics.membership_config.membership();
        let name = |id: u64| membership.get_node(&id).map(|member| member.0.clone());
        Standing {
            leads: self.raft.is_leader(),
            leader: metrics.current_leader.and_then(name),
            term: metrics.current_term,
            voters: membership.voter_ids().filter_map(name).collect(),
            observers: membership.learner_ids().filter_map(name).collect(),
            last_index: metrics.last_log_index.unwrap_or(0),
        }
    }

    /// Who leads, for whoever wants to forward something.
    pub(crate) fn leader_name(&self) -> Option<Name> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let leader = metrics.membership_config.membership().get_node(&metrics.current_leader?)?;
        Name::new(&leader.0).ok()
    }

    /// Up to where the log was committed when this was called: whoever reads rows that were applied so far sees all
    /// that was acknowledged before. Only the leader knows, and it asks a quorum whether it still leads.
    ///
    /// # Errors
    /// [`ProposeError::NotLeader`]; [`ProposeError::Unknown`] when no quorum answers; [`ProposeError::Stopped`].
    pub(crate) async fn read_index(&self) -> Result<u64, ProposeError> {
        // Never by lease: its clock stops while the machine sleeps.
        match self.raft.get_read_log_id(ReadPolicy::ReadIndex).await {
            Ok((read, _applied)) => Ok(read.index()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_))) => Err(ProposeError::NotLeader),
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => Err(ProposeError::Unknown),
            Err(RaftError::Fatal(_)) => Err(ProposeError::Stopped),
        }
    }

    /// Waits until this node has applied the log up to `index`, but no longer than `max`. Says whether it has.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(crate) async fn applied(&self, index: u64, max: Duration) -> bool {
        let mut applied = self.progress.index.subscribe();
        let reached = applied.wait_for(|applied| *applied >= index);
        matches!(tokio::time::timeout(max, reached).await, Ok(Ok(_)))
    }

    /// Lets a node keep the log, without a vote. Does nothing if it does already.
    ///
    /// # Errors
    /// As [`Propose::propose`]; after [`ProposeError::Unknown`] ask again.
    pub(crate) async fn admit(&self, raft_id: u64, name: &Name) -> Result<(), ProposeError> {
        if self.raft.metrics().borrow_watched().membership_config.membership().get_node(&raft_id).is_some() {
            return Ok(());
        }
        let admitting = self.raft.add_learner(raft_id, Member(name.to_string()), false);
        self.changed(tokio::time::timeout(ANSWER_MAX, admitting).await.ok().map(|done| done.map(drop)))
    }

    /// Hands leadership over to the voter that has most of the log. Says whether another leads, within
    /// [`HAND_OVER_MAX`].
    pub(crate) async fn hand_over(&self) -> bool {
        let me = *self.raft.node_id();
        let metrics = self.raft.metrics().borrow_watched().clone();
        let Some(matched) = metrics.replication else { return metrics.current_leader.is_some() };
        let others = metrics.membership_config.membership().voter_ids().filter(|voter| *voter != me);
        let Some(next) = others.max_by_key(|voter| matched.get(voter).copied().flatten()) else { return false };
        let to = metrics.membership_config.membership().get_node(&next).map(ToString::to_string).unwrap_or_default();
        // A change that is under way ends first, and no other is begun.
        if let Ok(Ok(last)) = tokio::time::timeout(HAND_OVER_MAX, self.member_changes.acquire()).await {
            last.forget();
        }
        tracing::info!(to, term = metrics.current_term, "this node hands the lead over");
        if self.raft.trigger().transfer_leader(next).await.is_err() {
            return false;
        }
        let leads =
            move |metrics: &openraft::RaftMetrics<Types>| metrics.current_leader.is_some_and(|leader| leader != me);
        self.raft.wait(Some(HAND_OVER_MAX)).metrics(leads, "another leader").await.is_ok()
    }

    /// Resolves, with the reason, when openraft has stopped by itself.
    pub(crate) async fn failed(&self) -> String {
        // They change rarely, and their sender goes with openraft's main loop, which says why it ends just before.
        let mut metrics = self.raft.server_metrics();
        while metrics.changed().await.is_ok() {}
        match &self.raft.metrics().borrow_watched().running_state {
            Err(fatal) => fatal.to_string(),
            Ok(()) => "its loop has ended".into(),
        }
    }

    /// Keeps the log short: checkpoints and purges as the log grows. Runs until it is dropped.
    pub(crate) async fn keep_short(self: Arc<Self>) {
        let mut checkpointed = (self.progress.index(), Instant::now());
        loop {
            tokio::time::sleep(CHECKPOINT_LOOK).await;
            let (index, at) = checkpointed;
            let applied = self.progress.index();
            let wal_bytes = sqlite::wal_bytes(self.reader.path());
            if !is_checkpoint_due(applied.saturating_sub(index), at.elapsed(), wal_bytes) {
                continue;
            }
            match self.raft.trigger().snapshot().await {
                Ok(()) => checkpointed = (applied, Instant::now()),
                Err(error) => tracing::error!(%error, "the database cannot be checkpointed; the log grows"),
            }
        }
    }

    /// Takes part no more. What was acknowledged is durable already.
    pub(crate) async fn stop(&self) {
        if tokio::time::timeout(STOP_MAX, self.raft.shutdown()).await.is_err() {
            tracing::warn!("consensus did not stop in time");
        }
        drop(self.runtime.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// Whether it is time for a checkpoint, so many entries and so long after the last. SQLite's log keeps its length until
/// something is written: without a new entry it says nothing.
fn is_checkpoint_due(entries: u64, since: Duration, wal_bytes: u64) -> bool {
    let has_many = entries >= CHECKPOINT_ENTRIES && since >= CHECKPOINT_AFTER;
    has_many || (entries > 0 && wal_bytes >= CHECKPOINT_BYTES)
}

impl Propose for Consensus {
    /// Only where this node leads.
    async fn propose(&self, batch: &[Op]) -> Result<Vec<Outcome>, ProposeError> {
        let is_quiet = batch.iter().all(|op| op.changes_only_its_agent() || op.begins_nothing());
        self.propose_at(self.stamp().await?, batch, is_quiet).await
    }
}

impl Here for Consensus {
    fn leads(&self) -> bool {
        self.leading_term().is_ok()
    }

    async fn propose_with_others(&self, batch: &[Op]) -> Result<Vec<Outcome>, ProposeError> {
        let is_quiet = batch.iter().all(Op::changes_only_its_agent);
        self.propose_at(self.stamp().await?, batch, is_quiet).await
    }

    fn expect_more(&self, more: bool) {
        self.urgency.expects_more.store(more, Ordering::Relaxed);
    }
}

impl Consensus {
    async fn propose_at(&self, time: LogTime, batch: &[Op], is_quiet: bool) -> Result<Vec<Outcome>, ProposeError> {
        let bytes = record::encode_entry(time, batch);
        // An entry that cannot be read stops every voter, at every start: it must not get into the log.
        record::decode_entry(bytes.clone()).map_err(|error| ProposeError::Malformed { why: error.to_string() })?;
        if bytes.len() > ENTRY_BYTES_MAX {
            let why = format!("an entry of {} bytes, more than {ENTRY_BYTES_MAX}", bytes.len());
            return Err(ProposeError::Malformed { why });
        }
        let writing = self.raft.client_write(Proposal { ops: bytes, is_quiet });
        let mut outcomes = Vec::new();
        let written = tokio::time::timeout(ANSWER_MAX, writing).await.ok();
        self.changed(written.map(|done| done.map(|response| outcomes = response.data)))?;
        Ok(outcomes)
    }

    /// What became of an entry that was to be appended; `None` if nobody answered.
    fn changed(&self, done: Option<Result<(), RaftError<Types, ClientWriteError<Types>>>>) -> Result<(), ProposeError> {
        match done {
            None => Err(ProposeError::Unknown),
            Some(Ok(())) => Ok(()),
            Some(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => Err(ProposeError::NotLeader),
            Some(Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)))) => Err(ProposeError::Unknown),
            // Another change of the membership is under way, say.
            Some(Err(RaftError::APIError(
                error @ (ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_)),
            ))) => {
                tracing::debug!(%error, "a change of the membership is put off");
                Err(ProposeError::Unknown)
            }
            // The node stops.
            Some(Err(RaftError::Fatal(Fatal::Stopped))) => Err(ProposeError::Stopped),
            Some(Err(RaftError::Fatal(error @ (Fatal::StorageError(_) | Fatal::Panicked)))) => {
                tracing::error!(%error, "consensus has stopped on this node");
                Err(ProposeError::Stopped)
            }
        }
    }
}

impl Timing {
    fn config(self) -> Config {
        // openraft campaigns after max plus random(min, max).
        let (election_timeout_min, election_timeout_max, heartbeat_interval, backoff) = match self {
            // 225 to 300 ms after the last heartbeat.
            Self::Lan => (75, 150, 50, "100ms 200ms 400ms ...500ms"),
            // 2.25 to 3 s.
            Self::Slow => (750, 1_500, 250, "200ms 400ms 800ms ...1000ms"),
        };
        Config {
            cluster_name: "pelago".into(),
            election_timeout_min,
            election_timeout_max,
            heartbeat_interval,
            backoff: backoff.into(),
            enable_pre_vote: Some(true),
            // One who led before does not know what was committed then until it is elected again: reads would be stale.
            enable_leader_restore: Some(false),
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: ENTRIES_KEPT,
            install_snapshot_timeout: INSTALL_MS_MAX,
            ..Config::default()
        }
    }
}
