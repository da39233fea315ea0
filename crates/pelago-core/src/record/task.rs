//! Rules of tasks: one result each, attempts fenced by tokens, keys that make a request the same task.
//!
//! ```text
//!             assign                 done
//!   queued ───────────► running ───────────► done
//!     ▲  ▲                │ │ failed, no attempt left
//!     │  └── failed, lost,┘ └──────────────► dead
//!     │      timed out       (cancel: from queued or running, and if wanted from dead ► cancelled)
//!     └──── retry: from dead or cancelled
//! ```

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Assign, Cancel, ENQUEUES_MAX, EVENTS_PER_TASK_MAX, Enqueue, Finish, NewTask, Outcome, PAYLOAD_BYTES_MAX, Progress,
    REASON_BYTES_MAX, RETURNED_PAUSE_MS, Refusal, Retry, Return, Sender, Stamp, Sweep, TimeOut, Verdict,
    agent::{self, Step},
    node,
    row::{EventKind, Placement, Rows, Task, TaskEvent, TaskState, Write},
    session,
};
use crate::id::{FencingToken, Holder, Incarnation, TaskId, Version};

/// Enqueues a task; assigns it too when the proposer named a node and that node still lives.
pub(super) fn enqueue<R: Rows>(
    now: Stamp,
    op: &Enqueue,
    rows: &R,
    writes: &mut Vec<Write>,
) -> Result<Outcome, R::Error> {
    if let Some(row) = rows.task(op.task.id)? {
        return Ok(Outcome::Enqueued { token: row.token.filter(|_| row.state == TaskState::Running) });
    }
    let mut task = match admit(now, &op.task, rows, writes)? {
        Ok(task) => task,
        Err(refused) => return Ok(refused),
    };
    let mut events = Vec::new();
    event(now, &mut task, EventKind::Queued, &mut events);
    let mut token = None;
    if let Some(holder) = op.assign
        && may_run_on(&task, holder)
        && task.run_at <= now.time
        && node::is_live(holder, rows)?
    {
        token = Some(begin(now, &mut task, holder, &mut events));
    }
    writes.push(Write::NewTask { task: Arc::new(task), input: op.task.input.clone() });
    writes.append(&mut events);
    Ok(Outcome::Enqueued { token })
}

/// Enqueues the tasks of a turn or a result. A key that is known stands for the earlier task: nothing is done twice.
pub(super) fn enqueue_all<R: Rows>(
    now: Stamp,
    tasks: &[NewTask],
    rows: &R,
    writes: &mut Vec<Write>,
) -> Result<Step, R::Error> {
    if let Err(refused) = agent::fits("the tasks of one commit", tasks.len(), ENQUEUES_MAX) {
        return Ok(Err(refused));
    }
    for new in tasks {
        if rows.task(new.id)?.is_some() || writes.iter().any(|write| write.is_of_task(new.id)) {
            continue;
        }
        match admit(now, new, rows, writes)? {
            Ok(mut task) => {
                let mut events = Vec::new();
                event(now, &mut task, EventKind::Queued, &mut events);
                writes.push(Write::NewTask { task: Arc::new(task), input: new.input.clone() });
                writes.append(&mut events);
            }
            Err(Outcome::Existing { .. }) => {}
            Err(refused) => return Ok(Err(refused)),
        }
    }
    Ok(Ok(()))
}

/// The row of a task whose id is new, unless its key stands for an earlier one.
fn admit<R: Rows>(now: Stamp, new: &NewTask, rows: &R, writes: &[Write]) -> Result<Step<Task>, R::Error> {
    if let Err(refused) = agent::fits("the task's input", new.input.len(), PAYLOAD_BYTES_MAX) {
        return Ok(Err(refused));
    }
    if let Some(key) = &new.idempotency {
        let in_rows = rows.task_keyed(key)?;
        // `rows` does not show what this very op writes.
        let mut new_tasks = writes.iter().filter_map(Write::new_task);
        let in_op = new_tasks.find(|task| task.idempotency.as_ref() == Some(key));
        if let Some(earlier) = in_rows.as_ref().or(in_op) {
            return Ok(Err(if earlier.body == new.body {
                Outcome::Existing { task: earlier.id }
            } else {
                Outcome::Refused(Refusal::Conflict { key: key.key.clone() })
            }));
        }
    }
    Ok(Ok(Task {
        id: new.id,
        agent: new.agent.clone(),
        placement: new.placement,
        node: new.node,
        state: TaskState::Queued,
        priority: new.priority,
        run_at: now.plus_millis(new.delay_ms),
        policy: new.policy,
        attempt: 0,
        token: None,
        holder: None,
        idempotency: new.idempotency.clone(),
        body: new.body,
        part_of: new.part_of.clone(),
        created: now.time,
        changed: now.time,
        events: 0,
        notes: 0,
        reason: None,
    }))
}

