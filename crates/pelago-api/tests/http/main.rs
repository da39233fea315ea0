//! The API at its edges: a real node, a real listener, requests good and bad.
#![forbid(unsafe_code)]

mod crowded;
mod elsewhere;
mod guarded;
#[path = "../../../../fuzz/bodies/json.rs"]
mod json_body;
mod life;
mod line;
mod refusals;
#[path = "../../../../fuzz/bodies/replay.rs"]
mod replay;
mod sessions;
mod starting;
mod stopping;
mod topics;
mod world;
