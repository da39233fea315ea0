//! What a demo tells its nodes, in variables of their environment: the one thing about them that no task can change.

use std::{
    env,
    num::NonZeroU32,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use super::gate::Gate;

const ROOT: &str = "PELAGO_DEMO_ROOT";
const READERS: &str = "PELAGO_DEMO_READERS";
const PACE: &str = "PELAGO_DEMO_PACE_MS";
const GATE: &str = "PELAGO_DEMO_GATE";
const FREE: &str = "PELAGO_DEMO_FREE";
const DROPPED: &str = "PELAGO_DEMO_DROPPED";

/// How long all the reading shall take at least, so that there is something to watch, something to lose when a node is
/// killed, and something to do for the others until what it had is theirs.
const READING_MIN: Duration = Duration::from_secs(10);
/// The longest that one file is held up for that.
const PACE_MAX: Duration = Duration::from_millis(250);
/// So many files for each reader: with fewer readers than files there is always a file under way until the last.
const FILES_PER_READER_MIN: usize = 4;

/// What a node of a demo is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Errand {
    /// The folder to read; nothing outside it is.
    pub(super) root: PathBuf,
    /// How many files are read at a time on each node.
    pub(super) readers: NonZeroU32,
    /// How long a reading takes at least.
    pub(super) pace: Duration,
    /// Where readings wait for the kill.
    pub(crate) gate: Gate,
    /// A file whose outcome is not sent on, so that a test sees the loss found.
    pub(super) dropped: Option<String>,
}

impl Errand {
    /// An errand for so many files below `root`, on so many nodes. After a third of the readings they wait for the gate
    /// in `folder`, which the nodes share.
    pub(crate) fn new(root: &Path, files: usize, nodes: usize, folder: &Path, dropped: Option<String>) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let readers = u32::try_from((files / nodes / FILES_PER_READER_MIN).clamp(1, cores)).unwrap_or(u32::MAX);
        let readers = NonZeroU32::new(readers).unwrap_or(NonZeroU32::MIN);
        let even = READING_MIN.mul_f64(f64::from(readers.get()) * nodes as f64 / files.max(1) as f64);
        let gate = Gate { folder: folder.to_owned(), free: (files / 3) as u64 };
        Self { root: root.to_owned(), readers, pace: even.min(PACE_MAX), gate, dropped }
    }

    /// How many readings are held at the gate once no reader can begin another, on so many nodes.
    pub(crate) fn held(&self, files: usize, nodes: usize) -> usize {
        let free = usize::try_from(self.gate.free).unwrap_or(usize::MAX);
        (self.readers.get() as usize * nodes).min(files.saturating_sub(free))
    }

    /// The errand of this process, if a demo started it.
    ///
    /// # Panics
    /// If somebody else wrote the variables, and wrote them wrong.
    pub(crate) fn of_process() -> Option<Self> {
        let root = PathBuf::from(env::var_os(ROOT)?);
        let number = |name| env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
        let readers = number(READERS).and_then(NonZeroU32::new);
        let pace = number(PACE).map(|ms| Duration::from_millis(ms.into()));
        let gate = env::var_os(GATE).zip(number(FREE));
        let gate = gate.map(|(folder, free)| Gate { folder: PathBuf::from(folder), free: free.into() });
        let (Some(readers), Some(pace), Some(gate)) = (readers, pace, gate) else {
            panic!(
                "{ROOT} is set, so {READERS}, {PACE} and {FREE} must be numbers, and {GATE} a folder: see `pelago demo`"
            );
        };
        Some(Self { root, readers, pace, gate, dropped: env::var(DROPPED).ok() })
    }

    /// Tells a process that is about to be started.
    pub(crate) fn tell(&self, command: &mut Command) {
        let Self { root, readers, pace, gate: Gate { folder, free }, dropped } = self;
        command.env(ROOT, root).env(READERS, readers.to_string()).env(PACE, pace.as_millis().to_string());
        command.env(GATE, folder).env(FREE, free.to_string());
        if let Some(path) = dropped {
            command.env(DROPPED, path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_files_are_read_slowly_and_many_are_not() {
        let errand = |files| Errand::new(Path::new("/"), files, 1, Path::new("/"), None);
        assert_eq!((errand(1).readers.get(), errand(1).pace), (1, PACE_MAX));
        assert_eq!(errand(0).pace, PACE_MAX);
        let many = errand(8_192);
        assert!(many.pace < Duration::from_millis(2) * many.readers.get(), "{many:?}");
        let three = Errand::new(Path::new("/"), 8_192, 3, Path::new("/"), None);
        assert!(three.pace.abs_diff(many.pace * 3) < Duration::from_micros(1), "each of three has a third: {three:?}");
        for files in [10, 100, 1_000, 8_192] {
            let Errand { readers, pace, .. } = errand(files);
            let waited = pace * u32::try_from(files).expect("few files") / readers.get();
            assert!(waited <= READING_MIN, "{files} files are held up for {waited:?}");
        }
    }

    #[test]
    fn what_is_held_is_what_the_readers_can_take_and_the_free_ones_leave() {
        let held = |files| Errand::new(Path::new("/"), files, 3, Path::new("/"), None).held(files, 3);
        assert_eq!([1, 2, 3, 4, 21].map(held), [1, 2, 2, 3, 3]);
    }
}
