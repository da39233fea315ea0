//! What callers of the log rely on.

use crate::script::{MESH, State, answer, append, config, entries, entry, observe, open, purged};
use bytes::Bytes;
use pelago_store::files::{OsDirectory, SimDirectory, Survival};
use pelago_store::log::{Config, Entry, Error, Log, Read};
use pelago_wire::segment::RECORD_HEADER_BYTES;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::mpsc::{self, TryRecvError};

#[test]
fn what_gathers_during_a_flush_goes_out_in_the_next_one() {
    let disk = SimDirectory::new();
    let log = open(&disk, config()).expect("a new log opens");
    let before = disk.syncs();
    disk.hold_syncs();
    let (on_flushed, first) = answer();
    log.append(entries(0..1, 'a'), on_flushed).expect("the log runs");
    disk.wait_for_syncs(before + 1);
    let (on_flushed, vote) = answer();
    log.save_vote(Bytes::from("vote"), on_flushed).expect("the log runs");
    let gathered = (1..6).map(|index| {
        let (on_flushed, flushed) = answer();
        log.append(entries(index..index + 1, 'a'), on_flushed).expect("the log runs");
        flushed
    });
    let gathered: Vec<_> = gathered.collect();
    assert_eq!(first.try_recv().err(), Some(TryRecvError::Empty), "nothing is acknowledged before its flush");
    assert_eq!(observe(&log.reader()).entries, entries(0..6, 'a'), "but all is readable");
    disk.release_syncs();
    for flushed in [first, vote].into_iter().chain(gathered) {
        flushed.recv().expect("an operation is answered").expect("the disk has no fault");
    }
    assert_eq!(disk.syncs(), before + 2);
    let counters = log.counters();
    assert_eq!((counters.flushes(), counters.records()), (2, 7));
    let payloads = entries(0..6, 'a').iter().map(|entry| entry.payload.len()).sum::<usize>() + "vote".len();
    assert_eq!(counters.bytes(), payloads as u64 + 7 * u64::from(RECORD_HEADER_BYTES));
}

#[test]
fn a_full_disk_stops_the_log_and_loses_nothing_acknowledged() {
    let disk = SimDirectory::new();
    disk.limit_space(Some(2 * 1024));
    let log = open(&disk, config()).expect("there is space for one segment");
    let acknowledged = (0..).take_while(|index| append(&log, entries(*index..index + 1, 'a')).is_ok()).count() as u64;
    assert!(acknowledged > 10, "two segments hold more than {acknowledged}");
    assert!(matches!(append(&log, entries(99..100, 'a')), Err(Error::Full { .. })), "it stays stopped");
    assert!(matches!(log.close(), Err(Error::Full { .. })));

    let log = open(&disk, config()).expect("no space is needed to open a log");
    assert_eq!(observe(&log.reader()).entries, entries(0..acknowledged, 'a'));
    let next = entries(acknowledged..acknowledged + 1, 'b');
    assert!(matches!(append(&log, next.clone()), Err(Error::Full { .. })));
    drop(log);

    disk.limit_space(None);
    let log = open(&disk, config()).expect("there is space again");
    append(&log, next).expect("there is space again");
    assert_eq!(disk.files().len(), 3);
}

#[test]
fn a_write_without_space_is_full_and_not_a_failed_flush() {
    let disk = SimDirectory::new();
    let log = open(&disk, config()).expect("a new log opens");
    append(&log, entries(0..2, 'a')).expect("the disk has no fault");
    disk.fail_next_write(ErrorKind::StorageFull);
    assert!(matches!(append(&log, entries(2..4, 'a')), Err(Error::Full { .. })));
    drop(log);
    let log = open(&disk, config()).expect("the torn write is cut");
    assert!(log.cut().is_some());
    assert_eq!(observe(&log.reader()).entries, entries(0..2, 'a'));
}

