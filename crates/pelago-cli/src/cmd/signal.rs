//! `pelago signal …`

use std::{path::PathBuf, time::Duration};

use pelago_api::{
    client::Client,
    model::{Branch, NewSignal, Payload, Signal},
};
use pelago_core::id::SignalId;
use tokio::time::Instant;

use crate::{
    exit::Exit,
    input::{self, TraceArgs, duration},
    output::{Error, Output, one_line},
    problem,
};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum SignalCommand {
    /// Send a signal to an agent, and on along its connections
    ///
    /// Each agent that handles it replies, and its reply goes on to all agents that it is connected with, on whatever
    /// nodes they are. Without --wait the signal's id is shown, and `signal show ID` tells what became of it.
    #[command(after_long_help = FORWARD_EXAMPLES)]
    Forward(ForwardArgs),
    /// Show what became of a signal
    ///
    /// Any node tells, for ten minutes after it has ended, as long as the node that took it is there.
    #[command(after_long_help = SHOW_EXAMPLES)]
    Show {
        /// Its id
        #[arg(value_name = "ID")]
        id: SignalId,
        /// Wait so long for its end
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        wait: Option<Duration>,
    },
}

const FORWARD_EXAMPLES: &str = "\
Examples:
  pelago signal forward --from client --to strategic-main --content 'Design a task system' --wait
  pelago signal forward --to echo --content '{\"kind\": \"plan\"}' --hops 3 --timeout 5s --wait
  pelago signal forward --to echo --file request.json -o json";

const SHOW_EXAMPLES: &str = "\
Examples:
  pelago signal show 00000002c4a9b8f07d7a6b5c4d3e2f10
  pelago signal show 00000002c4a9b8f07d7a6b5c4d3e2f10 --wait 30s -o json | jq .whole";

#[derive(Debug, clap::Args)]
pub(crate) struct ForwardArgs {
    /// Who sends it: any name, which the agents see
    #[arg(long, value_name = "NAME", default_value = "client")]
    from: String,
    /// The agent that takes it first: NAME, NAME:KEY or NODE/NAME[:KEY]
    #[arg(long, value_name = "ADDRESS")]
    to: String,
    /// What it says: JSON, or any other text (given as a JSON string)
    #[arg(long, value_name = "TEXT", required_unless_present = "file", conflicts_with = "file")]
    content: Option<String>,
    /// What it says is text, even if it looks like JSON
    #[arg(long)]
    text: bool,
    /// A file with what it says, or - for stdin
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// Wait for its end, and show who handled it
    #[arg(long)]
    wait: bool,
    /// How long it may take, with all its branches: 10m at most
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    timeout: Duration,
    /// How many hops it may make from agent to agent, the first included: 64 at most
    #[arg(long, value_name = "N")]
    hops: Option<u32>,
    #[command(flatten)]
    trace: TraceArgs,
}

/// How long one request waits; a node waits no longer.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How much longer a signal is waited for than it may take.
const ANSWER_MAX: Duration = Duration::from_secs(1);

pub(super) async fn run(command: SignalCommand, client: &Client, output: Output) -> Result<Exit, Error> {
    match command {
        SignalCommand::Forward(args) => forward(args, client, output).await,
        SignalCommand::Show { id, wait } => {
            let signal = until_ended(client.signal(id, None).await?, wait, client).await?;
            show(&signal, wait.is_some(), output)
        }
    }
}

