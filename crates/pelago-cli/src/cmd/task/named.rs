//! A task as a command line names it.

use std::str::FromStr;

use pelago_api::{
    client::{Client, TaskQuery},
    model::{TaskList, words},
    problem::{Code, Problem},
};
use pelago_core::id::TaskId;

use crate::{output::Error, problem};

/// How many of the tasks that may be meant are named.
const MEANT_SHOWN: usize = 5;

/// An id, or as much of its beginning as tells it from all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named(String);

impl FromStr for Named {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() || text.len() > 32 || text.bytes().any(|byte| !byte.is_ascii_hexdigit()) {
            return Err("a task id has 32 hexadecimal digits; its first ones are enough if no other begins so");
        }
        Ok(Self(text.to_owned()))
    }
}

impl Named {
    /// The one task that is meant.
    pub(super) async fn find(&self, client: &Client) -> Result<TaskId, Error> {
        let Self(text) = self;
        if let Ok(id) = text.parse() {
            return Ok(id);
        }
        let query = TaskQuery { id: Some(text.clone()), limit: Some(MEANT_SHOWN + 1), ..TaskQuery::default() };
        let TaskList { items, .. } = client.tasks(&query).await?;
        match items.as_slice() {
            [] => {
                let hint = "tasks are forgotten some time after they ended";
                let problem =
                    Problem::new(Code::UnknownTask, format!("no task has an id that begins with {text}"), hint);
                Err(problem.with_next("pelago task ls").into())
            }
            [task] => Ok(task.id),
            several => {
                let meant = several.iter().take(MEANT_SHOWN);
                let line = |(id, agent, state)| format!("\n  {id}  {agent}, {state}");
                let meant = meant.map(|task| line((task.id, &task.agent, words::task_state::as_str(task.state))));
                let more = if several.len() > MEANT_SHOWN { "\n  …" } else { "" };
                let meant = meant.collect::<String>() + more;
                Err(problem::ambiguous_task(text, &meant).into())
            }
        }
    }
}
