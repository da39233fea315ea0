//! Who a node is in gossip: one run of it, which it can renew when others took it for dead.

use crate::id::{Holder, Name, NodeId};

/// The longest address, in bytes.
pub const ADDRESS_BYTES_MAX: usize = 256;

/// One run of a node, as others know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The node and its run: of two runs of a node the later one is right.
    pub holder: Holder,
    /// How often this run was taken for dead and came back: a node that is down stays so under its old identity.
    pub renewal: u32,
    /// The node's name, which its links are found by.
    pub name: Name,
    /// Where links from other nodes arrive.
    pub mesh_address: String,
}

impl foca::Identity for Identity {
    type Addr = NodeId;

    fn renew(&self) -> Option<Self> {
        Some(Self { renewal: self.renewal.checked_add(1)?, ..self.clone() })
    }

    fn addr(&self) -> NodeId {
        self.holder.node
    }

    fn win_addr_conflict(&self, other: &Self) -> bool {
        (self.holder.incarnation, self.renewal) > (other.holder.incarnation, other.renewal)
    }
}
