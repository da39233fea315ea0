//! A node: a process that registers, keeps its lease, hosts activations and does what is found for it.
//!
//! It stands for the loops of a real node, in as few lines as will do; every decision about an agent is the production
//! activation's.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use pelago_core::{
    agent::{Envelope, Failure, Input, Proposal, Ticket, Work},
    id::{AgentId, BootId, DirectoryId, FencingToken, Holder, Name, NodeId, TaskId},
    record::{Finish, MessageId, Offer, Op, Outcome, Placement, Refusal, Register, Verdict},
    route,
    time::Time,
};

use crate::{
    behaviour::{self, Request},
    dice::Dice,
    hosted::{Hosted, Wish},
    network::{Ask, Found, Packet, Place, ProposalKey},
    store::MapRows,
    view::Attempt,
};

/// What a node may count on after a heartbeat was granted: less than what the leader waits.
const LEASE: Duration = Duration::from_millis(5_690);
const HEARTBEAT: Duration = Duration::from_secs(1);
const LOOK_UP: Duration = Duration::from_secs(2);
const RESEND: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_millis(100);
const HOPS_MAX: u32 = 4;

/// What every node offers.
pub(crate) fn offers() -> BTreeMap<Name, Offer> {
    let offer = |placement| Offer { placement, tasks_max: 2 };
    BTreeMap::from([
        (behaviour::register_name(), offer(Placement::Keyed)),
        (behaviour::reader_name(), offer(Placement::Pool)),
    ])
}

fn name(index: usize) -> Name {
    Name::new(&format!("node-{index}")).expect("the name is valid")
}

/// Where a node of the rows is found.
pub(crate) fn place(id: NodeId, rows: &MapRows) -> Place {
    let node = rows.nodes.get(&id).expect("a node that was admitted stays in the rows");
    let index = node.name.as_str().strip_prefix("node-").and_then(|index| index.parse().ok());
    Place::Node(index.expect("a simulated node is named by its index"))
}

/// Something a process has set itself for later.
#[derive(Debug, Clone)]
pub(crate) enum Due {
    Heartbeat(Holder),
    LookUp(Holder),
    Resend { op: u64 },
    LoadAgain { activation: u64, load: u64 },
    LookAt { activation: u64 },
    TurnEnds { activation: u64, run: u64 },
    Again { agent: AgentId, envelope: Envelope },
    AttemptEnds { task: TaskId, token: FencingToken },
}

/// What a process does to the world.
#[derive(Debug)]
pub(crate) enum Out {
    Send { to: Place, packet: Packet },
    After { wait: Duration, due: Due },
}

/// What a step of a process may use.
pub(crate) struct Context<'a> {
    /// By the node's own clock.
    pub(crate) now: Time,
    pub(crate) dice: &'a mut Dice,
    pub(crate) out: &'a mut Vec<Out>,
}

impl Context<'_> {
    fn send(&mut self, to: Place, packet: Packet) {
        self.out.push(Out::Send { to, packet });
    }

    fn after(&mut self, wait: Duration, due: Due) {
        self.out.push(Out::After { wait, due });
    }
}

/// How a node behaves that is not as careful as it should be; safety must not rest on its care.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Habits {
    /// Stops by itself when its lease lapses.
    pub(crate) fences_itself: bool,
    /// Delivers messages that a look-up finds even if they are being handled.
    pub(crate) careless_look_ups: bool,
}

#[derive(Debug)]
pub(crate) struct Process {
    index: usize,
    pub(crate) boot: BootId,
    habits: Habits,
    holder: Option<Holder>,
    leased_until: Time,
    /// Who takes part, as far as this node knows.
    nodes: Vec<(Holder, Place)>,
    activations: BTreeMap<u64, Hosted>,
    hosts: BTreeMap<AgentId, u64>,
    tickets: BTreeMap<Ticket, Origin>,
    /// Ops of the process itself, proposed until they are answered.
    ops: BTreeMap<u64, Op>,
    /// What it works on, and since when.
    attempts: BTreeMap<TaskId, (FencingToken, Time)>,
    readers: BTreeMap<TaskId, (FencingToken, Verdict)>,
    handling: BTreeSet<MessageId>,
    /// The last number given to an activation, an op or a ticket.
    last: u64,
}

