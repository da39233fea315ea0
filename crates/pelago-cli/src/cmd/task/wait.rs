//! `pelago task wait`, and `--wait` of other commands.

use std::time::{Duration, Instant};

use pelago_api::{
    client::Client,
    model::{Payload, Task},
};
use pelago_core::id::TaskId;

use super::named::Named;
use crate::{
    exit::Exit,
    input::duration,
    output::{Error, Output},
    problem,
};

pub(super) const EXAMPLES: &str = "\
Examples:
  pelago task wait 0199c0ffee0123456789abcdef012345
  pelago task wait 0199c0ffee0123456789abcdef012345 --timeout 30s
  pelago task wait 0199c0ffee0123456789abcdef012345 -o json | jq .result";

#[derive(Debug, clap::Args)]
pub(crate) struct WaitArgs {
    /// The task: its id, or enough of its beginning
    #[arg(value_name = "ID")]
    id: Named,
    /// How long to wait; without it, for as long as it takes
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
}

/// `--wait` of a command that sets a task going.
#[derive(Debug, clap::Args)]
pub(super) struct AndWait {
    /// Wait until it has ended and show its result; for so long at most, if a duration follows
    #[arg(long, value_name = "DURATION", require_equals = true, value_parser = duration)]
    wait: Option<Option<Duration>>,
}

impl AndWait {
    /// Whether to wait, and for how long if not for as long as it takes.
    pub(super) fn limit(&self) -> Option<Option<Duration>> {
        self.wait
    }
}

pub(super) async fn run(args: &WaitArgs, client: &Client, output: Output) -> Result<Exit, Error> {
    until_ended(args.id.find(client).await?, args.timeout, client, output).await
}

/// Waits until a task has ended, for `limit` at most, and shows it as it stands then: its result to people, the whole
/// task to programs.
pub(super) async fn until_ended(
    id: TaskId,
    limit: Option<Duration>,
    client: &Client,
    output: Output,
) -> Result<Exit, Error> {
    let start = Instant::now();
    let task = wait_for(id, limit, start, client).await?;
    output.document(&task, |task| task.result.as_ref().map_or("", Payload::json).to_owned())?;
    if !task.state.is_ended() {
        return Err(problem::waited_out(&task, start.elapsed()).into());
    }
    match problem::ended_badly(&task) {
        Some(problem) => Err(problem.into()),
        None => Ok(Exit::Done),
    }
}

/// The longest part of a wait that is one request: a node waits no longer than a minute, and a node that dies on the
/// way is noticed the sooner.
const PART_MAX: Duration = Duration::from_secs(20);

async fn wait_for(id: TaskId, limit: Option<Duration>, start: Instant, client: &Client) -> Result<Task, Error> {
    loop {
        let part = limit.map_or(PART_MAX, |limit| PART_MAX.min(limit.saturating_sub(start.elapsed())));
        let task = client.task(id, Some(part)).await?;
        if task.state.is_ended() || limit.is_some_and(|limit| start.elapsed() >= limit) {
            return Ok(task);
        }
    }
}
