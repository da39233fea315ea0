//! The database between crashes: what a batch leaves, what an opening finds, who may open it.

mod entries;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use entries::{MESH, crash_image, dumped, entry, log};
use pelago_core::{id::MeshId, time::LogTime};
use pelago_store::sqlite::{Applies, Entry, Error, Machine, Reader, Writer};
use rusqlite::Connection;
use tempfile::TempDir;

#[test]
fn an_opening_shows_exactly_what_was_committed() {
    let directory = TempDir::new().expect("a temporary directory");
    let path = directory.path().join("machine.db");
    let mut machine = Machine::open(&path, MESH).expect("a new database");
    for entry in log(40) {
        let index = entry.index;
        machine.apply(&[entry]).expect("the database can be written");
        if index % 13 == 0 {
            let image = crash_image(&path);
            let opened = Machine::open(&image.path().join("machine.db"), MESH).expect("a crash leaves a database");
            assert_eq!(opened.applied(), machine.applied());
            assert_eq!(opened.applied().index, index);
            assert_eq!(dumped(&image.path().join("machine.db")), dumped(&path));
        }
    }
}

#[test]
fn a_log_of_sqlite_cut_anywhere_shows_an_earlier_moment_whole() {
    let directory = TempDir::new().expect("a temporary directory");
    let path = directory.path().join("machine.db");
    let mut machine = Machine::open(&path, MESH).expect("a new database");
    let mut dumps = vec![dumped(&path)];
    for entry in log(8) {
        machine.apply(&[entry]).expect("the database can be written");
        dumps.push(dumped(&path));
    }
    let wal_bytes = std::fs::metadata(path.with_file_name("machine.db-wal")).expect("it has a log").len();
    let mut moments = Vec::new();
    for cut in (0..=24).map(|part| wal_bytes * part / 24) {
        let image = crash_image(&path);
        let copy = image.path().join("machine.db");
        let wal = std::fs::File::options().write(true).open(copy.with_file_name("machine.db-wal"));
        wal.and_then(|wal| wal.set_len(cut)).expect("the copy can be cut");
        let opened = Machine::open(&copy, MESH).expect("a cut log is a shorter one");
        let index = opened.applied().index;
        assert_eq!(dumped(&copy), dumps[index as usize], "cut at {cut} of {wal_bytes}");
        moments.push(index);
    }
    assert!(moments.is_sorted() && moments.first() == Some(&0) && moments.last() == Some(&8), "{moments:?}");
}

#[test]
fn a_batch_that_fails_midway_leaves_nothing() {
    let directory = TempDir::new().expect("a temporary directory");
    let path = directory.path().join("machine.db");
    let mut machine = Machine::open(&path, MESH).expect("a new database");
    machine.apply(&log(5)).expect("the database can be written");
    let (before, applied) = (dumped(&path), machine.applied().clone());

    let saboteur = Connection::open(&path).expect("anyone may open the file");
    let trap =
        "CREATE TRIGGER trap BEFORE INSERT ON task_events WHEN new.kind = 'done' BEGIN SELECT RAISE(FAIL, 'no'); END";
    saboteur.execute_batch(trap).expect("the trap is set");
    // Whole entries before the failing item, and items of its own entry, were written by then.
    let rest = log(30).split_off(5);
    let error = machine.apply(&rest).expect_err("a task ends among these entries");
    assert!(matches!(error, Error::Sqlite(_)), "{error:?}");
    assert_eq!(machine.applied(), &applied);
    assert_eq!(dumped(&path), before);

    saboteur.execute_batch("DROP TRIGGER trap").expect("the trap is gone");
    machine.apply(&rest).expect("nothing of the failed batch is in the way");
    assert_eq!(dumped(&path), undisturbed(30));
}

#[test]
fn a_writer_refuses_everything_after_a_failure() {
    let (_directory, reader, writer) = written();
    let path = reader.path();
    let applied = apply(&writer, log(3)).expect("the database can be written");
    assert_eq!(applied.outcomes.len(), 3);
    assert_eq!(index(&reader), 3);
    Connection::open(path).and_then(|c| c.execute_batch("ALTER TABLE messages RENAME TO gone")).expect("sabotage");
    let rest = || log(6).split_off(3);
    assert!(matches!(apply(&writer, rest()), Err(Error::Sqlite(_))));
    assert!(matches!(reader.view(|view| view.applied()), Err(Error::Poisoned)));
    Connection::open(path).and_then(|c| c.execute_batch("ALTER TABLE gone RENAME TO messages")).expect("repair");
    assert!(matches!(apply(&writer, rest()), Err(Error::Poisoned)), "a gap in the log would follow");
    writer.close();
    assert_eq!(Machine::open(path, MESH).expect("it was closed").applied().index, 3);
}

