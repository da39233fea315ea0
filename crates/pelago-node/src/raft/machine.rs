//! The SQLite machine as openraft's state machine.
//!
//! Entries are applied on the machine's own thread, as many in one transaction as have gathered. Answers follow the
//! commit; then the writes go to the [`Feed`](crate::feed), which is how the rest of the node learns what happened.
//!
//! A snapshot is a handle and not a copy: building one checkpoints the database, after which the log may be purged up
//! to what the checkpoint made durable.

use std::{io, path::PathBuf, sync::Arc};

use futures_util::{FutureExt as _, Stream, StreamExt as _};
use openraft::{
    RaftSnapshotBuilder,
    entry::RaftEntry as _,
    storage::{ApplyResponder, EntryResponder, RaftStateMachine, SnapshotMeta},
    type_config::alias::{SnapshotMetaOf, SnapshotOf},
};
use pelago_core::{record::Write, time::LogTime};
use pelago_store::sqlite::{self, Applies, Writer};
use pelago_wire::{raft as wire, record};
use tokio::sync::{mpsc, oneshot};

use super::{
    Progress,
    types::{self, Entry, LogId, Payload, StoredMembership, Types},
};

/// How many entries are applied in one transaction.
const ENTRIES_PER_TRANSACTION_MAX: usize = 64;

/// Stands for the database as it was when its checkpoint was made.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotHandle;

pub(super) struct Machine {
    writer: Writer,
    database: PathBuf,
    applied: Option<LogId>,
    membership: StoredMembership,
    snapshot: Arc<std::sync::Mutex<Option<Meta>>>,
    feed: mpsc::Sender<Vec<Write>>,
    progress: Arc<Progress>,
}

type Meta = SnapshotMetaOf<Types>;

/// Checkpoints the database.
pub(super) struct Checkpoint {
    database: PathBuf,
    meta: Meta,
    snapshot: Arc<std::sync::Mutex<Option<Meta>>>,
}

impl Machine {
    pub(super) fn new(
        machine: sqlite::Machine,
        database: PathBuf,
        feed: mpsc::Sender<Vec<Write>>,
        progress: Arc<Progress>,
    ) -> io::Result<Self> {
        let sqlite::Applied { log_id, time, membership, .. } = machine.applied().clone();
        let applied = match log_id.is_empty() {
            true => None,
            false => Some(types::read_log_id(wire::decode("log id", log_id).map_err(io::Error::other)?)),
        };
        let membership = match membership {
            Some(bytes) => types::read_stored_membership(wire::decode("membership", bytes).map_err(io::Error::other)?)?,
            None => StoredMembership::default(),
        };
        progress.applied(applied.map_or(0, |id| id.index), time);
        let writer = Writer::start(machine)?;
        Ok(Self { writer, database, applied, membership, snapshot: Arc::default(), feed, progress })
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
        let report = move |result| {
            // Raft is shutting down if nobody waits.
            let _gone = done.send(result);
        };
        self.writer.apply(rows, Box::new(report));
        let Applies { outcomes, writes } = is_done.await.map_err(io::Error::other)?.map_err(io::Error::other)?;
        self.applied = Some(last);
        self.progress.applied(last.index, time);
        for (responder, outcomes) in responders.into_iter().zip(outcomes) {
            responder.into_iter().for_each(|responder: ApplyResponder<Types>| responder.send(outcomes.clone()));
        }
        // The node is shutting down if nobody listens.
        let _gone = self.feed.send(writes).await;
        Ok(())
    }

    fn row(&mut self, entry: Entry) -> io::Result<sqlite::Entry> {
        let log_id = entry.log_id();
        let (mut time, mut ops, mut membership) = (None, Vec::new(), None);
        match entry.payload {
            Payload::Blank => {}
            Payload::Normal(proposal) => {
                let (stamp, decoded) = record::decode_entry(proposal.0).map_err(io::Error::other)?;
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
    type SnapshotData = SnapshotHandle;
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
        Checkpoint { database: self.database.clone(), meta, snapshot: Arc::clone(&self.snapshot) }
    }

    async fn install_snapshot(&mut self, _meta: &Meta, _snapshot: SnapshotHandle) -> io::Result<()> {
        // Nobody can send one: the mesh has one voter.
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<Types, SnapshotHandle>>> {
        let meta = self.snapshot.lock().map_err(|_| io::Error::other("the snapshot's lock is poisoned"))?.clone();
        Ok(meta.map(|meta| SnapshotOf::<Types, SnapshotHandle> { meta, snapshot: SnapshotHandle }))
    }
}

impl RaftSnapshotBuilder<Types> for Checkpoint {
    type SnapshotData = SnapshotHandle;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<Types, SnapshotHandle>> {
        let database = self.database.clone();
        let checkpoint = tokio::task::spawn_blocking(move || sqlite::checkpoint(&database));
        let durable = checkpoint.await.map_err(io::Error::other)?.map_err(io::Error::other)?;
        let covered = self.meta.last_log_id.map_or(0, |id| id.index);
        assert!(durable >= covered, "a checkpoint covers what was applied before it began");
        let mut snapshot = self.snapshot.lock().map_err(|_| io::Error::other("the snapshot's lock is poisoned"))?;
        *snapshot = Some(self.meta.clone());
        Ok(SnapshotOf::<Types, SnapshotHandle> { meta: self.meta.clone(), snapshot: SnapshotHandle })
    }
}
