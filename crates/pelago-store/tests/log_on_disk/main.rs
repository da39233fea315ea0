//! The Raft log over a simulated disk, and once over the real one.

mod damage;
mod power;
mod script;
mod usage;
