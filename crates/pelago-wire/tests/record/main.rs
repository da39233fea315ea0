//! Batches, entries and outcomes as bytes: golden files of the released format, and damage of every kind.
//!
//! `PELAGO_BLESS=1` writes golden files anew. A format that was released keeps its files for ever: a new one gets a new
//! number and files of its own.

mod damage;
mod dice;
mod golden;
mod samples;
