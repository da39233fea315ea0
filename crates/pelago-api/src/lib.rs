//! HTTP and JSON: what a node says to the world, and how a program asks it.
//!
//! *Is:* the documents ([`model`]), the resources under `/api/v1` and their listener ([`http`]), the line of sight for
//! programs without HTTP ([`line`]), the words for everything that can go wrong ([`problem`]), and a typed client
//! ([`client`]).
//!
//! *Is not:* a place where anything is decided. Each resource reads a request, calls one method of
//! [`pelago_node::Handle`] and writes the answer. No other crate knows HTTP or JSON documents.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod accept;
pub mod client;
pub mod http;
mod json;
pub mod line;
pub mod model;
pub mod problem;
mod text;
