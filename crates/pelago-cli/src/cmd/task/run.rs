//! `pelago task run`

use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use pelago_api::{
    client::Client,
    model::{ATTEMPTS_MAX, Enqueued, NewTask, PRIORITY_MAX},
};

use super::wait::{self, AndWait};
use crate::{
    exit::Exit,
    input::{InputArgs, TraceArgs, duration},
    output::{Error, Output},
};

pub(super) const EXAMPLES: &str = "\
Examples:
  pelago task run counter:a 1
  pelago task run flaky 2 --wait                 # fails twice, then succeeds; shows the result
  pelago task run sleeper 5000 --wait=10s
  pelago task run echo 'not JSON, so it goes as a string' --wait
  pelago task run reader @request.json --attempts 2 --attempt-limit 10s
  pelago task run counter:a 1 --key order-17     # again with this key: the same task
  pelago task run sleeper 100 --delay 1h --priority 0
  pelago task run chat hello --session s1        # a turn of the conversation that `agent ask --session s1` goes on with
  echo '[1, 2]' | pelago task run echo - --wait";

#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// Who does it: NAME, NAME:KEY or NODE/NAME[:KEY]
    #[arg(value_name = "AGENT")]
    agent: String,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    wait: AndWait,
    /// The same key with the same agent, input and options is the same task
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// From 0, the most urgent, to 9; 4 is the usual
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(..=i64::from(PRIORITY_MAX)))]
    priority: Option<u8>,
    /// Wait so long before the first attempt
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    delay: Option<Duration>,
    /// Try it so many times before it is dead
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(ATTEMPTS_MAX)))]
    attempts: Option<u32>,
    /// How long one attempt may take
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    attempt_limit: Option<Duration>,
    /// The conversation with the agent that it is a turn of: it waits for its turn, and sees what was said before
    #[arg(long, value_name = "NAME", conflicts_with = "affinity")]
    session: Option<String>,
    /// Keep the session for so long after it if nobody uses it
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "session")]
    session_ttl: Option<Duration>,
    /// What has the same text here goes to the same node
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    affinity: Option<String>,
    #[command(flatten)]
    trace: TraceArgs,
}

pub(super) async fn run(args: RunArgs, client: &Client, output: Output) -> Result<Exit, Error> {
    let json = args.input.read(output)?;
    if let (Some(input), Some(None)) = (args.input.written(), args.wait.limit())
        && duration(input).is_ok()
    {
        output.note(&format!("{input} is the input; to wait for so long at most, write --wait={input}"));
    }
    let task = NewTask {
        agent: args.agent.as_str().into(),
        input: Some(&json),
        prompt: None,
        priority: args.priority,
        delay_ms: args.delay.map(millis),
        attempts_max: args.attempts,
        attempt_ms_max: args.attempt_limit.map(millis),
        backoff_ms: None,
        session: args.session.as_deref().map(Into::into),
        session_ttl_ms: args.session_ttl.map(millis),
        affinity: args.affinity.as_deref().map(Into::into),
    };
    let client = &client.clone().in_trace(args.trace.context());
    let enqueued = client.enqueue(&task, args.key.as_deref()).await?;
    if enqueued.existing {
        output.note("an earlier request had this key; this is its task");
    }
    match args.wait.limit() {
        Some(limit) => {
            output.note(&format!("task {} is durable, and goes on whether or not anybody waits", enqueued.id));
            wait::until_ended(enqueued.id, limit, client, output).await
        }
        None => tell(&enqueued, output),
    }
}

fn tell(enqueued: &Enqueued, output: Output) -> Result<Exit, Error> {
    output.document(enqueued, |enqueued| enqueued.id.to_string())?;
    output.note(&format!("next: pelago task wait {}", enqueued.id));
    Ok(Exit::Done)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("a duration of the command line is short enough")
}
