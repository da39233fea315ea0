//! A client: does one thing at a time, checks each answer, and gives up or tries again as a careful client may.

use std::time::Duration;

use bytes::Bytes;
use pelago_core::{
    agent::{Failure, Proposal},
    id::{AgentId, BootId, Name, TaskId},
    record::{BodyHash, Cancel, Enqueue, IdempotencyKey, MessageBody, NewTask, Op, Outcome, Retry, Send},
    time::Time,
};

use crate::{
    behaviour::{self, Glimpse, Request, Then},
    dice::Dice,
    invariants::{Invariants, Violation},
    network::{Ask, Packet, Place, ProposalKey},
    store::MapRows,
    workload::Workload,
};

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long one waits once all is well: some attempts that nobody wants any more may stand before it.
const PATIENCE_HEALED: Duration = Duration::from_secs(20);
/// How many registers there are.
pub(crate) const REGISTERS: u64 = 4;
/// How many timers each register has.
const TIMERS: u64 = 3;
/// How many asks each client makes once all is well again; each must succeed.
const PROBES: u64 = 2 * REGISTERS;

#[derive(Debug)]
pub(crate) struct Client {
    index: usize,
    serial: u64,
    doing: Option<Doing>,
    /// What it did last under an idempotency key, which it may do again.
    earlier: Option<Doing>,
    /// Asks left to make after the healing; `None` while faults last.
    probes: Option<u64>,
}

#[derive(Debug, Clone)]
struct Doing {
    request: Wanted,
    /// How far the agent's history was known when this began.
    floor: usize,
    tries: u32,
    since: Time,
}

/// What a client wants done.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "a client has one at a time")]
enum Wanted {
    Ask { agent: AgentId, request: Request, key: Option<IdempotencyKey> },
    Op(Op),
}

/// What a step of a client may use.
pub(crate) struct Context<'a> {
    pub(crate) now: Time,
    pub(crate) nodes: usize,
    pub(crate) workload: Workload,
    pub(crate) dice: &'a mut Dice,
    pub(crate) invariants: &'a mut Invariants,
    pub(crate) rows: &'a MapRows,
    /// The next number to append; each is used once.
    pub(crate) number: &'a mut u64,
    pub(crate) out: &'a mut Vec<(Place, Packet)>,
}

impl Context<'_> {
    fn number(&mut self) -> u64 {
        *self.number += 1;
        *self.number
    }
}

impl Client {
    pub(crate) fn new(index: usize) -> Self {
        Self { index, serial: 0, doing: None, earlier: None, probes: None }
    }

    /// All faults are over: what is asked from here on must succeed.
    pub(crate) fn probe(&mut self) {
        self.probes = Some(PROBES);
    }

    pub(crate) fn is_done(&self) -> bool {
        self.doing.is_none() && self.probes == Some(0)
    }

    /// Begins something, or loses patience. Returns when to step again.
    pub(crate) fn step(&mut self, may_begin: bool, cx: &mut Context<'_>) -> Result<Duration, Violation> {
        let patience = if self.probes.is_some() { PATIENCE_HEALED } else { PATIENCE };
        match &mut self.doing {
            Some(doing) if cx.now - doing.since < patience => {}
            Some(doing) if doing.request.may_be_repeated() => {
                doing.since = cx.now;
                doing.tries += 1;
                self.send(cx);
            }
            Some(doing) if self.probes.is_some() => {
                let what = format!("client {} asked {:?} and got no answer", self.index, doing.request);
                return Err(Violation::new("I8 (recovers)", what));
            }
            // Whether it happened is not known, and never will be.
            Some(_) => self.doing = None,
            None if self.probes.is_some_and(|left| left > 0) => {
                self.probes = self.probes.map(|left| left - 1);
                let request = Request::Append { number: cx.number() };
                let agent = behaviour::register_id(self.probes.unwrap_or(0) % REGISTERS);
                self.begin(Wanted::Ask { agent, request, key: None }, cx);
            }
            None if may_begin && self.probes.is_none() && self.earlier.is_some() && cx.dice.chance(60) => {
                self.do_again(cx);
            }
            None if may_begin && self.probes.is_none() => {
                let wanted = wanted(cx);
                self.begin(wanted, cx);
            }
            None => {}
        }
        Ok(Duration::from_millis(cx.dice.between(5, 250)))
    }

