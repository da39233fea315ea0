//! The SQLite machine as openraft's state machine.
//!
//! Entries are applied on the machine's own thread, as many at a time as have gathered. Answers follow; whoever reads
//! from then on sees the rows. Then the writes go to the [`Feed`](crate::feed), which is how the rest of the node learns
//! what happened.
//!
//! A snapshot is a handle and not a copy: building one checkpoints the database, after which the log may be purged up
//! to what the checkpoint made durable. Whoever sends it dumps the database as it is by then; see `dump`. Installing
//! one puts a database made from a dump in the place of this one, under all readers of the node.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{FutureExt as _, Stream, StreamExt as _};
use openraft::{
    RaftSnapshotBuilder,
    entry::RaftEntry as _,
    storage::{EntryResponder, RaftStateMachine, SnapshotMeta},
    type_config::alias::{SnapshotMetaOf, SnapshotOf},
};
use pelago_core::{id::MeshId, time::LogTime};
use pelago_store::sqlite::{self, Applies, Fresh, Reader, Writer};
use pelago_wire::{raft as wire, record};
use tokio::sync::{mpsc, oneshot};

use super::{
    Progress, Told,
    types::{self, Entry, LogId, Payload, StoredMembership, Types},
};

/// How many entries are applied in one transaction.
const ENTRIES_PER_TRANSACTION_MAX: usize = 64;

/// How long to wait when a reader keeps a checkpoint from its work: a dump under way, say.
const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// A database as openraft passes it on.
#[derive(Debug)]
pub(crate) enum Snapshot {
    /// The one in place, at least as far as it was when it was checkpointed.
    Here,
    /// One that is to take the place.
    Fresh(Fresh),
}

pub(super) struct Machine {
    /// `None` only while another database takes the place.
    writer: Option<Writer>,
    database: Database,
    applied: Option<LogId>,
    membership: StoredMembership,
    feed: mpsc::Sender<Told>,
    progress: Arc<Progress>,
}

/// Where the rows are, and who reads them.
#[derive(Clone)]
pub(super) struct Database {
    pub(super) path: PathBuf,
    pub(super) mesh: MeshId,
    pub(super) reader: Arc<Reader>,
    snapshot: Arc<Current>,
}

#[derive(Default)]
struct Current {
    /// What the last checkpoint covers. A short-lived lock.
    meta: Mutex<Option<Meta>>,
    /// Held, on threads that may block, while the file is checkpointed or replaced: neither may happen in the other.
    file: Mutex<()>,
}

type Meta = SnapshotMetaOf<Types>;

/// Checkpoints the database.
pub(super) struct Checkpoint {
    database: Database,
    meta: Meta,
}

impl Database {
    pub(super) fn new(path: PathBuf, mesh: MeshId, reader: Arc<Reader>) -> Self {
        Self { path, mesh, reader, snapshot: Arc::default() }
    }

    /// Remembers what a checkpoint covers, unless a later one was faster.
    fn covered(&self, meta: Meta) {
        let mut current = lock(&self.snapshot.meta);
        if current.as_ref().is_none_or(|current| current.last_log_id < meta.last_log_id) {
            *current = Some(meta);
        }
    }

    /// Starts the one that writes the database in place, and lets readers follow it.
    fn write(&self, machine: sqlite::Machine) -> io::Result<Writer> {
        let writer = Writer::start(machine)?;
        self.reader.follow(&writer);
        Ok(writer)
    }

    fn checkpoint(&self) -> Result<u64, sqlite::Error> {
        let _alone = lock(&self.snapshot.file);
        self.reader.checkpoint()
    }

    /// Blocks until the database that `writer` writes is replaced, and gives the new one its writer.
    fn replace(&self, writer: Writer, fresh: Fresh) -> io::Result<Writer> {
        let _alone = lock(&self.snapshot.file);
        writer.close();
        let placed = self.reader.replace(|| fresh.take_place());
        placed.map_err(io::Error::other)?;
        self.write(sqlite::Machine::open(&self.path, self.mesh).map_err(io::Error::other)?)
    }
}