/// Gives a queued task to a node.
pub(super) fn assign<R: Rows>(now: Stamp, op: &Assign, rows: &R, writes: &mut Vec<Write>) -> Result<Outcome, R::Error> {
    let Some(mut row) = rows.task(op.task)? else {
        return Ok(Outcome::Refused(Refusal::NoTask(op.task)));
    };
    if let (TaskState::Running, Some(token)) = (row.state, row.token)
        && row.holder == Some(op.holder)
    {
        return Ok(Outcome::Assigned { token, attempt: row.attempt });
    }
    if row.state != TaskState::Queued || !may_run_on(&row, op.holder) {
        return Ok(wrong_state(&row));
    }
    if row.run_at > now.time {
        return Ok(Outcome::Refused(Refusal::TooEarly));
    }
    if !node::is_live(op.holder, rows)? {
        return Ok(Outcome::Refused(Refusal::HolderGone(op.holder)));
    }
    let task = Arc::make_mut(&mut row);
    let mut events = Vec::new();
    let token = begin(now, task, op.holder, &mut events);
    let attempt = task.attempt;
    writes.push(Write::Task { task: row, result: None });
    writes.append(&mut events);
    Ok(Outcome::Assigned { token, attempt })
}

/// A keyed agent has one place. A pin says only where it begins if no node has it.
fn may_run_on(task: &Task, holder: Holder) -> bool {
    task.placement == Placement::Keyed || task.node.is_none_or(|pinned| pinned == holder.node)
}

/// Begins an attempt. It counts from here, so that a task that kills its node uses its attempts up.
fn begin(now: Stamp, task: &mut Task, holder: Holder, events: &mut Vec<Write>) -> FencingToken {
    let token = FencingToken { index: now.index, item: now.item };
    task.state = TaskState::Running;
    task.attempt += 1;
    task.token = Some(token);
    task.holder = Some(holder);
    task.changed = now.time;
    task.notes = 0;
    event(now, task, EventKind::Running { node: holder.node }, events);
    token
}

/// Ends an attempt outside a turn, with what it sends and enqueues.
pub(super) fn finish<R: Rows>(now: Stamp, op: &Finish, rows: &R, writes: &mut Vec<Write>) -> Result<Outcome, R::Error> {
    if let Some(row) = rows.task(op.task)?
        && row.token == Some(op.token)
        && row.state != TaskState::Running
    {
        return Ok(Outcome::Committed);
    }
    if let Err(refused) = end_attempt(now, op, rows, writes)? {
        return Ok(refused);
    }
    if let Some(append) = &op.append
        && let Err(refused) = session::append_entry(now, 0, append, rows, writes)?
    {
        return Ok(refused);
    }
    let from = agent::From { sender: Sender::Task(op.task), generation: op.token.index, version: Version(0) };
    if let Err(refused) = agent::send_all(now, &from, &op.sends, rows, writes)? {
        return Ok(refused);
    }
    Ok(match enqueue_all(now, &op.enqueues, rows, writes)? {
        Ok(()) => Outcome::Committed,
        Err(refused) => refused,
    })
}

/// Ends the attempt that `op.token` names, and no other.
pub(super) fn end_attempt<R: Rows>(
    now: Stamp,
    op: &Finish,
    rows: &R,
    writes: &mut Vec<Write>,
) -> Result<Step, R::Error> {
    // `rows` does not show what this very op writes.
    let ended_before = writes.iter().any(|write| write.is_of_task(op.task));
    let mut row = match rows.task(op.task)? {
        Some(row) if takes_result(&row, op.token) && !ended_before => row,
        Some(_) | None => return Ok(Err(stale(op.task, op.token))),
    };
    let task = Arc::make_mut(&mut row);
    let mut events = Vec::new();
    let mut result = None;
    match &op.verdict {
        Verdict::Done(bytes) => {
            if let Err(refused) = agent::fits("the task's result", bytes.len(), PAYLOAD_BYTES_MAX) {
                return Ok(Err(refused));
            }
            result = Some(bytes.clone());
            end(now, task, TaskState::Done, None, EventKind::Done, &mut events);
        }
        Verdict::Failed { reason, retry_after_ms } => {
            fail(now, task, reason, *retry_after_ms, &mut events);
        }
        Verdict::Hopeless { reason } => die(now, task, reason, &mut events),
        Verdict::Returned(why) => {
            let (reason, after_ms) = match why {
                Return::NotTaken => ("the node could not take it", RETURNED_PAUSE_MS),
                Return::SessionBusy => ("its session was busy for too long", RETURNED_PAUSE_MS),
                Return::Interrupted => ("a question of its session interrupted it", 0),
            };
            hand_back(now, task, reason, after_ms, &mut events);
        }
    }
    writes.push(Write::Task { task: row, result });
    writes.append(&mut events);
    Ok(Ok(()))
}

