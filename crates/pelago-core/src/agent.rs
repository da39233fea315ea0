//! One activation: a keyed agent while a node holds it.
//!
//! Decides when the agent is claimed, which message runs next, what is committed together, and what a refusal means.
//! It runs no behaviour and keeps no state of the agent: its driver does both and reports back.
//!
//! ```text
//!             Loaded           Claimed         TurnEnded          Committed
//!   Loading ─────────► Claiming ─────► Ready ─► Running ─► Committing ─────► Ready … ─► Releasing ─► Gone
//!      ▲                  │ fenced                 ▲           │ refused
//!      └──────────────────┘◄───────────────────────┼───────────┘   (memory dropped, claimed anew)
//!                                                  └─ up to 64 turns run before one commit
//! ```
//!
//! Replies leave only after the commit. A commit whose answer is lost is proposed again with identical bytes; any other
//! way to resolve it is unsafe, since the first one may still be on its way. After a refusal the agent is claimed
//! again, which raises its epoch and so fences every earlier proposal of this very process too; only then is settled
//! what becomes of the refused turns.

mod delivery;
mod event;
mod gathered;
mod refused;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

pub use delivery::{Envelope, Failure, Produced, Ticket, Work};
pub use event::{Config, Effect, Input, Loaded, Proposal};
use gathered::{Ended, Gathered};
use refused::{RefusedCommit, is_in_doubt};

use crate::{
    id::{AgentId, Epoch, FencingToken, Holder, TaskId, TurnId, Version},
    record::{Claim, Op, Outcome, Refusal, Release, Turn},
    time::Time,
};

/// One keyed agent while a node holds it.
#[derive(Debug)]
pub struct Activation {
    config: Config,
    agent: AgentId,
    holder: Holder,
    phase: Phase,
    epoch: Epoch,
    version: Version,
    proposals: u64,
    mailbox: VecDeque<Envelope>,
    gathered: Gathered,
    refused: Option<RefusedCommit>,
    /// Turns still to be committed one by one, to find the one that the store refuses.
    alone: u64,
    draining: bool,
}

#[derive(Debug)]
enum Phase {
    Loading,
    Claiming { proposed: Proposed, read: Read },
    Ready { since: Time },
    Running { envelope: Envelope, since: Time },
    Committing { proposed: Proposed },
    Releasing { proposed: Proposed },
    Gone,
}

/// What waits for its outcome.
#[derive(Debug)]
struct Proposed {
    proposal: Proposal,
    op: Op,
    since: Time,
}

/// How far the agent had come when its row was read.
#[derive(Debug, Clone, Copy)]
struct Read {
    version: Version,
    last_turn: TurnId,
}

impl Activation {
    /// Starts to take `agent` for `holder`.
    #[must_use]
    pub fn new(config: Config, agent: AgentId, holder: Holder, effects: &mut Vec<Effect>) -> Self {
        effects.push(Effect::Load);
        Self {
            config,
            agent,
            holder,
            phase: Phase::Loading,
            epoch: Epoch(0),
            version: Version(0),
            proposals: 0,
            mailbox: VecDeque::new(),
            gathered: Gathered::default(),
            refused: None,
            alone: 0,
            draining: false,
        }
    }

