//! Which strategy of `core::route` keeps the slowest answers soonest: a queueing model around the production code.
//!
//! *Is:* nodes that all host a pool and all ask it, each with a [`route::Balance`](pelago_core::route::Balance) of its
//! own that knows nothing but what its own requests tell it. A node works on so many turns at a time, the rest wait in
//! order; requests and answers take their time on the way. Requests arrive by chance, whether or not earlier ones were
//! answered. All strategies are given the same requests: same times, same sizes, same keys.
//!
//! *Is not:* a model of processors or of a network that is full.

mod model;
mod scenario;

pub use model::{Figures, simulate};
pub use scenario::Scenario;
