//! Gossip: released bytes stay as they are, and whatever else arrives is refused or harmless.

#[path = "../../../../fuzz/bodies/gossip.rs"]
mod body;
mod damage;
mod golden;
#[path = "../../../../fuzz/bodies/replay.rs"]
mod replay;
mod samples;