/// Where a delivery came from.
#[derive(Debug)]
enum Origin {
    Ask(Ask),
    Message(MessageId),
    Attempt(TaskId, FencingToken),
}

impl Process {
    pub(crate) fn start(index: usize, habits: Habits, cx: &mut Context<'_>) -> Self {
        let mut process = Self {
            index,
            boot: BootId(cx.dice.wide()),
            habits,
            holder: None,
            leased_until: cx.now,
            nodes: Vec::new(),
            activations: BTreeMap::new(),
            hosts: BTreeMap::new(),
            tickets: BTreeMap::new(),
            ops: BTreeMap::new(),
            attempts: BTreeMap::new(),
            readers: BTreeMap::new(),
            handling: BTreeSet::new(),
            last: 0,
        };
        process.register(cx);
        process
    }

    pub(crate) fn receive(&mut self, packet: Packet, cx: &mut Context<'_>) {
        match packet {
            Packet::Decided { key, outcome } if key.boot == self.boot => self.decided(key, outcome, cx),
            Packet::Granted { holder, sent, may_act, nodes } if Some(holder) == self.holder => {
                self.granted(sent, may_act, nodes, cx);
            }
            Packet::Loaded { boot, activation, load, kept, held_elsewhere } if boot == self.boot => {
                if let Some(hosted) = self.activations.get_mut(&activation).filter(|hosted| hosted.load == load) {
                    let input = hosted.loaded(kept, held_elsewhere);
                    self.advance(activation, input, cx);
                }
            }
            Packet::Found { holder, sent, found } if Some(holder) == self.holder => self.found(sent, found, cx),
            Packet::Wake => self.look_up(cx),
            Packet::AttemptGone { task, token } => self.attempt_gone(task, token, cx),
            Packet::Ask(ask) => self.ask(ask, cx),
            // To a process that was here before, or to somebody else.
            Packet::Decided { .. }
            | Packet::Granted { .. }
            | Packet::Loaded { .. }
            | Packet::Found { .. }
            | Packet::Propose { .. }
            | Packet::Heartbeat { .. }
            | Packet::Load { .. }
            | Packet::LookUp { .. }
            | Packet::Answer { .. } => {}
        }
    }

    pub(crate) fn due(&mut self, due: Due, cx: &mut Context<'_>) {
        match due {
            Due::Heartbeat(holder) if Some(holder) == self.holder => self.heartbeat(holder, cx),
            Due::LookUp(holder) if Some(holder) == self.holder => {
                self.look_up(cx);
                cx.after(LOOK_UP, Due::LookUp(holder));
            }
            // Of a run that is over.
            Due::Heartbeat(_) | Due::LookUp(_) => {}
            Due::Resend { op } => self.propose_own(op, cx),
            Due::LoadAgain { activation, load } => self.load(activation, load, cx),
            Due::LookAt { activation } => {
                if let Some(hosted) = self.activations.get_mut(&activation) {
                    let mut wishes = Vec::new();
                    hosted.look(cx.now, cx.dice, &mut wishes);
                    self.fulfil(activation, wishes, cx);
                }
            }
            Due::TurnEnds { activation, run } => {
                let ended = self.activations.get_mut(&activation).and_then(|hosted| hosted.end_of(run));
                if let Some(input) = ended {
                    self.advance(activation, input, cx);
                }
            }
            Due::Again { agent, envelope } => self.deliver(&agent, envelope, cx),
            Due::AttemptEnds { task, token } => self.attempt_ends(task, token, cx),
        }
    }

    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    // ── its run ──

