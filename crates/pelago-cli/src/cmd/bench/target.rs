//! The node that is asked, and the way to it.

use std::time::Duration;

use bytes::Bytes;
use pelago::{Mesh, TaskRequest};
use pelago_api::{client::Client, model::NewTask};
use pelago_core::id::TaskId;
use serde_json::value::RawValue;

use crate::output::Error;

/// How long one request may take.
const WAIT: Duration = Duration::from_secs(30);
/// What `echo` is given, as a JSON string.
const TEXT: &str = "\"bench\"";
/// When a task is due that is cancelled long before: in an hour.
const DELAY_MS: u64 = 3_600_000;
/// Why it is.
const WHY: &str = "it only measured";

/// A node, and the way to it.
pub(super) enum Target {
    Link(Mesh),
    Http(Client),
}

impl Target {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Link(_) => "link",
            Self::Http(_) => "http",
        }
    }

    /// Enqueues a task, and waits for its result.
    pub(super) async fn task(&self) -> Result<(), Error> {
        match self {
            Self::Link(mesh) => {
                mesh.run("echo", TEXT, TaskRequest::default(), WAIT).await?;
            }
            Self::Http(client) => {
                let new = NewTask { agent: "echo".into(), prompt: Some("bench".into()), ..NewTask::default() };
                let enqueued = client.enqueue(&new, None).await?;
                client.task(enqueued.id, Some(WAIT)).await?;
            }
        }
        Ok(())
    }

    /// Asks `echo`, which replies the same.
    pub(super) async fn echo(&self, payload: &Bytes) -> Result<(), Error> {
        match self {
            Self::Link(mesh) => {
                mesh.ask("echo", payload.clone(), WAIT).await?;
            }
            Self::Http(client) => {
                client.ask("echo", payload.clone(), None, None).await?;
            }
        }
        Ok(())
    }

    /// Tells all agents of the name `tally`. Which nodes gave no word of theirs.
    pub(super) async fn broadcast(&self, payload: &Bytes) -> Result<Vec<String>, Error> {
        Ok(match self {
            Self::Link(mesh) => {
                let reached = mesh.broadcast("tally", payload.clone()).await?;
                reached.missed.iter().map(ToString::to_string).collect()
            }
            Self::Http(client) => client.broadcast("tally", payload.clone()).await?.missed,
        })
    }

    /// Asks the counter with this number.
    pub(super) async fn turn(&self, key: u64) -> Result<(), Error> {
        let counter = format!("counter:bench-{key}");
        match self {
            Self::Link(mesh) => {
                mesh.ask(&counter, "1", WAIT).await?;
            }
            Self::Http(client) => {
                client.ask(&counter, "1", None, None).await?;
            }
        }
        Ok(())
    }

    /// Enqueues a task with so many bytes of input that is not due for long.
    pub(super) async fn enqueue(&self, bytes: u32) -> Result<TaskId, Error> {
        let input = "1".repeat(bytes as usize);
        match self {
            Self::Link(mesh) => {
                let request = TaskRequest { delay: Duration::from_millis(DELAY_MS), ..TaskRequest::default() };
                Ok(mesh.enqueue("echo", input, request).await?.task)
            }
            Self::Http(client) => {
                let input = RawValue::from_string(input).expect("digits are a number");
                let delay_ms = Some(DELAY_MS);
                let new = NewTask { agent: "echo".into(), input: Some(&input), delay_ms, ..NewTask::default() };
                Ok(client.enqueue(&new, None).await?.id)
            }
        }
    }

    /// Calls a task off.
    pub(super) async fn cancel(&self, task: TaskId) -> Result<(), Error> {
        match self {
            Self::Link(mesh) => mesh.cancel(task, Some(WHY)).await?,
            Self::Http(client) => {
                client.cancel(task, Some(WHY)).await?;
            }
        }
        Ok(())
    }
}
