//! Whole nodes in one process: what a user of a mesh sees.

mod clients;
mod one;
mod several;
mod stopping;
mod timers;
mod world;