    fn register(&mut self, cx: &mut Context<'_>) {
        let op = Op::Register(Register {
            name: name(self.index),
            directory: DirectoryId(self.index as u128),
            boot: self.boot,
            mesh_address: String::new(),
            http_address: String::new(),
            labels: BTreeMap::new(),
            offers: offers(),
        });
        self.own(op, cx);
    }

    fn own(&mut self, op: Op, cx: &mut Context<'_>) {
        let n = self.next();
        self.ops.insert(n, op);
        self.propose_own(n, cx);
    }

    fn propose_own(&mut self, n: u64, cx: &mut Context<'_>) {
        let Some(op) = self.ops.get(&n).cloned() else { return };
        self.propose(0, Proposal(n), op, cx);
        cx.after(RESEND, Due::Resend { op: n });
    }

    fn propose(&mut self, activation: u64, proposal: Proposal, op: Op, cx: &mut Context<'_>) {
        let key = ProposalKey { from: Place::Node(self.index), boot: self.boot, activation, proposal };
        cx.send(Place::Leader, Packet::Propose { key, op });
    }

    fn decided(&mut self, key: ProposalKey, outcome: Outcome, cx: &mut Context<'_>) {
        if key.activation != 0 {
            return self.advance(key.activation, Input::Decided { proposal: key.proposal, outcome }, cx);
        }
        if self.ops.remove(&key.proposal.0).is_some()
            && let Outcome::Registered { holder, .. } = outcome
        {
            self.holder = Some(holder);
            self.leased_until = cx.now + LEASE;
            self.heartbeat(holder, cx);
            cx.after(LOOK_UP, Due::LookUp(holder));
        }
    }

    fn heartbeat(&mut self, holder: Holder, cx: &mut Context<'_>) {
        if self.is_lapsed(cx.now) {
            self.stop_all(cx);
        }
        cx.send(Place::Leader, Packet::Heartbeat { holder, sent: cx.now });
        cx.after(HEARTBEAT, Due::Heartbeat(holder));
    }

    fn granted(&mut self, sent: Time, may_act: bool, nodes: Vec<(Holder, Place)>, cx: &mut Context<'_>) {
        if may_act {
            // An answer that was overtaken says nothing new.
            if self.leased_until <= sent + LEASE {
                self.leased_until = sent + LEASE;
                self.nodes = nodes;
            }
        } else {
            self.stop_all(cx);
            self.holder = None;
            self.register(cx);
        }
    }

    fn is_lapsed(&self, now: Time) -> bool {
        self.habits.fences_itself && now > self.leased_until
    }

    fn stop_all(&mut self, cx: &mut Context<'_>) {
        self.readers.clear();
        self.attempts.clear();
        let all: Vec<u64> = self.activations.keys().copied().collect();
        for activation in all {
            self.advance(activation, Input::Stop, cx);
        }
    }

    /// The run in which something new may begin.
    fn able(&self, now: Time) -> Option<Holder> {
        self.holder.filter(|_| !self.is_lapsed(now))
    }

    // ── its activations ──

    fn advance(&mut self, activation: u64, input: Input, cx: &mut Context<'_>) {
        if let Some(hosted) = self.activations.get_mut(&activation) {
            let mut wishes = Vec::new();
            hosted.handle(cx.now, input, cx.dice, &mut wishes);
            self.fulfil(activation, wishes, cx);
        }
    }

    fn fulfil(&mut self, activation: u64, wishes: Vec<Wish>, cx: &mut Context<'_>) {
        for wish in wishes {
            match wish {
                Wish::Load { load } => self.load(activation, load, cx),
                Wish::Propose { proposal, op } => self.propose(activation, proposal, op, cx),
                Wish::EndTurn { after, run } => cx.after(after, Due::TurnEnds { activation, run }),
                Wish::LookAt(at) => cx.after(at - cx.now, Due::LookAt { activation }),
                Wish::Answer { ticket, answer } => self.answered(ticket, answer, cx),
                Wish::Again(envelope) => {
                    if let Some(hosted) = self.activations.get(&activation) {
                        cx.after(AGAIN, Due::Again { agent: hosted.agent.clone(), envelope });
                    }
                }
                Wish::Gone => {
                    if let Some(hosted) = self.activations.remove(&activation) {
                        self.hosts.retain(|_, n| *n != activation);
                        drop(hosted);
                    }
                }
            }
        }
    }

