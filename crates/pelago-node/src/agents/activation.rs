//! The loop of one keyed agent in memory: a thin driver of `core::agent`.
//!
//! Chooses the next event, lets the core decide, carries out its effects. The agent's memory is here and nowhere else;
//! whenever the core says that turns do not count, it is made anew from the last state that does.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use pelago_core::{
    agent::{Activation, Config, Effect, Envelope, Failure, Input, Loaded, Produced, Proposal, Ticket, Work},
    id::{AgentId, FencingToken, TaskId, TurnId},
    message::{Content, Priority, ToTell},
    record::{self, MessageId, Op, Outcome, Refusal},
    time::Time,
};
use pelago_store::{ProposeError, sqlite};
use tokio::sync::oneshot;

use super::{
    Context, Told,
    mailbox::{Deliverable, Mailbox},
    pool::{failure, guarded},
};
use crate::{
    clock,
    host::{Effects, Kind, Living, Turn},
};

/// How many messages are read from the inbox at a time.
const INBOX_READ_MAX: u32 = 64;
/// How many messages to others may wait to leave before the agent takes no more to do. What it has taken by then may
/// add to them.
const TELLS_MAX: usize = 1_024;
/// How many deliveries wait in the core: enough for the next commit, while one is under way.
const WAITING_MAX: usize = 64;
/// The pause before a message that failed is tried again; doubles with each attempt.
const MESSAGE_BACKOFF: Duration = Duration::from_millis(200);
/// The pause before the store is read again after it could not be.
const READ_AGAIN: Duration = Duration::from_millis(500);

/// What a node tells an activation.
pub(super) enum Command {
    /// Something to do.
    Deliver { work: Work, content: Content, answer: oneshot::Sender<Result<Bytes, Failure>> },
    /// Messages that nobody waits for.
    Told(Told),
    /// A message came into the inbox by the entry of the log with this index.
    Arrived { message: Box<record::Message>, index: u64 },
    /// The inbox has something.
    Look,
    /// An attempt was taken away.
    TaskGone { task: TaskId, token: FencingToken },
    /// Another message of its session interrupts this turn. It is as urgent as the turn, and so comes after it.
    Interrupt { turn: TurnId, priority: Priority },
    /// Put the agent away.
    Drain,
}

impl Command {
    fn is_delivery(&self) -> bool {
        matches!(self, Self::Deliver { .. } | Self::Told(_))
    }
}

impl Deliverable for Command {
    fn priority(&self) -> Priority {
        match self {
            Self::Deliver { content, .. } => content.priority(),
            Self::Told(told) => told.priority(),
            Self::Interrupt { priority, .. } => *priority,
            Self::Arrived { .. } | Self::Look | Self::TaskGone { .. } | Self::Drain => Priority::DEFAULT,
        }
    }
}

pub(super) struct Loop {
    kind: Kind,
    agent: AgentId,
    context: Context,
    commands: Mailbox<Command>,
    core: Activation,
    effects: Vec<Effect>,
    memory: Memory,
    running: Option<BoxFuture<'static, Ended>>,
    loading: Option<BoxFuture<'static, Row>>,
    proposed: FuturesUnordered<BoxFuture<'static, Decided>>,
    waiting: HashMap<Ticket, Waiting>,
    tickets: u64,
    inbox: Inbox,
    tells: Tells,
    gone: bool,
}

/// The agent's row, as far as it could be read.
type Row = Result<Option<sqlite::AgentWhole>, sqlite::Error>;
/// What is in the agent's inbox, as far as it could be read, and up to where the log was applied by then.
type Messages = Result<(Vec<record::Message>, u64), sqlite::Error>;
/// What became of a proposal.
type Decided = (Proposal, Result<Outcome, ProposeError>);

/// The agent in memory, and the last state that counts.
struct Memory {
    living: Option<Box<dyn Living>>,
    state: Option<Bytes>,
}

/// Who waits for a delivery.
enum Waiting {
    Someone(oneshot::Sender<Result<Bytes, Failure>>),
    Inbox(MessageId),
    /// Nobody: it was told something.
    Nobody(Told),
}

