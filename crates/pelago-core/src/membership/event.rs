//! What gossip is told, and what is to be done then.

use bytes::Bytes;

use super::{Identity, Load, Member, Rumour, Stage};
use crate::id::{Holder, Name};

/// What one node tells another. Nobody answers for its arrival.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Packet {
    /// A packet of SWIM, by the codec; may be empty.
    pub swim: Bytes,
    /// Who is there, if all that is known is told.
    pub members: Vec<Member<Identity>>,
    /// What nodes say of themselves.
    pub rumours: Vec<Rumour>,
    /// Whether all that the other node knows is wanted back.
    pub answer: bool,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A packet came over the link with that node.
    Packet {
        /// The node at the other end.
        from: Name,
        /// What it tells.
        packet: Packet,
    },
    /// A link with that node is up.
    Linked(Name),
    /// The link with that node has ended. That says nothing about the node: others may have one.
    LinkLost(Name),
    /// This node stands elsewhere in its life.
    Stage(Stage),
    /// How much this node has to do.
    Load(Load),
    /// This node takes leave: it is over with whatever comes after.
    Leave,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send a packet over the link with that node. If there is none it is lost: others will be asked.
    Send {
        /// The node.
        to: Name,
        /// What it is told.
        packet: Packet,
    },
    /// A node is seen in another state, or another run of it.
    Seen {
        /// Its run.
        holder: Holder,
        /// Its name.
        name: Name,
        /// Its state.
        state: State,
    },
    /// What [`super::Membership::nodes`] tells is not what it was.
    Changed,
    /// A packet came to nothing, or nothing could be told.
    Refused {
        /// Why.
        why: String,
    },
}

/// How a node is seen: a hint, and no more. Only the control log says who is in the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It is there, and takes no work yet, or has not said so.
    Joining,
    /// It is there.
    Up,
    /// It gave no sign of life, to this node or to another, and has little time left to do so.
    Suspect,
    /// It gave none.
    Down,
    /// It is there, and takes no more work.
    Draining,
    /// It has said goodbye.
    Left,
}

impl State {
    /// All states, in the order of a life.
    pub const ALL: [Self; 6] = [Self::Joining, Self::Up, Self::Suspect, Self::Draining, Self::Left, Self::Down];

    /// Whether the node may answer.
    #[must_use]
    pub fn is_there(self) -> bool {
        match self {
            Self::Joining | Self::Up | Self::Suspect | Self::Draining => true,
            Self::Down | Self::Left => false,
        }
    }

    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Up => "up",
            Self::Suspect => "suspect",
            Self::Down => "down",
            Self::Draining => "draining",
            Self::Left => "left",
        }
    }

    /// What is seen of a node, and what it says itself.
    pub(super) fn of(swim: foca::State, stage: Option<Stage>) -> Self {
        match (swim, stage) {
            (_, Some(Stage::Left)) => Self::Left,
            (foca::State::Down, _) => Self::Down,
            (foca::State::Suspect, _) => Self::Suspect,
            (foca::State::Alive, Some(Stage::Joining) | None) => Self::Joining,
            (foca::State::Alive, Some(Stage::Up)) => Self::Up,
            (foca::State::Alive, Some(Stage::Draining)) => Self::Draining,
        }
    }
}
