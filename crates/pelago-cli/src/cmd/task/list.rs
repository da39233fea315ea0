//! `pelago task ls`

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use pelago_api::{
    client::{Client, TaskQuery},
    model::{Task, TaskList, words::task_state},
};
use pelago_core::record::TaskState;

use crate::{
    cmd::paging::Paging,
    exit::Exit,
    output::{Error, Output, columns, one_line},
};

pub(super) const EXAMPLES: &str = "\
Examples:
  pelago task ls
  pelago task ls --state dead --agent flaky
  pelago task ls --all -o json | jq -r '.items[] | .id'";

#[derive(Debug, clap::Args)]
pub(crate) struct LsArgs {
    /// Only tasks in this state
    #[arg(
        long,
        value_name = "STATE",
        value_parser = PossibleValuesParser::new(task_state::ALL)
            .map(|word| task_state::parse(&word).expect("these are the words for states"))
    )]
    state: Option<TaskState>,
    /// Only tasks of agents of this name
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    #[command(flatten)]
    paging: Paging,
}

pub(super) async fn run(args: LsArgs, client: &Client, output: Output) -> Result<Exit, Error> {
    let LsArgs { state, agent, paging } = args;
    let (items, next) = paging
        .gather(async |cursor, limit| {
            let query = TaskQuery { state, agent: agent.clone(), id: None, cursor, limit: Some(limit) };
            let TaskList { items, next } = client.tasks(&query).await?;
            Ok((items, next))
        })
        .await?;
    let list = TaskList { items, next };
    output.document(&list, text)?;
    if list.next.is_some() {
        output.note("there are more; see them with --all");
    } else if list.items.is_empty() {
        output.note(match (state, agent) {
            (None, None) => "no tasks yet; try: pelago task run counter:a 1",
            (Some(_), _) | (_, Some(_)) => "no such tasks; see them all: pelago task ls",
        });
    }
    Ok(Exit::Done)
}

fn text(list: &TaskList) -> String {
    columns(["TASK", "AGENT", "STATE", "ATTEMPT", "NODE", "CREATED", "REASON"], list.items.iter().map(row))
}

fn row(task: &Task) -> [String; 7] {
    [
        task.id.to_string(),
        task.agent.clone(),
        task_state::as_str(task.state).to_owned(),
        format!("{}/{}", task.attempt, task.attempts_max),
        task.node.clone().unwrap_or_default(),
        task.created.to_string(),
        task.reason.as_deref().map_or_else(String::new, one_line),
    ]
}
