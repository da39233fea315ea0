//! `echo` replies what it is given, byte for byte.
//!
//! A pool: every node runs copies of it, several at a time, and none remembers anything.

use pelago::{Agent, Fault, Kind, Turn};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

#[derive(Default, Serialize, Deserialize)]
struct Echo;

pub(super) fn kind() -> Kind {
    pelago::pool::<Echo>("echo")
}

impl Agent for Echo {
    type Input = Box<RawValue>;
    type Output = Box<RawValue>;

    async fn handle(&mut self, input: Box<RawValue>, _turn: &mut Turn) -> Result<Box<RawValue>, Fault> {
        Ok(input)
    }
}
