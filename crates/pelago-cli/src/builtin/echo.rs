//! `echo` replies the JSON that it is given, byte for byte.
//!
//! A pool: every node runs copies of it, several at a time, and none remembers anything.

use std::num::NonZeroU32;

use pelago::{Agent, Fault, Kind, Turn};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::About;

/// Its turns cost next to nothing, so many may run at a time.
const TURNS_MAX: NonZeroU32 = NonZeroU32::new(512).expect("it is not 0");

#[derive(Default, Serialize, Deserialize)]
struct Echo;

pub(super) const ABOUT: About = About {
    agent: "echo",
    takes: "any JSON",
    replies: "the same, byte for byte",
    example: "pelago agent ask echo '{\"text\": \"hello\"}'",
};

pub(super) fn kind() -> Kind {
    pelago::pool::<Echo>("echo").at_most(TURNS_MAX)
}

impl Agent for Echo {
    type Input = Box<RawValue>;
    type Output = Box<RawValue>;

    async fn handle(&mut self, input: Box<RawValue>, _turn: &mut Turn) -> Result<Box<RawValue>, Fault> {
        Ok(input)
    }
}
