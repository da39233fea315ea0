//! The embedded store as a whole: Raft of one over real files. More than one stand in `mesh`.

mod adapters;
mod mesh;

use std::time::Duration;

use pelago_core::{
    id::{BootId, DirectoryId, Name, TaskId},
    record::{Op, Outcome, Refusal, Register, Retry, Sweep},
    time::LogTime,
};
use pelago_store::{
    Propose as _, ProposeError,
    conformance::{self, OverSqlite, Subject},
    directory::Directory,
    sqlite::Reader,
};
use tempfile::TempDir;
use tokio::runtime;

use super::{
    CHECKPOINT_AFTER, CHECKPOINT_BYTES, CHECKPOINT_ENTRIES, Consensus, ENTRIES_KEPT, FOUNDER, Progress, Timing,
    is_checkpoint_due,
};
use crate::clock;

/// How long anything here may take.
const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_checkpoint_follows_a_long_log_at_once_and_many_entries_after_a_while_and_never_nothing() {
    let (soon, late) = (Duration::ZERO, CHECKPOINT_AFTER);
    assert!(is_checkpoint_due(1, soon, CHECKPOINT_BYTES));
    assert!(!is_checkpoint_due(1, late, CHECKPOINT_BYTES - 1));
    assert!(is_checkpoint_due(CHECKPOINT_ENTRIES, late, 0));
    assert!(!is_checkpoint_due(CHECKPOINT_ENTRIES, soon, 0) && !is_checkpoint_due(CHECKPOINT_ENTRIES - 1, late, 0));
    assert!(!is_checkpoint_due(0, late, u64::MAX), "SQLite's log is long until something is written");
}

#[test]
fn the_embedded_store_keeps_the_rules() {
    conformance::run(embedded);
}

#[tokio::test]
async fn the_log_is_purged_up_to_a_checkpoint_and_the_node_starts_again_from_there() {
    let home = TempDir::new().expect("a temporary directory can be made");
    let (consensus, directory) = start(&home).await;
    let entries = ENTRIES_KEPT + 500;
    register(&consensus).await;
    for n in 0..entries {
        nothing(&consensus, n).await;
    }
    consensus.raft.trigger().snapshot().await.expect("a checkpoint can be made");
    let purged = |metrics: &openraft::RaftMetrics<super::Types>| metrics.purged.is_some_and(|id| id.index >= 400);
    consensus.raft.wait(Some(SOON)).metrics(purged, "the log is purged").await.expect("the log is purged");
    let applied = consensus.progress().index();
    consensus.stop().await;
    drop((consensus, directory));

    let (consensus, _directory) = start(&home).await;
    assert!(consensus.progress().index() >= applied);
    assert_eq!(register_again(&consensus).await, Outcome::Refused(Refusal::NameTaken(pelago_core::id::NodeId(2))));
    consensus.stop().await;
}

#[tokio::test]
async fn nothing_is_acknowledged_without_a_flush() {
    let home = TempDir::new().expect("a temporary directory can be made");
    let (consensus, _directory) = start(&home).await;
    for n in 0..50 {
        let before = consensus.flushes();
        nothing(&consensus, n).await;
        assert!(consensus.flushes() > before, "entry {n} was acknowledged without a flush");
    }
    consensus.stop().await;
}

#[tokio::test]
async fn the_time_of_the_log_never_goes_back() {
    let home = TempDir::new().expect("a temporary directory can be made");
    let (consensus, _directory) = start(&home).await;
    let later = clock::wall().plus_millis(60_000);
    consensus.propose_at(later, &[], false).await.expect("the log answers");
    nothing(&consensus, 1).await;
    assert!(consensus.progress.time() >= later);
    assert!(consensus.stamp().await.expect("this node leads") >= later, "its clock starts after the log's time");
    consensus.stop().await;
}

#[test]
fn the_time_of_the_log_goes_on_where_nobody_leads() {
    let progress = Progress::default();
    let stamp = LogTime::from_millis(clock::wall().as_millis() + 60_000);
    progress.applied(1, stamp);
    let begun = clock::now();
    while clock::now() - begun < Duration::from_millis(5) {
        std::hint::spin_loop();
    }
    let later = progress.time_now();
    assert!(later >= stamp.plus_millis(4), "{later} is not 5 ms after {stamp}");
    // An entry without a stamp of its own says nothing of the time.
    progress.applied(2, stamp);
    assert!(progress.time_now() >= later);
    assert_eq!(progress.time(), stamp);
}

#[tokio::test]
async fn what_the_log_cannot_carry_is_refused_before_it_is_appended() {
    let home = TempDir::new().expect("a temporary directory can be made");
    let (consensus, _directory) = start(&home).await;
    let never = LogTime::from_millis(u64::MAX);
    let sweep = Op::Sweep(Sweep { ended_before: never, keyed_ended_before: never, rows_max: 1 });
    let refused = consensus.propose(&[sweep]).await;
    assert!(matches!(refused, Err(ProposeError::Malformed { .. })), "{refused:?}");
    nothing(&consensus, 1).await;
    consensus.stop().await;
}

/// A consensus of one on files of its own, driven from this thread.
fn embedded() -> impl Subject {
    let home = TempDir::new().expect("a temporary directory can be made");
    let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let (consensus, _directory) = runtime.block_on(start(&home));
    let reader = Reader::clone(consensus.reader());
    OverSqlite::new(reader, move |_index, time, ops: Vec<Op>| {
        assert!(home.path().exists(), "the directory lives as long as the store");
        runtime.block_on(consensus.propose_at(time, &ops, false)).expect("the log answers")
    })
}

/// Starts on what `home` holds. What was committed is told to nobody.
async fn start(home: &TempDir) -> (Consensus, Directory) {
    let node = mesh::Node::start(home.path(), &name("n1"), FOUNDER, Timing::Lan).await;
    node.consensus.led(SOON).await.expect("a leader");
    node.alone()
}

fn name(text: &str) -> Name {
    Name::new(text).expect("valid")
}

async fn register(consensus: &Consensus) {
    let outcome = propose(consensus, registration(DirectoryId(2))).await;
    assert!(matches!(outcome, Outcome::Registered { .. }), "{outcome:?}");
}

/// From another directory, under the same name.
async fn register_again(consensus: &Consensus) -> Outcome {
    propose(consensus, registration(DirectoryId(3))).await
}

fn registration(directory: DirectoryId) -> Op {
    Op::Register(Register {
        name: name("n1"),
        directory,
        boot: BootId(9),
        mesh_address: String::new(),
        http_address: String::new(),
        labels: Default::default(),
        offers: Default::default(),
        node: None,
        left: None,
    })
}

/// An entry that changes nothing.
async fn nothing(consensus: &Consensus, n: u64) {
    let outcome = propose(consensus, Op::Retry(Retry { task: TaskId(n.into()) })).await;
    assert_eq!(outcome, Outcome::Refused(Refusal::NoTask(TaskId(n.into()))));
}

async fn propose(consensus: &Consensus, op: Op) -> Outcome {
    // Under load a leader may be without its lease for a moment, and then appends nothing.
    mesh::until_ok(|| consensus.propose(std::slice::from_ref(&op))).await.remove(0)
}
