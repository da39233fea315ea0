//! Signals and the connections they follow: where a signal goes on from an agent that handled it, and where it ends.
//!
//! A signal goes from agent to agent along declared connections, from one to all of its next ones at once. Each agent's
//! reply is its result and what goes on. What every agent made of it is a tree ([`Branch`]) that grows on the way back.
//!
//! ```text
//!   client ──► strategic-main ──► architect-1 ──► impl-1      path: whom it passed, one hop each
//!                      └────────► architect-2                 tree: the same, with what they replied
//! ```
//!
//! Every node decides alone, from what the signal carries: an agent on its path is not visited again, the hop limit
//! ends a path, and the number of branches that its tree may still have is shared out among the next ones. So a signal
//! ends whatever is declared, and its tree has a bounded size.

mod filter;
mod signal;
#[cfg(test)]
mod tests;
mod tree;

pub use filter::{Filter, NoFilter, Readable};
pub use signal::{Hop, Next, Onward, Signal};
pub use tree::{Branch, Cut, Outcome};

use crate::id::Address;

/// How many connections may lead on from one agent, those of configuration and those of requests counted apart.
pub const CONNECTIONS_PER_AGENT_MAX: usize = 64;
/// The most hops that a signal may be allowed.
pub const HOPS_MAX: u32 = 64;
/// How many hops a signal has unless its starter or the configuration says otherwise.
pub const HOPS: u32 = 16;
/// The most branches that the tree of one signal has: agents that it visits, each as often as it is visited, and
/// connections that it does not go along.
pub const BRANCHES_MAX: u32 = 256;
/// The most that the replies of one tree hold together, in bytes: one reply of the largest size always fits.
pub const REPLIES_BYTES_MAX: usize = crate::record::PAYLOAD_BYTES_MAX;
/// The longest reason in a tree, in bytes. With the names around it, all branches of a tree fit a frame.
pub const REASON_BYTES_MAX: usize = 1 << 10;

/// An edge to another agent, along which signals go on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Connection {
    /// Where it leads.
    pub to: Address,
    /// Which contents it takes; all of them if there is none.
    pub only: Option<Filter>,
}
