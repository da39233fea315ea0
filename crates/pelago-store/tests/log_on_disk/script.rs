//! A script of log operations, and all the states a log may show after any part of it.

use bytes::Bytes;
use pelago_store::files::{Directory, SimDirectory};
use pelago_store::log::{Config, Entry, Error, Log, OnFlushed, Purged, Reader};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

pub(crate) const MESH: u128 = 0xfeed;

/// Segments so small that a script of a few records fills several.
pub(crate) fn config() -> Config {
    Config { segment_bytes: 1024, mark_after: Duration::MAX, ..Config::new(MESH) }
}

pub(crate) fn open(disk: &SimDirectory, config: Config) -> Result<Log, Error> {
    let directory: Arc<dyn Directory> = Arc::new(disk.clone());
    Log::open(directory, config)
}

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Append(Vec<Entry>),
    Vote(&'static str),
    TruncateAfter(Option<u64>),
    Purge(u64),
}

/// What a reader sees of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) vote: Option<Bytes>,
    pub(crate) purged: Option<Purged>,
    pub(crate) entries: Vec<Entry>,
}

/// Every kind of record, votes and truncations on both sides of segment changes, a purge that deletes segments and one
/// that reaches behind the last entry.
pub(crate) fn script() -> Vec<Step> {
    vec![
        Step::Vote("one"),
        Step::Append(entries(0..3, 'a')),
        Step::Append(entries(3..8, 'b')),
        Step::TruncateAfter(Some(5)),
        Step::Vote("two"),
        Step::Append(entries(6..12, 'c')),
        Step::Purge(2),
        Step::Append(entries(12..16, 'd')),
        Step::TruncateAfter(Some(9)),
        Step::Append(entries(10..14, 'e')),
        Step::Purge(9),
        Step::Vote("three"),
        Step::Append(entries(14..20, 'f')),
        Step::Purge(30),
        Step::Append(entries(31..34, 'g')),
        Step::Vote("four"),
    ]
}

pub(crate) fn entries(range: std::ops::Range<u64>, letter: char) -> Vec<Entry> {
    range.map(|index| entry(index, letter)).collect()
}

/// An entry whose payload tells its index, its letter and, by its length, almost nothing about where it ends.
pub(crate) fn entry(index: u64, letter: char) -> Entry {
    let length = 20 + (index as usize * 37) % 90;
    let payload = format!("{letter}{index}").repeat(length);
    Entry { index, payload: Bytes::from(payload[..length].to_owned()) }
}

/// Does the steps. In each pair, the second waits in the queue while the first is flushed. Notes on the disk the number
/// of every step that is acknowledged, and returns when all are.
pub(crate) fn run(log: &Log, disk: &SimDirectory, steps: &[Step]) {
    for (number, pair) in steps.chunks(2).enumerate() {
        let syncs = disk.syncs();
        disk.hold_syncs();
        let first = submit(log, disk, &pair[0], number * 2);
        disk.wait_for_syncs(syncs + 1);
        let second = pair.get(1).and_then(|step| submit(log, disk, step, number * 2 + 1));
        disk.release_syncs();
        for flushed in [first, second].into_iter().flatten() {
            flushed.recv().expect("an operation is answered").expect("the disk has no fault");
        }
    }
}

fn submit(log: &Log, disk: &SimDirectory, step: &Step, number: usize) -> Option<Receiver<Result<(), Error>>> {
    let (answer, flushed) = mpsc::channel();
    let disk = disk.clone();
    let on_flushed: OnFlushed = Box::new(move |result| {
        disk.note(number as u64);
        answer.send(result).expect("the test waits for the answer");
    });
    let submitted = match step.clone() {
        Step::Append(entries) => log.append(entries, on_flushed),
        Step::Vote(vote) => log.save_vote(Bytes::from(vote), on_flushed),
        Step::TruncateAfter(last) => return log.truncate_after(last).map(|()| None).expect("the log runs"),
        Step::Purge(index) => return log.purge(purged(index)).map(|()| None).expect("the log runs"),
    };
    submitted.expect("the log runs");
    Some(flushed)
}

pub(crate) fn purged(index: u64) -> Purged {
    Purged { index, payload: Bytes::from(format!("log id {index}")) }
}

/// The states after each record of the steps, beginning with the empty one; and for each step, the position of the
/// state after it.
pub(crate) fn states(steps: &[Step]) -> (Vec<State>, Vec<usize>) {
    let mut states = vec![State::default()];
    let mut after_step = Vec::new();
    for step in steps {
        let mut state = states.last().cloned().expect("there is the empty state");
        match step {
            Step::Append(entries) => {
                for entry in entries {
                    state.entries.push(entry.clone());
                    states.push(state.clone());
                }
            }
            Step::Vote(vote) => state.vote = Some(Bytes::from(*vote)),
            Step::TruncateAfter(last) => state.entries.retain(|entry| Some(entry.index) <= *last),
            Step::Purge(index) => {
                state.entries.retain(|entry| entry.index > *index);
                state.purged = Some(purged(*index));
            }
        }
        states.push(state);
        after_step.push(states.len() - 1);
    }
    (states, after_step)
}

/// What the log shows.
pub(crate) fn observe(reader: &Reader) -> State {
    let entries = reader.read(.., usize::MAX).and_then(pelago_store::log::Read::load);
    State {
        vote: reader.vote().expect("the log runs"),
        purged: reader.purged().expect("the log runs"),
        entries: entries.expect("the disk has no fault"),
    }
}

/// A callback and the end at which its result comes out.
pub(crate) fn answer() -> (OnFlushed, Receiver<Result<(), Error>>) {
    let (answer, flushed) = mpsc::channel();
    (Box::new(move |result| answer.send(result).expect("the test waits for the answer")), flushed)
}

/// Appends and waits until it is durable.
pub(crate) fn append(log: &Log, entries: Vec<Entry>) -> Result<(), Error> {
    let (on_flushed, flushed) = answer();
    log.append(entries, on_flushed)?;
    flushed.recv().expect("an append is answered")
}
