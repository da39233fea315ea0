//! The control log: openraft, whose types end here.
//!
//! Implements [`Propose`] over Raft, the segment log and the SQLite machine. A mesh of one node is a Raft of one.
//! Consensus has a thread of its own, so that no turn can hold it up.

mod log;
mod machine;
mod network;
#[cfg(test)]
mod tests;
mod types;

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use openraft::{
    Config, Raft, SnapshotPolicy,
    errors::{ClientWriteError, RaftError},
};
use pelago_core::{
    record::{Op, Outcome, Write},
    time::LogTime,
};
use pelago_store::{Propose, ProposeError, directory::Directory, files, log::Log, sqlite};
use pelago_wire::record;
use tokio::{runtime, sync::mpsc};

use crate::clock::LogClock;
use machine::Machine;
use types::{Member, Proposal, Types};

/// The Raft id of a mesh's founder.
const FOUNDER: u64 = 1;
/// How many entries stay in the log behind a snapshot.
const ENTRIES_KEPT: u64 = 1_000;
/// A checkpoint follows after so many entries …
const CHECKPOINT_ENTRIES: u64 = 10_000;
/// … and so much time.
const CHECKPOINT_AFTER: Duration = Duration::from_secs(30);
/// How long a graceful stop waits for Raft.
const STOP_MAX: Duration = Duration::from_secs(5);

/// This node's part in the control log.
pub(crate) struct Consensus {
    raft: Raft<Types, Machine>,
    runtime: Mutex<Option<runtime::Runtime>>,
    progress: Arc<Progress>,
    /// The clock of the term in which this node leads. A short-lived lock: nothing is awaited under it.
    clock: Mutex<Option<(u64, LogClock)>>,
    flushes: Arc<pelago_store::log::Counters>,
}

/// How far this node has applied the log.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    index: AtomicU64,
    time_ms: AtomicU64,
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
    pub(crate) last_index: u64,
}

impl Progress {
    fn applied(&self, index: u64, time: LogTime) {
        self.index.store(index, Ordering::Release);
        self.time_ms.fetch_max(time.as_millis(), Ordering::AcqRel);
    }

    pub(crate) fn index(&self) -> u64 {
        self.index.load(Ordering::Acquire)
    }

    pub(crate) fn time(&self) -> LogTime {
        LogTime::from_millis(self.time_ms.load(Ordering::Acquire))
    }
}

impl Consensus {
    /// Opens what the directory holds and takes part; `found` makes the first voter of a new mesh. Every batch of writes
    /// goes to `feed` once it is committed.
    ///
    /// # Errors
    /// See [`Error`].
    pub(crate) async fn start(
        directory: &Directory,
        found: bool,
        feed: mpsc::Sender<Vec<Write>>,
    ) -> Result<Self, Error> {
        let mesh = directory.identity().mesh;
        let files = files::OsDirectory::open(directory.log()).map_err(Error::Files)?;
        let log = Log::open(Arc::new(files), pelago_store::log::Config::new(mesh.0))?;
        let flushes = log.counters();
        let progress = Arc::new(Progress::default());
        let rows = sqlite::Machine::open(&directory.database(), mesh)?;
        let machine = Machine::new(rows, directory.database(), feed, Arc::clone(&progress)).map_err(Error::Raft)?;
        let runtime = consensus_runtime().map_err(Error::Raft)?;
        let name = directory.identity().node.to_string();
        let starting = runtime.spawn(async move {
            let config = Arc::new(config().validate().map_err(io::Error::other)?);
            let raft = Raft::new(FOUNDER, config, network::NoLinks, log::Storage::new(log), machine);
            let raft = raft.await.map_err(io::Error::other)?;
            if found && !raft.is_initialized().await.map_err(io::Error::other)? {
                let founders = BTreeMap::from([(FOUNDER, Member(name))]);
                raft.initialize(founders).await.map_err(io::Error::other)?;
            }
            Ok(raft)
        });
        let raft = starting.await.map_err(|error| Error::Raft(io::Error::other(error)))?.map_err(Error::Raft)?;
        Ok(Self { raft, runtime: Mutex::new(Some(runtime)), progress, clock: Mutex::new(None), flushes })
    }

    /// Waits until somebody leads.
    ///
    /// # Errors
    /// When nobody does within `max`.
    pub(crate) async fn led(&self, max: Duration) -> Result<(), ProposeError> {
        let me = *self.raft.node_id();
        // Whoever was elected leads once its first entry is committed.
        let led = move |metrics: &openraft::RaftMetrics<Types>| match metrics.current_leader {
            Some(leader) if leader == me => metrics.state.is_leader() && metrics.last_applied.is_some(),
            leader => leader.is_some(),
        };
        self.raft.wait(Some(max)).metrics(led, "a leader").await.map_err(|_| ProposeError::Unknown)?;
        Ok(())
    }