#[test]
fn a_failed_flush_stops_the_log_for_good_and_is_never_tried_again() {
    let disk = SimDirectory::new();
    let log = open(&disk, config()).expect("a new log opens");
    disk.hold_syncs();
    let (on_flushed, first) = answer();
    log.append(entries(0..1, 'a'), on_flushed).expect("the log runs");
    disk.wait_for_syncs(2);
    let (on_flushed, waiting) = answer();
    log.append(entries(1..2, 'a'), on_flushed).expect("the log runs");
    disk.fail_next_sync(ErrorKind::Other);
    disk.release_syncs();
    for flushed in [first, waiting] {
        let answered = flushed.recv().expect("an append is answered");
        assert!(matches!(answered, Err(Error::FlushFailed { .. })));
    }
    let (on_flushed, _) = answer();
    assert!(matches!(log.save_vote(Bytes::new(), on_flushed), Err(Error::FlushFailed { .. })));
    assert!(matches!(log.truncate_after(None), Err(Error::FlushFailed { .. })));
    assert!(matches!(log.reader().vote(), Err(Error::FlushFailed { .. })));
    assert!(matches!(log.close(), Err(Error::FlushFailed { .. })));
    assert_eq!(disk.syncs(), 2);
}

#[test]
fn what_a_failed_flush_left_in_the_page_cache_is_written_again_when_opened() {
    let disk = SimDirectory::new();
    let log = open(&disk, config()).expect("a new log opens");
    append(&log, entries(0..1, 'a')).expect("the disk has no fault");
    disk.fail_next_sync(ErrorKind::Other);
    assert!(append(&log, entries(1..2, 'a')).is_err());
    drop(log);
    let log = open(&disk, config()).expect("the next process sees a whole log");
    assert_eq!(observe(&log.reader()).entries, entries(0..2, 'a'));
    append(&log, entries(2..3, 'a')).expect("the disk has no fault");
    let after = disk.after_power_cut(disk.instants(), Survival::Nothing);
    let log = open(&after, config()).expect("nothing is missing under what was acknowledged");
    assert_eq!(observe(&log.reader()).entries, entries(0..3, 'a'));
}

#[test]
fn entries_replace_truncated_ones_that_are_still_queued() {
    let config = Config { cache_bytes_max: 0, ..config() };
    let disk = SimDirectory::new();
    let log = open(&disk, config.clone()).expect("a new log opens");
    append(&log, entries(0..3, 'a')).expect("the disk has no fault");
    let syncs = disk.syncs();
    disk.hold_syncs();
    let (reader, (seen, between)) = (log.reader(), mpsc::channel());
    let observe_between = Box::new(move |_| seen.send(observe(&reader).entries).expect("the test waits for it"));
    log.append(entries(3..6, 'b'), observe_between).expect("the log runs");
    disk.wait_for_syncs(syncs + 1);
    log.truncate_after(Some(1)).expect("the log runs");
    let (on_flushed, flushed) = answer();
    log.append(entries(2..5, 'c'), on_flushed).expect("the log runs");
    let expected: Vec<Entry> = entries(0..2, 'a').into_iter().chain(entries(2..5, 'c')).collect();
    assert_eq!(observe(&log.reader()).entries, expected, "while the old ones are written");
    disk.release_syncs();
    let seen = between.recv().expect("the first append is answered");
    assert_eq!(seen, expected, "when the old ones are on disk and the new ones are not");
    flushed.recv().expect("an append is answered").expect("the disk has no fault");
    assert_eq!(observe(&log.reader()).entries, expected, "when all are on disk");
    drop(log);
    let log = open(&disk, config).expect("the log is whole");
    assert_eq!(observe(&log.reader()).entries, expected, "when opened again");
}

