//! `counter:KEY` adds up the numbers it is given and replies the sum.
//!
//! Keyed: there is one `counter:a` in the whole mesh. Its field is its state, stored when a turn commits, so it goes on
//! where it was after a restart or on another node.

use pelago::{Agent, Fault, Kind, Turn};
use serde::{Deserialize, Serialize};

use super::About;

#[derive(Default, Serialize, Deserialize)]
struct Counter {
    count: i64,
}

pub(super) const ABOUT: About = About {
    agent: "counter:KEY",
    takes: "an integer to add; 1 if nothing is said",
    replies: "the sum",
    example: "pelago agent ask counter:a 5",
};

pub(super) fn kind() -> Kind {
    pelago::keyed::<Counter>("counter")
}

impl Agent for Counter {
    /// What to add; one if nothing is said.
    type Input = Option<i64>;
    type Output = i64;

    async fn handle(&mut self, by: Option<i64>, _turn: &mut Turn) -> Result<i64, Fault> {
        let sum = self.count.checked_add(by.unwrap_or(1));
        self.count = sum.ok_or_else(|| Fault::hopeless("the count would not fit 64 bits"))?;
        Ok(self.count)
    }
}
