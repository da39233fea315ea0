//! What is known of a candidate before anything was asked of it.

use std::num::{NonZeroU16, NonZeroU32};

use crate::id::Holder;

/// A run of a node that has a copy of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Which run.
    pub holder: Holder,
    /// How far from whoever chooses.
    pub distance: Distance,
    /// Its part of the choices of [`Strategy::Weighted`](super::Strategy::Weighted), beside the weights of the others.
    pub weight: NonZeroU16,
    /// How many requests it works on at a time. With as many in flight it is full: others are chosen, while any is not.
    pub capacity: NonZeroU32,
    /// How busy its machine is.
    pub load: Load,
}

/// How busy a machine is, each in thousandths of all it has. What nobody said is unknown, and is not compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Processor time.
    pub cpu: Option<u16>,
    /// Memory.
    pub memory: Option<u16>,
    /// Bytes sent and received.
    pub network: Option<u16>,
    /// What waits in its queues, as a part of what it works on at a time.
    pub queue: u16,
}

/// How far a candidate is from whoever chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Distance {
    /// The same node.
    Here,
    /// Another node of the same zone.
    Zone,
    /// Another zone of the same region.
    Region,
    /// Another region, or nobody knows.
    Far,
}

/// Up to which distance candidates are preferred to all farther ones, as long as one of them has room. Of those that
/// are left the nearer ones come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Prefer {
    /// This node, then its zone, then its region. An agent that is here is asked here, and no link is used.
    #[default]
    Node,
    /// The zone, this node being one of many there, then the region.
    Zone,
    /// The region.
    Region,
    /// All alike.
    None,
}

impl Prefer {
    /// Candidates of a lower tier are preferred.
    pub(super) fn tier(self, distance: Distance) -> u8 {
        let nearest = match self {
            Self::Node => Distance::Here,
            Self::Zone => Distance::Zone,
            Self::Region => Distance::Region,
            Self::None => Distance::Far,
        };
        distance.max(nearest) as u8 - nearest as u8
    }
}
