//! A process and what its look-ups find: messages, and attempts at tasks.

use std::time::Duration;

use pelago_core::{
    agent::{Envelope, Failure, Input, Work},
    id::{FencingToken, TaskId},
    record::{Finish, Op, Placement, Progress, Refusal, Return, Verdict},
    time::Time,
};

use super::{Context, Due, Origin, Process};
use crate::{
    behaviour::{self, Request},
    dice::Dice,
    network::{Found, Packet, Place},
    view::Attempt,
};

impl Process {
    pub(super) fn look_up(&mut self, cx: &mut Context<'_>) {
        if let Some(holder) = self.able(cx.now) {
            cx.send(Place::Leader, Packet::LookUp { holder, sent: cx.now });
        }
    }

    pub(super) fn found(&mut self, sent: Time, found: Found, cx: &mut Context<'_>) {
        self.drop_lost(sent, &found, cx);
        for message in found.messages {
            if self.handling.contains(&message.id) && !self.is_careless(cx) {
                continue;
            }
            self.handling.insert(message.id.clone());
            let ticket = self.ticket(Origin::Message(message.id.clone()));
            let work = Work::Message { id: message.id, attempts: 0 };
            self.deliver(&message.to, Envelope { ticket, work, content: message.payload.into() }, cx);
        }
        for attempt in found.attempts {
            self.attempt(attempt, cx);
        }
    }

    fn is_careless(&self, cx: &mut Context<'_>) -> bool {
        self.habits.careless_look_ups && cx.dice.chance(300)
    }

    /// Drops the attempts that were taken away: those begun before the look-up was sent, and not found by it.
    fn drop_lost(&mut self, sent: Time, found: &Found, cx: &mut Context<'_>) {
        let is_found = |token| found.attempts.iter().any(|attempt| attempt.task.token == Some(token));
        let lost = |(_, (token, since)): &(&TaskId, &(FencingToken, Time))| *since < sent && !is_found(*token);
        let lost: Vec<_> = self.attempts.iter().filter(lost).map(|(task, (token, _))| (*task, *token)).collect();
        for (task, token) in lost {
            self.attempts.remove(&task);
            self.attempt_gone(task, token, cx);
        }
    }

    fn attempt(&mut self, Attempt { task, input }: Attempt, cx: &mut Context<'_>) {
        let Some(token) = task.token else { return };
        let known = self.attempts.get(&task.id).is_some_and(|(known, _)| *known == token);
        if known {
            return;
        }
        self.attempts.insert(task.id, (token, cx.now));
        match task.placement {
            Placement::Keyed => {
                let ticket = self.ticket(Origin::Attempt(task.id, token));
                let limit = Duration::from_millis(task.policy.attempt_ms_max);
                let work = Work::Task { task: task.id, token, limit, session: None };
                self.deliver(&task.agent, Envelope { ticket, work, content: input.into() }, cx);
            }
            Placement::Pool | Placement::Resident => {
                let (takes, result) = behaviour::reader(task.id, token, Request::read(&input), cx.dice);
                let verdict = match result {
                    Ok(produced) => Verdict::Done(produced.reply),
                    Err(failure) => failed(failure.to_string(), cx.dice),
                };
                self.readers.insert(task.id, (token, verdict));
                for notes in 1..=cx.dice.below(4) {
                    let at = Duration::from_micros(cx.dice.below(2_500));
                    cx.after(at, Due::Note { task: task.id, token, notes });
                }
                cx.after(takes, Due::AttemptEnds { task: task.id, token });
            }
        }
    }

    /// Says the first so many notes of an attempt, some of them perhaps again.
    pub(super) fn note(&mut self, task: TaskId, token: FencingToken, notes: u64, cx: &mut Context<'_>) {
        if self.readers.get(&task).is_some_and(|(present, _)| *present == token) {
            self.own(Op::Progress(Progress { task, token, first: 0, notes: behaviour::notes_of(token, notes) }), cx);
        }
    }

    pub(super) fn attempt_ends(&mut self, task: TaskId, token: FencingToken, cx: &mut Context<'_>) {
        if self.readers.get(&task).is_some_and(|(present, _)| *present == token)
            && let Some((_, verdict)) = self.readers.remove(&task)
        {
            self.finish(task, token, verdict, cx);
        }
    }

    pub(super) fn attempt_failed(&mut self, task: TaskId, token: FencingToken, failure: Failure, cx: &mut Context<'_>) {
        let verdict = match failure {
            Failure::Refused(Refusal::StaleToken { .. }) => {
                self.attempts.remove(&task);
                return;
            }
            Failure::Hopeless(reason) => Verdict::Hopeless { reason },
            Failure::Busy
            | Failure::SessionBusy
            | Failure::SessionFull { .. }
            | Failure::Interrupted
            | Failure::Elsewhere(_)
            | Failure::Stopped
            | Failure::Lapsed => Verdict::Returned(Return::NotTaken),
            failure @ (Failure::Failed(_)
            | Failure::Unreadable(_)
            | Failure::TimedOut { .. }
            | Failure::Refused(_)
            | Failure::DiskFull
            | Failure::Unknown) => failed(failure.to_string(), cx.dice),
        };
        self.finish(task, token, verdict, cx);
    }

    fn finish(&mut self, task: TaskId, token: FencingToken, verdict: Verdict, cx: &mut Context<'_>) {
        self.attempts.remove(&task);
        self.own(
            Op::Finish(Finish { task, token, verdict, sends: Vec::new(), enqueues: Vec::new(), append: None }),
            cx,
        );
    }

    pub(super) fn attempt_gone(&mut self, task: TaskId, token: FencingToken, cx: &mut Context<'_>) {
        if self.readers.get(&task).is_some_and(|(present, _)| *present == token) {
            self.readers.remove(&task);
        }
        let all: Vec<u64> = self.activations.keys().copied().collect();
        for activation in all {
            self.advance(activation, Input::TaskGone { task, token }, cx);
        }
    }
}

fn failed(reason: String, dice: &mut Dice) -> Verdict {
    Verdict::Failed { reason, retry_after_ms: dice.between(50, 500) }
}