    pub(crate) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// The log's time now, if this node leads; else the time of the last entry applied here.
    pub(crate) fn log_time(&self) -> LogTime {
        self.stamp().unwrap_or_else(|_| self.progress.time())
    }

    pub(crate) fn flushes(&self) -> u64 {
        self.flushes.flushes()
    }

    pub(crate) fn standing(&self) -> Standing {
        use openraft::async_runtime::watch::WatchReceiver as _;
        let metrics = self.raft.metrics().borrow_watched().clone();
        let membership = metrics.membership_config.membership();
        let name = |id: u64| membership.get_node(&id).map(|member| member.0.clone());
        Standing {
            leads: self.raft.is_leader(),
            leader: metrics.current_leader.and_then(name),
            term: metrics.current_term,
            voters: membership.voter_ids().filter_map(name).collect(),
            last_index: metrics.last_log_index.unwrap_or(0),
        }
    }

    /// Resolves, with the reason, when openraft has stopped by itself.
    pub(crate) async fn failed(&self) -> String {
        use openraft::async_runtime::watch::WatchReceiver as _;
        let mut metrics = self.raft.metrics();
        loop {
            if let Err(fatal) = &metrics.borrow_watched().running_state {
                return fatal.to_string();
            }
            if metrics.changed().await.is_err() {
                return "its loop has ended".into();
            }
        }
    }

    /// Keeps the log short: checkpoints and purges as the log grows. Runs until it is dropped.
    pub(crate) async fn keep_short(self: Arc<Self>) {
        let mut checkpointed = self.progress.index();
        loop {
            tokio::time::sleep(CHECKPOINT_AFTER).await;
            let applied = self.progress.index();
            if applied - checkpointed < CHECKPOINT_ENTRIES {
                continue;
            }
            match self.raft.trigger().snapshot().await {
                Ok(()) => checkpointed = applied,
                Err(error) => tracing::error!(%error, "the database cannot be checkpointed; the log grows"),
            }
        }
    }

    /// Takes part no more. What was acknowledged is durable already.
    pub(crate) async fn stop(&self) {
        if tokio::time::timeout(STOP_MAX, self.raft.shutdown()).await.is_err() {
            tracing::warn!("consensus did not stop in time");
        }
        let runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(runtime) = runtime {
            runtime.shutdown_background();
        }
    }

    /// The log's time for an entry that this node appends.
    fn stamp(&self) -> Result<LogTime, ProposeError> {
        let leading = self.raft.as_leader().map_err(|_| ProposeError::NotLeader { leader: None })?;
        let term = leading.to_committed_leader_id().term;
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        match *clock {
            Some((of, clock)) if of == term => Ok(clock.now()),
            _ => {
                let fresh = LogClock::starting_after(self.progress.time());
                *clock = Some((term, fresh));
                Ok(fresh.now())
            }
        }
    }
}

impl Drop for Consensus {
    /// A runtime must not wait for its threads where it is dropped by a loop of another.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            runtime.shutdown_background();
        }
    }
}

impl Propose for Consensus {
    async fn propose(&self, batch: Vec<Op>) -> Result<Vec<Outcome>, ProposeError> {
        let time = self.stamp()?;
        self.propose_at(time, &batch).await
    }
}

impl Consensus {
    async fn propose_at(&self, time: LogTime, batch: &[Op]) -> Result<Vec<Outcome>, ProposeError> {
        let bytes = record::encode_entry(time, batch);
        // An entry that cannot be read stops every voter, at every start: it must not get into the log.
        record::decode_entry(bytes.clone()).map_err(|error| ProposeError::Malformed { why: error.to_string() })?;
        let proposal = Proposal(bytes);
        match self.raft.client_write(proposal).await {
            Ok(response) => Ok(response.data),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => {
                Err(ProposeError::NotLeader { leader: None })
            }
            Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(_))) => Err(ProposeError::Unknown),
            Err(RaftError::APIError(
                error @ (ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_)),
            )) => unreachable!("a batch of ops neither changes the membership nor has a precondition: {error}"),
            Err(RaftError::Fatal(error)) => {
                tracing::error!(%error, "consensus has stopped on this node");
                Err(ProposeError::Stopped)
            }
        }
    }
}

/// One thread for consensus; files are read on threads that may block.
fn consensus_runtime() -> io::Result<runtime::Runtime> {
    runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(4)
        .thread_name("pelago-raft")
        .enable_all()
        .build()
}

fn config() -> Config {
    Config {
        cluster_name: "pelago".into(),
        // openraft campaigns after max plus random(min, max): 225 to 300 ms after the last heartbeat.
        election_timeout_min: 75,
        election_timeout_max: 150,
        heartbeat_interval: 50,
        enable_pre_vote: Some(true),
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: ENTRIES_KEPT,
        ..Config::default()
    }
}
