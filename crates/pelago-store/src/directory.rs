//! A node's data directory: whose it is, and that only one process uses it.
//!
//! ```text
//!   node          mesh id, directory id, node name, ids in the control log and the mesh, if the log has begun, a run
//!                 that ended unheard, the port for links, format
//!   lock          held by the process that runs the node
//!   log/          segments of the control log
//!   state.db      the state machine's rows
//! ```

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use pelago_core::id::{DirectoryId, Incarnation, Invalid, MeshId, Name, NodeId};

/// The layout this version writes.
const FORMAT: u32 = 1;
const IDENTITY: &str = "node";
const LOCK: &str = "lock";
const LOG: &str = "log";
const DATABASE: &str = "state.db";

/// An open data directory. The lock is held until it is dropped.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    identity: Identity,
    _lock: File,
}

/// Whose directory it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The mesh.
    pub mesh: MeshId,
    /// The directory itself.
    pub directory: DirectoryId,
    /// The node's name.
    pub node: Name,
    /// Its id among those that take part in the control log; none until it was admitted.
    pub raft_id: Option<u64>,
    /// Its id in the mesh; none until its first registration was seen.
    pub node_id: Option<NodeId>,
    /// Whether its log has begun: an empty one is a lost one from then on.
    pub log_begun: bool,
    /// The last run, if it ended itself and nobody could be told.
    pub left: Option<Incarnation>,
    /// The port on which the last run took links: where the others look for it.
    pub mesh_port: Option<u16>,
}

/// Why a data directory cannot be used. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process runs a node on it.
    #[error("the data directory {} is in use by another process", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// It belongs to a node of another name.
    #[error("the data directory {} belongs to node {found}, not to {wanted}", path.display())]
    OtherNode {
        /// The directory.
        path: PathBuf,
        /// The name it was made for.
        found: Name,
        /// The name that was asked for.
        wanted: Name,
    },
    /// A newer version wrote it.
    #[error("the data directory {} has format {found}; this version reads up to {FORMAT}", path.display())]
    Newer {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// It holds a node's data, and not whose it is.
    #[error(
        "{} has a node's log or rows, but no file `node` that says whose they are: bring it back, or use another \
         directory",
        path.display()
    )]
    Nameless {
        /// The directory.
        path: PathBuf,
    },
    /// Its identity cannot be read.
    #[error("{} cannot be read as a node's identity: {why}", path.display())]
    Bad {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The file system refused.
    #[error("failed to {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl Directory {
    /// Opens a directory that a node was made in before. `None` when there is none.
    ///
    /// # Errors
    /// See [`Error`]; `name`, if given, must be the directory's.
    pub fn open(path: &Path, name: Option<&Name>) -> Result<Option<Self>, Error> {
        let file = path.join(IDENTITY);
        let cannot_read = |source| Error::Io { what: "read", path: file.clone(), source };
        if !file.try_exists().map_err(cannot_read)? {
            return if has_data(path) { Err(Error::Nameless { path: path.into() }) } else { Ok(None) };
        }
        // Before it is read: whoever holds the lock may still rewrite it.
        let lock = lock(path)?;
        let identity = read(path, &file, &fs::read_to_string(&file).map_err(cannot_read)?)?;
        if let Some(wanted) = name.filter(|name| **name != identity.node) {
            return Err(Error::OtherNode { path: path.into(), found: identity.node, wanted: wanted.clone() });
        }
        Ok(Some(Self { path: path.into(), identity, _lock: lock }))
    }

    /// Makes a directory for a new node.
    ///
    /// # Errors
    /// See [`Error`]. A directory that was made meanwhile is left alone.
    pub fn create(path: &Path, identity: Identity) -> Result<Self, Error> {
        fs::create_dir_all(path).map_err(|source| Error::Io { what: "create", path: path.into(), source })?;
        let lock = lock(path)?;
        let file = path.join(IDENTITY);
        if file.exists() {
            return Err(Error::InUse { path: path.into() });
        }
        let log = path.join(LOG);
        fs::create_dir_all(&log).map_err(|source| Error::Io { what: "create", path: log, source })?;
        write(path, &file, &identity).map_err(|source| Error::Io { what: "write", path: file, source })?;
        Ok(Self { path: path.into(), identity, _lock: lock })
    }

    /// Writes down that the node was admitted, so that it takes part in the control log whoever else is there.
    ///
    /// # Errors
    /// [`Error::Io`]. The directory is as before, or as after.
    pub fn admit(&mut self, raft_id: u64) -> Result<(), Error> {
        self.identity.raft_id = Some(raft_id);
        self.rewrite()
    }

    /// Writes down that a run has begun that takes links on `mesh_port`, and with the first one the log, and which node the
    /// directory is of.
    ///
    /// # Errors
    /// [`Error::Io`]. The directory is as before, or as after.
    pub fn begin(&mut self, node_id: NodeId, mesh_port: u16) -> Result<(), Error> {
        let mut begun = self.identity.clone();
        (begun.node_id, begun.log_begun, begun.left) = (Some(node_id), true, None);
        begun.mesh_port = Some(mesh_port);
        if begun == self.identity {
            return Ok(());
        }
        self.identity = begun;
        self.rewrite()
    }

    /// Writes down that a run has ended itself, for the next one to tell.
    ///
    /// # Errors
    /// [`Error::Io`]. The directory is as before, or as after.
    pub fn leave(&mut self, run: Incarnation) -> Result<(), Error> {
        self.identity.left = Some(run);
        self.rewrite()
    }

    fn rewrite(&self) -> Result<(), Error> {
        let file = self.path.join(IDENTITY);
        write(&self.path, &file, &self.identity).map_err(|source| Error::Io { what: "write", path: file, source })
    }

    /// Whose directory it is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the log's segments are.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.path.join(LOG)
    }

    /// Where the rows are.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }
}

