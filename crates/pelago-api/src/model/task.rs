//! Tasks: what is asked for, how they stand, and what happened to them.

use std::borrow::Cow;

use pelago_core::{
    id::TaskId,
    record::{self, EventKind, PartOf, Placement, RetryPolicy, TaskState},
};
pub use pelago_node::PRIORITY_MAX;

/// The most attempts that a task may have.
pub const ATTEMPTS_MAX: u32 = 1_000;
use pelago_node::handle::{self, TaskDetail};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Payload, Timestamp, words};
use crate::text;

/// A task to be. Unset options come from the node's configuration.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTask<'a> {
    /// The agent's address: `name`, `name:key` or `node/name[:key]`.
    #[serde(borrow)]
    pub agent: Cow<'a, str>,
    /// What it is about: any JSON.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub input: Option<&'a RawValue>,
    /// The same as a text; not together with `input`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<Cow<'a, str>>,
    /// 0 is the most urgent, 4 the usual, [`PRIORITY_MAX`] the least urgent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// How long to wait before the first attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// The most attempts; at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts_max: Option<u32>,
    /// How long one attempt may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt_ms_max: Option<u64>,
    /// The pause after the first failure; doubles with each further one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_ms: Option<u64>,
    /// The session with the agent that it is a turn of.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Cow<'a, str>>,
    /// How long the session is kept after it if nobody uses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_ttl_ms: Option<u64>,
    /// Tasks and questions to the agent with the same text go to the same host of it.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Cow<'a, str>>,
}

/// A wish to call a task off.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cancel<'a> {
    /// Why, for whoever looks at the task later.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'a, str>>,
}

/// What was made of a [`NewTask`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enqueued {
    /// The task's id.
    #[serde(with = "text")]
    pub id: TaskId,
    /// Whether an earlier request with the same idempotency key made it.
    pub existing: bool,
}

impl From<handle::Enqueued> for Enqueued {
    fn from(enqueued: handle::Enqueued) -> Self {
        let handle::Enqueued { task, existing } = enqueued;
        Self { id: task, existing }
    }
}

/// A task as it stands. Lists leave `input` and `result` out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Its id.
    #[serde(with = "text")]
    pub id: TaskId,
    /// Who does it.
    pub agent: String,
    /// How that agent is placed.
    #[serde(with = "words::placement")]
    pub placement: Placement,
    /// Where it stands.
    #[serde(with = "words::task_state")]
    pub state: TaskState,
    /// The node that works on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The node it is pinned to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<String>,
    /// 0 is the most urgent.
    pub priority: u8,
    /// Attempts begun.
    pub attempt: u32,
    /// The most attempts.
    pub attempts_max: u32,
    /// How long one attempt may take.
    pub attempt_ms_max: u64,
    /// The pause after the first failure.
    pub backoff_ms: u64,
    /// The longest pause.
    pub backoff_ms_max: u64,
    /// The fencing token of the present or last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The key under which the same request is the same task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// The session with its agent that it is a turn of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// What it shares its place with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<String>,
    /// When it was enqueued.
    pub created: Timestamp,
    /// Not to be begun before this.
    pub run_at: Timestamp,
    /// When it changed its state.
    pub changed: Timestamp,
    /// How many events it has.
    pub events: u64,
    /// Why the last attempt failed, or why it was called off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Payload>,
    /// What came of it, once it is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Payload>,
}

impl Task {
    /// A task without its input and result. `node` and `pinned` are the names of its nodes.
    pub(crate) fn of_row(row: record::Task, node: Option<String>, pinned: Option<String>) -> Self {
        let record::Task {
            id,
            agent,
            placement,
            node: _,
            state,
            priority,
            run_at,
            policy,
            attempt,
            token,
            holder: _,
            idempotency,
            body: _,
            part_of,
            created,
            changed,
            events,
            notes: _,
            reason,
        } = row;
        let PartOf { trace: _, session, affinity } = part_of.as_deref().cloned().unwrap_or_default();
        let RetryPolicy { attempts_max, attempt_ms_max, backoff_ms, backoff_ms_max } = policy;
        Self {
            id,
            agent: agent.to_string(),
            placement,
            state,
            node,
            pinned,
            priority,
            attempt,
            attempts_max,
            attempt_ms_max,
            backoff_ms,
            backoff_ms_max,
            token: token.map(|token| token.to_string()),
            idempotency_key: idempotency.map(|idempotency| idempotency.key),
            session: session.map(|session| session.name.to_string()),
            affinity,
            created: created.into(),
            run_at: run_at.into(),
            changed: changed.into(),
            events,
            reason,
            input: None,
            result: None,
        }
    }

    pub(crate) fn of_detail(detail: TaskDetail, pinned: Option<String>) -> Self {
        let TaskDetail { task, node, input, result } = detail;
        let node = node.map(|name| name.as_str().to_owned());
        Self { input: Some(input.into()), result: result.map(Payload::from), ..Self::of_row(task, node, pinned) }
    }
}

/// Tasks, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskList {
    /// The tasks.
    pub items: Vec<Task>,
    /// The `cursor` of the next part; none at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What an event of a task says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Happening {
    /// It waits.
    Queued,
    /// An attempt began on `node`.
    Running,
    /// The attempt had `note` to say.
    Progress,
    /// The attempt failed or was lost for `reason`; another will follow.
    Retried,
    /// It has its result.
    Done,
    /// It failed for good, for `reason`.
    Dead,
    /// It was called off, for `reason`.
    Cancelled,
}

impl Happening {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Progress => "progress",
            Self::Retried => "retried",
            Self::Done => "done",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing follows unless somebody retries the task.
    #[must_use]
    pub const fn is_last(self) -> bool {
        match self {
            Self::Queued | Self::Running | Self::Progress | Self::Retried => false,
            Self::Done | Self::Dead | Self::Cancelled => true,
        }
    }
}

/// One numbered event of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskEvent {
    /// Its number, from 1, across attempts.
    pub n: u64,
    /// When.
    pub at: Timestamp,
    /// During which attempt.
    pub attempt: u32,
    /// What.
    pub event: Happening,
    /// The node on which the attempt began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// What the attempt had to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Payload>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl TaskEvent {
    /// `node` is the name of the node in the event.
    pub(crate) fn of_row(row: record::TaskEvent, node: Option<String>) -> Self {
        let record::TaskEvent { task: _, n, at, attempt, kind } = row;
        let (event, note, reason) = match kind {
            EventKind::Queued => (Happening::Queued, None, None),
            EventKind::Running { node: _ } => (Happening::Running, None, None),
            EventKind::Progress(note) => (Happening::Progress, Some(note.into()), None),
            EventKind::Retried { reason } => (Happening::Retried, None, Some(reason)),
            EventKind::Done => (Happening::Done, None, None),
            EventKind::Dead { reason } => (Happening::Dead, None, Some(reason)),
            EventKind::Cancelled { reason } => (Happening::Cancelled, None, Some(reason)),
        };
        Self { n, at: at.into(), attempt, event, node, note, reason }
    }
}

/// Events of a task, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskEventList {
    /// The events.
    pub items: Vec<TaskEvent>,
    /// The `after` of the next request: the number of the last event seen.
    pub next: u64,
}
