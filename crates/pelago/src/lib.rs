//! Pelago as a library: write agents, run a node with them.
//!
//! ```no_run
//! use pelago::prelude::*;
//!
//! #[derive(Default, Serialize, Deserialize)]
//! struct Counter {
//!     count: i64,
//! }
//!
//! impl Agent for Counter {
//!     type Input = i64;
//!     type Output = i64;
//!
//!     async fn handle(&mut self, by: i64, _turn: &mut Turn) -> Result<i64, Fault> {
//!         self.count += by;
//!         Ok(self.count)
//!     }
//! }
//!
//! fn main() -> ExitCode {
//!     pelago::run([pelago::keyed::<Counter>("counter")])
//! }
//! ```
//!
//! *Is:* the face that users see: [`run`] is `pelago serve` plus your agents, [`serve`] is the process from start to
//! stop, [`config`] is what it is told, [`Mesh`] asks a mesh from outside. *Is not:* a second API: everything here is
//! `pelago_node`'s and `pelago_api`'s.
#![forbid(unsafe_code)]

pub mod config;
mod logging;
pub mod mesh;
mod serve;
mod telemetry;

pub use mesh::Mesh;
pub use pelago_node::{
    Affinity, Agent, Connection, Fault, Filter, InSession, Input, Kind, Raw, SessionEntry, SessionTurn, Signal,
    TaskRequest, Turn, WhenBusy, keyed, pool, resident,
};
pub use serve::{Error, PrintAddr, ServeArgs, run, serve};

/// What a program with agents needs.
pub mod prelude {
    pub use std::process::ExitCode;

    pub use serde::{Deserialize, Serialize};

    pub use crate::{Agent, Fault, TaskRequest, Turn};
}
