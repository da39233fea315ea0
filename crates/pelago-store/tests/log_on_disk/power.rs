//! Power is cut at every instant of a log's life, and of its recovery.

use crate::script::{State, Step, append, config, entries, entry, observe, open, run, script, states};
use bytes::Bytes;
use pelago_store::files::{SimDirectory, Survival};
use pelago_store::log::{Config, Entry, Log};
use std::time::Duration;

/// Smaller than a record header, a little larger than one, and larger than most records.
const PAGES: [usize; 3] = [24, 40, 128];

#[test]
fn a_power_cut_at_any_byte_loses_nothing_acknowledged() {
    let steps = script();
    for mark_after in [Duration::MAX, Duration::ZERO] {
        let config = Config { mark_after, ..config() };
        let disk = SimDirectory::new();
        let log = open(&disk, config.clone()).expect("an empty directory takes a new log");
        run(&log, &disk, &steps);
        log.close().expect("the disk has no fault");
        assert!(disk.files().len() < 4, "purging deleted segments: {:?}", disk.files().keys());
        let expected = Expected::of(&steps);
        for instant in 0..=disk.instants() {
            for (number, survival) in survivals(instant).into_iter().enumerate() {
                let (torn, log) = expected.check(&disk, instant, survival, &config);
                if number == instant % 4 {
                    write_on(&torn, log, &config);
                }
            }
        }
    }
}

#[test]
fn a_power_cut_during_recovery_loses_nothing_either() {
    let steps = script();
    let disk = SimDirectory::new();
    let log = open(&disk, config()).expect("an empty directory takes a new log");
    run(&log, &disk, &steps);
    let expected = Expected::of(&steps);
    for instant in (0..=disk.instants()).step_by(97) {
        let acknowledged = expected.acknowledged(&disk, instant);
        let torn = disk.after_power_cut(instant, survivals(instant)[1 + instant % 3]);
        drop(open(&torn, config()).expect("a torn log opens"));
        for again in (0..=torn.instants()).step_by(3) {
            let twice = torn.after_power_cut(again, survivals(again)[again % 4]);
            let log = open(&twice, config()).expect("a log torn twice opens");
            expected.check_state(&observe(&log.reader()), acknowledged);
        }
    }
}

#[test]
fn a_cut_tail_never_comes_back() {
    // Larger than what a group zeroes behind itself, so that only the cut can have removed the tail.
    let config = Config { segment_bytes: 256 * 1024, ..config() };
    let large = |index| Entry { index, payload: Bytes::from(vec![1; 20_000]) };
    let disk = SimDirectory::new();
    let log = open(&disk, config.clone()).expect("an empty directory takes a new log");
    append(&log, vec![large(0), large(1), entry(2, 'a')]).expect("the disk has no fault");
    // All was written; the last step, the flush, is missing.
    let torn = disk.after_power_cut(disk.instants() - 1, Survival::LaterPages { page_bytes: 128 });
    let log = open(&torn, config.clone()).expect("a torn log opens");
    assert_eq!(log.cut().expect("the tail is torn").offset, 64);
    append(&log, vec![large(0), large(1)]).expect("the disk has no fault");
    let after = SimDirectory::holding(torn.files());
    let log = open(&after, config).expect("a log that was written on opens");
    assert_eq!(log.reader().range().expect("the log runs"), 0..2);
}

fn survivals(instant: usize) -> [Survival; 4] {
    let (page_bytes, seed) = (PAGES[instant % PAGES.len()], instant as u64);
    [Survival::Nothing, Survival::Everything, Survival::LaterPages { page_bytes }, Survival::Pages { page_bytes, seed }]
}

struct Expected {
    states: Vec<State>,
    after_step: Vec<usize>,
}

impl Expected {
    fn of(steps: &[Step]) -> Self {
        let (states, after_step) = states(steps);
        Self { states, after_step }
    }

    /// The position of the earliest state that keeps everything acknowledged before the instant.
    fn acknowledged(&self, disk: &SimDirectory, instant: usize) -> usize {
        let last = disk.notes_before(instant).into_iter().max();
        last.map_or(0, |step| self.after_step[step as usize])
    }

    /// Opens what a power cut left and checks it.
    fn check(&self, disk: &SimDirectory, instant: usize, survival: Survival, config: &Config) -> (SimDirectory, Log) {
        let torn = disk.after_power_cut(instant, survival);
        match open(&torn, config.clone()) {
            Ok(log) => {
                self.check_state(&observe(&log.reader()), self.acknowledged(disk, instant));
                (torn, log)
            }
            Err(error) => panic!("cut at {instant}, {survival:?}: {error}"),
        }
    }

    fn check_state(&self, state: &State, acknowledged: usize) {
        assert!(self.states[acknowledged..].contains(state), "from {acknowledged} on, not {state:#?}");
    }
}

/// Appends to a log that was torn, and opens it again.
fn write_on(torn: &SimDirectory, log: Log, config: &Config) {
    let mut state = observe(&log.reader());
    let next = log.reader().range().expect("the log runs").end;
    append(&log, entries(next..next + 2, 'z')).expect("the disk has no fault");
    state.entries.extend(entries(next..next + 2, 'z'));
    drop(log);
    let log = open(torn, config.clone()).expect("a log that was written on opens");
    assert_eq!(observe(&log.reader()), state);
}
