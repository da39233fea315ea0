//! Every decision of Pelago, as pure state machines.
//!
//! *Is:* functions of (state, time, input). [`record`] decides what happens to every durable fact, [`agent`] drives
//! one activation of an agent, [`connection`] says where signals go on, [`task`] places tasks on nodes, [`lease`] says
//! how long a node may act without asking, [`membership`] who else is there as far as gossip knows; [`message`] is what agents are told.
//!
//! *Is not:* a place for clocks, randomness, I/O, async or hash-order iteration. Callers pass in the time and the
//! ids, and carry out the effects. `clippy.toml` beside this crate bans the rest.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod agent;
pub mod connection;
pub mod id;
pub mod lease;
pub mod link;
pub mod membership;
pub mod message;
pub mod nearest;
pub mod pattern;
pub mod record;
pub mod route;
pub mod task;
pub mod time;
pub mod voters;