/// Which messages of the inbox are in the mailbox, and whether there may be more.
#[derive(Default)]
struct Inbox {
    delivered: BTreeSet<MessageId>,
    look: bool,
    reading: Option<BoxFuture<'static, Messages>>,
    /// Up to where the log was applied when the inbox was last read.
    read: u64,
    again: VecDeque<(Time, Envelope)>,
}

/// What the agent tells others.
#[derive(Default)]
struct Tells {
    /// What is to leave, in order.
    waiting: ToTell,
    leaving: Option<BoxFuture<'static, ()>>,
}

/// How a turn ended, with the memory it ran on.
struct Ended {
    living: Option<Box<dyn Living>>,
    result: Result<(Bytes, Effects), Failure>,
}

enum Event {
    Ended(Ended),
    Loaded(Row),
    Decided(Decided),
    Inbox(Messages),
    /// What it told others is on its way.
    Left,
    /// There is something in the mailbox.
    Arrived,
    Deadline,
}

impl Loop {
    pub(super) fn new(
        kind: Kind,
        agent: AgentId,
        config: Config,
        context: Context,
        commands: Mailbox<Command>,
    ) -> Self {
        let mut effects = Vec::new();
        let core = Activation::new(config, agent.clone(), context.holder(), &mut effects);
        // A message may have come while nobody was there to be told.
        let inbox = Inbox { look: true, ..Inbox::default() };
        Self {
            kind,
            agent,
            context,
            commands,
            core,
            effects,
            memory: Memory { living: None, state: None },
            running: None,
            loading: None,
            proposed: FuturesUnordered::new(),
            waiting: HashMap::new(),
            tickets: 0,
            inbox,
            tells: Tells::default(),
            gone: false,
        }
    }

    /// Runs until the agent is put away or held elsewhere.
    pub(super) async fn run(mut self) -> AgentId {
        self.context.metrics.agents_active.inc();
        self.carry_out();
        while !self.gone {
            let deadline = self.deadline();
            let event = tokio::select! {
                biased;
                Some(decided) = self.proposed.next() => Event::Decided(decided),
                ended = present(&mut self.running) => Event::Ended(ended),
                loaded = present(&mut self.loading) => Event::Loaded(loaded),
                messages = present(&mut self.inbox.reading) => Event::Inbox(messages),
                () = present(&mut self.tells.leaving) => Event::Left,
                () = self.commands.arrived() => Event::Arrived,
                () = clock::until(deadline) => Event::Deadline,
            };
            self.step(event);
            self.listen();
            self.carry_out();
            self.look();
            self.tell();
        }
        self.refuse_the_rest();
        self.tell();
        while let Some(leaving) = self.tells.leaving.take() {
            leaving.await;
            self.tell();
        }
        self.context.metrics.agents_active.dec();
        self.agent
    }

    fn step(&mut self, event: Event) {
        let now = clock::now();
        match event {
            // It is looked into after every event.
            Event::Arrived => {}
            Event::Ended(ended) => {
                self.running = None;
                self.turn_ended(now, ended);
            }
            Event::Loaded(loaded) => {
                self.loading = None;
                self.loaded(now, loaded);
            }
            Event::Decided((proposal, Ok(outcome))) => {
                self.count(&outcome);
                self.core.handle(now, Input::Decided { proposal, outcome }, &mut self.effects);
            }
            Event::Decided((_, Err(error @ (ProposeError::Stopped | ProposeError::Malformed { .. })))) => {
                tracing::warn!(agent = %self.agent, %error, "the agent is given up here");
                self.core.handle(now, Input::Stop, &mut self.effects);
            }
            // In doubt, or never appended: the core proposes the same bytes again.
            Event::Decided((_, Err(_))) => {}
            Event::Inbox(messages) => {
                self.inbox.reading = None;
                self.deliver_messages(now, messages);
            }
            Event::Left => self.tells.leaving = None,
            Event::Deadline => {
                self.core.expire(now, &mut self.effects);
                while self.inbox.again.front().is_some_and(|(at, _)| *at <= now) {
                    if let Some((_, envelope)) = self.inbox.again.pop_front() {
                        self.core.handle(now, Input::Deliver(envelope), &mut self.effects);
                    }
                }
            }
        }
    }

