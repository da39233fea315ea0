//! What becomes of the turns of a commit that the store refused.

use bytes::Bytes;

use super::{Activation, Effect, Envelope, Failure, Read, Work, answer, answer_all, gathered::Ended};
use crate::{
    record::{Outcome, Refusal, Turn},
    time::Time,
};

/// A commit that was refused. A second delivery of the same bytes may still be on its way and find the store in
/// another mood, so what becomes of its turns is settled only after the next claim, which fences that delivery.
#[derive(Debug)]
pub(super) struct RefusedCommit {
    pub(super) turn: Turn,
    pub(super) outcome: Outcome,
    pub(super) turns: Vec<(Envelope, Ended)>,
}

impl RefusedCommit {
    /// Position of the delivery that the commit was refused for.
    pub(super) fn culprit(&self) -> Option<usize> {
        let at = |test: &dyn Fn(&Envelope) -> bool| self.turns.iter().position(|(envelope, _)| test(envelope));
        if let Outcome::Duplicate { position, .. } = self.outcome {
            let remember = self.turn.replies.get(position as usize)?;
            at(&|envelope| envelope.has_key(&remember.key))
        } else if let Outcome::Refused(Refusal::MessageGone { position }) = self.outcome {
            let mut all = self.turn.consumed.iter().chain(self.turn.buried.iter().map(|(id, _)| id));
            let id = all.nth(position as usize)?;
            at(&|envelope| envelope.is_message(id))
        } else if let Outcome::Refused(Refusal::Overtaken { position }) = self.outcome {
            let id = self.turn.appends.get(position as usize)?.turn.id;
            at(&|envelope| envelope.is_turn_of_session(id))
        } else if let Outcome::Refused(Refusal::StaleToken { token, .. }) = self.outcome {
            at(&|envelope| envelope.has_token(token))
        } else {
            (self.turns.len() == 1).then_some(0)
        }
    }
}

impl Activation {
    /// Settles what becomes of a refused commit, once the agent is held under a new epoch.
    pub(super) fn settle(&mut self, now: Time, read: Read, effects: &mut Vec<Effect>) {
        let Some(refused) = self.refused.take() else { return };
        if read.last_turn == refused.turn.turn {
            return answer_all(refused.turns, effects);
        }
        let culprit = refused.culprit();
        if read.version > refused.turn.version && !cfg!(planted = "in_doubt_resolved_by_reading") {
            return self.settle_unknown(refused.turns, effects);
        }
        let mut again: Vec<Envelope> = refused.turns.into_iter().map(|(envelope, _)| envelope).collect();
        if let Outcome::Refused(Refusal::Fenced { .. }) = refused.outcome {
            return self.run_again(again);
        }
        // Where the refusal does not tell which delivery is at fault, they run one by one.
        let Some(at) = culprit else {
            self.alone = again.len() as u64;
            return self.run_again(again);
        };
        let culprit = again.remove(at);
        self.run_again(again);
        self.refuse(now, culprit, refused.outcome, effects);
    }

    /// Others committed after the refused commit would have, so nobody can tell whether it was among them.
    fn settle_unknown(&mut self, turns: Vec<(Envelope, Ended)>, effects: &mut Vec<Effect>) {
        let mut again = Vec::new();
        for (envelope, ended) in turns {
            if is_in_doubt(&envelope, &ended) {
                answer(&envelope, Err(Failure::Unknown), effects);
            } else {
                again.push(envelope);
            }
        }
        self.run_again(again);
    }

    pub(super) fn run_again(&mut self, envelopes: Vec<Envelope>) {
        for envelope in envelopes.into_iter().rev() {
            self.mailbox.push_front(envelope);
        }
    }

    /// Tells a delivery why the store does not take its turn.
    fn refuse(&mut self, now: Time, envelope: Envelope, outcome: Outcome, effects: &mut Vec<Effect>) {
        let is_message = matches!(envelope.work, Work::Message { .. });
        if let Outcome::Duplicate { reply, .. } = outcome {
            answer(&envelope, Ok(reply), effects);
        } else if let Outcome::Refused(Refusal::MessageGone { .. }) = outcome {
            // Handled before: that is what the sender wanted.
            answer(&envelope, Ok(Bytes::new()), effects);
        } else if let Outcome::Refused(Refusal::Full(_) | Refusal::TooEarly) = outcome
            && is_message
        {
            effects.push(Effect::Again(envelope));
        } else if let Outcome::Refused(refusal) = outcome {
            if is_message {
                self.retry_or_bury(now, envelope, refusal.to_string(), effects);
            } else {
                answer(&envelope, Err(Failure::Refused(refusal)), effects);
            }
        } else {
            unreachable!("{outcome:?} is no answer to a turn");
        }
    }
}

/// Whether a turn that was proposed must not run again: if it was committed, the store would not recognise it.
pub(super) fn is_in_doubt(envelope: &Envelope, ended: &Ended) -> bool {
    match ended {
        Ended::Produced(_) => !envelope.is_recognised(),
        Ended::Buried(_) | Ended::Failed(_) => false,
    }
}