async fn forward(args: ForwardArgs, client: &Client, output: Output) -> Result<Exit, Error> {
    let ForwardArgs { from, to, content, text: is_text, file, wait, timeout, hops, trace } = args;
    let client = &client.clone().in_trace(trace.context());
    let text = match (content, file) {
        (Some(content), _) => content,
        (None, Some(file)) => input::text_of(&file)?,
        (None, None) => unreachable!("the command line has one of them"),
    };
    let content = if is_text { input::string(&text) } else { input::payload(&text, output)? };
    let new = NewSignal {
        from: Some(from.into()),
        to: to.into(),
        content: Some(&content),
        timeout_ms: Some(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
        hops_max: hops,
    };
    if !wait {
        let signal = client.forward(&new, None).await?;
        output.document(&signal, |signal| signal.id.to_string())?;
        output.note(&format!("next: pelago signal show {}", signal.id));
        return Ok(Exit::Done);
    }
    let wait = timeout + ANSWER_MAX;
    let signal = client.forward(&new, Some(wait.min(WAIT_MAX))).await?;
    show(&until_ended(signal, Some(wait), client).await?, true, output)
}

/// The signal once it has ended, or as it stands after `wait`.
async fn until_ended(mut signal: Signal, wait: Option<Duration>, client: &Client) -> Result<Signal, Error> {
    let Some(wait) = wait else { return Ok(signal) };
    let deadline = Instant::now() + wait;
    while !signal.ended {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        signal = client.signal(signal.id, Some(left.min(WAIT_MAX))).await?;
    }
    Ok(signal)
}

/// Shows what became of it. If it was waited for, it is to have ended well.
fn show(signal: &Signal, is_awaited: bool, output: Output) -> Result<Exit, Error> {
    output.document(signal, text)?;
    match &signal.tree {
        None if is_awaited => Err(problem::signal_goes_on(signal).into()),
        Some(tree) if signal.whole == Some(false) => {
            let mut ended_badly = Vec::new();
            problems(tree, &mut ended_badly);
            Err(problem::signal_partial(signal, &ended_badly).into())
        }
        None | Some(_) => Ok(Exit::Done),
    }
}

fn text(signal: &Signal) -> String {
    let Signal { id, from, to, node, tree, .. } = signal;
    let mut shown = format!("signal {id} from {from} to {to}, taken by {node}\n");
    match tree {
        Some(tree) => draw(tree, "", "", &mut shown),
        None => shown.push_str("it goes on\n"),
    }
    shown
}

/// A line a branch, with what follows below it.
fn draw(branch: &Branch, lead: &str, below: &str, shown: &mut String) {
    let Branch { to, node, outcome, code, reason, reply, stopped, took_us, branches, left_out } = branch;
    let mut line = format!("{lead}{to}");
    let on = node.as_ref().map(|node| format!("on {node}"));
    let code = code.as_ref().map(|code| format!("({code})"));
    let took = node.is_some().then(|| took(*took_us));
    let said = reply.as_ref().map(Payload::json).or(reason.as_deref()).map(one_line);
    let kept = stopped.then(|| "not passed on".to_owned());
    let more = (*left_out > 0).then(|| format!("{left_out} connections left out"));
    for part in [on, Some(outcome.replace('_', " ")), code, took, said, kept, more].into_iter().flatten() {
        line.push_str("  ");
        line.push_str(&part);
    }
    shown.push_str(&line);
    shown.push('\n');
    for (n, next) in branches.iter().enumerate() {
        let (lead, under) = if n + 1 == branches.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        draw(next, &format!("{below}{lead}"), &format!("{below}{under}"), shown);
    }
}

fn took(us: u64) -> String {
    format!("{}.{} ms", us / 1_000, us % 1_000 / 100)
}

/// What came to nothing, a text a branch.
fn problems(branch: &Branch, found: &mut Vec<String>) {
    if let Some(code) = &branch.code {
        let reason = branch.reason.as_deref().map(|reason| format!(": {}", one_line(reason))).unwrap_or_default();
        found.push(format!("{} {} ({code}){reason}", branch.to, branch.outcome.replace('_', " ")));
    }
    if branch.left_out > 0 {
        found.push(format!("{} left out {} connections", branch.to, branch.left_out));
    }
    branch.branches.iter().for_each(|branch| problems(branch, found));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_tree_is_drawn_with_who_handled_it_where_and_how_long() {
        let leaf = |to: &str| json!({ "to": to, "node": "n2", "outcome": "replied", "took_us": 950, "reply": 1 });
        let cut = json!({ "to": "main", "outcome": "cycle", "took_us": 0 });
        let failed = json!({ "to": "b", "node": "n1", "outcome": "failed", "code": "PLG-2023", "reason": "no", "took_us": 1_040 });
        let open = json!({ "to": "d", "outcome": "breaker_open", "code": "PLG-2041", "took_us": 7 });
        let one = json!({ "to": "a", "node": "n2", "outcome": "replied", "took_us": 2_000, "reply": "x",
                          "branches": [leaf("c"), cut], "stopped": true });
        let tree = json!({ "to": "main", "node": "n1", "outcome": "replied", "took_us": 12_345, "reply": {"n": 1},
                           "branches": [one, open, failed] });
        let tree: Branch = serde_json::from_value(tree).expect("a branch");
        let mut shown = String::new();
        draw(&tree, "", "", &mut shown);
        let expected = "\
main  on n1  replied  12.3 ms  {\"n\":1}
├─ a  on n2  replied  2.0 ms  \"x\"  not passed on
│  ├─ c  on n2  replied  0.9 ms  1
│  └─ main  cycle
├─ d  breaker open  (PLG-2041)
└─ b  on n1  failed  (PLG-2023)  1.0 ms  no
";
        assert_eq!(shown, expected);
        let mut found = Vec::new();
        problems(&tree, &mut found);
        assert_eq!(found, ["d breaker open (PLG-2041)", "b failed (PLG-2023): no"]);
    }
}