    fn deadline(&self) -> Option<Time> {
        let again = self.inbox.again.front().map(|(at, _)| *at);
        [self.core.deadline(), again].into_iter().flatten().min()
    }

    /// Does what a command says. What is left of what it was told, if the core has no room for all of it.
    fn obey(&mut self, now: Time, command: Command) -> Option<Told> {
        let input = match command {
            Command::Deliver { work, content, answer } => {
                let ticket = self.ticket(Waiting::Someone(answer));
                Input::Deliver(Envelope { ticket, work, content })
            }
            Command::Arrived { message, index } => {
                self.arrived(now, *message, index);
                return None;
            }
            Command::Look => {
                self.inbox.look = true;
                return None;
            }
            Command::Told(told) => return self.be_told(told),
            Command::TaskGone { task, token } => Input::TaskGone { task, token },
            Command::Interrupt { turn, priority: _ } => Input::Interrupt(turn),
            Command::Drain => Input::Drain,
        };
        self.core.handle(now, input, &mut self.effects);
        None
    }

    fn tells_too_much(&self) -> bool {
        self.tells.waiting.len() >= TELLS_MAX
    }

    /// Lets leave what the agent tells others, one batch after the other.
    fn tell(&mut self) {
        if self.tells.leaving.is_none() && !self.tells.waiting.is_empty() {
            let (services, waiting) = (self.context.services(), std::mem::take(&mut self.tells.waiting));
            self.tells.leaving = Some(Box::pin(async move { services.tell(waiting).await }));
        }
    }

    /// Does what is in the mailbox, but not while too much waits that it tells others. The core is given as much as fits
    /// into a commit or two: what is more urgent overtakes the rest, and what nobody wants any more is left out.
    fn listen(&mut self) {
        // Who found the mailbox full was turned away, and it may have been a message that arrived.
        self.inbox.look |= self.commands.is_full();
        while !self.gone && !self.tells_too_much() {
            let has_room = self.has_room();
            let Some((taken, command)) = self.commands.take_if(|next| has_room || !next.is_delivery()) else { return };
            if let Some(rest) = self.obey(clock::now(), command) {
                taken.put_back(Command::Told(rest));
            }
        }
    }

    fn be_told(&mut self, mut told: Told) -> Option<Told> {
        while !self.gone && self.has_room() {
            let (content, own) = told.split_first()?;
            let ticket = self.ticket(Waiting::Nobody(own));
            let envelope = Envelope { ticket, work: Work::Tell, content };
            self.core.handle(clock::now(), Input::Deliver(envelope), &mut self.effects);
        }
        (told.left() > 0).then_some(told)
    }

    fn has_room(&self) -> bool {
        self.core.waiting() < WAITING_MAX && !self.tells_too_much()
    }

