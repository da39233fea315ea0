//! One node of a mesh: its loops, its part in the control log, and the agents it hosts.
//!
//! *Is:* the place where decisions of `pelago_core` meet clocks, threads and the store. `loops` is the map; `raft`
//! holds openraft and nothing of it leaves; [`Agent`] is how behaviours are written; [`Handle`] is what a node does for
//! others.
//!
//! *Is not:* an API for clients (see `pelago_api`), nor a rule: what may happen to durable facts stands in
//! `pelago_core::record`.
#![forbid(unsafe_code)]

mod agents;
pub mod clock;
mod committer;
pub mod disk;
mod feed;
pub mod gossip;
pub mod handle;
mod host;
mod ids;
mod keeper;
mod loops;
mod mesh;
pub mod metrics;
mod node;
mod raft;
mod scheduler;
mod services;
mod sessions;
mod signals;
mod timers;
mod topics;
mod traces;
mod view;
mod waiters;

pub use handle::Handle;
pub use host::{Affinity, Agent, Fault, Input, Kind, PRIORITY_MAX, Raw, TaskRequest, Turn, keyed, pool, resident};
pub use mesh::{Balancing, Rule};
pub use node::{Config, Error, Node};
pub use pelago_core::connection::{Connection, Filter, Signal};
pub use pelago_core::record::{SessionEntry, SessionTurn};
pub use pelago_net::{Greetings, Guest, Packing};
pub use raft::Timing;
pub use sessions::{InSession, NoWhenBusy, SessionRule, WhenBusy};
