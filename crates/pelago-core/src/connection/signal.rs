//! A signal on its way: what it carries, and where it goes on.

use std::collections::BTreeSet;

use super::{Connection, Cut, Filter, Readable};
use crate::id::{Address, AgentId, Name, SignalId};

/// A signal, as the agent sees it that handles it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// Its id, the same on all its branches.
    pub id: SignalId,
    /// Who started it, in its own words.
    pub from: String,
    /// How many hops a path may have.
    pub hops_max: u32,
    /// How many branches its tree may still have here, the one of the agent that handles it now included.
    pub branches_max: u32,
    /// Whom it passed, in order.
    pub path: Vec<Hop>,
}

/// An agent that a signal passed, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// The agent.
    pub agent: AgentId,
    /// The node on which it handled the signal.
    pub node: Name,
}

/// Where a signal goes on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Onward {
    /// The connections that its tree has room for, each with what becomes of it.
    pub next: Vec<Next>,
    /// How many more there are, along which it does not go.
    pub left_out: u32,
}

/// A connection that a signal is to go on along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Next {
    /// Where it leads.
    pub to: Address,
    /// The signal as it arrives there, or why it does not go.
    pub signal: Result<Signal, Cut>,
}

impl Signal {
    /// Number of the hop that brought it where it is: 1 at the agent that its starter named.
    #[must_use]
    pub fn hop(&self) -> u32 {
        u32::try_from(self.path.len()).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// The agent that passed it on; none at the first.
    #[must_use]
    pub fn parent(&self) -> Option<&AgentId> {
        self.path.last().map(|hop| &hop.agent)
    }

    /// The nodes that it passed, in order, each as often as it was there.
    pub fn nodes(&self) -> impl Iterator<Item = &Name> {
        self.path.iter().map(|hop| &hop.node)
    }

    /// Where it goes on from `here`, whose result is `content`. Of several connections to one address the first counts
    /// that takes the content.
    #[must_use]
    pub fn goes_on<'c>(
        &self,
        here: Hop,
        connections: impl IntoIterator<Item = &'c Connection>,
        content: &impl Readable,
    ) -> Onward {
        let mut path = self.path.clone();
        path.push(here);
        let hop_limit = self.hops_max + u32::from(cfg!(planted = "one_hop_more"));
        // There may be many connections, of which the tree has room for few.
        let mut seen = BTreeSet::new();
        let takes = |only: &Option<Filter>| only.as_ref().is_none_or(|only| only.takes(content));
        let mut taken = connections.into_iter().filter(|one| takes(&one.only) && seen.insert(&one.to));
        let left = self.branches_max.saturating_sub(1);
        let next = taken.by_ref().take(left as usize).map(|Connection { to, .. }| {
            let signal = match () {
                () if path.iter().any(|hop| hop.is_at(to)) => Err(Cut::Cycle),
                () if self.hop() >= hop_limit => Err(Cut::HopLimit),
                () => Ok(Self { path: path.clone(), ..self.clone() }),
            };
            Next { to: to.clone(), signal }
        });
        let next = share_out(next.collect(), left);
        Onward { next, left_out: count(taken.count()) }
    }
}

/// Shares out how many branches the tree may still have: one for each connection, and the rest among those that it goes
/// along.
fn share_out(mut next: Vec<Next>, left: u32) -> Vec<Next> {
    let rest = left - count(next.len());
    let going = count(next.iter().filter(|next| next.signal.is_ok()).count()).max(1);
    let signals = next.iter_mut().filter_map(|next| next.signal.as_mut().ok());
    for (number, signal) in (0..).zip(signals) {
        signal.branches_max = 1 + rest / going + u32::from(number < rest % going);
    }
    next
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

impl Hop {
    /// Whether `to` means the agent that was passed here.
    fn is_at(&self, to: &Address) -> bool {
        self.agent == to.agent && to.node.as_ref().is_none_or(|node| *node == self.node)
    }
}