fn takes_result(task: &Task, token: FencingToken) -> bool {
    if cfg!(planted = "late_result_accepted") {
        return !task.state.is_ended();
    }
    is_present(task, token)
}

/// Whether `token` names the attempt under way. Anything else is a late or a repeated result.
fn is_present(task: &Task, token: FencingToken) -> bool {
    task.state == TaskState::Running && task.token == Some(token)
}

fn fail(now: Stamp, task: &mut Task, reason: &str, retry_after_ms: u64, events: &mut Vec<Write>) {
    if task.attempt >= task.policy.attempts_max {
        die(now, task, reason, events);
    } else {
        again(now, task, reason, retry_after_ms, events);
    }
}

/// The attempt does not count.
fn hand_back(now: Stamp, task: &mut Task, reason: &str, after_ms: u64, events: &mut Vec<Write>) {
    task.attempt -= 1;
    again(now, task, reason, after_ms, events);
}

fn again(now: Stamp, task: &mut Task, reason: &str, after_ms: u64, events: &mut Vec<Write>) {
    // Without a pause it keeps its place in the queue: what waited longer goes first, whoever lost it.
    if after_ms > 0 {
        task.run_at = now.plus_millis(after_ms);
    }
    let reason = short(reason);
    end(now, task, TaskState::Queued, Some(reason.clone()), EventKind::Retried { reason }, events);
}

fn die(now: Stamp, task: &mut Task, reason: &str, events: &mut Vec<Write>) {
    let reason = short(reason);
    end(now, task, TaskState::Dead, Some(reason.clone()), EventKind::Dead { reason }, events);
}

fn end(
    now: Stamp,
    task: &mut Task,
    state: TaskState,
    reason: Option<String>,
    kind: EventKind,
    events: &mut Vec<Write>,
) {
    task.state = state;
    task.holder = None;
    task.changed = now.time;
    task.reason = reason;
    event(now, task, kind, events);
}

/// Why a run is over that has tasks.
#[derive(Debug, Clone, Copy)]
pub(super) enum Over {
    /// It was not heard any more.
    Lost,
    /// Its node began another.
    Restarted,
    /// It said so itself.
    Left,
}

/// Takes the tasks of a run that is over away from it, and queues them at once. Their attempts count, since any of them
/// may be what ended the run; but not if it ended itself, which no task can make it do.
pub(super) fn free_all<R: Rows>(
    now: Stamp,
    incarnation: Incarnation,
    over: Over,
    rows: &R,
    writes: &mut Vec<Write>,
) -> Result<Vec<TaskId>, R::Error> {
    let mut freed = Vec::new();
    for mut row in rows.tasks_held_by(incarnation)? {
        let task = Arc::make_mut(&mut row);
        let mut events = Vec::new();
        match over {
            Over::Lost => fail(now, task, "its node was lost", 0, &mut events),
            Over::Restarted => fail(now, task, "its node was restarted", 0, &mut events),
            Over::Left if cfg!(planted = "leaving_counts") => fail(now, task, "its node was stopped", 0, &mut events),
            Over::Left => hand_back(now, task, "its node was stopped", 0, &mut events),
        }
        task.token = None;
        if task.state == TaskState::Queued {
            freed.push(task.id);
        }
        writes.push(Write::Task { task: row, result: None });
        writes.append(&mut events);
    }
    Ok(freed)
}

/// Adds notes to the events of the attempt under way.
pub(super) fn progress<R: Rows>(
    now: Stamp,
    op: &Progress,
    rows: &R,
    writes: &mut Vec<Write>,
) -> Result<Outcome, R::Error> {
    let mut row = match rows.task(op.task)? {
        Some(row) if is_present(&row, op.token) => row,
        Some(_) | None => return Ok(stale(op.task, op.token)),
    };
    let bytes: usize = op.notes.iter().map(Bytes::len).sum();
    if let Err(refused) = agent::fits("the progress", bytes, PAYLOAD_BYTES_MAX) {
        return Ok(refused);
    }
    let task = Arc::make_mut(&mut row);
    let mut events = Vec::new();
    for (n, note) in (op.first..).zip(&op.notes) {
        if n < task.notes {
            continue;
        }
        if task.events >= EVENTS_PER_TASK_MAX {
            return Ok(Outcome::Refused(Refusal::TooLarge {
                what: "the task's list of events",
                bytes: task.events + 1,
                bytes_max: EVENTS_PER_TASK_MAX,
            }));
        }
        task.notes = n + 1;
        event(now, task, EventKind::Progress(note.clone()), &mut events);
    }
    writes.push(Write::Task { task: row, result: None });
    writes.append(&mut events);
    Ok(Outcome::Committed)
}

