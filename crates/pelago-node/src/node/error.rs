//! Why a node did not start, or had to stop.

use std::path::{Path, PathBuf};

use pelago_core::record::Refusal;
use pelago_net::ListenError;
use pelago_store::{directory, sqlite};

use crate::{
    disk,
    mesh::{self, Unwanted},
    raft,
};

/// Why a node did not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data directory.
    #[error("failed to open the data directory")]
    Directory(#[from] directory::Error),
    /// The directory belongs to no mesh, and the node was told neither to found nor to join one.
    #[error(
        "{} belongs to no mesh yet: start the node with --found to found one, or with --join to join one",
        path.display()
    )]
    NoMesh {
        /// The directory.
        path: PathBuf,
    },
    /// Where links arrive.
    #[error("failed to listen for links")]
    Listen(#[from] ListenError),
    /// Nobody admitted the node.
    #[error("failed to join the mesh")]
    Join(#[from] mesh::JoinError),
    /// The control log.
    #[error("failed to take part in the control log")]
    Log(#[from] raft::Error),
    /// The mesh refused the node.
    #[error("the mesh refused this node")]
    Refused(#[source] Refusal),
    /// The mesh has removed the node.
    #[error(
        "the mesh has removed this node, and the data directory {} belongs to no node any more. Delete it, or choose \
         another, and start the node again as a new one", path.display()
    )]
    Removed {
        /// The directory.
        path: PathBuf,
    },
    /// The rows cannot be read.
    #[error("failed to read the store")]
    Rows(#[from] sqlite::Error),
    /// Consensus stopped by itself, so nothing more can be made durable here.
    #[error("consensus has stopped on this node: {0}")]
    ConsensusStopped(String),
    /// The same, because there is no space left. It may start again once there is.
    #[error("no space is left on the disk of {}: {reason}", path.display())]
    DiskFull {
        /// The data directory.
        path: PathBuf,
        /// What consensus said.
        reason: String,
    },
    /// The mesh has given this run up: the node was not heard for too long. It may start again.
    #[error("the mesh gave this node up because it was not heard; it has to start again")]
    Expired,
    /// Another process runs as this node, or registered as it while this one ran.
    #[error(
        "another process runs as this node, at {at}: was the data directory copied? A node has one directory and one \
         process; delete the copy"
    )]
    Displaced {
        /// Where it is reached.
        at: String,
    },
    /// A loop that the others need ended: a defect.
    #[error("the node's {0} loop ended by itself")]
    LoopEnded(&'static str),
}

impl Error {
    /// Whether another run of the node may do better: at once, or after [`crate::disk::until_free`].
    #[must_use]
    pub fn is_only_this_run(&self) -> bool {
        matches!(self, Self::Expired | Self::DiskFull { .. })
    }

    /// The same, unless want of space under `directory` explains it better.
    pub(super) fn or_disk_full(self, directory: &Path) -> Self {
        let may_be_full = matches!(
            self,
            Self::ConsensusStopped(_) | Self::Log(_) | Self::Rows(_) | Self::Directory(directory::Error::Io { .. })
        );
        if !may_be_full || !disk::is_exhausted(directory) {
            return self;
        }
        Self::DiskFull { path: directory.to_owned(), reason: self.to_string() }
    }

    /// What it means for this node that others do not want it.
    pub(super) fn of(why: Unwanted, directory: &Path) -> Self {
        match why {
            Unwanted::Removed => Self::Removed { path: directory.to_owned() },
            Unwanted::Displaced { at } if at.is_empty() => {
                Self::Displaced { at: "an address that is not known here".into() }
            }
            Unwanted::Displaced { at } => Self::Displaced { at },
        }
    }
}
