//! Whole nodes in one process: what a user of a mesh sees.

mod balance;
mod clients;
mod gossip;
mod headers;
mod one;
mod sessions;
mod several;
mod signals;
mod stopping;
mod tells;
mod timers;
mod world;
