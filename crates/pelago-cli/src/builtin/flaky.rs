//! `flaky` fails as often as it is told and then succeeds: a task to watch retries with.
//!
//! A turn that fails leaves nothing behind, so it cannot count its failures itself. It asks a counter, because a
//! question leaves at once, whatever becomes of the turn that asks it.

use pelago::{Agent, Fault, Kind, Turn};
use serde::{Deserialize, Serialize};

use super::About;

#[derive(Default, Serialize, Deserialize)]
struct Flaky;

pub(super) const ABOUT: About = About {
    agent: "flaky",
    takes: "how many attempts of its task fail",
    replies: "how many it took",
    example: "pelago task run flaky 2 --wait",
};

pub(super) fn kind() -> Kind {
    pelago::pool::<Flaky>("flaky")
}

/// Its result.
#[derive(Serialize)]
struct Survived {
    attempts: u64,
}

impl Agent for Flaky {
    /// How many attempts fail.
    type Input = u64;
    type Output = Survived;

    async fn handle(&mut self, failures: u64, turn: &mut Turn) -> Result<Survived, Fault> {
        let task =
            turn.task().ok_or_else(|| Fault::hopeless("only a task has attempts; try `pelago task run flaky 2`"))?;
        let attempts: u64 = turn.ask(&format!("counter:flaky-{task}"), &1).await?;
        if attempts <= failures {
            return Err(Fault::new(format!("failure {attempts} of the {failures} asked for")));
        }
        Ok(Survived { attempts })
    }
}
