//! What two ends tell each other before anything else, and why one of them may say no.

use super::lane::{LANE_BYTES_MIN, PerLane};
use crate::id::{BootId, Incarnation, MeshId, Name, NodeId};

/// The version of the link protocol that this release speaks.
pub const VERSION: u32 = 1;

/// The versions an end speaks, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// The oldest.
    pub oldest: u32,
    /// The newest.
    pub newest: u32,
}

impl Versions {
    /// What this release speaks.
    pub const HERE: Self = Self { oldest: VERSION, newest: VERSION };

    /// The newest version that both ends speak.
    #[must_use]
    pub fn common(self, other: Self) -> Option<u32> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The link between two nodes.
    Main,
    /// The second socket between voters: lanes cannot overtake bytes that are already in a socket's buffer.
    Consensus,
    /// From a client: it sends and asks, hosts nothing and is no member.
    Client,
}

/// How one end introduces itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The versions it speaks.
    pub versions: Versions,
    /// Its mesh; `None` while it has joined none.
    pub mesh: Option<MeshId>,
    /// The name of its mesh.
    pub mesh_name: Name,
    /// The name of the node.
    pub node_name: Name,
    /// Its id; 0 while it is not admitted, or does not know it.
    pub node: NodeId,
    /// This run of it.
    pub boot: BootId,
    /// The registered run; 0 while it is not registered.
    pub incarnation: Incarnation,
    /// What the connection is for: the end that dials chooses.
    pub role: Role,
    /// Bits of optional features it knows; what both know may be used. See [`feature`].
    pub features: u64,
    /// How many bytes it takes a lane before it has consumed any: at least [`LANE_BYTES_MIN`].
    pub credit: PerLane<u32>,
    /// How many unanswered requests it takes a lane.
    pub requests_max: u32,
}

/// Why an end wants no link. It goes to the other end too, which reports it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The ends belong to different meshes.
    #[error("it belongs to mesh {mesh_name}, another one")]
    OtherMesh {
        /// The mesh of the end that refuses.
        mesh_name: Name,
    },
    /// A node dialled itself.
    #[error("it is the same run of the same node")]
    SameNode,
    /// Two nodes have one name.
    #[error("its own name is {name} too; every node of a mesh needs a name of its own")]
    NameTaken {
        /// The name.
        name: Name,
    },
    /// No version is spoken by both.
    #[error("it speaks versions {oldest} to {newest} of the link protocol only")]
    UnknownVersion {
        /// The oldest version of the end that refuses.
        oldest: u32,
        /// Its newest.
        newest: u32,
    },
    /// It has as many links as it may, or as many with clients.
    #[error("all {links_max} places that it has for such links are taken (mesh.connections_max)")]
    TooManyLinks {
        /// The limit: of all, or for a client of clients.
        links_max: u32,
    },
    /// Both ends dialled, and the other connection stays.
    #[error("another link between {here} and {there} stays")]
    Duplicate {
        /// The node that refuses.
        here: Name,
        /// The other one.
        there: Name,
    },
    /// A later run of the node has a link, or has registered.
    #[error("it knows a later run of the same node")]
    OldRun {
        /// Where that run is reached, in words; empty if it is not known.
        at: String,
    },
    /// The node has a link already, from a process that answers.
    #[error("another process runs as the same node")]
    Running,
    /// The node was removed from the mesh.
    #[error("the mesh has removed the node: its data directory belongs to no node any more")]
    Removed,
    /// It is about to stop.
    #[error("it is stopping")]
    Stopping,
    /// The hello grants less than a link needs.
    #[error("the credit or the number of requests offered is too small")]
    TooLittleCredit,
    /// What came was no hello.
    #[error("what it received is not the link protocol")]
    NotTheProtocol,
}

/// What two ends agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The version both speak.
    pub version: u32,
    /// The features both know.
    pub features: u64,
    /// Whether this end dialled.
    pub dialled: bool,
    /// The other end.
    pub other: Hello,
}

/// Optional features of links, a bit each. A bit is never given another meaning.
pub mod feature {
    /// Large payloads go in chunks, between which other lanes have their turn.
    pub const CHUNKS: u64 = 1;
    /// Frames may be compressed by LZ4.
    pub const LZ4: u64 = 2;
    /// Messages of topics have numbers.
    pub const NUMBERED: u64 = 4;
    /// What this version knows.
    pub const HERE: u64 = CHUNKS | LZ4 | NUMBERED;
}

impl Hello {
    /// Compares both hellos.
    ///
    /// # Errors
    /// Why there can be no link between them.
    pub fn agree(&self, other: Self, dialled: bool) -> Result<Terms, Refusal> {
        let Versions { oldest, newest } = self.versions;
        let version = self.versions.common(other.versions).ok_or(Refusal::UnknownVersion { oldest, newest })?;
        // A client belongs to no mesh: it means whoever it dialled.
        let of_client = self.role == Role::Client || other.role == Role::Client;
        let ids_differ = self.mesh.zip(other.mesh).is_some_and(|(here, there)| here != there);
        if !of_client && (ids_differ || self.mesh_name != other.mesh_name) {
            return Err(Refusal::OtherMesh { mesh_name: self.mesh_name.clone() });
        }
        if self.boot == other.boot {
            return Err(Refusal::SameNode);
        }
        if self.node_name == other.node_name {
            return Err(Refusal::NameTaken { name: self.node_name.clone() });
        }
        if other.requests_max == 0 || other.credit.0.iter().any(|&bytes| bytes < LANE_BYTES_MIN) {
            return Err(Refusal::TooLittleCredit);
        }
        Ok(Terms { version, features: self.features & other.features, dialled, other })
    }
}
