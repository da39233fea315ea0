//! Carrying the database to a node that lacks what the log no longer has.
//!
//! The dump is of the database as it is when it is sent, which may be newer than the handle that openraft asked to
//! send. So its last entry and membership are taken from the dump itself, where it arrives.
//!
//! ```text
//!   dump (one read transaction) ─► parts ─► link, bulk lane, one at a time ─► a new database beside the old one
//!                                                            ─► checked ─► openraft ─► Machine::install_snapshot
//! ```
//!
//! Parts come in order, and whatever goes wrong, the dump is begun anew.

use std::{
    io::{self, Read, Write},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Buf as _, Bytes, BytesMut};
use openraft::{
    errors::{NetworkError, RPCError},
    raft::SnapshotResponse,
    storage::SnapshotMeta,
    type_config::alias::SnapshotOf,
};
use pelago_core::{id::Name, link::Lane};
use pelago_store::sqlite::{self, Fresh, Reader};
use pelago_wire::raft::{self as wire, Kind};
use tokio::{sync::mpsc, task::JoinHandle};

use super::{
    machine::{self, Database, Snapshot},
    network::{Client, nonsense},
    rpc,
    types::{self, Types, Vote},
};

/// Bytes of a part.
const PART_BYTES: usize = 512 << 10;
/// Parts that wait to be sent or to be read. The next is made ready while one is on its way.
const PARTS_MAX: usize = 1;
/// How long a part may take before the dump is given up.
const PART_MAX: Duration = Duration::from_secs(10);

/// Dumps the database and sends it. The answer to the last part, which comes when the database is in its place over
/// there, may take `install_max`.
pub(super) async fn send(
    to: &Client,
    reader: Arc<Reader>,
    vote: Vote,
    install_max: Duration,
) -> Result<SnapshotResponse<Types>, RPCError<Types>> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let dump = NUMBER.fetch_add(1, Ordering::Relaxed);
    let (parts, mut ready) = mpsc::channel(PARTS_MAX);
    let dumping =
        tokio::task::spawn_blocking(move || sqlite::dump(&reader, Parts { parts, gathered: BytesMut::new() }));
    let part = |offset, bytes, last| {
        wire::encode(&wire::DumpPart { vote: Some(types::vote(&vote)), dump, offset, bytes, last })
    };
    let mut offset = 0;
    while let Some(bytes) = ready.recv().await {
        let length = bytes.len() as u64;
        to.ask(Lane::Bulk, Kind::DumpPart, &part(offset, bytes, false), PART_MAX).await?;
        offset += length;
    }
    let dumped = dumping.await.map_err(|error| NetworkError::new(&error))?;
    dumped.map_err(|error| NetworkError::new(&error))?;
    let reply = to.ask(Lane::Bulk, Kind::DumpPart, &part(offset, Bytes::new(), true), install_max).await?;
    read_reply(reply).map_err(nonsense)
}

fn read_reply(bytes: Bytes) -> io::Result<SnapshotResponse<Types>> {
    let reply: wire::DumpReply = wire::decode("reply to a dump", bytes).map_err(io::Error::other)?;
    Ok(SnapshotResponse::new(rpc::read_vote(reply.vote)?))
}