/// Whether a node has written more there than what making a directory leaves if it is interrupted.
fn has_data(path: &Path) -> bool {
    let has_log = fs::read_dir(path.join(LOG)).is_ok_and(|mut segments| segments.next().is_some());
    has_log || path.join(DATABASE).exists()
}

fn lock(path: &Path) -> Result<File, Error> {
    let file = path.join(LOCK);
    let io = |what, source| Error::Io { what, path: file.clone(), source };
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&file).map_err(|e| io("open", e))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { path: path.into() }),
        Err(TryLockError::Error(source)) => Err(io("lock", source)),
    }
}

/// Reads lines of a word and its value.
fn read(path: &Path, file: &Path, text: &str) -> Result<Identity, Error> {
    let value = |word: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        lines.find(|(first, _)| *first == word).map(|(_, value)| value).ok_or_else(|| format!("it has no {word}"))
    };
    let bad = |why: String| Error::Bad { path: file.into(), why };
    let invalid = |invalid: Invalid| bad(invalid.to_string());
    let found = value("format").map_err(bad)?.parse().map_err(|_| bad("its format is not a number".into()))?;
    if found > FORMAT {
        return Err(Error::Newer { path: path.into(), found });
    }
    let number = |word: &str| {
        let number = value(word).ok().map(|number| number.parse().map_err(|_| bad(format!("its {word} is no number"))));
        number.transpose()
    };
    Ok(Identity {
        raft_id: number("raft")?,
        node_id: number("id")?.map(NodeId),
        log_begun: value("log").is_ok(),
        left: number("left")?.map(Incarnation),
        mesh_port: number("port")?.and_then(|port| u16::try_from(port).ok()),
        mesh: value("mesh").map_err(bad)?.parse().map_err(invalid)?,
        directory: value("directory").map_err(bad)?.parse().map_err(invalid)?,
        node: value("node").map_err(bad)?.parse().map_err(invalid)?,
    })
}

