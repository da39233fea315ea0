//! Everything that knows bytes: layouts, checksums and conversions of what Pelago sends and stores.
//!
//! This crate is no I/O and decides nothing: it turns values into bytes and bytes into values or a named flaw.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod client;
pub mod dump;
pub mod frame;
pub mod gossip;
pub mod headers;
pub mod mesh;
mod message;
pub mod raft;
pub mod record;
pub mod segment;
pub mod tell;

#[expect(unreachable_pub, reason = "generated code makes everything public")]
mod proto {
    include!(concat!(env!("OUT_DIR"), "/pelago.record.v1.rs"));
}
