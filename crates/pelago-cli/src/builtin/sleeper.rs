//! `sleeper` sleeps for the milliseconds it is given and tells how far it is: a task to watch, cancel or lose a node
//! under.

use std::time::Duration;

use pelago::{Agent, Fault, Kind, Turn};
use serde::{Deserialize, Serialize};

use super::About;

/// How many times it reports.
const REPORTS: u32 = 4;

#[derive(Default, Serialize, Deserialize)]
struct Sleeper;

pub(super) const ABOUT: About = About {
    agent: "sleeper",
    takes: "milliseconds to sleep",
    replies: "the same, once they are over",
    example: "pelago task run sleeper 500 --wait",
};

pub(super) fn kind() -> Kind {
    pelago::pool::<Sleeper>("sleeper")
}

/// What it says on its way.
#[derive(Serialize)]
struct Progress {
    percent: u32,
}

impl Agent for Sleeper {
    type Input = u64;
    type Output = u64;

    async fn handle(&mut self, ms: u64, turn: &mut Turn) -> Result<u64, Fault> {
        for report in 1..=REPORTS {
            tokio::time::sleep(Duration::from_millis(ms) / REPORTS).await;
            turn.progress(&Progress { percent: 100 * report / REPORTS }).await?;
        }
        Ok(ms)
    }
}
