//! The store: what is durable on one node, and the seam to what orders it.
//!
//! *Is:* the rules of `pelago_core::record` over SQLite rows, the segment log on disk, the data directory.
//!
//! *Is not:* Raft, which sits behind [`Propose`]; nor async: its threads answer by callback.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod conformance;
pub mod directory;
pub mod files;
pub mod log;
mod propose;
pub mod sqlite;

pub use propose::{Propose, ProposeError};