/// Writes beside, then renames, so that a half-written identity is never seen.
fn write(path: &Path, file: &Path, identity: &Identity) -> io::Result<()> {
    let Identity { mesh, directory, node, raft_id, node_id, log_begun, left, mesh_port } = identity;
    let beside = file.with_extension("new");
    let mut out = File::create(&beside)?;
    write!(out, "format {FORMAT}\nmesh {mesh}\ndirectory {directory}\nnode {node}\n")?;
    if let Some(raft_id) = raft_id {
        writeln!(out, "raft {raft_id}")?;
    }
    if let Some(NodeId(id)) = node_id {
        writeln!(out, "id {id}")?;
    }
    if *log_begun {
        writeln!(out, "log begun")?;
    }
    if let Some(Incarnation(left)) = left {
        writeln!(out, "left {left}")?;
    }
    if let Some(port) = mesh_port {
        writeln!(out, "port {port}")?;
    }
    out.sync_all()?;
    fs::rename(&beside, file)?;
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(node: &str) -> Identity {
        Identity {
            mesh: MeshId(1),
            directory: DirectoryId(2),
            node: Name::new(node).expect("valid"),
            raft_id: None,
            node_id: None,
            log_begun: false,
            left: None,
            mesh_port: None,
        }
    }

    #[test]
    fn a_directory_remembers_whose_it_is() {
        let temp = tempfile::tempdir().expect("a temporary directory can be made");
        let path = temp.path().join("n1");
        assert!(Directory::open(&path, None).expect("absent is fine").is_none());
        drop(Directory::create(&path, identity("n1")).expect("created"));
        let mut open = Directory::open(&path, None).expect("opens").expect("exists");
        assert_eq!(open.identity(), &identity("n1"));
        open.admit(7).expect("written");
        open.begin(NodeId(9), 50_051).expect("written");
        open.leave(Incarnation(12)).expect("written");
        drop(open);
        let mut open = Directory::open(&path, None).expect("opens").expect("exists");
        let (raft_id, node_id, mesh_port) = (Some(7), Some(NodeId(9)), Some(50_051));
        let begun = Identity { raft_id, node_id, log_begun: true, mesh_port, ..identity("n1") };
        assert_eq!(open.identity(), &Identity { left: Some(Incarnation(12)), ..begun.clone() });
        open.begin(NodeId(9), 50_051).expect("written");
        drop(open);
        let open = Directory::open(&path, None).expect("opens").expect("exists");
        assert_eq!(open.identity(), &begun);
    }

    #[test]
    fn data_that_says_not_whose_it_is_is_refused() {
        let temp = tempfile::tempdir().expect("a temporary directory can be made");
        let made = Directory::create(temp.path(), identity("n1")).expect("created");
        fs::remove_file(temp.path().join(IDENTITY)).expect("it is there");
        drop(made);
        assert!(Directory::open(temp.path(), None).expect("nothing of a node's is there").is_none());
        fs::write(temp.path().join(DATABASE), b"rows").expect("it can be written");
        let refused = Directory::open(temp.path(), None);
        assert!(matches!(refused, Err(Error::Nameless { .. })), "{refused:?}");
    }

    #[test]
    fn a_second_process_is_refused() {
        let temp = tempfile::tempdir().expect("a temporary directory can be made");
        let _first = Directory::create(temp.path(), identity("n1")).expect("created");
        assert!(matches!(Directory::open(temp.path(), None), Err(Error::InUse { .. })));
    }

    #[test]
    fn a_directory_of_another_node_or_a_newer_version_is_refused() {
        let temp = tempfile::tempdir().expect("a temporary directory can be made");
        drop(Directory::create(temp.path(), identity("n1")).expect("created"));
        let other = Name::new("n2").expect("valid");
        assert!(matches!(Directory::open(temp.path(), Some(&other)), Err(Error::OtherNode { .. })));
        let file = temp.path().join(IDENTITY);
        let newer = fs::read_to_string(&file).expect("readable").replace("format 1", "format 9");
        fs::write(&file, newer).expect("writable");
        assert!(matches!(Directory::open(temp.path(), None), Err(Error::Newer { found: 9, .. })));
    }
}
