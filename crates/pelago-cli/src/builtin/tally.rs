//! `tally` counts what it is told.
//!
//! A resident: one on each node, which begins at nothing with its node. It does not read what it counts.

use pelago::{Agent, Fault, Kind, Raw, Turn};
use serde::{Deserialize, Serialize};

use super::About;

#[derive(Default, Serialize, Deserialize)]
struct Tally {
    told: Told,
}

/// What it was told so far.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Told {
    messages: u64,
    bytes: u64,
}

pub(super) const ABOUT: About = About {
    agent: "tally",
    takes: "anything, asked or told",
    replies: "how many messages it was told, and of how many bytes",
    example: "pelago agent tell tally '\"hello\"'",
};

pub(super) fn kind() -> Kind {
    pelago::resident::<Tally>("tally")
}

impl Agent for Tally {
    type Input = Raw;
    type Output = Told;

    async fn handle(&mut self, Raw(payload): Raw, turn: &mut Turn) -> Result<Told, Fault> {
        if turn.is_told() {
            self.told.messages += 1;
            self.told.bytes += payload.len() as u64;
        }
        Ok(self.told)
    }
}
