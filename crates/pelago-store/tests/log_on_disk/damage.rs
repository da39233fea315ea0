//! Bits flip, pages vanish, files are lost: the log says so and never returns something else.

use crate::script::{MESH, State, append, config, entries, observe, open, purged, run, script, states};
use pelago_store::files::{SimDirectory, Survival};
use pelago_store::log::{Config, Error, Problem};
use pelago_wire::segment::RECORD_HEADER_BYTES;
use std::collections::BTreeMap;
use std::time::Duration;

type Files = BTreeMap<String, Vec<u8>>;

#[test]
fn a_flipped_bit_below_the_mark_refuses_and_above_it_changes_nothing() {
    let (files, state) = closed_log();
    let last = files.keys().next_back().expect("there are segments").clone();
    for (name, bytes) in &files {
        let mark = if *name == last { RECORD_HEADER_BYTES as usize } else { 0 };
        let protected = used(bytes) - mark;
        for offset in 0..bytes.len() {
            for mask in [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff] {
                let disk = SimDirectory::holding(files.clone());
                disk.flip(name, offset, mask);
                match open(&disk, config()) {
                    Ok(log) => {
                        assert!(offset >= protected, "{name}:{offset} {mask:#x} was not seen");
                        assert_eq!(observe(&log.reader()), state, "{name}:{offset} {mask:#x}");
                    }
                    Err(error) => {
                        assert!(offset < protected, "{name}:{offset} {mask:#x}: {error}");
                        assert_eq!(disk.syncs(), 0, "a refused log is left as it is");
                    }
                }
            }
        }
    }
}

#[test]
fn a_flipped_bit_before_the_mark_is_written_cuts_at_most_the_last_flush() {
    let steps = script();
    let disk = SimDirectory::new();
    let log = open(&disk, config()).expect("an empty directory takes a new log");
    run(&log, &disk, &steps);
    let files = disk.files();
    let (states, after_step) = states(&steps);
    let kept = &states[after_step[after_step.len() - 2]..];
    let (name, bytes) = files.last_key_value().expect("there are segments");
    let mut cuts = 0;
    for offset in 0..bytes.len() {
        let disk = SimDirectory::holding(files.clone());
        disk.flip(name, offset, 0x10);
        let Ok(log) = open(&disk, config()) else { continue };
        cuts += usize::from(log.cut().is_some());
        assert!(kept.contains(&observe(&log.reader())), "{name}:{offset}");
    }
    assert_eq!(cuts, bytes.len() - used(bytes) + "four".len() + RECORD_HEADER_BYTES as usize);
}

#[test]
fn damage_to_what_a_segment_begins_with_refuses_before_anything_follows() {
    let disk = SimDirectory::new();
    let log = open(&disk, config()).expect("an empty directory takes a new log");
    run(&log, &disk, &script()[..6]);
    let begun = (0..disk.instants()).map(|instant| disk.after_power_cut(instant, Survival::Nothing).files());
    let files = begun.into_iter().find(|files| files.len() == 2).expect("the script fills a segment");
    let (name, bytes) = files.last_key_value().expect("there are segments");
    assert!(used(bytes) > 64 + RECORD_HEADER_BYTES as usize, "it begins with the vote");
    for offset in 0..used(bytes) {
        let disk = SimDirectory::holding(files.clone());
        disk.flip(name, offset, 0x10);
        assert!(open(&disk, config()).is_err(), "{offset}");
    }
}

#[test]
fn a_lost_page_below_the_mark_refuses() {
    const PAGE: usize = 64;
    let (files, _) = closed_log();
    for (name, bytes) in &files {
        for page in 0..(used(bytes) - RECORD_HEADER_BYTES as usize) / PAGE {
            let mut files = files.clone();
            files.get_mut(name).expect("the segment is there")[page * PAGE..][..PAGE].fill(0);
            let opened = open(&SimDirectory::holding(files), config());
            assert!(matches!(opened, Err(Error::Damaged { .. })), "{name}, page {page}");
        }
    }
}

#[test]
fn a_lost_or_shortened_segment_refuses() {
    let disk = SimDirectory::new();
    let log = open(&disk, config()).expect("an empty directory takes a new log");
    append(&log, entries(0..20, 'a')).expect("the disk has no fault");
    log.purge(purged(2)).expect("the log runs");
    log.close().expect("the disk has no fault");
    let files = disk.files();
    let names: Vec<_> = files.keys().cloned().collect();
    assert_eq!(names.len(), 3, "20 entries fill three segments");
    for name in &names[..2] {
        let mut lost = files.clone();
        lost.remove(name);
        assert!(matches!(refusal(lost), Error::Missing { .. }), "{name}");
    }
    for name in &names {
        let mut shortened = files.clone();
        shortened.get_mut(name).expect("the segment is there").truncate(512);
        let error = refusal(shortened);
        assert!(matches!(error, Error::Damaged { problem: Problem::Short { .. }, .. }), "{name}: {error}");
    }
    let mut swapped = files.clone();
    swapped.insert(names[1].clone(), files[&names[2]].clone());
    assert!(matches!(refusal(swapped), Error::Damaged { problem: Problem::Misnamed { .. }, .. }));
}

#[test]
fn a_refusal_says_where_what_and_what_to_do() {
    let (mut files, _) = closed_log();
    let (name, bytes) = files.first_key_value().expect("there are segments");
    let (name, offset) = (name.clone(), used(bytes) - 1);
    files.get_mut(&name).expect("the segment is there")[offset] ^= 1;
    let error = refusal(files).to_string();
    for part in [name.as_str(), "at offset 843", "checksum of the payload", "remove this voter from the mesh"] {
        assert!(error.contains(part), "{part:?} is missing in: {error}");
    }
}

#[test]
fn another_mesh_and_a_newer_version_are_refused() {
    let (files, _) = closed_log();
    let other = Config { mesh: MESH + 1, ..config() };
    let opened = open(&SimDirectory::holding(files.clone()), other);
    assert!(matches!(opened.err(), Some(Error::WrongMesh { found: MESH, .. })));
    let name = files.keys().next_back().expect("there are segments").clone();
    let mut newer = files;
    newer.get_mut(&name).expect("the segment is there")[8] = 2;
    assert!(matches!(refusal(newer), Error::Newer { .. }));
}

#[test]
fn an_idle_log_marks_what_was_flushed() {
    let disk = SimDirectory::new();
    let log = open(&disk, Config { mark_after: Duration::ZERO, ..config() }).expect("a new log opens");
    append(&log, entries(0..1, 'a')).expect("the disk has no fault");
    // One for the new segment, one for the entry, and one for the mark.
    disk.wait_for_syncs(3);
    let mut files = disk.files();
    let (_, bytes) = files.iter_mut().next().expect("there is a segment");
    bytes[64 + RECORD_HEADER_BYTES as usize] ^= 1;
    assert!(matches!(refusal(files), Error::Damaged { offset: 64, problem: Problem::Synced { .. }, .. }));
}

/// The files of a log that went through the script and was closed, and what it holds.
fn closed_log() -> (Files, State) {
    let mut steps = script();
    // Without the last purge more segments live on.
    steps.truncate(13);
    let disk = SimDirectory::new();
    let log = open(&disk, config()).expect("an empty directory takes a new log");
    run(&log, &disk, &steps);
    log.close().expect("the disk has no fault");
    let (states, _) = states(&steps);
    (disk.files(), states.last().expect("there is the empty state").clone())
}

fn refusal(files: Files) -> Error {
    open(&SimDirectory::holding(files), config()).err().expect("the log is refused")
}

/// The offset behind the last byte that is not zero: payloads have none.
fn used(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}
