//! The rules of every durable fact.
//!
//! [`decide`] is the only place where such a rule stands: given the log's stamp, one [`Op`] and the rows as they are,
//! it answers with an [`Outcome`] and the [`Write`]s that make it true. It runs over SQLite inside the voters' state
//! machine, over a map in the simulator, and later over PostgreSQL: same rows in, same writes out.
//!
//! ```text
//!   Op ──► decide(stamp, op, rows) ──► Outcome            to whoever proposed it, after the commit
//!                       │       └────► Write, Write, …    applied in order, in the batch's transaction
//!                       └── reads what earlier items of the batch wrote
//! ```
//!
//! Two properties hold for every op. An outcome that is not a success writes nothing. And an op sent twice with the
//! same bytes (its first answer was lost) is recognised by the ids it carries and answered as the first time. (A task
//! that is cancelled and retried in turn has no such ids: there a very late second delivery counts as a new wish.)

mod agent;
mod chain;
mod connection;
mod node;
mod op;
mod outcome;
mod row;
mod session;
mod task;
#[cfg(test)]
mod tests;
mod timer;

pub use chain::Chain;
pub use op::{
    Append, Assign, BodyHash, Cancel, Claim, Connect, ConnectionChange, Dismiss, EndSession, Enqueue, Expire, Finish,
    MessageBody, NewTask, Op, PartOf, Progress, Register, Release, Remember, Remove, Retry, RetryPolicy, Return, Send,
    Sender, SessionTurn, SetTimer, Sweep, TaskSession, TimeOut, TimerChange, Turn, Verdict,
};
pub use outcome::{Outcome, Refusal};
pub use row::{
    Agent, EventKind, IdempotencyKey, Message, MessageId, Node, NodeState, Offer, Phase, Placement, Reply, Rows,
    Session, SessionEntry, Task, TaskEvent, TaskState, Timer, Write,
};

pub use session::{SESSION_BYTES_MAX, SESSION_ENTRIES_MAX, SESSION_ENTRY_BYTES_MAX, SESSION_TTL_MS_MAX, SESSIONS_MAX};

use crate::time::LogTime;

/// The most state an agent may have after a turn, in bytes.
pub const STATE_BYTES_MAX: usize = 512 << 10;
/// The largest payload of a message, a task's input or its result, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 512 << 10;
/// The most durable sends of one item.
pub const SENDS_MAX: usize = 1_000;
/// The most tasks one item may enqueue.
pub const ENQUEUES_MAX: usize = 1_000;
/// The most undelivered messages of one agent.
pub const INBOX_MESSAGES_MAX: u64 = 10_000;
/// The most dead messages that one item forgets.
pub const DISMISSED_MAX: u32 = 1_000;
/// The most events of one task; later progress is refused.
pub const EVENTS_PER_TASK_MAX: u64 = 10_000;
/// The most timers of one agent, buried ones included, and the most changes of timers in one commit.
pub const TIMERS_PER_AGENT_MAX: usize = 1_000;
/// How long a reply is kept under its idempotency key, in milliseconds.
pub const REPLY_KEPT_MS: u64 = 24 * 60 * 60 * 1_000;
/// How long a task waits that its node could not take, in milliseconds. Without a pause the scheduler would give it to
/// the same node again at once, as often as the log can carry.
pub const RETURNED_PAUSE_MS: u64 = 100;
/// The longest reason kept with a failed task, in bytes.
pub const REASON_BYTES_MAX: usize = 4 << 10;

/// Where in the log an op stands. The same on every voter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Index of the log entry.
    pub index: u64,
    /// Position of the op among the items of its entry.
    pub item: u32,
    /// The log's time.
    pub time: LogTime,
}

/// Decides one op. `writes` is empty when the outcome is not a success.
///
/// # Errors
/// Only what `rows` returns: a database that cannot be read. The caller must then drop the whole batch.
pub fn decide<R: Rows>(now: Stamp, op: &Op, rows: &R, writes: &mut Vec<Write>) -> Result<Outcome, R::Error> {
    let before = writes.len();
    let outcome = match op {
        Op::Register(op) => node::register(now, op, rows, writes),
        Op::Expire(op) => node::expire(now, op, rows, writes),
        Op::Remove(op) => node::remove(op, rows, writes),
        Op::Claim(op) => agent::claim(now, op, rows, writes),
        Op::Turn(op) => agent::turn(now, op, rows, writes),
        Op::Release(op) => agent::release(op, rows, writes),
        Op::Send(op) => agent::send(now, op, rows, writes),
        Op::Enqueue(op) => task::enqueue(now, op, rows, writes),
        Op::Assign(op) => task::assign(now, op, rows, writes),
        Op::Finish(op) => task::finish(now, op, rows, writes),
        Op::Progress(op) => task::progress(now, op, rows, writes),
        Op::Cancel(op) => task::cancel(now, op, rows, writes),
        Op::Retry(op) => task::retry(now, op, rows, writes),
        Op::TimeOut(op) => task::time_out(now, op, rows, writes),
        Op::Sweep(op) => task::sweep(now, op, rows, writes),
        Op::Dismiss(op) => agent::dismiss(op, rows, writes),
        Op::Connect(op) => connection::connect(op, rows, writes),
        Op::Append(op) => session::append(now, op, rows, writes),
        Op::EndSession(op) => session::end(op, rows, writes),
    }?;
    if !outcome.is_success() {
        writes.truncate(before);
    }
    Ok(outcome)
}
