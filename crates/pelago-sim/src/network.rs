//! Everything that travels, and what may happen to it on the way.

use std::{collections::BTreeSet, fmt, time::Duration};

use bytes::Bytes;
use pelago_core::{
    agent::{Failure, Proposal},
    id::{AgentId, BootId, FencingToken, Holder, TaskId},
    lease::Beat,
    record::{BodyHash, IdempotencyKey, Message, Op, Outcome},
    time::Time,
};

use crate::{
    dice::Dice,
    faults::Tally,
    view::{Attempt, Kept},
    voter,
};

/// Who sends and receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Client(usize),
    Node(usize),
    /// The node that the sender believes to lead. Nothing arrives under this name.
    Leader,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(n) => write!(f, "client {n}"),
            Self::Node(n) => write!(f, "node {n}"),
            Self::Leader => f.write_str("leader"),
        }
    }
}

/// Names a proposal in the whole mesh, so that its answer finds the way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ProposalKey {
    pub(crate) from: Place,
    pub(crate) boot: BootId,
    /// Which activation of the process, 0 for the process itself; of a client, which try.
    pub(crate) activation: u64,
    pub(crate) proposal: Proposal,
}

/// An ask on its way to an agent.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) client: usize,
    /// The client's number of this ask.
    pub(crate) serial: u64,
    pub(crate) agent: AgentId,
    pub(crate) payload: Bytes,
    pub(crate) remember: Option<(IdempotencyKey, BodyHash)>,
    pub(crate) hops: u32,
}

/// What a look-up finds for a node to do.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    pub(crate) messages: Vec<Message>,
    pub(crate) attempts: Vec<Attempt>,
}

#[derive(Debug, Clone)]
pub(crate) enum Packet {
    /// Between voters.
    Raft(voter::Message),
    Propose {
        key: ProposalKey,
        op: Op,
    },
    Decided {
        key: ProposalKey,
        outcome: Outcome,
    },
    Heartbeat {
        holder: Holder,
        beat: Beat,
        /// Whether its node takes no more tasks.
        draining: bool,
    },
    /// A heartbeat was granted. Says who else takes part.
    Granted {
        holder: Holder,
        beat: Beat,
        nodes: Vec<(Holder, Place)>,
    },
    /// The run is over: its node must register again.
    Over {
        holder: Holder,
    },
    Load {
        boot: BootId,
        from: usize,
        activation: u64,
        load: u64,
        agent: AgentId,
        holder: Holder,
    },
    Loaded {
        boot: BootId,
        activation: u64,
        load: u64,
        kept: Option<Kept>,
        held_elsewhere: bool,
    },
    LookUp {
        holder: Holder,
        sent: Time,
    },
    Found {
        holder: Holder,
        sent: Time,
        found: Found,
    },
    Wake,
    AttemptGone {
        task: TaskId,
        token: FencingToken,
    },
    Ask(Ask),
    Answer {
        serial: u64,
        answer: Result<Bytes, Failure>,
    },
}

impl Packet {
    /// Whether it is for the leader on a node, not for the node.
    pub(crate) fn is_for_leader(&self) -> bool {
        match self {
            Self::Propose { .. } | Self::Heartbeat { .. } | Self::Load { .. } | Self::LookUp { .. } => true,
            Self::Raft(_)
            | Self::Decided { .. }
            | Self::Granted { .. }
            | Self::Over { .. }
            | Self::Loaded { .. }
            | Self::Found { .. }
            | Self::Wake
            | Self::AttemptGone { .. }
            | Self::Ask(_)
            | Self::Answer { .. } => false,
        }
    }

    /// Whether its receiver copes with a second copy. A link delivers a frame once: what carries no id of its own
    /// relies on that.
    fn may_arrive_twice(&self) -> bool {
        match self {
            Self::Ask(ask) => ask.remember.is_some(),
            Self::Raft(_)
            | Self::Propose { .. }
            | Self::Decided { .. }
            | Self::Heartbeat { .. }
            | Self::Granted { .. }
            | Self::Over { .. }
            | Self::Load { .. }
            | Self::Loaded { .. }
            | Self::LookUp { .. }
            | Self::Found { .. }
            | Self::Wake
            | Self::AttemptGone { .. }
            | Self::Answer { .. } => true,
        }
    }
}

/// The present weather: how likely what is, a thousandth each.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weather {
    pub(crate) drop: u64,
    pub(crate) duplicate: u64,
    pub(crate) delay: u64,
    /// Arrives when nobody remembers it.
    pub(crate) very_late: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Network {
    pub(crate) weather: Weather,
    /// Directions in which nothing passes.
    pub(crate) cut: BTreeSet<(Place, Place)>,
    /// When the last packet under way arrives.
    pub(crate) last_arrival: Time,
}

impl Network {
    /// When the copies of a packet arrive: none if it is lost.
    pub(crate) fn carry(
        &mut self,
        now: Time,
        (from, to): (Place, Place),
        packet: &Packet,
        dice: &mut Dice,
        tally: &mut Tally,
    ) -> (Option<Time>, Option<Time>) {
        if from == to {
            return (Some(now + Duration::from_micros(10)), None);
        }
        if self.cut.contains(&(from, to)) {
            tally.count("packet into a partition");
            return (None, None);
        }
        if dice.chance(self.weather.drop) {
            tally.count("packet dropped");
            return (None, None);
        }
        let first = self.arrival(now, dice, tally);
        let twice = packet.may_arrive_twice() && dice.chance(self.weather.duplicate);
        let second = twice.then(|| {
            tally.count("packet duplicated");
            self.arrival(now, dice, tally)
        });
        (Some(first), second)
    }

    fn arrival(&mut self, now: Time, dice: &mut Dice, tally: &mut Tally) -> Time {
        let mut delay = Duration::from_micros(dice.between(100, 1_500));
        if dice.chance(self.weather.very_late) {
            tally.count("packet very late");
            delay = Duration::from_millis(dice.between(3_000, 30_000));
        } else if dice.chance(self.weather.delay) {
            tally.count("packet delayed");
            delay = Duration::from_millis(dice.between(5, 3_000));
        }
        self.last_arrival = self.last_arrival.max(now + delay);
        now + delay
    }
}