    fn load(&mut self, activation: u64, load: u64, cx: &mut Context<'_>) {
        let Some(hosted) = self.activations.get(&activation).filter(|hosted| hosted.load == load) else { return };
        let Some(holder) = self.holder else { return };
        let (boot, agent) = (self.boot, hosted.agent.clone());
        cx.send(Place::Leader, Packet::Load { from: self.index, boot, activation, load, agent, holder });
        cx.after(RESEND, Due::LoadAgain { activation, load });
    }

    /// Hands something to an agent, which is taken if nobody here holds it.
    fn deliver(&mut self, agent: &AgentId, envelope: Envelope, cx: &mut Context<'_>) {
        let Some(holder) = self.able(cx.now) else {
            return self.answered(envelope.ticket, Err(Failure::Stopped), cx);
        };
        let activation = match self.hosts.get(agent) {
            Some(activation) => *activation,
            None => self.host(agent, holder, cx),
        };
        self.advance(activation, Input::Deliver(envelope), cx);
    }

    fn host(&mut self, agent: &AgentId, holder: Holder, cx: &mut Context<'_>) -> u64 {
        let activation = self.next();
        let mut wishes = Vec::new();
        let hosted = Hosted::new(agent.clone(), holder, cx.now, cx.dice, &mut wishes);
        self.activations.insert(activation, hosted);
        self.hosts.insert(agent.clone(), activation);
        self.fulfil(activation, wishes, cx);
        activation
    }

    fn ticket(&mut self, origin: Origin) -> Ticket {
        let ticket = Ticket(self.next());
        self.tickets.insert(ticket, origin);
        ticket
    }

    // ── what it is asked ──

    fn ask(&mut self, ask: Ask, cx: &mut Context<'_>) {
        let Some(holder) = self.able(cx.now) else {
            return answer(&ask, Err(Failure::Stopped), cx);
        };
        let home = route::rendezvous(&ask.agent, self.nodes.iter().map(|(holder, _)| *holder));
        if self.hosts.contains_key(&ask.agent) || home.is_none_or(|home| home == holder) || ask.hops > 1 {
            return self.ask_here(ask, cx);
        }
        self.forward(ask, home.unwrap_or(holder), cx);
    }

    fn ask_here(&mut self, ask: Ask, cx: &mut Context<'_>) {
        let (agent, payload, remember) = (ask.agent.clone(), ask.payload.clone(), ask.remember.clone());
        let ticket = self.ticket(Origin::Ask(ask));
        self.deliver(&agent, Envelope { ticket, work: Work::Ask { remember }, payload }, cx);
    }

    fn forward(&mut self, ask: Ask, holder: Holder, cx: &mut Context<'_>) {
        match self.nodes.iter().find(|(known, _)| *known == holder) {
            Some((_, place)) if ask.hops < HOPS_MAX => {
                cx.send(*place, Packet::Ask(Ask { hops: ask.hops + 1, ..ask }));
            }
            Some(_) | None => answer(&ask, Err(Failure::Elsewhere(holder)), cx),
        }
    }

