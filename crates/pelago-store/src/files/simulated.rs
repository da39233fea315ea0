//! A disk in memory that keeps a journal of everything done to it.
//!
//! From the journal it can say what a power cut at any instant would have left: synced bytes and names always, the rest
//! as a [`Survival`] says. It can also run full, fail a write or a flush, and hold a flush until it is released.

use super::medium::{Medium, Step, Survival, overwrite};
use super::{Directory, File};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

const UNPOISONED: &str = "nothing panics while it holds the disk";

/// A directory on a simulated disk. Clones are the same directory.
#[derive(Clone)]
pub struct SimDirectory {
    shared: Arc<Shared>,
}

struct Shared {
    disk: Mutex<Disk>,
    changed: Condvar,
}

#[derive(Default)]
struct Disk {
    /// What was there before the journal begins; durable.
    origin: BTreeMap<String, Vec<u8>>,
    journal: Vec<Step>,
    names: BTreeMap<String, usize>,
    contents: Vec<Vec<u8>>,
    space_bytes: Option<u64>,
    write_fault: Option<io::ErrorKind>,
    sync_fault: Option<io::ErrorKind>,
    syncs: u64,
    syncs_held: bool,
}

impl SimDirectory {
    /// An empty directory with endless space.
    #[must_use]
    pub fn new() -> Self {
        Self::holding(BTreeMap::new())
    }

    /// A directory that holds these files, all of them durable.
    #[must_use]
    pub fn holding(files: BTreeMap<String, Vec<u8>>) -> Self {
        let names = files.keys().cloned().zip(0..).collect();
        let contents = files.values().cloned().collect();
        let disk = Disk { origin: files, names, contents, ..Disk::default() };
        Self { shared: Arc::new(Shared { disk: Mutex::new(disk), changed: Condvar::new() }) }
    }

    /// A copy of all files as a reader sees them.
    #[must_use]
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let disk = self.disk();
        disk.names.iter().map(|(name, &file)| (name.clone(), disk.contents[file].clone())).collect()
    }

    /// Flips the bits of `mask` in one byte of a file, behind the back of everyone.
    pub fn flip(&self, name: &str, offset: usize, mask: u8) {
        let mut disk = self.disk();
        let file = disk.names[name];
        disk.contents[file][offset] ^= mask;
    }

    /// Limits the sum of all files' lengths; `None` lifts the limit.
    pub fn limit_space(&self, bytes: Option<u64>) {
        self.disk().space_bytes = bytes;
    }

    /// Makes the next write fail after half of its bytes.
    pub fn fail_next_write(&self, kind: io::ErrorKind) {
        self.disk().write_fault = Some(kind);
    }

    /// Makes the next sync of a file fail.
    pub fn fail_next_sync(&self, kind: io::ErrorKind) {
        self.disk().sync_fault = Some(kind);
    }

    /// Makes syncs of files wait until [`Self::release_syncs`].
    pub fn hold_syncs(&self) {
        self.disk().syncs_held = true;
    }

    /// Lets held syncs go on.
    pub fn release_syncs(&self) {
        self.disk().syncs_held = false;
        self.shared.changed.notify_all();
    }

    /// Syncs of files begun so far, failed ones included.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.disk().syncs
    }

    /// Blocks until that many syncs of files have begun.
    ///
    /// # Panics
    /// If they do not within a minute.
    pub fn wait_for_syncs(&self, count: u64) {
        let missing = |disk: &mut Disk| disk.syncs < count;
        let waited = self.shared.changed.wait_timeout_while(self.disk(), Duration::from_mins(1), missing);
        let (_disk, waited) = waited.expect(UNPOISONED);
        assert!(!waited.timed_out(), "the log did not begin sync {count}");
    }

    /// Puts a note of the test into the journal, for example that something was acknowledged.
    pub fn note(&self, note: u64) {
        self.disk().journal.push(Step::Note(note));
    }

    /// The number of instants at which power can be cut: one for each byte written and one for each other step.
    #[must_use]
    pub fn instants(&self) -> usize {
        self.disk().journal.iter().map(Step::instants).sum()
    }

    /// The notes made before an instant.
    #[must_use]
    pub fn notes_before(&self, instant: usize) -> Vec<u64> {
        let disk = self.disk();
        let mut notes = Vec::new();
        for (step, left) in disk.until(instant) {
            if let (Step::Note(note), 1..) = (step, left) {
                notes.push(*note);
            }
        }
        notes
    }

    /// The directory as it is found after power was cut at an instant.
    #[must_use]
    pub fn after_power_cut(&self, instant: usize, survival: Survival) -> Self {
        let disk = self.disk();
        let mut medium = Medium::new(&disk.origin);
        for (step, left) in disk.until(instant) {
            medium.apply(step, left);
        }
        Self::holding(medium.remains(survival))
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.shared.disk.lock().expect(UNPOISONED)
    }

    fn file(&self, file: usize) -> Arc<dyn File> {
        Arc::new(SimFile { directory: self.clone(), file })
    }
}

impl Default for SimDirectory {
    fn default() -> Self {
        Self::new()
    }
}

impl Directory for SimDirectory {
    fn path(&self) -> &Path {
        Path::new("simulated")
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.disk().names.keys().cloned().collect())
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn File>> {
        let mut disk = self.disk();
        let used: usize = disk.names.values().map(|&file| disk.contents[file].len()).sum();
        if disk.space_bytes.is_some_and(|space| used as u64 + bytes > space) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = disk.contents.len();
        let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
        disk.contents.push(vec![0; bytes]);
        disk.names.insert(name.to_owned(), file);
        disk.journal.push(Step::Create { file, name: name.to_owned(), bytes });
        Ok(self.file(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = self.disk().names.get(name).copied();
        Ok(self.file(file.ok_or(io::ErrorKind::NotFound)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.disk();
        let file = disk.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        disk.names.insert(to.to_owned(), file);
        disk.journal.push(Step::Rename { from: from.to_owned(), to: to.to_owned() });
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        disk.journal.push(Step::Remove { name: name.to_owned() });
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.disk().journal.push(Step::SyncNames);
        Ok(())
    }
}

struct SimFile {
    directory: SimDirectory,
    file: usize,
}

impl File for SimFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.directory.disk().contents[self.file].len() as u64)
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let disk = self.directory.disk();
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let found = disk.contents[self.file].get(offset..offset + bytes.len());
        bytes.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.directory.disk();
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let fault = disk.write_fault.take();
        let written = if fault.is_some() { &bytes[..bytes.len() / 2] } else { bytes };
        overwrite(&mut disk.contents[self.file], offset, written);
        disk.journal.push(Step::Write { file: self.file, offset, bytes: written.to_vec() });
        fault.map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn sync(&self) -> io::Result<()> {
        self.directory.disk().syncs += 1;
        self.directory.shared.changed.notify_all();
        let released = &self.directory.shared.changed;
        let released = released.wait_while(self.directory.disk(), |disk| disk.syncs_held);
        let mut disk = released.expect(UNPOISONED);
        if let Some(kind) = disk.sync_fault.take() {
            disk.journal.push(Step::FailedSync { file: self.file });
            return Err(kind.into());
        }
        disk.journal.push(Step::Sync { file: self.file });
        Ok(())
    }
}

impl Disk {
    /// The steps begun before an instant, each with the instants it had: all of its own, but for the last.
    fn until(&self, instant: usize) -> impl Iterator<Item = (&Step, usize)> {
        let mut left = instant;
        self.journal.iter().map_while(move |step| {
            let had = step.instants().min(left);
            left -= had;
            (had > 0).then_some((step, had))
        })
    }
}
