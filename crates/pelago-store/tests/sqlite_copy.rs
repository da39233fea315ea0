//! Checkpoints, dumps and what is restored from them.

mod entries;

use std::{fs, path::Path, time::Instant};

use entries::{MESH, crash_image, dumped, log};
use pelago_core::id::MeshId;
use pelago_store::sqlite::{Error, Fresh, Machine, Reader, checkpoint, dump, restore};
use pelago_wire::dump::Flaw;
use tempfile::TempDir;

fn applied(path: &Path, entries: u64) -> Machine {
    let mut machine = Machine::open(path, MESH).expect("a new database");
    machine.apply(&log(entries)).expect("the database can be written");
    machine
}

#[test]
fn a_checkpoint_puts_everything_into_the_file() {
    let directory = TempDir::new().expect("a temporary directory");
    let path = directory.path().join("machine.db");
    let mut machine = applied(&path, 10);
    assert_eq!(checkpoint(&path).expect("nobody is in the way"), 10);
    let at_ten = dumped(&path);
    machine.apply(&log(20).split_off(10)).expect("the database can be written");

    // What power failure may leave: the database file as it was flushed, and nothing of SQLite's log.
    let image = crash_image(&path);
    let copy = image.path().join("machine.db");
    fs::remove_file(copy.with_file_name("machine.db-wal")).expect("the log was copied");
    assert_eq!(Machine::open(&copy, MESH).expect("the file is whole").applied().index, 10);
    assert_eq!(dumped(&copy), at_ten);
    assert_eq!(checkpoint(&path).expect("nobody is in the way"), 20);
    assert_eq!(checkpoint(&path).expect("there is nothing to do"), 20);
}

#[test]
fn a_checkpoint_does_not_claim_what_a_reader_kept_from_it() {
    let directory = TempDir::new().expect("a temporary directory");
    let path = directory.path().join("machine.db");
    let mut machine = applied(&path, 10);
    let reader = Reader::open(&path, 1).expect("the database is there");
    reader
        .view(|view| {
            assert_eq!(view.applied()?.index, 10);
            machine.apply(&log(20).split_off(10))?;
            let begun = Instant::now();
            assert!(matches!(checkpoint(&path), Err(Error::Busy)));
            assert!(begun.elapsed().as_secs() < 5, "batches wait for a checkpoint, so it gives up soon");
            machine.apply(&log(25).split_off(20))?;
            Ok(())
        })
        .expect("the database can be read");
    assert_eq!(checkpoint(&path).expect("the reader is gone"), 25);
}

#[test]
fn the_same_entries_give_the_same_dump() {
    let directory = TempDir::new().expect("a temporary directory");
    let [together, apart] = ["together.db", "apart.db"].map(|name| directory.path().join(name));
    let _together = applied(&together, 30);
    let mut machine = Machine::open(&apart, MESH).expect("a new database");
    for batch in log(30).chunks(4) {
        machine.apply(batch).expect("the database can be written");
        if batch[0].index % 8 == 1 {
            checkpoint(&apart).expect("nobody is in the way");
        }
    }
    assert!(dumped(&together) == dumped(&apart));
    machine.apply(&log(31).split_off(30)).expect("the database can be written");
    assert!(dumped(&together) != dumped(&apart));
}

#[test]
fn a_restored_database_goes_on_as_the_original() {
    let directory = TempDir::new().expect("a temporary directory");
    let [original, copy] = ["original.db", "copy.db"].map(|name| directory.path().join(name));
    let mut machine = applied(&original, 20);
    let mut bytes = Vec::new();
    let reader = Reader::open(&original, 1).expect("the database is there");
    let written = dump(&reader, &mut bytes).expect("the database can be read");
    assert_eq!(&written.applied, machine.applied());
    assert_eq!(restore(&copy, MESH, bytes.as_slice()).expect("the dump is whole"), written);
    let mut restored = Machine::open(&copy, MESH).expect("it was restored");
    assert_eq!(restored.applied(), machine.applied());
    for machine in [&mut machine, &mut restored] {
        machine.apply(&log(30).split_off(20)).expect("the database can be written");
    }
    assert!(dumped(&original) == dumped(&copy));
}

