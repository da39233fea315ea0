//! What an activation is told, what it wants, and its limits.

use std::time::Duration;

use bytes::Bytes;

use super::{Envelope, Failure, Produced, Ticket};
use crate::{
    id::{FencingToken, TaskId, TurnId},
    message::ToTell,
    record::{self, Op, Outcome},
};

/// Limits of an activation.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// The most messages that wait; more are refused as busy.
    pub mailbox_max: usize,
    /// The most turns in one commit.
    pub turns_per_commit_max: u64,
    /// How long turns may gather before their commit, so that a slow turn does not hold up the replies of others.
    pub gather_max: Duration,
    /// How long an agent without messages stays.
    pub idle_after: Duration,
    /// How long an unanswered proposal waits before it is proposed again.
    pub resend_after: Duration,
    /// The longest turn that is not part of a task.
    pub turn_max: Duration,
    /// How often a durable message is tried before it is buried.
    pub message_attempts_max: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mailbox_max: 1_024,
            turns_per_commit_max: 64,
            gather_max: Duration::from_millis(2),
            idle_after: Duration::from_mins(5),
            resend_after: Duration::from_secs(2),
            turn_max: Duration::from_mins(1),
            message_attempts_max: 5,
        }
    }
}

/// Names a proposal within its activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Proposal(pub u64);

/// What an activation is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Something to do.
    Deliver(Envelope),
    /// The answer to [`Effect::Load`].
    Loaded(Option<Loaded>),
    /// An answer to [`Effect::Propose`]. Only the first one counts, and only while its proposal is the present one.
    Decided {
        /// Which proposal.
        proposal: Proposal,
        /// What became of it.
        outcome: Outcome,
    },
    /// The answer to [`Effect::Run`].
    TurnEnded(Result<Produced, Failure>),
    /// Another answer to [`Effect::Run`]: nobody wants the turn any more, and it has not begun.
    NotWanted,
    /// An attempt was called off or taken away.
    TaskGone {
        /// The task.
        task: TaskId,
        /// The attempt.
        token: FencingToken,
    },
    /// The turn of a session is to have no effect, if it is not over.
    Interrupt(TurnId),
    /// Put the agent away once the present turn has ended.
    Drain,
    /// The node may not act any more.
    Stop,
}

/// What the row said when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The agent's row.
    pub row: record::Agent,
    /// Whether its holder, another run than this, may still act.
    pub held_elsewhere: bool,
}

/// What the driver of an activation must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Drop the memory and read row and state anew.
    Load,
    /// Propose; report the outcome. Sent twice, it has identical bytes.
    Propose {
        /// Names the proposal, so that its answer is not taken for another's.
        proposal: Proposal,
        /// What to propose.
        op: Op,
    },
    /// Run the behaviour; report how the turn ended.
    Run(Envelope),
    /// Stop the behaviour and take its memory back to the last turn that counts. Its end is not reported.
    Abort,
    /// Take the memory back to the last turn that counts.
    RollBack,
    /// Answer a delivery, or learn that it had no effect.
    Answer {
        /// Which.
        ticket: Ticket,
        /// The reply.
        answer: Result<Bytes, Failure>,
    },
    /// Tell other agents these things, after all that was told before: the turn counts.
    Tell(ToTell),
    /// Deliver a durable message again after a pause.
    Again(Envelope),
    /// The activation is over: nothing more will happen.
    Gone,
}
