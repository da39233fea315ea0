//! Turns that ran and wait for their commit.

use super::{Activation, Envelope, Failure, Produced, Work};
use crate::{
    id::TurnId,
    record::{self, Append, Finish, Remember, Turn, Verdict},
    time::Time,
};

/// How a turn ended. Failures wait too: they may tell what turns before them made, which is not durable yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    Produced(Produced),
    /// A message that was tried too often.
    Buried(String),
    Failed(Failure),
}

/// Turns that ran under the present epoch, in order.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// When the first of them began.
    since: Time,
    pub(super) turns: Vec<(Envelope, Ended)>,
}

impl Gathered {
    pub(super) fn push(&mut self, began: Time, envelope: Envelope, ended: Ended) {
        if self.turns.is_empty() {
            self.since = began;
        }
        self.turns.push((envelope, ended));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    pub(super) fn len(&self) -> u64 {
        self.turns.len() as u64
    }

    pub(super) fn since(&self) -> Time {
        self.since
    }

    /// Whether `next` is delivered a second time, or is a timer that was set anew or cancelled since. The store sees a
    /// commit as one, so only a commit between the two lets it recognise the second.
    pub(super) fn has(&self, next: &Envelope) -> bool {
        let timer = next.timer().map(|(name, _)| name);
        let changes_it = |produced: &Produced| produced.timers.iter().any(|change| Some(&change.name) == timer);
        let passes =
            |(envelope, ended): &(Envelope, Ended)| envelope.repeats(next) || ended.produced().is_some_and(changes_it);
        self.turns.iter().any(passes)
    }

    /// Whether it fills a good part of what one commit may hold.
    pub(super) fn is_heavy(&self) -> bool {
        let all = || self.turns.iter().filter_map(|(_, ended)| ended.produced());
        let sends: usize = all().map(|produced| produced.sends.len()).sum();
        let enqueues: usize = all().map(|produced| produced.enqueues.len()).sum();
        let timers: usize = all().map(|produced| produced.timers.len()).sum();
        let said =
            |(envelope, _): &(Envelope, Ended)| envelope.work.session().map_or(0, |_| envelope.content.payload.len());
        let bytes = all().map(Produced::bytes).sum::<usize>() + self.turns.iter().map(said).sum::<usize>();
        sends > record::SENDS_MAX / 2
            || enqueues > record::ENQUEUES_MAX / 2
            || timers > record::TIMERS_PER_AGENT_MAX / 2
            || bytes > record::PAYLOAD_BYTES_MAX / 2
    }

    pub(super) fn to_turn(&self, of: &Activation, turn: TurnId) -> Turn {
        let mut turn = Turn {
            agent: of.agent.clone(),
            epoch: of.epoch,
            holder: of.holder,
            version: of.version,
            turns: 0,
            turn,
            state: None,
            consumed: Vec::new(),
            buried: Vec::new(),
            replies: Vec::new(),
            finishes: Vec::new(),
            sends: Vec::new(),
            enqueues: Vec::new(),
            timers: Vec::new(),
            appends: Vec::new(),
        };
        for (envelope, ended) in &self.turns {
            match ended {
                Ended::Produced(produced) => turn.add(envelope, produced),
                Ended::Buried(reason) => turn.bury(envelope, reason),
                Ended::Failed(_) => {}
            }
        }
        turn
    }
}

impl Ended {
    fn produced(&self) -> Option<&Produced> {
        if let Self::Produced(produced) = self { Some(produced) } else { None }
    }
}

impl Produced {
    fn bytes(&self) -> usize {
        let sends: usize = self.sends.iter().map(|send| send.payload.len()).sum();
        let enqueues: usize = self.enqueues.iter().map(|task| task.input.len()).sum();
        let timers: usize = self.timers.iter().filter_map(|timer| Some(timer.set.as_ref()?.payload.len())).sum();
        self.reply.len() + sends + enqueues + timers
    }
}

impl Turn {
    fn add(&mut self, envelope: &Envelope, produced: &Produced) {
        self.turns += 1;
        match &envelope.work {
            Work::Tell | Work::Signal(_) => {}
            Work::Ask { remember, session: _ } => {
                let reply = &produced.reply;
                let key = remember.as_ref();
                self.replies.extend(key.map(|(key, request)| Remember {
                    key: key.clone(),
                    request: *request,
                    reply: reply.clone(),
                }));
            }
            Work::Message { id, .. } => self.consumed.push(id.clone()),
            Work::Task { task, token, .. } => self.finishes.push(Finish {
                task: *task,
                token: *token,
                verdict: Verdict::Done(produced.reply.clone()),
                sends: Vec::new(),
                enqueues: Vec::new(),
                append: None,
            }),
        }
        self.appends.extend(envelope.work.session().map(|turn| Append {
            turn: record::SessionTurn::clone(turn),
            holder: self.holder,
            said: envelope.content.payload.clone(),
            replied: produced.reply.clone(),
            sends: Vec::new(),
            enqueues: Vec::new(),
        }));
        if produced.state.is_some() {
            self.state.clone_from(&produced.state);
        }
        self.sends.extend(produced.sends.iter().cloned());
        self.enqueues.extend(produced.enqueues.iter().cloned());
        self.timers.extend(produced.timers.iter().cloned());
    }

    fn bury(&mut self, envelope: &Envelope, reason: &str) {
        self.turns += 1;
        if let Work::Message { id, .. } = &envelope.work {
            self.buried.push((id.clone(), reason.to_owned()));
        }
    }
}