/// Calls a task off. The attempt under way loses its token; a dead task is nobody's problem any more.
pub(super) fn cancel<R: Rows>(now: Stamp, op: &Cancel, rows: &R, writes: &mut Vec<Write>) -> Result<Outcome, R::Error> {
    let Some(mut row) = rows.task(op.task)? else {
        return Ok(Outcome::Refused(Refusal::NoTask(op.task)));
    };
    match row.state {
        TaskState::Cancelled => return Ok(Outcome::Committed),
        TaskState::Queued | TaskState::Running => {}
        TaskState::Dead if op.dead_too => {}
        TaskState::Done | TaskState::Dead => return Ok(wrong_state(&row)),
    }
    let task = Arc::make_mut(&mut row);
    let mut events = Vec::new();
    let reason = short(&op.reason);
    end(now, task, TaskState::Cancelled, Some(reason.clone()), EventKind::Cancelled { reason }, &mut events);
    task.token = None;
    writes.push(Write::Task { task: row, result: None });
    writes.append(&mut events);
    Ok(Outcome::Committed)
}

/// Starts a dead or cancelled task afresh, with all its attempts.
pub(super) fn retry<R: Rows>(now: Stamp, op: &Retry, rows: &R, writes: &mut Vec<Write>) -> Result<Outcome, R::Error> {
    let Some(mut row) = rows.task(op.task)? else {
        return Ok(Outcome::Refused(Refusal::NoTask(op.task)));
    };
    match row.state {
        TaskState::Queued if row.attempt == 0 => return Ok(Outcome::Committed),
        TaskState::Queued | TaskState::Running | TaskState::Done => return Ok(wrong_state(&row)),
        TaskState::Dead | TaskState::Cancelled => {}
    }
    let task = Arc::make_mut(&mut row);
    let mut events = Vec::new();
    task.attempt = 0;
    task.token = None;
    task.run_at = now.time;
    end(now, task, TaskState::Queued, None, EventKind::Queued, &mut events);
    writes.push(Write::Task { task: row, result: None });
    writes.append(&mut events);
    Ok(Outcome::Committed)
}

/// Ends an attempt that is past its limit by the log's time, whatever its node believes.
pub(super) fn time_out<R: Rows>(
    now: Stamp,
    op: &TimeOut,
    rows: &R,
    writes: &mut Vec<Write>,
) -> Result<Outcome, R::Error> {
    let mut row = match rows.task(op.task)? {
        Some(row) if is_present(&row, op.token) => row,
        Some(_) | None => return Ok(stale(op.task, op.token)),
    };
    if now.time < row.changed.plus_millis(row.policy.attempt_ms_max) {
        return Ok(Outcome::Refused(Refusal::TooEarly));
    }
    let task = Arc::make_mut(&mut row);
    let mut events = Vec::new();
    let reason = format!("the attempt took longer than {} ms", task.policy.attempt_ms_max);
    fail(now, task, &reason, op.retry_after_ms, &mut events);
    task.token = None;
    writes.push(Write::Task { task: row, result: None });
    writes.append(&mut events);
    Ok(Outcome::Committed)
}

/// Forgets what ended long ago.
pub(super) fn sweep<R: Rows>(now: Stamp, op: &Sweep, rows: &R, writes: &mut Vec<Write>) -> Result<Outcome, R::Error> {
    let before = writes.len();
    for (ended_before, keyed) in [(op.ended_before, false), (op.keyed_ended_before, true)] {
        // Whatever the proposer computed, nothing is forgotten before its time has passed in the log.
        let ended_before = ended_before.min(now.time);
        writes.extend(rows.tasks_ended(ended_before, keyed, op.rows_max)?.into_iter().map(Write::TaskGone));
    }
    writes.extend(rows.replies_expired(now.time, op.rows_max)?.into_iter().map(Write::ReplyGone));
    let entries = session::sweep(now, op.rows_max, rows, writes)?;
    Ok(Outcome::Swept { rows: (writes.len() - before) as u64 + entries })
}

fn event(now: Stamp, task: &mut Task, kind: EventKind, events: &mut Vec<Write>) {
    task.events += 1;
    events.push(Write::Event(TaskEvent { task: task.id, n: task.events, at: now.time, attempt: task.attempt, kind }));
}

/// Cuts a reason to its limit, at a character.
pub(super) fn short(reason: &str) -> String {
    if reason.len() <= REASON_BYTES_MAX {
        return reason.to_owned();
    }
    let cut = (0..=REASON_BYTES_MAX).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or(0);
    reason[..cut].to_owned()
}

fn stale(task: TaskId, token: FencingToken) -> Outcome {
    Outcome::Refused(Refusal::StaleToken { task, token })
}

fn wrong_state(task: &Task) -> Outcome {
    Outcome::Refused(Refusal::WrongState { task: task.id, state: task.state.name() })
}

impl TaskState {
    /// The state as users see it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }
}