    fn begin(&mut self, request: Wanted, cx: &mut Context<'_>) {
        let floor = match &request {
            Wanted::Ask { agent, .. } => cx.invariants.oracle.floor(agent),
            Wanted::Op(_) => 0,
        };
        if let Some((key, request)) = request.keyed() {
            cx.invariants.oracle.asked(key, request);
        }
        self.take_up(Doing { request, floor, tries: 1, since: cx.now }, cx);
    }

    /// Does what it did last under a key, as one who has forgotten the answer. What is told may be as old as the first.
    fn do_again(&mut self, cx: &mut Context<'_>) {
        if let Some(earlier) = self.earlier.take() {
            self.take_up(Doing { tries: earlier.tries + 1, since: cx.now, ..earlier }, cx);
        }
    }

    fn take_up(&mut self, doing: Doing, cx: &mut Context<'_>) {
        self.doing = Some(doing);
        self.serial += 1;
        self.send(cx);
    }

    fn done(&mut self) {
        self.earlier = self.doing.take().filter(|doing| doing.request.keyed().is_some()).or(self.earlier.take());
    }

    fn send(&mut self, cx: &mut Context<'_>) {
        let Some(doing) = &mut self.doing else { return };
        match &mut doing.request {
            Wanted::Ask { agent, request, key } => {
                let payload = request.payload();
                let remember = key.clone().map(|key| (key, BodyHash::of(agent, &payload)));
                let ask =
                    Ask { client: self.index, serial: self.serial, agent: agent.clone(), payload, remember, hops: 0 };
                cx.out.push((Place::Node(cx.dice.index(cx.nodes)), Packet::Ask(ask)));
            }
            Wanted::Op(op) => {
                if let Op::Enqueue(enqueue) = op {
                    enqueue.task.id = enqueue.task.id_at(u64::from(doing.tries));
                }
                let (from, proposal) = (Place::Client(self.index), Proposal(self.serial));
                let key = ProposalKey { from, boot: BootId(0), activation: u64::from(doing.tries), proposal };
                cx.out.push((Place::Leader, Packet::Propose { key, op: op.clone() }));
            }
        }
    }

    pub(crate) fn receive(&mut self, packet: Packet, cx: &mut Context<'_>) -> Result<(), Violation> {
        match packet {
            Packet::Answer { serial, answer } if serial == self.serial => self.answered(answer, cx),
            Packet::Decided { key, outcome } if key.proposal.0 == self.serial => {
                self.decided(key.activation, &outcome, cx)
            }
            // To something that this client gave up.
            Packet::Answer { .. } | Packet::Decided { .. } => Ok(()),
            Packet::Raft(_)
            | Packet::Propose { .. }
            | Packet::Heartbeat { .. }
            | Packet::Granted { .. }
            | Packet::Over { .. }
            | Packet::Load { .. }
            | Packet::Loaded { .. }
            | Packet::LookUp { .. }
            | Packet::Found { .. }
            | Packet::Wake
            | Packet::AttemptGone { .. }
            | Packet::Ask(_) => unreachable!("a client is sent answers only"),
        }
    }

    fn answered(&mut self, answer: Result<Bytes, Failure>, cx: &mut Context<'_>) -> Result<(), Violation> {
        let Some(Doing { request: Wanted::Ask { agent, request, key }, floor, .. }) = &self.doing else {
            return Ok(());
        };
        let failure = match answer {
            Ok(reply) => {
                let glimpse = glimpse(&reply).expect("a register replies with a glimpse");
                cx.invariants.oracle.told(agent, glimpse, *floor, request.number())?;
                self.done();
                return Ok(());
            }
            Err(failure) => failure,
        };
        if let Failure::Failed(text) = &failure
            && let Some(glimpse) = Glimpse::read(text)
        {
            // An error is no strict read: it may be old, but must not be of what was never committed.
            cx.invariants.oracle.told(agent, glimpse, 0, None)?;
        }
        if let (Some(left), Failure::Busy) = (&mut self.probes, &failure) {
            *left += 1;
        } else if self.probes.is_some() && key.is_none() && *request != Request::Refuse {
            let what = format!("client {} asked {request} of {agent} and was told: {failure}", self.index);
            return Err(Violation::new("I8 (recovers)", what));
        }
        if key.is_none() {
            if let (Some(number), false) = (request.number(), failure == Failure::Unknown) {
                cx.invariants.oracle.refuted(number)?;
            }
            self.doing = None;
        }
        Ok(())
    }