    fn answered(&mut self, ticket: Ticket, result: Result<Bytes, Failure>, cx: &mut Context<'_>) {
        match (self.tickets.remove(&ticket), result) {
            (Some(Origin::Ask(ask)), Err(Failure::Elsewhere(holder))) => self.forward(ask, holder, cx),
            (Some(Origin::Ask(ask)), result) => answer(&ask, result, cx),
            (Some(Origin::Message(id)), _) => {
                self.handling.remove(&id);
            }
            (Some(Origin::Attempt(task, _)), Ok(_)) => {
                self.attempts.remove(&task);
            }
            (Some(Origin::Attempt(task, token)), Err(failure)) => self.attempt_failed(task, token, failure, cx),
            (None, _) => {}
        }
    }

    // ── what it finds ──

    fn look_up(&mut self, cx: &mut Context<'_>) {
        if let Some(holder) = self.able(cx.now) {
            cx.send(Place::Leader, Packet::LookUp { holder, sent: cx.now });
        }
    }

    fn found(&mut self, sent: Time, found: Found, cx: &mut Context<'_>) {
        self.drop_lost(sent, &found, cx);
        for message in found.messages {
            if self.handling.contains(&message.id) && !self.is_careless(cx) {
                continue;
            }
            self.handling.insert(message.id.clone());
            let ticket = self.ticket(Origin::Message(message.id.clone()));
            let work = Work::Message { id: message.id, attempts: 0 };
            self.deliver(&message.to, Envelope { ticket, work, payload: message.payload }, cx);
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
                let work = Work::Task { task: task.id, token, limit };
                self.deliver(&task.agent, Envelope { ticket, work, payload: input }, cx);
            }
            Placement::Pool | Placement::Resident => {
                let (takes, result) = behaviour::reader(task.id, token, Request::read(&input), cx.dice);
                let verdict = match result {
                    Ok(produced) => Verdict::Done(produced.reply),
                    Err(failure) => failed(failure.to_string(), cx.dice),
                };
                self.readers.insert(task.id, (token, verdict));
                cx.after(takes, Due::AttemptEnds { task: task.id, token });
            }
        }
    }

    fn attempt_ends(&mut self, task: TaskId, token: FencingToken, cx: &mut Context<'_>) {
        if self.readers.get(&task).is_some_and(|(present, _)| *present == token)
            && let Some((_, verdict)) = self.readers.remove(&task)
        {
            self.finish(task, token, verdict, cx);
        }
    }

    fn attempt_failed(&mut self, task: TaskId, token: FencingToken, failure: Failure, cx: &mut Context<'_>) {
        let verdict = match failure {
            Failure::Refused(Refusal::StaleToken { .. }) => {
                self.attempts.remove(&task);
                return;
            }
            Failure::Hopeless(reason) => Verdict::Hopeless { reason },
            Failure::Busy | Failure::Elsewhere(_) | Failure::Stopped => Verdict::Returned,
            failure @ (Failure::Failed(_) | Failure::TimedOut { .. } | Failure::Refused(_) | Failure::Unknown) => {
                failed(failure.to_string(), cx.dice)
            }
        };
        self.finish(task, token, verdict, cx);
    }

    fn finish(&mut self, task: TaskId, token: FencingToken, verdict: Verdict, cx: &mut Context<'_>) {
        self.attempts.remove(&task);
        self.own(Op::Finish(Finish { task, token, verdict, sends: Vec::new(), enqueues: Vec::new() }), cx);
    }

    fn attempt_gone(&mut self, task: TaskId, token: FencingToken, cx: &mut Context<'_>) {
        if self.readers.get(&task).is_some_and(|(present, _)| *present == token) {
            self.readers.remove(&task);
        }
        let all: Vec<u64> = self.activations.keys().copied().collect();
        for activation in all {
            self.advance(activation, Input::TaskGone { task, token }, cx);
        }
    }
}

fn answer(ask: &Ask, answer: Result<Bytes, Failure>, cx: &mut Context<'_>) {
    cx.send(Place::Client(ask.client), Packet::Answer { serial: ask.serial, answer });
}

fn failed(reason: String, dice: &mut Dice) -> Verdict {
    Verdict::Failed { reason, retry_after_ms: dice.between(50, 500) }
}