/// What a database says of itself, as openraft wants to know it.
pub(super) fn standing(applied: &sqlite::Applied) -> io::Result<(Option<LogId>, StoredMembership)> {
    let log_id = match applied.log_id.is_empty() {
        true => None,
        false => Some(types::read_log_id(wire::decode("log id", applied.log_id.clone()).map_err(io::Error::other)?)),
    };
    let membership = match applied.membership.clone() {
        Some(bytes) => types::read_stored_membership(wire::decode("membership", bytes).map_err(io::Error::other)?)?,
        None => StoredMembership::default(),
    };
    Ok((log_id, membership))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics between two changes that belong together.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Machine {
    pub(super) fn new(
        machine: sqlite::Machine,
        database: Database,
        feed: mpsc::Sender<Told>,
        progress: Arc<Progress>,
    ) -> io::Result<Self> {
        let (applied, membership) = standing(machine.applied())?;
        progress.applied(applied.map_or(0, |id| id.index), machine.applied().time);
        let writer = Some(database.write(machine)?);
        Ok(Self { writer, database, applied, membership, feed, progress })
    }

    pub(super) fn last_applied(&self) -> Option<LogId> {
        self.applied
    }

    /// Applies what gathered, answers, and tells the node.
    async fn apply_all(&mut self, gathered: Vec<EntryResponder<Types>>) -> io::Result<()> {
        let (entries, responders): (Vec<Entry>, Vec<_>) = gathered.into_iter().unzip();
        let Some(last) = entries.last().map(|entry| entry.log_id()) else {
            return Ok(());
        };
        let mut time = LogTime::ZERO;
        let mut rows = Vec::with_capacity(entries.len());
        for entry in entries {
            let row = self.row(entry)?;
            time = row.time.unwrap_or(time).max(time);
            rows.push(row);
        }
        let (done, is_done) = oneshot::channel();
        let (progress, feed) = (Arc::clone(&self.progress), self.feed.clone());
        // On the writer's thread: answers need not wait until the thread of consensus has its turn.
        let report = move |result: Result<Applies, sqlite::Error>| {
            let told = result.map(|Applies { outcomes, writes }| {
                progress.applied(last.index, time);
                for (responder, outcomes) in responders.into_iter().zip(outcomes) {
                    if let Some(responder) = responder {
                        responder.send(outcomes);
                    }
                }
                // The node is shutting down if nobody listens.
                let _gone = feed.blocking_send(Told::Writes { index: last.index, writes });
            });
            // Raft is shutting down if nobody waits.
            let _gone = done.send(told);
        };
        let writer = self.writer.as_ref().ok_or_else(|| io::Error::other("no database is in place"))?;
        writer.apply(rows, Box::new(report));
        is_done.await.map_err(io::Error::other)?.map_err(io::Error::other)?;
        self.applied = Some(last);
        Ok(())
    }

    fn row(&mut self, entry: Entry) -> io::Result<sqlite::Entry> {
        let log_id = entry.log_id();
        let (mut time, mut ops, mut membership) = (None, Vec::new(), None);
        match entry.payload {
            Payload::Blank => {}
            Payload::Normal(proposal) => {
                let (stamp, decoded) = record::decode_entry(proposal.ops).map_err(io::Error::other)?;
                (time, ops) = (Some(stamp), decoded);
            }
            Payload::Membership(of) => {
                self.membership = StoredMembership::new(Some(log_id), of);
                membership = Some(wire::encode(&types::stored_membership(&self.membership)));
            }
        }
        let bytes = wire::encode(&types::log_id(&log_id));
        Ok(sqlite::Entry { index: log_id.index, log_id: bytes, time, ops, membership })
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = Snapshot;
    type SnapshotBuilder = Checkpoint;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + Send,
    {
        while let Some(first) = entries.next().await {
            let mut gathered = vec![first?];
            while gathered.len() < ENTRIES_PER_TRANSACTION_MAX
                && let Some(Some(next)) = entries.next().now_or_never()
            {
                gathered.push(next?);
            }
            self.apply_all(gathered).await?;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Checkpoint {
        let meta = SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() };
        Checkpoint { database: self.database.clone(), meta }
    }

    async fn install_snapshot(&mut self, meta: &Meta, snapshot: Snapshot) -> io::Result<()> {
        let Snapshot::Fresh(fresh) = snapshot else {
            return Err(io::Error::other("a database cannot take its own place"));
        };
        let applied = fresh.info().applied.clone();
        let writer = self.writer.take().ok_or_else(|| io::Error::other("no database is in place"))?;
        let database = self.database.clone();
        let replacing = tokio::task::spawn_blocking(move || database.replace(writer, fresh));
        self.writer = Some(replacing.await.map_err(io::Error::other)??);
        (self.applied, self.membership) = (meta.last_log_id, meta.last_membership.clone());
        self.database.covered(meta.clone());
        self.progress.applied(applied.index, applied.time);
        // The node is shutting down if nobody listens.
        let _gone = self.feed.send(Told::Replaced).await;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<Types, Snapshot>>> {
        let meta = lock(&self.database.snapshot.meta).clone();
        Ok(meta.map(|meta| SnapshotOf::<Types, Snapshot> { meta, snapshot: Snapshot::Here }))
    }
}

impl RaftSnapshotBuilder<Types> for Checkpoint {
    type SnapshotData = Snapshot;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<Types, Snapshot>> {
        let durable = loop {
            let database = self.database.clone();
            let checkpoint = tokio::task::spawn_blocking(move || database.checkpoint());
            match checkpoint.await.map_err(io::Error::other)? {
                Ok(durable) => break durable,
                // An error would stop Raft, and a reader is no reason for that.
                Err(sqlite::Error::Busy) => tokio::time::sleep(BUSY_PAUSE).await,
                Err(error) => return Err(io::Error::other(error)),
            }
        };
        let covered = self.meta.last_log_id.map_or(0, |id| id.index);
        assert!(durable >= covered, "a checkpoint covers what was applied before it began");
        self.database.covered(self.meta.clone());
        Ok(SnapshotOf::<Types, Snapshot> { meta: self.meta.clone(), snapshot: Snapshot::Here })
    }
}
