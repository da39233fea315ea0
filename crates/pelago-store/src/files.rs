//! One directory of preallocated files: all that the log needs of a file system, and no more.
//!
//! Two implementations: [`OsDirectory`] is the operating system, [`SimDirectory`] is a disk in memory that knows
//! written bytes from synced ones, and can lose power, run full and fail, so that tests reach what a real disk does
//! once a year.
//!
//! Both promise what the log rests on: bytes are durable after [`File::sync`], names after [`Directory::sync`], and
//! neither before. Calls block, so they belong on a thread of their own.

mod medium;
mod os;
mod simulated;

use std::io;
use std::path::Path;
use std::sync::Arc;

pub use medium::Survival;
pub use os::OsDirectory;
pub use simulated::SimDirectory;

/// A directory with files of the log.
pub trait Directory: Send + Sync + 'static {
    /// Where it is, for messages.
    fn path(&self) -> &Path;

    /// The names of its files, in no order.
    ///
    /// # Errors
    /// What the file system says.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Creates a file of `bytes` zeros, all of them allocated: later writes inside it need no space. Replaces a file of
    /// that name.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] if there is no space: then no file is left behind. Else what the file system
    /// says.
    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn File>>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// What the file system says.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Gives a file another name at once: never are both names there, or none.
    ///
    /// # Errors
    /// What the file system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Whoever has it open can still read it.
    ///
    /// # Errors
    /// What the file system says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes creations, renames and removals durable.
    ///
    /// # Errors
    /// What the file system says. Never call it again after an error: the changes may be lost and a second call may
    /// still succeed.
    fn sync(&self) -> io::Result<()>;
}

/// An open file.
pub trait File: Send + Sync + 'static {
    /// Its length in bytes.
    ///
    /// # Errors
    /// What the file system says.
    fn length(&self) -> io::Result<u64>;

    /// Fills `bytes` from `offset`.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] if the file is shorter, else what the file system says.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()>;

    /// Writes all `bytes` at `offset`.
    ///
    /// # Errors
    /// What the file system says; any part of the bytes may have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes all written bytes durable.
    ///
    /// # Errors
    /// What the file system says. Never call it again after an error: the kernel may have dropped the bytes and marked
    /// them clean, so that a second call succeeds without having written anything.
    fn sync(&self) -> io::Result<()>;
}