#[test]
fn a_purge_deletes_whole_segments_and_keeps_the_point_and_the_vote() {
    let disk = SimDirectory::new();
    let cold = Config { cache_bytes_max: 0, ..config() };
    let log = open(&disk, cold.clone()).expect("a new log opens");
    let (on_flushed, voted) = answer();
    log.save_vote(Bytes::from("vote"), on_flushed).expect("the log runs");
    append(&log, entries(0..40, 'a')).expect("the disk has no fault");
    voted.recv().expect("a vote is answered").expect("the disk has no fault");
    let segments = disk.files().len();
    assert!(segments > 4, "40 entries fill more than {segments} segments");
    let read_before = log.reader().read(.., usize::MAX).expect("the log runs");

    log.purge(purged(33)).expect("the log runs");
    append(&log, entries(40..41, 'a')).expect("the disk has no fault");
    log.close().expect("the disk has no fault");
    assert!(disk.files().len() < 4, "the front is gone: {:?}", disk.files().keys());
    assert_eq!(read_before.load().expect("an open file can be read"), entries(0..40, 'a'));

    let log = open(&disk, cold).expect("the rest is whole");
    let expected = State { vote: Some(Bytes::from("vote")), purged: Some(purged(33)), entries: entries(34..41, 'a') };
    assert_eq!(observe(&log.reader()), expected);
    assert!(matches!(log.truncate_after(Some(20)), Err(Error::Purged { purged: 33 })));
}

#[test]
fn a_full_queue_refuses_and_says_when_there_is_room() {
    let disk = SimDirectory::new();
    let log = open(&disk, Config { unflushed_bytes_max: 100, ..config() }).expect("a new log opens");
    disk.hold_syncs();
    let (on_flushed, flushed) = answer();
    log.append(entries(0..5, 'a'), on_flushed).expect("the one that crosses the bound is taken whole");
    let (on_flushed, _) = answer();
    assert!(matches!(log.append(entries(5..6, 'a'), on_flushed), Err(Error::Busy { max_bytes: 100, .. })));
    let (tell, room) = mpsc::channel();
    log.on_room(Box::new(move || tell.send(()).expect("the test waits for room")));
    assert_eq!(room.try_recv(), Err(TryRecvError::Empty));
    disk.release_syncs();
    room.recv().expect("there is room after the flush");
    flushed.recv().expect("an append is answered").expect("the disk has no fault");
    append(&log, entries(5..6, 'a')).expect("what was refused left no trace");
}

#[test]
fn holes_and_oversized_payloads_are_refused_without_a_trace() {
    let disk = SimDirectory::new();
    let log = open(&disk, config()).expect("a new log opens");
    append(&log, entries(5..7, 'a')).expect("the first entry may have any index");
    assert!(matches!(append(&log, entries(8..9, 'a')), Err(Error::Hole { expected: 7, found: 8 })));
    let torn = vec![entry(7, 'a'), entry(9, 'a')];
    assert!(matches!(append(&log, torn), Err(Error::Hole { expected: 8, found: 9 })));
    let large = Entry { index: 7, payload: Bytes::from(vec![1; 209]) };
    assert!(matches!(append(&log, vec![large]), Err(Error::TooLarge { bytes: 209, max_bytes: 208 })));
    append(&log, entries(7..8, 'a')).expect("the log runs");
    assert_eq!(observe(&log.reader()).entries, entries(5..8, 'a'));
}

#[test]
fn a_log_of_the_operating_system_reads_from_cache_and_disk() {
    let home = tempfile::tempdir().expect("there is a place for temporary files");
    let directory = Arc::new(OsDirectory::open(home.path()).expect("the directory is there"));
    let config = Config { segment_bytes: 16 * 1024, cache_bytes_max: 4 * 1024, ..Config::new(MESH) };
    let log = Log::open(directory.clone(), config.clone()).expect("a new log opens");
    for index in 0..1000 {
        append(&log, entries(index..index + 1, 'a')).expect("the disk has no fault");
    }
    let check = |log: &Log| {
        assert_eq!(observe(&log.reader()).entries, entries(0..1000, 'a'));
        let recent = log.reader().read(990.., usize::MAX).expect("the log runs");
        assert!(matches!(recent, Read::Cached(entries) if entries.len() == 10));
        let old = log.reader().read(100..=200, 150).expect("the log runs");
        assert!(matches!(&old, Read::OnDisk(_)));
        let old = old.load().expect("the disk has no fault");
        assert_eq!(old, entries(100..100 + old.len() as u64, 'a'));
        assert!((1..=5).contains(&old.len()), "{} entries are more than 150 bytes", old.len());
    };
    check(&log);
    log.close().expect("the disk has no fault");
    let log = Log::open(directory, config).expect("the log is whole");
    assert_eq!(log.cut(), None);
    check(&log);
}