#[test]
fn who_follows_a_writer_sees_at_once_what_others_see_soon() {
    let (_directory, reader, writer) = written();
    let beside = Reader::open(reader.path(), 1).expect("the database is there");
    for entry in log(40) {
        let applied = entry.index;
        apply(&writer, vec![entry]).expect("the database can be written");
        if applied % 8 == 0 {
            assert_eq!(index(&reader), applied);
            assert_eq!(index(&beside), applied, "it was committed for whoever read before");
        }
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while index(&beside) < 40 {
        assert!(Instant::now() < deadline, "what nobody reads is committed all the same");
        thread::sleep(Duration::from_millis(1));
    }
    writer.close();
    assert_eq!(dumped(reader.path()), undisturbed(40));
}

#[test]
fn a_crash_between_commits_leaves_an_earlier_moment_whole() {
    let (_directory, reader, writer) = written();
    let entries = log(60);
    for entry in entries.clone() {
        apply(&writer, vec![entry]).expect("the database can be written");
    }
    let image = crash_image(reader.path());
    let copy = image.path().join("machine.db");
    let mut opened = Machine::open(&copy, MESH).expect("a crash leaves a database");
    let index = usize::try_from(opened.applied().index).expect("a small number");
    opened.apply(&entries[index..]).expect("the log has the rest");
    assert_eq!(dumped(&copy), undisturbed(60));
}

#[test]
fn a_commit_that_fails_is_told_to_the_next_batch() {
    let (_directory, reader, writer) = written();
    apply(&writer, log(3)).expect("the database can be written");
    assert_eq!(index(&reader), 3);
    let trap = "CREATE TRIGGER trap BEFORE UPDATE ON totals BEGIN SELECT RAISE(FAIL, 'no'); END";
    Connection::open(reader.path()).and_then(|c| c.execute_batch(trap)).expect("the trap is set");
    apply(&writer, log(6).split_off(3)).expect("counts are written when it is committed");
    for _ in 0..2 {
        let read = reader.view(|view| view.applied());
        assert!(matches!(read, Err(Error::Poisoned)), "what was answered is not there: {read:?}");
    }
    assert!(matches!(apply(&writer, log(9).split_off(6)), Err(Error::Sqlite(_))), "the reason");
    assert!(matches!(apply(&writer, log(9).split_off(6)), Err(Error::Poisoned)));
    writer.close();
    assert_eq!(Machine::open(reader.path(), MESH).expect("it was closed").applied().index, 3);
}

#[test]
fn a_checkpoint_covers_what_was_applied_before_it_under_load() {
    let (_directory, reader, writer) = written();
    let entries = log(400);
    let applied = AtomicU64::new(0);
    thread::scope(|threads| {
        threads.spawn(|| {
            for entry in entries {
                let index = entry.index;
                apply(&writer, vec![entry]).expect("a checkpoint is not in the way");
                applied.store(index, Ordering::Release);
            }
        });
        loop {
            let before = applied.load(Ordering::Acquire);
            let durable = reader.checkpoint().expect("nobody reads, and who writes waits");
            assert!(durable >= before, "{durable} after {before}");
            if before == 400 {
                break;
            }
        }
    });
    writer.close();
}

#[test]
fn an_entry_is_never_applied_twice() {
    let directory = TempDir::new().expect("a temporary directory");
    let mut machine = Machine::open(&directory.path().join("machine.db"), MESH).expect("a new database");
    machine.apply(&log(3)).expect("the database can be written");
    for index in [1, 3] {
        let again = catch_unwind(AssertUnwindSafe(|| machine.apply(&[entry(index, vec![])])));
        assert!(again.is_err(), "entry {index} passed");
    }
}

#[test]
fn an_entry_carries_time_and_membership_only_if_it_has_them() {
    let directory = TempDir::new().expect("a temporary directory");
    let path = directory.path().join("machine.db");
    let mut machine = Machine::open(&path, MESH).expect("a new database");
    let voters = Some(Bytes::from_static(b"voters"));
    let membership = Entry { time: None, membership: voters.clone(), ..entry(1, vec![]) };
    let stamped = Entry { time: Some(LogTime::from_millis(50)), ..entry(2, vec![]) };
    let earlier = Entry { time: Some(LogTime::from_millis(40)), ..entry(3, vec![]) };
    machine.apply(&[membership, stamped, earlier]).expect("the database can be written");
    drop(machine);
    let applied = Machine::open(&path, MESH).expect("it was closed").applied().clone();
    assert_eq!((applied.index, applied.log_id.as_ref()), (3, b"log id 3".as_slice()));
    assert_eq!((applied.time, applied.membership), (LogTime::from_millis(50), voters));
}

#[test]
fn a_file_that_is_not_this_meshs_is_refused_and_left_alone() {
    let directory = TempDir::new().expect("a temporary directory");
    let path = directory.path().join("machine.db");
    drop(Machine::open(&path, MESH).expect("a new database"));
    let refused = |path, mesh| {
        let before = std::fs::read(path).expect("the file can be read");
        let error = Machine::open(path, mesh).expect_err("it must be refused");
        assert_eq!(std::fs::read(path).expect("the file can be read"), before);
        error
    };
    assert!(matches!(refused(&path, MeshId(8)), Error::OtherMesh { found: MESH, wanted: MeshId(8) }));

    Connection::open(&path).and_then(|c| c.pragma_update(None, "user_version", 6)).expect("a later release wrote it");
    let error = refused(&path, MESH);
    assert!(matches!(error, Error::Newer { found: 6, known: 5, .. }));
    assert!(error.to_string().contains("newer release"), "{error}");

    let foreign = directory.path().join("foreign.db");
    Connection::open(&foreign).and_then(|c| c.execute_batch("CREATE TABLE t (x)")).expect("a foreign database");
    assert!(matches!(refused(&foreign, MESH), Error::Foreign { .. }));

    let text = directory.path().join("text.db");
    std::fs::write(
        &text,
        "not a database, only some text that is long enough for a header of one hundred bytes, more or less",
    )
    .expect("a file");
    assert!(matches!(refused(&text, MESH), Error::Corrupt(_)));
}

#[test]
fn readers_on_any_thread_see_whole_batches() {
    let directory = TempDir::new().expect("a temporary directory");
    let path = directory.path().join("machine.db");
    let mut machine = Machine::open(&path, MESH).expect("a new database");
    let reader = Reader::open(&path, 2).expect("the database is there");
    let entries = log(60);
    let last = entries.len() as u64;
    thread::scope(|threads| {
        for _ in 0..3 {
            threads.spawn(|| {
                let mut seen = 0;
                while seen < last {
                    let (index, totals, running) = reader
                        .view(|view| Ok((view.applied()?.index, view.totals()?, view.running_tasks()?)))
                        .expect("the database can be read");
                    assert!(index >= seen && index % 5 == 0, "batches of five, in order: {index} after {seen}");
                    assert_eq!(totals.tasks_running, running.len() as u64, "of one moment");
                    seen = index;
                }
            });
        }
        for batch in entries.chunks(5) {
            machine.apply(batch).expect("readers are not in the way");
        }
    });
}

#[test]
fn outcomes_come_in_the_order_of_entries_and_items() {
    let directory = TempDir::new().expect("a temporary directory");
    let mut machine = Machine::open(&directory.path().join("machine.db"), MESH).expect("a new database");
    let entries = log(4);
    let items: Vec<_> = entries.iter().map(|entry| entry.ops.len()).collect();
    let together = machine.apply(&entries).expect("the database can be written");
    assert_eq!(together.outcomes.iter().map(Vec::len).collect::<Vec<_>>(), items);
    assert!(together.outcomes.iter().flatten().filter(|outcome| outcome.is_success()).count() == 20);
    let mut other = Machine::open(&directory.path().join("other.db"), MESH).expect("a new database");
    let mut apart = Applies { outcomes: Vec::new(), writes: Vec::new() };
    for entry in entries {
        let one = other.apply(&[entry]).expect("the database can be written");
        apart.outcomes.extend(one.outcomes);
        apart.writes.extend(one.writes);
    }
    assert_eq!(together, apart);
}

#[test]
fn rows_are_the_same_whether_they_waited_for_others_or_not() {
    let directory = TempDir::new().expect("a temporary directory");
    let path = directory.path().join("machine.db");
    let mut machine = Machine::open(&path, MESH).expect("a new database");
    for entry in log(300) {
        machine.apply(&[entry]).expect("the database can be written");
    }
    assert_eq!(dumped(&path), undisturbed(300), "committed one by one, and all at once");
}

#[test]
fn the_tasks_that_are_too_many_are_told_by_when_they_ended() {
    let (_directory, reader, writer) = written();
    apply(&writer, log(60)).expect("the database can be written");
    let beyond = |rows| reader.view(|view| view.ended_beyond(false, rows)).expect("the database can be read");
    let ended: Vec<LogTime> = (0..).map_while(beyond).collect();
    let totals = reader.view(|view| view.totals()).expect("the database can be read");
    assert!(ended.len() > 1 && ended.is_sorted_by(|younger, older| younger >= older), "{ended:?}");
    assert_eq!(ended.len() as u64, totals.tasks_done + totals.tasks_dead + totals.tasks_cancelled);
    assert_eq!(reader.view(|view| view.ended_beyond(true, 0)).expect("the database can be read"), None);
}

/// A new database with its writer, and a reader that follows it.
fn written() -> (TempDir, Reader, Writer) {
    let directory = TempDir::new().expect("a temporary directory");
    let path = directory.path().join("machine.db");
    let writer = Writer::start(Machine::open(&path, MESH).expect("a new database")).expect("a thread");
    let reader = Reader::open(&path, 1).expect("the database is there");
    reader.follow(&writer);
    (directory, reader, writer)
}

fn apply(writer: &Writer, entries: Vec<Entry>) -> Result<Applies, Error> {
    let (told, result) = mpsc::channel();
    writer.apply(entries, Box::new(move |result| told.send(result).expect("the test waits")));
    result.recv().expect("the writer answers")
}

fn index(reader: &Reader) -> u64 {
    reader.view(|view| Ok(view.applied()?.index)).expect("the database can be read")
}

/// What a database says that applied so many entries of the log at once.
fn undisturbed(entries: u64) -> Vec<u8> {
    let directory = TempDir::new().expect("a temporary directory");
    let path = directory.path().join("machine.db");
    Machine::open(&path, MESH).expect("a new database").apply(&log(entries)).expect("it can be written");
    dumped(&path)
}