/// Cuts what is written into parts. It fails once nobody takes them, and so ends the dump.
struct Parts {
    parts: mpsc::Sender<Bytes>,
    gathered: BytesMut,
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PART_BYTES - self.gathered.len());
        self.gathered.extend_from_slice(&bytes[..taken]);
        if self.gathered.len() == PART_BYTES {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        self.parts.blocking_send(self.gathered.split().freeze()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Takes dumps, one at a time: a new one ends the one before.
pub(super) struct Receiver {
    database: Database,
    /// A short-lived lock: whoever works on it has taken it out.
    incoming: Mutex<Option<Incoming>>,
}

/// A dump on its way.
struct Incoming {
    from: Name,
    dump: u64,
    /// How many bytes have come.
    offset: u64,
    parts: mpsc::Sender<Bytes>,
    reading: JoinHandle<Result<Fresh, sqlite::Error>>,
}

/// What a part came to.
pub(super) enum Taken {
    Part,
    /// The whole database, and the leadership that sent it.
    Whole(Vote, Box<SnapshotOf<Types, Snapshot>>),
}

impl Receiver {
    pub(super) fn new(database: Database) -> Self {
        Self { database, incoming: Mutex::new(None) }
    }

    /// # Errors
    /// When the part, or the dump as a whole, is not what it should be. It is forgotten then.
    pub(super) async fn take(&self, from: &Name, bytes: Bytes) -> io::Result<Taken> {
        let part: wire::DumpPart = wire::decode("part of a dump", bytes).map_err(io::Error::other)?;
        let vote = rpc::read_vote(part.vote)?;
        let mut incoming = self.incoming_for(from, &part)?;
        incoming.offset += part.bytes.len() as u64;
        if !part.bytes.is_empty() && incoming.parts.send(part.bytes).await.is_err() {
            return Err(incoming
                .fresh()
                .await
                .err()
                .unwrap_or_else(|| io::Error::other("a dump goes on after its end")));
        }
        if !part.last {
            self.put(incoming);
            return Ok(Taken::Part);
        }
        let fresh = incoming.fresh().await?;
        let (last_log_id, last_membership) = machine::standing(&fresh.info().applied)?;
        // The sender was replaced while it dumped, and applied what its successor sent. openraft would not believe it.
        if last_log_id.is_some_and(|id| id.leader_id.term > vote.leader_id.term) {
            return Err(io::Error::other("a dump is newer than the leader who sent it"));
        }
        let meta = SnapshotMeta { last_log_id, last_membership };
        Ok(Taken::Whole(vote, Box::new(SnapshotOf::<Types, Snapshot> { meta, snapshot: Snapshot::Fresh(fresh) })))
    }

    /// Takes out the dump that `part` goes on with, or begins one.
    fn incoming_for(&self, from: &Name, part: &wire::DumpPart) -> io::Result<Incoming> {
        let before = self.incoming.lock().unwrap_or_else(PoisonError::into_inner).take();
        if part.offset > 0 || part.last {
            let follows = |dump: &Incoming| dump.from == *from && dump.dump == part.dump && dump.offset == part.offset;
            return before.filter(follows).ok_or_else(|| io::Error::other("a part of a dump that did not begin here"));
        }
        let (parts, ready) = mpsc::channel(PARTS_MAX);
        let Database { path, mesh, .. } = self.database.clone();
        let input = Arriving { ready, part: Bytes::new() };
        let reading = tokio::task::spawn_blocking(move || Fresh::read(&path, mesh, io::BufReader::new(input)));
        Ok(Incoming { from: from.clone(), dump: part.dump, offset: 0, parts, reading })
    }

    fn put(&self, incoming: Incoming) {
        *self.incoming.lock().unwrap_or_else(PoisonError::into_inner) = Some(incoming);
    }
}

impl Incoming {
    /// Ends the dump, and waits for what it came to.
    async fn fresh(self) -> io::Result<Fresh> {
        drop(self.parts);
        self.reading.await.map_err(io::Error::other)?.map_err(io::Error::other)
    }
}

/// What arrives, read on a thread that may block.
struct Arriving {
    ready: mpsc::Receiver<Bytes>,
    part: Bytes,
}

impl Read for Arriving {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.part.is_empty() {
            match self.ready.blocking_recv() {
                Some(part) => self.part = part,
                None => return Ok(0),
            }
        }
        let taken = into.len().min(self.part.len());
        self.part.copy_to_slice(&mut into[..taken]);
        Ok(taken)
    }
}

pub(super) fn reply(vote: Option<&Vote>) -> Bytes {
    wire::encode(&wire::DumpReply { vote: vote.map(types::vote) })
}
