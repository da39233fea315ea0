//! One activation with its driver: carries out what the production activation wants, with a register for behaviour.

use std::time::Duration;

use pelago_core::{
    agent::{Activation, Config, Effect, Envelope, Failure, Input, Loaded, Produced, Ticket, Work},
    id::{AgentId, Holder},
    time::Time,
};

use crate::{
    behaviour::{self, Request, Within, numbers_of},
    dice::Dice,
    view::Kept,
};

/// Small limits, so that each is met.
fn config() -> Config {
    Config {
        mailbox_max: 6,
        turns_per_commit_max: 8,
        gather_max: Duration::from_millis(2),
        idle_after: Duration::from_millis(1_500),
        resend_after: Duration::from_millis(400),
        turn_max: Duration::from_secs(1),
        message_attempts_max: 3,
    }
}

#[derive(Debug)]
pub(crate) struct Hosted {
    pub(crate) agent: AgentId,
    activation: Activation,
    /// The register, with turns that are not committed yet.
    memory: Vec<u64>,
    /// The register before the last turn, to take that back.
    before: Vec<u64>,
    running: Option<Running>,
    runs: u64,
    /// Which read is awaited: an answer to an earlier one is too old.
    pub(crate) load: u64,
    /// When the activation will next be looked at.
    due: Option<Time>,
}

#[derive(Debug)]
struct Running {
    run: u64,
    result: Result<Produced, Failure>,
}

/// What is left for the process to do.
#[derive(Debug)]
pub(crate) enum Wish {
    Load { load: u64 },
    Propose { proposal: pelago_core::agent::Proposal, op: pelago_core::record::Op },
    EndTurn { after: Duration, run: u64 },
    Answer { ticket: Ticket, answer: Result<bytes::Bytes, Failure> },
    Again(Envelope),
    Gone,
    LookAt(Time),
}

impl Hosted {
    pub(crate) fn new(agent: AgentId, holder: Holder, now: Time, dice: &mut Dice, wishes: &mut Vec<Wish>) -> Self {
        let mut effects = Vec::new();
        let mut hosted = Self {
            activation: Activation::new(config(), agent.clone(), holder, &mut effects),
            agent,
            memory: Vec::new(),
            before: Vec::new(),
            running: None,
            runs: 0,
            load: 0,
            due: None,
        };
        hosted.carry_out(now, effects, dice, wishes);
        hosted
    }

    pub(crate) fn handle(&mut self, now: Time, input: Input, dice: &mut Dice, wishes: &mut Vec<Wish>) {
        let mut effects = Vec::new();
        self.activation.handle(now, input, &mut effects);
        self.carry_out(now, effects, dice, wishes);
    }

    /// The row was read. The memory is what was read with it; the answer to a second try comes too late.
    pub(crate) fn loaded(&mut self, kept: Option<Kept>, held_elsewhere: bool) -> Input {
        self.load += 1;
        self.memory = kept.as_ref().map_or_else(Vec::new, |kept| numbers_of(&kept.state));
        Input::Loaded(kept.map(|kept| Loaded { row: kept.row, held_elsewhere }))
    }

    /// The moment that was asked for by [`Wish::LookAt`] has come.
    pub(crate) fn look(&mut self, now: Time, dice: &mut Dice, wishes: &mut Vec<Wish>) {
        if self.due.is_some_and(|due| due <= now) {
            self.due = None;
        }
        let mut effects = Vec::new();
        self.activation.expire(now, &mut effects);
        self.carry_out(now, effects, dice, wishes);
    }

    /// How a turn ended, unless it was aborted.
    pub(crate) fn end_of(&mut self, run: u64) -> Option<Input> {
        let running = self.running.take_if(|running| running.run == run)?;
        Some(Input::TurnEnded(running.result))
    }

    fn carry_out(&mut self, now: Time, effects: Vec<Effect>, dice: &mut Dice, wishes: &mut Vec<Wish>) {
        for effect in effects {
            match effect {
                Effect::Load => {
                    self.load += 1;
                    wishes.push(Wish::Load { load: self.load });
                }
                Effect::Propose { proposal, op } => wishes.push(Wish::Propose { proposal, op }),
                Effect::Run(envelope) => self.run(&envelope, dice, wishes),
                Effect::Abort => {
                    self.running = None;
                    self.memory.clone_from(&self.before);
                }
                Effect::RollBack => self.memory.clone_from(&self.before),
                // Agents of the simulator tell nobody anything.
                Effect::Tell(_) => {}
                Effect::Answer { ticket, answer } => wishes.push(Wish::Answer { ticket, answer }),
                Effect::Again(envelope) => wishes.push(Wish::Again(envelope)),
                Effect::Gone => wishes.push(Wish::Gone),
            }
        }
        let deadline = self.activation.deadline();
        if let Some(at) = deadline
            && self.due.is_none_or(|due| at < due || due <= now)
        {
            self.due = Some(at);
            wishes.push(Wish::LookAt(at));
        }
    }

    fn run(&mut self, envelope: &Envelope, dice: &mut Dice, wishes: &mut Vec<Wish>) {
        self.before.clone_from(&self.memory);
        let within = match envelope.work {
            Work::Tell | Work::Signal(_) | Work::Ask { .. } | Work::Message { .. } => Within::Turn,
            Work::Task { task, token, .. } => Within::Attempt(task, token),
        };
        let request = Request::read(&envelope.content.payload);
        let (after, result) = behaviour::register(&mut self.memory, within, request, dice);
        self.runs += 1;
        self.running = Some(Running { run: self.runs, result });
        wishes.push(Wish::EndTurn { after, run: self.runs });
    }
}
