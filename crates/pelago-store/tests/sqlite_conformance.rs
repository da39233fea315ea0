//! The conformance suite over SQLite with direct apply.

use bytes::Bytes;
use pelago_core::{
    id::MeshId,
    record::{Op, Outcome},
    time::LogTime,
};
use pelago_store::{
    conformance::{self, OverSqlite, Subject},
    sqlite::{Entry, Machine, Reader},
};
use tempfile::TempDir;

#[test]
fn sqlite_keeps_the_rules() {
    conformance::run(direct);
}

/// Entries go straight into the database; reads see what was committed.
fn direct() -> impl Subject {
    let directory = TempDir::new().expect("a temporary directory");
    let path = directory.path().join("machine.db");
    let mut machine = Machine::open(&path, MeshId(7)).expect("a new database");
    let reader = Reader::open(&path, 1).expect("the database is there");
    OverSqlite::new(reader, move |index, time: LogTime, ops: Vec<Op>| -> Vec<Outcome> {
        assert!(directory.path().exists(), "the directory lives as long as the store");
        let entry = Entry { index, log_id: Bytes::new(), time: Some(time), ops, membership: None };
        machine.apply(&[entry]).expect("the database can be written").outcomes.remove(0)
    })
}
