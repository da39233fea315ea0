//! Step simulator over the production cores.
//!
//! *Is:* a whole mesh in one thread: nodes that run production activations, voters that keep a log between them (a
//! model of consensus), a leader that runs the production scheduler, a store that decides by the production rules,
//! clients, and a network that loses, delays, repeats and reorders. Time and chance come from one seed: the same seed
//! makes the same run, step by step. After every step the invariants are checked; then all faults end and everything
//! must recover.
//!
//! [`gossip`] is a world of its own: machines of `core::membership`, and the bytes that they tell each other. So is
//! [`links`]: two ends of `core::link`, and connections between them that break at any byte; and [`routing`]: nodes that
//! come and go, those who choose between them by `core::route`, and signals on their way by `core::connection`.
//! Beside it stands [`balance`], a queueing model of nodes that ask each other's pools, which compares the strategies of
//! `core::route`.
//!
//! *Is not:* a test of sockets, disks or openraft, and the loops of a real node are stood for by a few lines.

#![forbid(unsafe_code)]

pub mod balance;
mod behaviour;
mod client;
mod dice;
mod faults;
pub mod gossip;
mod hosted;
mod invariants;
mod leader;
mod ledger;
pub mod links;
mod log;
mod network;
mod node;
mod oracle;
pub mod routing;
pub mod scenarios;
pub mod store;
mod trace;
mod view;
mod voter;
mod workload;
mod world;

pub use faults::Tally;
pub use invariants::Violation;
pub use workload::{NoWorkload, Workload};
pub use world::{Run, Tracing, run};
