//! Gossip: released bytes stay as they are, and whatever else arrives is refused or harmless.

mod damage;
mod golden;
mod samples;