    fn decided(&mut self, tries: u64, outcome: &Outcome, cx: &mut Context<'_>) -> Result<(), Violation> {
        let Some(Doing { request: Wanted::Op(op), .. }) = &self.doing else { return Ok(()) };
        match (op, outcome) {
            (Op::Enqueue(enqueue), Outcome::Enqueued { .. }) => {
                cx.invariants.acknowledged.task(enqueue.task.id_at(tries), cx.rows)?;
            }
            (Op::Enqueue(_), Outcome::Existing { task }) => cx.invariants.acknowledged.task(*task, cx.rows)?,
            (Op::Send(send), Outcome::Committed | Outcome::Duplicate { .. }) => {
                cx.invariants.oracle.sent_by_client(&send.body)?;
            }
            _ => {}
        }
        self.done();
        Ok(())
    }
}

impl Wanted {
    /// What it asks for under an idempotency key, if it does.
    fn keyed(&self) -> Option<(&IdempotencyKey, Request)> {
        match self {
            Self::Ask { request, key, .. } => key.as_ref().map(|key| (key, *request)),
            Self::Op(Op::Enqueue(enqueue)) => {
                enqueue.task.idempotency.as_ref().map(|key| (key, Request::read(&enqueue.task.input)))
            }
            Self::Op(Op::Send(send)) => {
                send.idempotency.as_ref().map(|(key, _)| (key, Request::read(&send.body.payload)))
            }
            Self::Op(_) => None,
        }
    }

    /// Whether a second try has no second effect.
    fn may_be_repeated(&self) -> bool {
        match self {
            Self::Ask { key, .. } => key.is_some(),
            Self::Op(_) => true,
        }
    }
}

/// A client that asks again under the same key has another id given to its task.
trait Renewed {
    fn id_at(&self, tries: u64) -> TaskId;
}

impl Renewed for NewTask {
    fn id_at(&self, tries: u64) -> TaskId {
        let number = self.id.0 & u128::from(u64::MAX);
        if self.idempotency.is_some() { TaskId((u128::from(tries) << 64) | number) } else { self.id }
    }
}

fn glimpse(reply: &Bytes) -> Option<Glimpse> {
    Glimpse::read(std::str::from_utf8(reply).ok()?)
}

fn wanted(cx: &mut Context<'_>) -> Wanted {
    match cx.workload {
        Workload::Append => append(cx),
        Workload::Tasks => task(cx),
        Workload::Timers => timer(cx),
    }
}

fn append(cx: &mut Context<'_>) -> Wanted {
    let agent = some_register(cx.dice);
    let number = cx.number();
    let request = Request::Append { number };
    match cx.dice.below(100) {
        0..40 => Wanted::Ask { agent, request, key: None },
        40..55 => Wanted::Ask { agent, request, key: Some(key(number)) },
        55..65 => Wanted::Ask { agent, request: Request::Peek, key: None },
        65..73 => Wanted::Ask { agent, request: Request::Refuse, key: None },
        73..75 => Wanted::Ask { agent, request: Request::Stall { number }, key: None },
        75..86 => tell(agent, number, cx),
        86..94 => send(agent, request, cx),
        94..97 => send(agent, Request::Flaky { number }, cx),
        _ => send(agent, Request::Poison { number }, cx),
    }
}

