//! The API at its edges: a real node, a real listener, requests good and bad.
#![forbid(unsafe_code)]

mod crowded;
mod elsewhere;
mod guarded;
mod life;
mod line;
mod refusals;
mod starting;
mod stopping;
mod topics;
mod world;