#[test]
fn a_reader_sees_the_database_that_took_the_place() {
    let directory = TempDir::new().expect("a temporary directory");
    let [path, other] = ["machine.db", "other.db"].map(|name| directory.path().join(name));
    drop(applied(&path, 5));
    drop(applied(&other, 25));
    let reader = Reader::open(&path, 2).expect("the database is there");
    let index = || reader.view(|view| Ok(view.applied()?.index)).expect("the database can be read");
    assert_eq!(index(), 5);
    let fresh = Fresh::read(&path, MESH, dumped(&other).as_slice()).expect("the dump is whole");
    assert_eq!((index(), fresh.info().applied.index), (5, 25));
    reader.replace(|| fresh.take_place()).expect("the place is free");
    assert_eq!(index(), 25);
    assert!(dumped(&path) == dumped(&other));
}

#[test]
fn a_fresh_database_that_is_not_wanted_is_removed() {
    let directory = TempDir::new().expect("a temporary directory");
    let path = directory.path().join("machine.db");
    drop(applied(&path, 5));
    let fresh_ones = || {
        let entries = fs::read_dir(directory.path()).expect("it is there");
        let names = entries.map(|entry| entry.expect("it can be read").file_name());
        names.filter(|name| name.to_string_lossy().contains("-new")).count()
    };
    let fresh = Fresh::read(&path, MESH, dumped(&path).as_slice()).expect("the dump is whole");
    assert_eq!(fresh_ones(), 1);
    drop(fresh);
    assert_eq!(fresh_ones(), 0);
    fs::write(path.with_file_name("machine.db-new17"), b"left by a crash").expect("it can be written");
    Fresh::sweep(&path).expect("it can be removed");
    assert_eq!(fresh_ones(), 0);
    assert_eq!(Machine::open(&path, MESH).expect("it is still there").applied().index, 5);
}

#[test]
fn a_restore_leaves_nothing_of_the_database_before() {
    let directory = TempDir::new().expect("a temporary directory");
    let [ahead, behind] = ["ahead.db", "machine.db"].map(|name| directory.path().join(name));
    let _ahead = applied(&ahead, 20);
    let behind_machine = applied(&behind, 6);
    // A voter that was killed: its rows are in SQLite's log, not in the file.
    let image = crash_image(&behind);
    drop(behind_machine);
    let path = image.path().join("machine.db");
    restore(&path, MESH, dumped(&ahead).as_slice()).expect("the dump is whole");
    assert!(dumped(&path) == dumped(&ahead));
    let names: Vec<_> =
        fs::read_dir(image.path()).expect("a directory").map(|file| file.expect("a file").file_name()).collect();
    assert_eq!(names, ["machine.db"]);
}

#[test]
fn a_damaged_dump_leaves_the_database_before() {
    let directory = TempDir::new().expect("a temporary directory");
    let [source, target] = ["source.db", "target.db"].map(|name| directory.path().join(name));
    let _source = applied(&source, 20);
    drop(applied(&target, 6));
    let (whole, before) = (dumped(&source), dumped(&target));
    let refused = |bytes: &[u8], mesh| {
        let error = restore(&target, mesh, bytes).expect_err("the dump must be refused");
        assert!(dumped(&target) == before, "{error:?}");
        error
    };
    for part in 0..20 {
        let at = whole.len() * part / 20;
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        refused(&flipped, MESH);
        assert!(matches!(refused(&whole[..at], MESH), Error::Stream(_)));
    }
    assert!(matches!(refused(&whole, MeshId(8)), Error::OtherMesh { found: MESH, .. }));
    let newer = [&whole[..8], &[2], &whole[9..]].concat();
    assert!(matches!(refused(&newer, MESH), Error::Dump(Flaw::UnknownVersion { found: 2 })));
    restore(&target, MESH, whole.as_slice()).expect("what was left behind by failures is not in the way");
    assert!(dumped(&target) == whole);
}