fn task(cx: &mut Context<'_>) -> Wanted {
    let agent = some_register(cx.dice);
    let number = cx.number();
    match cx.dice.below(100) {
        0..60 => enqueue(agent, number, cx),
        60..68 => some_task(cx).map_or_else(|| tell(agent, number, cx), |task| Wanted::Op(Op::Cancel(cancel(task)))),
        68..74 => some_task(cx).map_or_else(|| tell(agent, number, cx), |task| Wanted::Op(Op::Retry(Retry { task }))),
        74..86 => {
            let request = Request::Delegate { number, task: cx.number(), to: cx.dice.below(REGISTERS) };
            let key = cx.dice.chance(400).then(|| key(number));
            Wanted::Ask { agent, request, key }
        }
        86..93 => tell(agent, number, cx),
        _ => Wanted::Ask { agent, request: Request::Append { number }, key: None },
    }
}

fn timer(cx: &mut Context<'_>) -> Wanted {
    let register = cx.dice.below(REGISTERS);
    let agent = behaviour::register_id(register);
    let number = cx.number();
    let timer = register * TIMERS + cx.dice.below(TIMERS);
    let request = match cx.dice.below(100) {
        0..60 => {
            let fires = cx.number();
            // For the second time that one fires.
            cx.number();
            let then = match cx.dice.below(100) {
                0..60 => Then::Append,
                60..80 => Then::Again,
                80..95 => Then::Flaky,
                _ => Then::Poison,
            };
            let after_ms = if cx.dice.chance(200) { 0 } else { cx.dice.below(6_000) };
            Request::Later { number, timer, after_ms, then, fires }
        }
        60..80 => Request::Settle { number, timer },
        80..90 => return tell(agent, number, cx),
        _ => Request::Append { number },
    };
    let key = cx.dice.chance(300).then(|| key(number));
    Wanted::Ask { agent, request, key }
}

fn enqueue(register: AgentId, number: u64, cx: &mut Context<'_>) -> Wanted {
    let agent = if cx.dice.chance(600) { register } else { behaviour::reader_id() };
    let request = match cx.dice.below(100) {
        0..60 => Request::Append { number },
        60..80 => Request::Flaky { number },
        80..85 => Request::Stall { number },
        85..88 => Request::Poison { number },
        88..91 => Request::Hopeless { number },
        _ => Request::Tell { number, sent: cx.number(), to: cx.dice.below(REGISTERS) },
    };
    let mut task = behaviour::new_task(agent, request);
    let nodes = cx.rows.nodes.len();
    if task.agent.key.is_none() && nodes > 0 && cx.dice.chance(300) {
        task.node = cx.rows.nodes.keys().nth(cx.dice.index(nodes)).copied();
    }
    task.idempotency = cx.dice.chance(400).then(|| key(number));
    task.delay_ms = if cx.dice.chance(150) { cx.dice.below(4_000) } else { 0 };
    task.priority = u8::try_from(cx.dice.below(4)).expect("it is small");
    Wanted::Op(Op::Enqueue(Enqueue { task, assign: None }))
}

fn tell(agent: AgentId, number: u64, cx: &mut Context<'_>) -> Wanted {
    let request = Request::Tell { number, sent: cx.number(), to: cx.dice.below(REGISTERS) };
    let key = cx.dice.chance(300).then(|| key(number));
    Wanted::Ask { agent, request, key }
}

fn send(to: AgentId, request: Request, cx: &mut Context<'_>) -> Wanted {
    let body = MessageBody { payload: request.payload(), to };
    let number = request.number().expect("what is sent has a number");
    let hash = BodyHash::of_message(&body.to, &body.payload);
    let idempotency = cx.dice.chance(600).then(|| (key(number), hash));
    if idempotency.is_none() {
        cx.invariants.oracle.may_repeat(number);
    }
    Wanted::Op(Op::Send(Send { id: cx.dice.wide(), idempotency, body }))
}

fn some_register(dice: &mut Dice) -> AgentId {
    behaviour::register_id(dice.below(REGISTERS))
}

fn some_task(cx: &mut Context<'_>) -> Option<TaskId> {
    let known = cx.rows.tasks.len();
    (known > 0).then(|| cx.rows.tasks.keys().nth(cx.dice.index(known)).copied())?
}

fn cancel(task: TaskId) -> Cancel {
    Cancel { task, reason: "a client changed its mind".to_owned(), dead_too: true }
}

fn key(number: u64) -> IdempotencyKey {
    IdempotencyKey { namespace: Name::default_namespace(), key: format!("key-{number}") }
}
