//! The operating system's files.

use super::{Directory, File};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A directory of the operating system.
#[derive(Debug)]
pub struct OsDirectory {
    path: PathBuf,
    handle: fs::File,
}

impl OsDirectory {
    /// Opens the directory at `path`, which must exist and be durable.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let handle = fs::File::open(&path)?;
        Ok(Self { path, handle })
    }
}

impl Directory for OsDirectory {
    fn path(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            // A name that is not UTF-8 is none of ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn File>> {
        let path = self.path.join(name);
        let file = fs::File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        if let Err(error) = allocate(&file, bytes) {
            // A failed allocation may keep a part of what it asked for, on a disk that is full.
            fs::remove_file(&path)?;
            return Err(error);
        }
        Ok(Arc::new(OsFile(file)))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = fs::File::options().read(true).write(true).open(self.path.join(name))?;
        Ok(Arc::new(OsFile(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        self.handle.sync_all()
    }
}

struct OsFile(fs::File);

impl File for OsFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(bytes, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

fn allocate(file: &fs::File, bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_zeros(file, bytes),
        done => Ok(done?),
    }
}

/// Allocates by writing, for file systems that cannot do it otherwise.
fn write_zeros(file: &fs::File, bytes: u64) -> io::Result<()> {
    static PIECE: [u8; 64 * 1024] = [0; 64 * 1024];
    let mut offset = 0;
    while offset < bytes {
        let length = PIECE.len().min(usize::try_from(bytes - offset).unwrap_or(PIECE.len()));
        file.write_all_at(&PIECE[..length], offset)?;
        offset += length as u64;
    }
    Ok(())
}
