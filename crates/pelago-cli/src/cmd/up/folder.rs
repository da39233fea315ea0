//! The folder of a local mesh: which nodes it has, where they listen, and that only one `pelago up` uses it.
//!
//! ```text
//!   up.json       the nodes and their ports
//!   up.lock       held by the process that runs them
//!   node-1/       the data directory of node-1, as `pelago serve --name node-1` would have it
//!   node-1.log    what node-1 logs
//! ```

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::problem;
use crate::output::Error;

/// An open folder. The lock is held until it is dropped.
pub(super) struct Folder {
    path: PathBuf,
    remembered: Vec<Place>,
    _lock: File,
}

/// A node of the folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) name: String,
    /// The port for clients.
    pub(super) http: u16,
    /// The port for links from other nodes.
    pub(super) mesh: u16,
}

/// `up.json`.
#[derive(Serialize, Deserialize)]
struct Memory {
    nodes: Vec<Place>,
}

/// Where the nodes of a folder are for clients. None if it is no such folder.
pub(super) fn urls(path: &Path) -> Vec<String> {
    let memory = fs::read(path.join("up.json")).ok().and_then(|text| serde_json::from_slice::<Memory>(&text).ok());
    let nodes = memory.map(|memory| memory.nodes).unwrap_or_default();
    nodes.iter().map(|place| format!("http://127.0.0.1:{}", place.http)).collect()
}

impl Folder {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        fs::create_dir_all(path).map_err(|cause| problem::system("make the folder", &cause))?;
        let lock = lock(path)?;
        let file = path.join("up.json");
        let remembered = match fs::read(&file) {
            Ok(text) => {
                serde_json::from_slice::<Memory>(&text).map_err(|cause| problem::unreadable(&file, &cause))?.nodes
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(cause) => return Err(problem::system("read up.json", &cause)),
        };
        Ok(Self { path: path.to_owned(), remembered, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The nodes of last time.
    pub(super) fn remembered(&self) -> &[Place] {
        &self.remembered
    }

    /// Keeps `places` for the next time.
    pub(super) fn remember(&self, places: &[Place]) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(&Memory { nodes: places.to_vec() }).expect("ports are plain data");
        self.write(&text).map_err(|cause| problem::system("write up.json", &cause))
    }

    /// As a whole or not at all.
    fn write(&self, text: &[u8]) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.path)?;
        file.write_all(text)?;
        file.persist(self.path.join("up.json"))?;
        Ok(())
    }

    /// The data directory of a node.
    pub(super) fn data(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Where all nodes log, as a pattern.
    pub(super) fn logs(&self) -> PathBuf {
        self.log("*")
    }

    /// Where a node logs.
    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.log"))
    }

    /// Whether a process runs a node, that is to say holds the lock of its data directory.
    pub(super) fn is_running(&self, name: &str) -> bool {
        let lock = File::open(self.data(name).join("lock"));
        lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
    }

    /// Whether a node has been of a mesh before.
    pub(super) fn has_mesh(&self, name: &str) -> bool {
        self.data(name).join("node").exists()
    }
}

fn lock(path: &Path) -> Result<File, Error> {
    let unable = |cause| problem::system("lock the folder", &cause);
    let file = File::options().create(true).truncate(false).write(true).open(path.join("up.lock")).map_err(unable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(problem::in_use(path)),
        Err(TryLockError::Error(cause)) => Err(unable(cause)),
    }
}
