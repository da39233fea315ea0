//! `append:KEY` is a register that integers are appended to: made for tests that kill nodes.
//!
//! Its reply proves what it held before, so whoever appends different numbers can tell a write that was lost, doubled
//! or forgotten: of two replies with lengths n and n + 1, the later `before` is the hash of the earlier `before` and
//! number. The numbers themselves are not kept, so the state never grows.

use pelago::{Agent, Fault, Kind, Turn};
use serde::{Deserialize, Serialize};

use super::About;

#[derive(Default, Serialize, Deserialize)]
struct Append {
    length: u64,
    /// Of the numbers so far, in order; empty before the first.
    hash: String,
}

pub(super) const ABOUT: About = About {
    agent: "append:KEY",
    takes: "an integer",
    replies: "how many numbers it has taken, and the hash of those before",
    example: "pelago agent ask append:a 7",
};

pub(super) fn kind() -> Kind {
    pelago::keyed::<Append>("append")
}

/// What the register held before the number, and how long it is with it.
#[derive(Serialize, Debug, PartialEq, Eq)]
struct Appended {
    length: u64,
    before: String,
}

impl Agent for Append {
    type Input = i64;
    type Output = Appended;

    async fn handle(&mut self, number: i64, _turn: &mut Turn) -> Result<Appended, Fault> {
        let next = chain(&self.hash, number);
        let before = std::mem::replace(&mut self.hash, next);
        self.length += 1;
        Ok(Appended { length: self.length, before })
    }
}

/// BLAKE3 of the text `BEFORE NUMBER`, the first 32 hexadecimal digits.
fn chain(before: &str, number: i64) -> String {
    let hash = blake3::hash(format!("{before} {number}").as_bytes());
    hash.to_hex()[..32].to_owned()
}
