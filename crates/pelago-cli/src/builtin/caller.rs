//! `caller` tells or asks another agent, many times in one turn: `pelago bench --same-node` measures it.
//!
//! A resident, so that what it tells is told in order.

use std::time::Instant;

use pelago::{Agent, Fault, Kind, Turn};
use serde::{Deserialize, Serialize, de::IgnoredAny};

use super::About;

/// The most calls of one turn.
pub(crate) const CALLS_MAX: u32 = 10_000;
/// The most bytes that one turn tells: they are kept until it ends.
pub(crate) const TELLS_BYTES_MAX: u32 = 4 << 20;

#[derive(Default, Serialize, Deserialize)]
struct Caller;

/// What it is asked to do.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Call {
    /// Tell an agent so many messages, each so large.
    Tell { to: String, messages: u32, bytes: u32 },
    /// Ask an agent so many times, one after the other.
    Ask { to: String, times: u32, bytes: u32 },
}

/// What it did.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Called {
    /// How many messages it told.
    pub(crate) told: u32,
    /// How long each of its questions took, in nanoseconds.
    pub(crate) nanos: Vec<u64>,
}

pub(super) const ABOUT: About = About {
    agent: "caller",
    takes: "whom to tell or ask, how often, and with how many bytes each time",
    replies: "how many it told, or how many nanoseconds each answer took",
    example: "pelago agent ask caller '{\"ask\": {\"to\": \"echo\", \"times\": 3, \"bytes\": 64}}'",
};

pub(super) fn kind() -> Kind {
    pelago::resident::<Caller>("caller")
}

impl Agent for Caller {
    type Input = Call;
    type Output = Called;

    async fn handle(&mut self, call: Call, turn: &mut Turn) -> Result<Called, Fault> {
        match call {
            Call::Tell { to, messages, bytes } => {
                check(messages, bytes)?;
                let message = text(bytes);
                for _ in 0..messages {
                    turn.tell(&to, &message)?;
                }
                Ok(Called { told: messages, nanos: Vec::new() })
            }
            Call::Ask { to, times, bytes } => {
                check(times, bytes)?;
                let question = text(bytes);
                let mut nanos = Vec::with_capacity(times as usize);
                for _ in 0..times {
                    let asked = Instant::now();
                    let IgnoredAny = turn.ask(&to, &question).await?;
                    nanos.push(u64::try_from(asked.elapsed().as_nanos()).unwrap_or(u64::MAX));
                }
                Ok(Called { told: 0, nanos })
            }
        }
    }
}

fn check(times: u32, bytes: u32) -> Result<(), Fault> {
    if times > CALLS_MAX || u64::from(times) * u64::from(bytes) > u64::from(TELLS_BYTES_MAX) {
        let most = format!("at most {CALLS_MAX} calls and {TELLS_BYTES_MAX} bytes in one turn");
        return Err(Fault::hopeless(format!("{times} calls of {bytes} bytes are too much: {most}")));
    }
    Ok(())
}

/// What is so many bytes of JSON, at least the two of an empty string.
fn text(bytes: u32) -> String {
    "1".repeat(bytes.saturating_sub(2) as usize)
}