    /// Advances the activation by one event. `now` must not go backwards between calls.
    pub fn handle(&mut self, now: Time, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Deliver(envelope) => self.deliver(now, envelope, effects),
            Input::Loaded(loaded) => self.loaded(now, loaded, effects),
            Input::Decided { proposal, outcome } => self.decided(now, proposal, outcome, effects),
            Input::TurnEnded(result) => self.turn_ended(now, result, effects),
            Input::NotWanted => self.not_wanted(now, effects),
            Input::TaskGone { task, token } => self.task_gone(now, task, token, effects),
            Input::Interrupt(turn) => self.interrupt(now, turn, effects),
            Input::Drain => {
                self.draining = true;
                self.proceed(now, effects);
            }
            Input::Stop => self.stop(&Failure::Stopped, effects),
        }
    }

    /// Does what is due. Call when [`Self::deadline`] has passed.
    pub fn expire(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if self.deadline().is_none_or(|at| at > now) {
            return;
        }
        match &mut self.phase {
            Phase::Committing { proposed } if cfg!(planted = "in_doubt_resolved_by_reading") => {
                proposed.since = now;
                effects.push(Effect::Load);
            }
            Phase::Claiming { proposed, .. } | Phase::Committing { proposed } | Phase::Releasing { proposed } => {
                proposed.since = now;
                effects.push(Effect::Propose { proposal: proposed.proposal, op: proposed.op.clone() });
            }
            Phase::Running { envelope, .. } => {
                let limit = limit_of(&envelope.work, &self.config);
                effects.push(Effect::Abort);
                let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
                self.turn_failed(now, Failure::TimedOut { limit_ms }, effects);
            }
            Phase::Ready { .. } => self.release(now, effects),
            Phase::Loading | Phase::Gone => {}
        }
    }

    /// When [`Self::expire`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        match &self.phase {
            Phase::Claiming { proposed, .. } | Phase::Committing { proposed } | Phase::Releasing { proposed } => {
                Some(proposed.since + self.config.resend_after)
            }
            Phase::Running { envelope, since } => Some(*since + limit_of(&envelope.work, &self.config)),
            Phase::Ready { since } => Some(*since + self.config.idle_after),
            Phase::Loading | Phase::Gone => None,
        }
    }

    /// How many deliveries wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.mailbox.len()
    }

    /// Under which epoch it is held; 0 before the first claim.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn deliver(&mut self, now: Time, envelope: Envelope, effects: &mut Vec<Effect>) {
        let refuse = match self.phase {
            Phase::Gone => Some(Failure::Stopped),
            _ if self.mailbox.len() >= self.config.mailbox_max => Some(Failure::Busy),
            Phase::Loading
            | Phase::Claiming { .. }
            | Phase::Ready { .. }
            | Phase::Running { .. }
            | Phase::Committing { .. }
            | Phase::Releasing { .. } => None,
        };
        match refuse {
            Some(failure) => answer(&envelope, Err(failure), effects),
            None => {
                self.put(envelope);
                self.proceed(now, effects);
            }
        }
    }

    /// Behind all that is as urgent: nearly always at the end.
    fn put(&mut self, envelope: Envelope) {
        let priority = envelope.content.priority();
        let less_urgent = self.mailbox.iter().rev().take_while(|waiting| waiting.content.priority() > priority).count();
        self.mailbox.insert(self.mailbox.len() - less_urgent, envelope);
    }

    fn loaded(&mut self, now: Time, loaded: Option<Loaded>, effects: &mut Vec<Effect>) {
        if cfg!(planted = "in_doubt_resolved_by_reading") && matches!(self.phase, Phase::Committing { .. }) {
            return self.believe(now, loaded, effects);
        }
        if !matches!(self.phase, Phase::Loading) {
            return;
        }
        let (seen, read) = match loaded {
            Some(Loaded { row, held_elsewhere: true }) => {
                return self.stop(&Failure::Elsewhere(row.holder), effects);
            }
            Some(Loaded { row, held_elsewhere: false }) => {
                (row.epoch, Read { version: row.version, last_turn: row.last_turn })
            }
            None => (Epoch(0), Read { version: Version(0), last_turn: TurnId(0) }),
        };
        let op = Op::Claim(Claim { agent: self.agent.clone(), seen, holder: self.holder });
        let proposed = self.propose(now, op, effects);
        self.phase = Phase::Claiming { proposed, read };
    }

    /// The planted bug: what is not there yet is taken for what never will be.
    fn believe(&mut self, now: Time, loaded: Option<Loaded>, effects: &mut Vec<Effect>) {
        let Phase::Committing { proposed } = std::mem::replace(&mut self.phase, Phase::Ready { since: now }) else {
            return;
        };
        let Op::Turn(turn) = proposed.op else { return };
        if loaded.is_some_and(|loaded| loaded.row.last_turn == turn.turn) {
            return self.committed(now, &turn, effects);
        }
        let turns = std::mem::take(&mut self.gathered).turns;
        self.run_again(turns.into_iter().map(|(envelope, _)| envelope).collect());
        self.proceed(now, effects);
    }

    fn decided(&mut self, now: Time, proposal: Proposal, outcome: Outcome, effects: &mut Vec<Effect>) {
        // Anything else answers an earlier proposal, or answers once more.
        if self.present_proposal() != Some(proposal) {
            return;
        }
        match std::mem::replace(&mut self.phase, Phase::Loading) {
            Phase::Claiming { read, .. } => self.claim_decided(now, read, &outcome, effects),
            Phase::Committing { proposed } => self.commit_decided(now, proposed.op, outcome, effects),
            // Somebody came while the agent was being put away.
            Phase::Releasing { .. } if !self.mailbox.is_empty() && !self.draining => effects.push(Effect::Load),
            Phase::Releasing { .. } => self.stop(&Failure::Stopped, effects),
            phase @ (Phase::Loading | Phase::Ready { .. } | Phase::Running { .. } | Phase::Gone) => self.phase = phase,
        }
    }

    fn present_proposal(&self) -> Option<Proposal> {
        match &self.phase {
            Phase::Claiming { proposed, .. } | Phase::Committing { proposed } | Phase::Releasing { proposed } => {
                Some(proposed.proposal)
            }
            Phase::Loading | Phase::Ready { .. } | Phase::Running { .. } | Phase::Gone => None,
        }
    }

    fn claim_decided(&mut self, now: Time, read: Read, outcome: &Outcome, effects: &mut Vec<Effect>) {
        if let Outcome::Claimed { epoch, version } = *outcome
            && version == read.version
        {
            (self.epoch, self.version) = (epoch, version);
            self.phase = Phase::Ready { since: now };
            self.settle(now, read, effects);
            return self.proceed(now, effects);
        }
        // If claimed: a turn of the holder before was committed after the row was read, so what was read is stale.
        self.reload(outcome, effects);
    }

    /// The row is not as this process believed: reads it again, unless the outcome says that this is over.
    fn reload(&mut self, outcome: &Outcome, effects: &mut Vec<Effect>) {
        if let Outcome::Refused(Refusal::Fenced { holder, live: true, .. }) = outcome
            && *holder != self.holder
        {
            self.stop(&Failure::Elsewhere(*holder), effects);
        } else if let Outcome::Refused(Refusal::HolderGone(_)) = outcome {
            self.stop(&Failure::Stopped, effects);
        } else {
            effects.push(Effect::Load);
        }
    }

    fn commit_decided(&mut self, now: Time, op: Op, outcome: Outcome, effects: &mut Vec<Effect>) {
        let Op::Turn(turn) = op else { return };
        if outcome == Outcome::Committed {
            return self.committed(now, &turn, effects);
        }
        let turns = std::mem::take(&mut self.gathered).turns;
        if let Outcome::Refused(Refusal::Fenced { version, .. }) = outcome
            && version <= turn.version
        {
            // A newer epoch began where this commit would have: it never was, and never will be.
            self.run_again(turns.into_iter().map(|(envelope, _)| envelope).collect());
        } else {
            self.refused = Some(RefusedCommit { turn, outcome: outcome.clone(), turns });
        }
        self.reload(&outcome, effects);
    }

    fn committed(&mut self, now: Time, turn: &Turn, effects: &mut Vec<Effect>) {
        self.version.0 += turn.turns;
        self.drop_changed_timers(turn, effects);
        answer_all(std::mem::take(&mut self.gathered).turns, effects);
        self.phase = Phase::Ready { since: now };
        self.proceed(now, effects);
    }

    /// Timers that a commit set anew or cancelled are over, even if they wait in the mailbox.
    fn drop_changed_timers(&mut self, turn: &Turn, effects: &mut Vec<Effect>) {
        let is_over = |envelope: &Envelope| {
            let of = envelope.timer().filter(|(_, set)| *set <= turn.version);
            of.is_some_and(|(name, _)| turn.timers.iter().any(|change| change.name == *name))
        };
        if !turn.timers.is_empty() {
            let (over, rest): (Vec<_>, _) = self.mailbox.drain(..).partition(is_over);
            self.mailbox = VecDeque::from(rest);
            over.iter().for_each(|envelope| answer(envelope, Ok(Bytes::new()), effects));
        }
    }

    fn turn_ended(&mut self, now: Time, result: Result<Produced, Failure>, effects: &mut Vec<Effect>) {
        match result {
            Ok(produced) => {
                if let Some((envelope, began)) = self.take_running(now) {
                    self.gathered.push(began, envelope, Ended::Produced(produced));
                    self.proceed(now, effects);
                }
            }
            Err(failure) => {
                if matches!(self.phase, Phase::Running { .. }) {
                    effects.push(Effect::RollBack);
                    self.turn_failed(now, failure, effects);
                }
            }
        }
    }

    fn not_wanted(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if let Some((envelope, _)) = self.take_running(now) {
            answer(&envelope, Err(Failure::Stopped), effects);
            self.proceed(now, effects);
        }
    }

    fn turn_failed(&mut self, now: Time, failure: Failure, effects: &mut Vec<Effect>) {
        let Some((mut envelope, began)) = self.take_running(now) else { return };
        match &mut envelope.work {
            // It waits for a program that can read the state, and is never given up for it.
            Work::Message { attempts, .. } if matches!(failure, Failure::Unreadable(_)) => {
                *attempts = (*attempts + 1).min(self.config.message_attempts_max - 1);
                effects.push(Effect::Again(envelope));
            }
            Work::Message { .. } => self.retry_or_bury(began, envelope, failure.to_string(), effects),
            Work::Tell | Work::Signal(_) | Work::Ask { .. } | Work::Task { .. } if self.gathered.is_empty() => {
                answer(&envelope, Err(failure), effects);
            }
            Work::Tell | Work::Signal(_) | Work::Ask { .. } | Work::Task { .. } => {
                self.gathered.push(began, envelope, Ended::Failed(failure));
            }
        }
        self.proceed(now, effects);
    }

    fn retry_or_bury(&mut self, began: Time, mut envelope: Envelope, reason: String, effects: &mut Vec<Effect>) {
        if let Work::Message { attempts, .. } = &mut envelope.work
            && *attempts + 1 < self.config.message_attempts_max
        {
            *attempts += 1;
            effects.push(Effect::Again(envelope));
        } else {
            self.gathered.push(began, envelope, Ended::Buried(reason));
        }
    }

    /// Takes out what is running, and when it began. `None` when nothing is: it was aborted before its end was known.
    fn take_running(&mut self, now: Time) -> Option<(Envelope, Time)> {
        match std::mem::replace(&mut self.phase, Phase::Ready { since: now }) {
            Phase::Running { envelope, since } => Some((envelope, since)),
            phase @ (Phase::Loading
            | Phase::Claiming { .. }
            | Phase::Ready { .. }
            | Phase::Committing { .. }
            | Phase::Releasing { .. }
            | Phase::Gone) => {
                self.phase = phase;
                None
            }
        }
    }

    fn task_gone(&mut self, now: Time, task: TaskId, token: FencingToken, effects: &mut Vec<Effect>) {
        let gone = Failure::Refused(Refusal::StaleToken { task, token });
        self.call_off(now, &|envelope| envelope.has_token(token), gone, effects);
    }

    fn interrupt(&mut self, now: Time, turn: TurnId, effects: &mut Vec<Effect>) {
        self.call_off(now, &|envelope| envelope.is_turn_of_session(turn), Failure::Interrupted, effects);
    }

    /// Answers a delivery that waits or runs with a failure. One whose turn has ended stays as it is.
    fn call_off(&mut self, now: Time, is_it: &dyn Fn(&Envelope) -> bool, why: Failure, effects: &mut Vec<Effect>) {
        if let Some(at) = self.mailbox.iter().position(is_it)
            && let Some(envelope) = self.mailbox.remove(at)
        {
            answer(&envelope, Err(why.clone()), effects);
        }
        if matches!(&self.phase, Phase::Running { envelope, .. } if is_it(envelope)) {
            effects.push(Effect::Abort);
            self.turn_failed(now, why, effects);
        }
    }

    /// Starts the next thing, if nothing is under way.
    fn proceed(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if !matches!(self.phase, Phase::Ready { .. }) {
            return;
        }
        if !self.gathered.is_empty() && self.must_commit(now) {
            return self.commit(now, effects);
        }
        if self.draining {
            return self.release(now, effects);
        }
        if let Some(envelope) = self.mailbox.pop_front() {
            effects.push(Effect::Run(envelope.clone()));
            self.phase = Phase::Running { envelope, since: now };
        }
    }

    fn must_commit(&self, now: Time) -> bool {
        self.mailbox.front().is_none_or(|next| self.gathered.has(next))
            || self.draining
            || self.alone > 0
            || self.gathered.len() >= self.config.turns_per_commit_max
            || now - self.gathered.since() >= self.config.gather_max
            || self.gathered.is_heavy()
    }

    fn commit(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.alone = self.alone.saturating_sub(1);
        // The epoch belongs to this activation alone, and the number grows with each of its proposals.
        let turn = TurnId((u128::from(self.epoch.0) << 64) | u128::from(self.proposals));
        let op = Op::Turn(self.gathered.to_turn(self, turn));
        let proposed = self.propose(now, op, effects);
        self.phase = Phase::Committing { proposed };
    }

    fn release(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let op = Op::Release(Release { agent: self.agent.clone(), epoch: self.epoch, holder: self.holder });
        let proposed = self.propose(now, op, effects);
        self.phase = Phase::Releasing { proposed };
    }

    fn propose(&mut self, now: Time, op: Op, effects: &mut Vec<Effect>) -> Proposed {
        let proposal = Proposal(self.proposals);
        self.proposals += 1;
        effects.push(Effect::Propose { proposal, op: op.clone() });
        Proposed { proposal, op, since: now }
    }

    /// Ends the activation. What waits is answered, so that whoever sent it can go elsewhere.
    fn stop(&mut self, why: &Failure, effects: &mut Vec<Effect>) {
        let gathered = std::mem::take(&mut self.gathered).turns;
        let mut proposed = self.refused.take().map_or_else(Vec::new, |refused| refused.turns);
        let mut untouched = Vec::new();
        match std::mem::replace(&mut self.phase, Phase::Gone) {
            Phase::Gone => return,
            Phase::Committing { .. } => proposed.extend(gathered),
            Phase::Running { envelope, .. } => {
                effects.push(Effect::Abort);
                untouched.extend(gathered.into_iter().map(|(envelope, _)| envelope));
                untouched.push(envelope);
            }
            Phase::Loading | Phase::Claiming { .. } | Phase::Ready { .. } | Phase::Releasing { .. } => {
                untouched.extend(gathered.into_iter().map(|(envelope, _)| envelope));
            }
        }
        for (envelope, ended) in proposed {
            let why = if is_in_doubt(&envelope, &ended) { &Failure::Unknown } else { why };
            answer(&envelope, Err(why.clone()), effects);
        }
        for envelope in untouched.into_iter().chain(self.mailbox.drain(..)) {
            answer(&envelope, Err(why.clone()), effects);
        }
        effects.push(Effect::Gone);
    }
}

fn limit_of(work: &Work, config: &Config) -> Duration {
    match work {
        Work::Task { limit, .. } => *limit,
        Work::Tell | Work::Signal(_) | Work::Ask { .. } | Work::Message { .. } => config.turn_max,
    }
}

/// Answers the turns of a commit that counts.
fn answer_all(turns: Vec<(Envelope, Ended)>, effects: &mut Vec<Effect>) {
    for (envelope, ended) in turns {
        let result = match ended {
            Ended::Produced(Produced { reply, tells, .. }) => {
                if !tells.is_empty() {
                    effects.push(Effect::Tell(tells));
                }
                Ok(reply)
            }
            // The message is out of the inbox, which is all that a delivery asks for.
            Ended::Buried(_) => Ok(Bytes::new()),
            Ended::Failed(failure) => Err(failure),
        };
        answer(&envelope, result, effects);
    }
}

fn answer(envelope: &Envelope, answer: Result<Bytes, Failure>, effects: &mut Vec<Effect>) {
    effects.push(Effect::Answer { ticket: envelope.ticket, answer });
}
