//! The log and the machine as openraft wants them, and dumps as they arrive.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use openraft::{
    StorageError,
    storage::RaftLogStorage as _,
    testing::log::{StoreBuilder, Suite},
};
use pelago_core::id::MeshId;
use pelago_store::{
    files,
    log::{self, Log},
    sqlite,
};
use pelago_wire::raft as wire;
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::raft::{
    Progress,
    dump::{self, Taken},
    log::Storage,
    machine::{Database, Machine},
    types::{self, Entry, LogId, Payload, Types},
};

const MESH: MeshId = MeshId(1);

#[tokio::test]
async fn the_log_and_the_machine_are_what_openraft_wants() {
    let error = Suite::test_all(Files).await.expect_err("its last step installs a snapshot that was never sent");
    // All steps before it have passed.
    assert!(error.to_string().contains("a database cannot take its own place"), "{error}");
}

#[tokio::test]
async fn a_log_that_contradicts_the_database_is_cut_at_the_start() {
    let home = TempDir::new().expect("a temporary directory can be made");
    let log = open_log(home.path());
    let entries = (0..=5).map(|index| log::Entry { index, payload: types::entry(&blank(1, index)) }).collect();
    log.append(entries, Box::new(|flushed| flushed.expect("the disk takes it"))).expect("there is room");
    let mut storage = Storage::new(log, Arc::default());
    let last = async |storage: &mut Storage| storage.get_log_state().await.expect("it can be read").last_log_id;
    for (term, index) in [(1, 3), (2, 9)] {
        storage.agree(LogId::new_term_index(term, index)).await.expect("it can be cut");
        assert_eq!(last(&mut storage).await, Some(LogId::new_term_index(1, 5)), "nothing contradicts it");
    }
    storage.agree(LogId::new_term_index(2, 3)).await.expect("it can be cut");
    assert_eq!(last(&mut storage).await, Some(LogId::new_term_index(1, 2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_arrives_in_order_or_not_at_all() {
    let home = TempDir::new().expect("a temporary directory can be made");
    let [path, other] = ["state.db", "other.db"].map(|name| home.path().join(name));
    let database = |path: &Path| {
        drop(sqlite::Machine::open(path, MESH).expect("a new database"));
        let reader = Arc::new(sqlite::Reader::open(path, 1).expect("it is there"));
        Database::new(path.to_owned(), MESH, reader)
    };
    let mut bytes = Vec::new();
    sqlite::dump(&database(&other).reader, &mut bytes).expect("it can be dumped");
    let bytes = Bytes::from(bytes);
    let (first, rest) = (bytes.slice(..40), bytes.slice(40..));
    let receiver = dump::Receiver::new(database(&path));
    let from = super::name("n1");
    let take = async |dump, offset: usize, bytes: &Bytes, last| {
        let vote = Some(wire::Vote { term: 1, voter: 1, committed: true });
        let part = wire::DumpPart { vote, dump, offset: offset as u64, bytes: bytes.clone(), last };
        receiver.take(&from, wire::encode(&part)).await
    };
    let nothing = Bytes::new();
    assert!(take(1, 40, &rest, false).await.is_err(), "it did not begin");
    assert!(take(1, 0, &first, false).await.is_ok());
    assert!(take(1, 41, &rest, false).await.is_err(), "a byte is missing");
    assert!(take(1, 40, &rest, false).await.is_err(), "it was given up");
    assert!(take(2, 0, &first, false).await.is_ok());
    assert!(take(2, 40, &nothing, true).await.is_err(), "it is not whole");
    assert!(take(3, 0, &first, false).await.is_ok());
    assert!(take(4, 0, &first, false).await.is_ok(), "another takes its place");
    assert!(take(3, 40, &rest, false).await.is_err(), "it was given up");
    assert!(take(5, 0, &first, false).await.is_ok());
    assert!(take(5, 40, &rest, false).await.is_ok());
    assert!(matches!(take(5, bytes.len(), &nothing, true).await, Ok(Taken::Whole(..))));
}

struct Files;

impl StoreBuilder<Types, Storage, Machine, TempDir> for Files {
    async fn build(&self) -> Result<(TempDir, Storage, Machine), StorageError<Types>> {
        let home = TempDir::new().expect("a temporary directory can be made");
        let path = home.path().join("state.db");
        let rows = sqlite::Machine::open(&path, MESH).expect("a new database");
        let reader = Arc::new(sqlite::Reader::open(&path, 1).expect("it is there"));
        let (feed, _) = mpsc::channel(1);
        let machine = Machine::new(rows, Database::new(path, MESH, reader), feed, Arc::new(Progress::default()));
        let segments = home.path().join("log");
        std::fs::create_dir(&segments).expect("it can be made");
        let storage = Storage::new(open_log(&segments), Arc::default());
        Ok((home, storage, machine.expect("a thread")))
    }
}

fn open_log(home: &Path) -> Log {
    let files = files::OsDirectory::open(home.to_owned()).expect("it is there");
    Log::open(Arc::new(files), log::Config { segment_bytes: 1 << 20, ..log::Config::new(MESH.0) }).expect("a new log")
}

fn blank(term: u64, index: u64) -> Entry {
    Entry { log_id: LogId::new_term_index(term, index), payload: Payload::Blank }
}
