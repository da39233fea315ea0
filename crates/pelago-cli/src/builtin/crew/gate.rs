//! Where readings wait until the demo has killed a node, so that it has something to lose however few its files are and
//! however slow the machine.
//!
//! The first readings pass at once. The others are held until the gate is open: a file in the demo's own folder, since
//! its processes share nothing else that outlives the loss of any of them.

use std::{
    fs::{self, File},
    io::{self, Seek as _, Write as _},
    path::PathBuf,
    time::Duration,
};

use tokio::time::Instant;

/// How long a reading is held at most: much less than one attempt at its task may take.
const HELD_MAX: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The gate of one demo. All its processes have the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gate {
    /// Where its files are.
    pub(super) folder: PathBuf,
    /// How many readings pass at once.
    pub(crate) free: u64,
}

impl Gate {
    /// Lets all pass that are held, and all that come.
    pub(crate) fn open(&self) -> io::Result<()> {
        fs::write(self.file_of_open(), "")
    }

    /// Counts a reading in. Returns whether it passes at once.
    pub(super) fn admit(&self) -> io::Result<bool> {
        let mut counted = File::options().create(true).append(true).open(self.folder.join("readings"))?;
        // What is appended by several processes stands one after the other, and each is told where its own ends.
        counted.write_all(b".")?;
        Ok(counted.stream_position()? <= self.free)
    }

    /// Waits until the gate is open.
    pub(super) async fn pass(&self) {
        let until = Instant::now() + HELD_MAX;
        while !self.file_of_open().exists() && Instant::now() < until {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn file_of_open(&self) -> PathBuf {
        self.folder.join("open")
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;

    fn gate(folder: &tempfile::TempDir, free: u64) -> Gate {
        Gate { folder: folder.path().to_owned(), free }
    }

    #[test]
    fn only_the_first_readings_are_free() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (gate, of_another_process) = (gate(&folder, 2), gate(&folder, 2));
        let admitted = [&gate, &of_another_process, &gate].map(|gate| gate.admit().expect("the folder is ours"));
        assert_eq!(admitted, [true, true, false]);
    }

    #[tokio::test]
    async fn a_reading_that_is_held_goes_on_once_the_gate_is_open() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let gate = gate(&folder, 0);
        let mut held = Box::pin(gate.pass());
        assert!(poll!(&mut held).is_pending());
        gate.open().expect("the folder is ours");
        held.await;
        assert!(poll!(Box::pin(gate.pass())).is_ready(), "nobody waits at an open gate");
    }
}
