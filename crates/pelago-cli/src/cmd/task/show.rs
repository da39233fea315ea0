//! `pelago task show` and `pelago task events`

use std::time::Duration;

use pelago_api::{
    client::Client,
    model::{Payload, Task, TaskEvent, TaskEventList, words},
};
use pelago_core::id::TaskId;

use super::named::Named;
use crate::{
    exit::Exit,
    output::{Error, Output, facts},
};

pub(super) const EXAMPLES: &str = "\
Examples:
  pelago task show 0199c0ffee0123456789abcdef012345
  pelago task show 0199c0ffee01          # enough, if no other id begins so
  pelago task show 0199c0ffee0123456789abcdef012345 -o json | jq .result";

pub(super) const EVENTS_EXAMPLES: &str = "\
Examples:
  pelago task events 0199c0ffee0123456789abcdef012345
  pelago task events 0199c0ffee0123456789abcdef012345 --follow
  pelago task events 0199c0ffee0123456789abcdef012345 --after 10 -o json";

#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// The task: its id, or enough of its beginning
    #[arg(value_name = "ID")]
    id: Named,
}

#[derive(Debug, clap::Args)]
pub(crate) struct EventsArgs {
    /// The task: its id, or enough of its beginning
    #[arg(value_name = "ID")]
    id: Named,
    /// Only events after this number
    #[arg(long, value_name = "N", default_value_t = 0)]
    after: u64,
    /// Show events as they happen, until the task has ended; with `-o json`, one document a line
    #[arg(long)]
    follow: bool,
}

pub(super) async fn run(args: &ShowArgs, client: &Client, output: Output) -> Result<Exit, Error> {
    let task = client.task(args.id.find(client).await?, None).await?;
    output.document(&task, text)?;
    output.note(&format!("next: pelago task events {}      where each attempt ran, and what became of it", task.id));
    Ok(Exit::Done)
}

fn text(task: &Task) -> String {
    let placement = words::placement::as_str(task.placement);
    let payload = |payload: &Payload| payload.json().to_owned();
    let optional = [
        ("node", task.node.clone()),
        ("pinned to", task.pinned.clone()),
        ("key", task.idempotency_key.clone()),
        ("session", task.session.clone()),
        ("affinity", task.affinity.clone()),
        ("reason", task.reason.clone()),
        ("input", task.input.as_ref().map(payload)),
        ("result", task.result.as_ref().map(payload)),
    ];
    let always = [
        ("task", task.id.to_string()),
        ("agent", format!("{} ({placement})", task.agent)),
        ("state", words::task_state::as_str(task.state).to_owned()),
        ("attempts", format!("{} of {}", task.attempt, task.attempts_max)),
        ("priority", task.priority.to_string()),
        ("created", task.created.to_string()),
        ("runs from", task.run_at.to_string()),
        ("changed", task.changed.to_string()),
        ("events", task.events.to_string()),
    ];
    let optional = optional.into_iter().filter_map(|(name, value)| Some((name, value?)));
    facts(always.into_iter().chain(optional))
}

pub(super) async fn events(args: &EventsArgs, client: &Client, output: Output) -> Result<Exit, Error> {
    let id = args.id.find(client).await?;
    if args.follow {
        follow(id, args.after, client, output).await?;
    } else {
        let list = all_events(id, args.after, client).await?;
        output.document(&list, |list| list.items.iter().map(line).collect())?;
    }
    Ok(Exit::Done)
}

/// The most events of one part.
const PART_MAX: usize = 1_000;

async fn all_events(id: TaskId, after: u64, client: &Client) -> Result<TaskEventList, Error> {
    let mut list = TaskEventList { items: Vec::new(), next: after };
    loop {
        let part = client.events(id, list.next, Some(PART_MAX), None).await?;
        let is_last = part.items.len() < PART_MAX;
        list.items.extend(part.items);
        list.next = part.next;
        if is_last {
            return Ok(list);
        }
    }
}

/// How long one request waits for the next event.
const NEXT_MAX: Duration = Duration::from_secs(20);

async fn follow(id: TaskId, mut after: u64, client: &Client, output: Output) -> Result<(), Error> {
    loop {
        // Asked before the events, so that none is missed when it ends between the two.
        let has_ended = client.task(id, None).await?.state.is_ended();
        let wait = if has_ended { None } else { Some(NEXT_MAX) };
        let part = client.events(id, after, Some(PART_MAX), wait).await?;
        for event in &part.items {
            output.document(event, line)?;
        }
        after = part.next;
        if has_ended && part.items.len() < PART_MAX {
            return Ok(());
        }
    }
}

/// One event, a line: so that columns stay where they are while more follow.
fn line(event: &TaskEvent) -> String {
    let TaskEvent { n, at, attempt, event, node, note, reason } = event;
    let mut line = format!("{n:>4}  {at}  attempt {attempt:<3} {:<9}", event.as_str());
    let said = [
        node.as_ref().map(|node| format!("on {node}")),
        note.as_ref().map(|note| note.json().to_owned()),
        reason.clone(),
    ];
    for part in said.into_iter().flatten() {
        line.push_str("  ");
        line.push_str(&part);
    }
    line.truncate(line.trim_end().len());
    line.push('\n');
    line
}