    fn ticket(&mut self, who: Waiting) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.waiting.insert(ticket, who);
        ticket
    }

    fn turn_ended(&mut self, now: Time, ended: Ended) {
        self.memory.living = ended.living;
        let result = ended.result.and_then(|(reply, effects)| {
            let state = self.memory.living.as_ref().map(|living| living.state()).transpose().map_err(failure)?;
            let changed = state.filter(|state| self.memory.state.as_ref() != Some(state));
            let Effects { sends, enqueues, timers, tells } = effects;
            Ok(Produced { state: changed, reply, sends, enqueues, timers, tells })
        });
        match &result {
            Ok(produced) => {
                if produced.state.is_some() {
                    self.memory.state.clone_from(&produced.state);
                }
            }
            Err(_) => {
                self.context.metrics.turns_failed.inc();
            }
        }
        self.core.handle(now, Input::TurnEnded(result), &mut self.effects);
    }

    fn loaded(&mut self, now: Time, loaded: Row) {
        match loaded {
            Ok(whole) => {
                self.memory = Memory { living: None, state: whole.as_ref().and_then(|whole| whole.state.clone()) };
                let homes = &self.context.homes;
                let loaded = whole.map(|sqlite::AgentWhole { agent: row, .. }| {
                    let held_elsewhere = homes.held_elsewhere(&row);
                    Loaded { row, held_elsewhere }
                });
                self.core.handle(now, Input::Loaded(loaded), &mut self.effects);
            }
            Err(error) => {
                tracing::error!(agent = %self.agent, %error, "the agent's row cannot be read; trying again");
                self.loading = Some(self.load(READ_AGAIN));
            }
        }
    }

    fn carry_out(&mut self) {
        while !self.effects.is_empty() {
            std::mem::take(&mut self.effects).into_iter().for_each(|effect| self.carry_out_one(effect));
        }
    }

    fn carry_out_one(&mut self, effect: Effect) {
        match effect {
            Effect::Load => self.loading = Some(self.load(Duration::ZERO)),
            Effect::Propose { proposal, op } => self.propose(proposal, op),
            Effect::Run(envelope) => self.start_turn(envelope),
            Effect::Abort => {
                self.running = None;
                self.memory.living = None;
            }
            Effect::RollBack => self.memory.living = None,
            Effect::Answer { ticket, answer } => self.answer(ticket, answer),
            Effect::Tell(tells) => self.tells.waiting.append(tells),
            Effect::Again(envelope) => self.put_off(envelope),
            Effect::Gone => self.gone = true,
        }
    }

    fn load(&self, after: Duration) -> BoxFuture<'static, Row> {
        let (reader, agent) = (Arc::clone(&self.context.reader), self.agent.clone());
        Box::pin(blocking(after, move || reader.view(|view| view.agent(&agent))))
    }

    fn propose(&mut self, proposal: Proposal, op: Op) {
        let committer = self.context.committer.clone();
        self.proposed.push(Box::pin(async move { (proposal, committer.propose(op).await) }));
    }

    fn start_turn(&mut self, envelope: Envelope) {
        if self.is_unwanted(&envelope) {
            self.core.handle(clock::now(), Input::NotWanted, &mut self.effects);
            return;
        }
        let Envelope { work, content: Content { headers, payload }, .. } = envelope;
        let living = match self.memory.living.take() {
            Some(living) => Ok(living),
            None => self.kind.behaviour.hydrate(self.memory.state.as_deref()).map_err(|fault| {
                let reason = fault.reason();
                tracing::error!(agent = %self.agent, reason, "the agent's stored state does not fit this program");
                Failure::Unreadable(reason.to_owned())
            }),
        };
        let mut turn = Turn::new(self.agent.clone(), work, headers, self.context.services());
        self.running = Some(Box::pin(async move {
            match living {
                Ok(mut living) => {
                    let result = guarded(living.as_mut(), payload, &mut turn).await;
                    Ended {
                        living: Some(living),
                        result: result.map(|reply| (reply, turn.into_effects())).map_err(failure),
                    }
                }
                Err(unreadable) => Ended { living: None, result: Err(unreadable) },
            }
        }));
    }

    /// Whether whoever asked has gone, and the turn would do nothing that others rely on.
    fn is_unwanted(&self, envelope: &Envelope) -> bool {
        let has_gone = match self.waiting.get(&envelope.ticket) {
            Some(Waiting::Someone(answer)) => answer.is_closed(),
            Some(Waiting::Inbox(_) | Waiting::Nobody(_)) | None => false,
        };
        has_gone && matches!(envelope.work, Work::Ask { remember: None, .. } | Work::Signal(_))
    }

    fn answer(&mut self, ticket: Ticket, answer: Result<Bytes, Failure>) {
        if answer.is_ok() {
            self.context.metrics.turns.inc();
        }
        match self.waiting.remove(&ticket) {
            Some(Waiting::Someone(waiting)) => {
                // Whoever asked may have gone; the turn counts all the same.
                let _gone = waiting.send(answer);
            }
            Some(Waiting::Inbox(id)) => {
                self.inbox.delivered.remove(&id);
                if let Err(error) = answer {
                    tracing::warn!(agent = %self.agent, %error, "a message stays in the inbox");
                }
            }
            Some(Waiting::Nobody(mut told)) if answer.is_ok() => {
                self.context.metrics.told.inc();
                told.succeed();
            }
            // Dropped, it counts as lost.
            Some(Waiting::Nobody(_)) | None => {}
        }
    }

    /// Delivers a message that failed again, after a pause.
    fn put_off(&mut self, envelope: Envelope) {
        let tried = match &envelope.work {
            Work::Message { attempts, .. } => *attempts,
            Work::Tell | Work::Signal(_) | Work::Ask { .. } | Work::Task { .. } => 0,
        };
        let at = clock::now() + MESSAGE_BACKOFF * (1 << tried.min(6));
        let place = self.inbox.again.partition_point(|(other, _)| *other <= at);
        self.inbox.again.insert(place, (at, envelope));
    }

    /// Reads the inbox, and the timers that are due, if there may be something new and the mailbox has room.
    fn look(&mut self) {
        let busy = self.inbox.reading.is_some()
            || self.tells_too_much()
            || self.inbox.delivered.len() >= INBOX_READ_MAX as usize / 2;
        if busy || !self.inbox.look || self.gone || self.core.epoch().0 == 0 {
            return;
        }
        self.inbox.look = false;
        self.inbox.reading = Some(self.read_inbox(Duration::ZERO));
    }

    fn read_inbox(&self, after: Duration) -> BoxFuture<'static, Messages> {
        let (reader, agent) = (Arc::clone(&self.context.reader), self.agent.clone());
        let consensus = Arc::clone(&self.context.consensus);
        let read = move || {
            let now = consensus.log_time();
            reader.view(|view| {
                let mut messages = view.timers_due(&agent, now, INBOX_READ_MAX)?;
                messages.extend(view.inbox(&agent, INBOX_READ_MAX)?);
                Ok((messages, view.applied()?.index))
            })
        };
        Box::pin(blocking(after, read))
    }

    fn deliver_messages(&mut self, now: Time, messages: Messages) {
        match messages {
            Ok((messages, read)) => {
                self.inbox.read = read;
                // A full read may have left some behind.
                self.inbox.look |= messages.len() >= INBOX_READ_MAX as usize;
                messages.into_iter().for_each(|message| self.deliver_message(now, message));
            }
            Err(error) => {
                tracing::error!(agent = %self.agent, %error, "the inbox cannot be read; trying again");
                self.inbox.reading = Some(self.read_inbox(READ_AGAIN));
            }
        }
    }

    /// Delivers a message at once if all before it are in the mailbox; else the inbox has to be read.
    fn arrived(&mut self, now: Time, message: record::Message, index: u64) {
        let Inbox { delivered, look, reading, read, .. } = &mut self.inbox;
        if *look || reading.is_some() || delivered.len() >= INBOX_READ_MAX as usize {
            *look = true;
        } else if index > *read {
            self.deliver_message(now, message);
        }
    }

    fn deliver_message(&mut self, now: Time, record::Message { id, payload, .. }: record::Message) {
        if self.inbox.delivered.insert(id.clone()) {
            let ticket = self.ticket(Waiting::Inbox(id.clone()));
            let work = Work::Message { id, attempts: 0 };
            self.core.handle(
                now,
                Input::Deliver(Envelope { ticket, work, content: payload.into() }),
                &mut self.effects,
            );
        }
    }

    fn count(&self, outcome: &Outcome) {
        if let Outcome::Refused(Refusal::Fenced { .. }) = outcome {
            self.context.metrics.zombie_commit_blocked.inc();
        }
    }

    /// Answers whoever came between the end and the closing of the mailbox.
    fn refuse_the_rest(&mut self) {
        for command in self.commands.close() {
            match command {
                // They try again and find the next activation.
                Command::Deliver { answer, .. } => drop(answer.send(Err(Failure::Stopped))),
                // Dropped, what it was told counts as lost; the rows have the rest.
                Command::Told(_)
                | Command::Arrived { .. }
                | Command::Look
                | Command::TaskGone { .. }
                | Command::Interrupt { .. }
                | Command::Drain => {}
            }
        }
    }
}

/// Awaits the future that is there, or for ever.
async fn present<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// Runs a query where blocking is allowed, after a pause.
async fn blocking<T: Send + 'static>(
    after: Duration,
    query: impl FnOnce() -> Result<T, sqlite::Error> + Send + 'static,
) -> Result<T, sqlite::Error> {
    if !after.is_zero() {
        tokio::time::sleep(after).await;
    }
    tokio::task::spawn_blocking(query).await.expect("a query does not panic, and the runtime outlives its loops")
}
