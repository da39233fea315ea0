//! This node among the others: links, joining, leases, and what nodes ask each other.
//!
//! *Is:* the only part of a node that knows there are others. `dials` keeps a link with each; `receive` answers what
//! comes over them, `clients` what comes from those who are no nodes; `tells` takes what wants no answer; `at_once` has
//! what is answered where it is read; `forward` takes batches and strict reads to the leader; `router` finds the node an
//! agent is on (`homes` knows where one belongs, `balance` chooses one of those that host a pool), `broadcast` all nodes
//! that host some, `publish` all that may have subscribers (`subscriptions` are those of clients); `passing` has signals
//! as they pass from node to node, `taken` asks the node that took one; `lease` and `grants` are the two sides of a node's lease; `join` and `removal` are
//! how a node comes and goes for good.
//!
//! *Is not:* consensus, which has links of its own (`raft`), nor a rule about who may own what (`core::record`).

mod answer;
mod at_once;
mod balance;
mod broadcast;
mod clients;
mod dials;
mod encoded;
mod forward;
mod grants;
mod homes;
mod join;
mod lease;
mod passing;
mod places;
mod publish;
mod receive;
mod removal;
mod router;
mod sessions;
mod subscriptions;
pub(crate) mod taken;
mod tells;

pub(crate) use balance::Balance;
pub use balance::{Balancing, Rule};
pub use broadcast::Reached;
pub(crate) use dials::{Dials, Unwanted, doubled, part_with_unwanted, unwanted};
pub(crate) use forward::Forward;
pub(crate) use grants::{Loop as Granting, channel as heartbeats};
pub(crate) use homes::Homes;
pub(crate) use join::{Error as JoinError, join, mesh_of};
pub(crate) use lease::{End, Held, Loop as Holding};
pub(crate) use passing::Passing;
pub(crate) use places::Places;
pub(crate) use receive::{Answers, Receiver};
pub(crate) use removal::{Removal, candidates};
pub(crate) use router::{Among, Router, TELL_MAX, Undone, Whom, Wish};
