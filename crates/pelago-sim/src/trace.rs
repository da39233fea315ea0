//! What happened, a line a step, for those who ask: most runs pass and nobody reads them.

use std::fmt;

use pelago_core::{
    record::{Op, Outcome},
    time::Time,
};

use crate::network::Packet;

#[derive(Debug)]
pub(crate) struct Trace {
    on: bool,
    pub(crate) lines: Vec<String>,
}

impl Trace {
    pub(crate) fn new(on: bool) -> Self {
        Self { on, lines: Vec::new() }
    }

    pub(crate) fn note(&mut self, now: Time, line: impl FnOnce() -> String) {
        if self.on {
            let micros = now.as_micros();
            self.lines.push(format!("{:4}.{:06} {}", micros / 1_000_000, micros % 1_000_000, line()));
        }
    }
}

/// An op in a few words.
pub(crate) struct Short<'a>(pub(crate) &'a Op);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Op::Register(op) => write!(f, "register {} boot {:.8}", op.name, op.boot.to_string()),
            Op::Expire(op) if op.left => write!(f, "{} leaves", op.holder),
            Op::Expire(op) => write!(f, "expire {}", op.holder),
            Op::Remove(op) => write!(f, "remove node {}", op.node),
            Op::Claim(op) => write!(f, "claim {} after epoch {} for {}", op.agent, op.seen, op.holder),
            Op::Turn(op) => write!(
                f,
                "{} turns of {} at epoch {} version {} by {}, {} messages, {} buried, {} results",
                op.turns,
                op.agent,
                op.epoch,
                op.version,
                op.holder,
                op.consumed.len(),
                op.buried.len(),
                op.finishes.len()
            ),
            Op::Release(op) => write!(f, "release {} at epoch {}", op.agent, op.epoch),
            Op::Send(op) => write!(f, "send {:?} to {}", op.body.payload, op.body.to),
            Op::Enqueue(op) => write!(f, "enqueue {} {:?} for {}", op.task.id, op.task.input, op.task.agent),
            Op::Assign(op) => write!(f, "assign {} to {}", op.task, op.holder),
            Op::Finish(op) => write!(f, "finish {} {} {:?}", op.task, op.token, op.verdict),
            Op::Progress(op) => write!(f, "progress of {} {}", op.task, op.token),
            Op::Cancel(op) => write!(f, "cancel {}", op.task),
            Op::Retry(op) => write!(f, "retry {}", op.task),
            Op::TimeOut(op) => write!(f, "time out {} {}", op.task, op.token),
            Op::Sweep(_) => f.write_str("sweep"),
            Op::Dismiss(op) => write!(f, "dismiss dead messages of {}", op.agent),
            Op::Append(op) => write!(f, "append to session {} after {}", op.turn.session, op.turn.seen),
            Op::EndSession(op) => write!(f, "end session {}", op.session),
            Op::Connect(op) => write!(f, "connect {} to {}: {:?}", op.from, op.to, op.change),
        }
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Raft(message) => message.fmt(f),
            Self::Propose { key, op } => write!(f, "propose {}.{}: {}", key.activation, key.proposal.0, Short(op)),
            Self::Decided { key, outcome } => {
                write!(f, "decided {}.{}: {}", key.activation, key.proposal.0, Result(outcome))
            }
            Self::Heartbeat { holder, beat, draining } => {
                write!(f, "heartbeat {} of {holder}{}", beat.0, if *draining { ", which drains" } else { "" })
            }
            Self::Granted { holder, beat, .. } => write!(f, "heartbeat {} of {holder} is granted", beat.0),
            Self::Over { holder } => write!(f, "{holder} is over"),
            Self::Load { activation, load, agent, .. } => write!(f, "load {activation}.{load}: {agent}"),
            Self::Loaded { activation, load, kept, held_elsewhere, .. } => {
                let epoch = kept.as_ref().map(|kept| (kept.row.epoch.0, kept.row.version.0));
                write!(f, "loaded {activation}.{load}: {epoch:?}, elsewhere: {held_elsewhere}")
            }
            Self::LookUp { holder, .. } => write!(f, "look-up for {holder}"),
            Self::Found { found, .. } => {
                write!(f, "found {} messages, {} attempts", found.messages.len(), found.attempts.len())
            }
            Self::Wake => f.write_str("wake"),
            Self::AttemptGone { task, token } => write!(f, "attempt {token} at {task} is gone"),
            Self::Ask(ask) => write!(f, "ask {}.{} {}: {:?}", ask.client, ask.serial, ask.agent, ask.payload),
            Self::Answer { serial, answer } => write!(f, "answer {serial}: {answer:?}"),
        }
    }
}

struct Result<'a>(&'a Outcome);

impl fmt::Display for Result<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Outcome::Refused(refusal) = self.0 {
            return write!(f, "refused: {refusal}");
        }
        write!(f, "{:?}", self.0)
    }
}
