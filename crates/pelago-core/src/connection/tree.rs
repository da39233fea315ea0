//! What became of a signal: a tree of who handled it, where, and what came of it.

use std::time::Duration;

use bytes::Bytes;

use super::{REASON_BYTES_MAX, REPLIES_BYTES_MAX};
use crate::{
    agent::Failure,
    id::{Address, Name},
};

/// What became of a signal at one agent, and beyond it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// Whom it was for.
    pub to: Address,
    /// The node that handled it; none if nobody did, or if nobody knows.
    pub node: Option<Name>,
    /// What came of it there.
    pub outcome: Outcome,
    /// Whether the agent chose not to pass it on.
    pub stopped: bool,
    /// How long it took, with all that follows.
    pub took: Duration,
    /// Where it went on.
    pub branches: Vec<Branch>,
    /// How many connections more there are, along which it did not go since its tree has no room.
    pub left_out: u32,
}

/// What came of a signal at an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The agent handled it.
    Replied {
        /// Its reply; none if the replies of the tree were too large together.
        reply: Option<Bytes>,
    },
    /// The agent failed: its turn had no effect.
    Failed {
        /// What it said.
        reason: String,
        /// Whether the same signal can never succeed.
        hopeless: bool,
    },
    /// Nobody took it, and it had no effect: too much waits, or there is no such agent, or none that can be reached.
    NotTaken {
        /// Why.
        reason: String,
        /// Whether nobody of that name can be meant.
        unknown: bool,
    },
    /// Nobody took it, and it had no effect: the agent failed too often of late wherever it is hosted, and is tried
    /// again after a while.
    BreakerOpen,
    /// There was no reply in time. The turn may have had its effect, or have it later.
    TimedOut,
    /// The node that had it was lost. The turn may have had its effect.
    InDoubt,
    /// It did not go there at all.
    Cut(Cut),
}

/// Why a signal does not go along a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cut {
    /// It has passed that agent already.
    Cycle,
    /// It has made as many hops as it may.
    HopLimit,
}

impl Branch {
    /// A branch that nothing follows.
    #[must_use]
    pub fn leaf(to: Address, node: Option<Name>, outcome: Outcome, took: Duration) -> Self {
        Self { to, node, outcome, stopped: false, took, branches: Vec::new(), left_out: 0 }
    }

    /// Whether every agent handled it that it was to go to, and none was left out for want of hops or room. A cycle that
    /// was cut takes nothing away.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let is_here = matches!(self.outcome, Outcome::Replied { .. } | Outcome::Cut(Cut::Cycle));
        is_here && self.left_out == 0 && self.branches.iter().all(Self::is_whole)
    }

    /// This branch and all that follow, each before those that follow it.
    pub fn all(&self) -> impl Iterator<Item = &Self> {
        let mut left = vec![self];
        std::iter::from_fn(move || {
            let next = left.pop()?;
            left.extend(next.branches.iter().rev());
            Some(next)
        })
    }

    /// Lets the largest replies go until the rest fit [`REPLIES_BYTES_MAX`]; returns the size of what is left.
    pub fn fit(&mut self) -> usize {
        let sizes = self.all().filter_map(|branch| Some(branch.outcome.reply()?.len()));
        let mut sizes: Vec<usize> = sizes.collect();
        sizes.sort_unstable();
        let mut left: usize = sizes.iter().sum();
        while left > REPLIES_BYTES_MAX {
            let Some(largest) = sizes.pop() else { break };
            self.drop_one_of(largest);
            left -= largest;
        }
        left
    }

    /// Drops the first reply of that size. Says whether there was one.
    fn drop_one_of(&mut self, bytes: usize) -> bool {
        match &mut self.outcome {
            Outcome::Replied { reply } if reply.as_ref().is_some_and(|reply| reply.len() == bytes) => {
                *reply = None;
                true
            }
            Outcome::Replied { .. }
            | Outcome::Failed { .. }
            | Outcome::NotTaken { .. }
            | Outcome::BreakerOpen
            | Outcome::TimedOut
            | Outcome::InDoubt
            | Outcome::Cut(_) => self.branches.iter_mut().any(|branch| branch.drop_one_of(bytes)),
        }
    }
}

impl Outcome {
    /// The reply, if there is one and it was not too large.
    #[must_use]
    pub fn reply(&self) -> Option<&Bytes> {
        if let Self::Replied { reply } = self { reply.as_ref() } else { None }
    }

    /// The word for it.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Replied { .. } => "replied",
            Self::Failed { .. } => "failed",
            Self::NotTaken { .. } => "not_taken",
            Self::BreakerOpen => "breaker_open",
            Self::TimedOut => "timed_out",
            Self::InDoubt => "in_doubt",
            Self::Cut(Cut::Cycle) => "cycle",
            Self::Cut(Cut::HopLimit) => "hop_limit",
        }
    }

    /// Nobody of that name can be meant.
    #[must_use]
    pub fn unknown(reason: &str) -> Self {
        Self::NotTaken { reason: short(reason), unknown: true }
    }
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        let reason = short(&failure.to_string());
        match failure {
            Failure::Failed(_) | Failure::Unreadable(_) => Self::Failed { reason, hopeless: false },
            Failure::Hopeless(_) | Failure::Refused(_) => Self::Failed { reason, hopeless: true },
            Failure::SessionBusy
            | Failure::SessionFull { .. }
            | Failure::Interrupted
            | Failure::Busy
            | Failure::Elsewhere(_)
            | Failure::Stopped
            | Failure::DiskFull
            | Failure::Lapsed => Self::NotTaken { reason, unknown: false },
            Failure::TimedOut { .. } => Self::TimedOut,
            Failure::Unknown => Self::InDoubt,
        }
    }
}

/// As much of a reason as a tree bears.
fn short(reason: &str) -> String {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason[..end].to_owned()
}
