//! `[store]`

use std::path::{Path, PathBuf};

use pelago_core::id::Name;

use super::super::{section::Section, value};

/// The parent of data directories that nobody named. `pelago up` keeps its nodes there too.
const PARENT: &str = ".pelago";

/// Where a node keeps its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// The data directory: the node's name and mesh, its log, its database. Of one node only, on a local disk, and made
    /// when it is not there. Absolute once loaded; a relative one starts from the working directory. When none is
    /// given it is `.pelago/NAME` by `mesh.node_id`, or `.pelago/node`.
    pub dir: PathBuf,
    /// Free space on its disk, in bytes, below which the node refuses writes of users and leads no more. Leave room
    /// for one checkpoint and a few log segments of 64 MiB.
    pub disk_free_bytes_min: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { dir: Path::new(PARENT).join("node"), disk_free_bytes_min: 256 * 1024 * 1024 }
    }
}

impl StoreConfig {
    pub(in super::super) fn read(section: &mut Section<'_>, node: Option<&Name>) -> Self {
        let default = Self::default();
        let dir = node.map_or(default.dir, |name| Path::new(PARENT).join(name.as_str()));
        Self {
            dir: section.get("dir", value::path, dir),
            disk_free_bytes_min: section.get(
                "disk_free_bytes_min",
                value::number(0..=i64::MAX as u64),
                default.disk_free_bytes_min,
            ),
        }
    }
}
