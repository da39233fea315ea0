//! Chooses a node: for each request to an agent of which several nodes have a copy, and for each keyed agent a home.
//!
//! [`Balance`] keeps what one node knows of the candidates for one agent and chooses between them; [`rendezvous`] is a
//! pure function that every node answers alike. Neither says who may own what: that is [`crate::record`]'s.
//!
//! ```text
//! candidates ─► tiers by [`Prefer`] ─► closed breaker, not away, room left ─► [`Strategy`] ─► [`Choice`]
//!                                       ▲                                                       │
//!                                       └────── [`Outcome`]: took, failed, away ◄───────────────┘
//! ```

mod balance;
mod bits;
mod candidate;
mod health;
mod home;
mod latency;
mod ring;
mod strategy;

#[cfg(test)]
mod tests;

pub use balance::{Balance, Change, Choice, NoChoice, Outcome, Reason};
pub use candidate::{Candidate, Distance, Load, Prefer};
pub use health::{FAILURES_MAX, SUCCESSES_MIN};
pub use home::{key_among, key_of, rendezvous, sticking};
pub use strategy::Strategy;
