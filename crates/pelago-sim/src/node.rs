//! A node: a process that registers, keeps its lease, hosts activations and does what is found for it.
//!
//! It stands for the loops of a real node, in as few lines as will do; every decision about an agent is the production
//! activation's.

mod finding;
mod hosting;
mod stopping;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use pelago_core::{
    agent::{Envelope, Input, Proposal, Ticket},
    id::{AgentId, BootId, DirectoryId, FencingToken, Holder, Incarnation, Name, NodeId, TaskId},
    lease::{self, Beat, Lease},
    record::{MessageId, Offer, Op, Outcome, Placement, Register, Verdict},
    time::Time,
};

use stopping::Stopping;

use crate::{
    behaviour,
    dice::Dice,
    hosted::Hosted,
    network::{Ask, Packet, Place, ProposalKey},
    store::MapRows,
};

const LOOK_UP: Duration = Duration::from_secs(2);
const RESEND: Duration = Duration::from_secs(1);

/// What every node offers.
pub(crate) fn offers() -> BTreeMap<Name, Offer> {
    let offer = |placement| Offer::new(placement, 2);
    BTreeMap::from([
        (behaviour::register_name(), offer(Placement::Keyed)),
        (behaviour::reader_name(), offer(Placement::Pool)),
    ])
}

fn name(index: usize) -> Name {
    Name::new(&format!("node-{index}")).expect("the name is valid")
}

/// Where a node of the rows is found: nowhere once it was removed.
pub(crate) fn place(id: NodeId, rows: &MapRows) -> Option<Place> {
    let index = rows.nodes.get(&id)?.name.as_str().strip_prefix("node-").and_then(|index| index.parse().ok());
    Some(Place::Node(index.expect("a simulated node is named by its index")))
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
    Note { task: TaskId, token: FencingToken, notes: u64 },
    AttemptEnds { task: TaskId, token: FencingToken },
    GoOnStopping,
}

/// What a process does to the world.
#[derive(Debug)]
pub(crate) enum Out {
    Send {
        to: Place,
        packet: Packet,
    },
    After {
        wait: Duration,
        due: Due,
    },
    /// The process ends by itself.
    Exit,
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
    pub(crate) holder: Option<Holder>,
    lease: Lease,
    /// The heartbeat whose grant told last who takes part.
    news: Beat,
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
    stopping: Option<Stopping>,
    left: Option<Incarnation>,
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
    /// `left` is the run before, if it ended itself unheard.
    pub(crate) fn start(index: usize, habits: Habits, left: Option<Incarnation>, cx: &mut Context<'_>) -> Self {
        let mut process = Self {
            index,
            boot: BootId(cx.dice.wide()),
            habits,
            holder: None,
            lease: Lease::new(lease::Config::default(), cx.now),
            news: Beat(0),
            nodes: Vec::new(),
            activations: BTreeMap::new(),
            hosts: BTreeMap::new(),
            tickets: BTreeMap::new(),
            ops: BTreeMap::new(),
            attempts: BTreeMap::new(),
            readers: BTreeMap::new(),
            handling: BTreeSet::new(),
            stopping: None,
            left,
            last: 0,
        };
        process.register(cx);
        process
    }

    pub(crate) fn receive(&mut self, packet: Packet, cx: &mut Context<'_>) {
        match packet {
            Packet::Decided { key, outcome } if key.boot == self.boot => self.decided(key, outcome, cx),
            Packet::Granted { holder, beat, nodes } if Some(holder) == self.holder => self.granted(beat, nodes),
            Packet::Over { holder } if Some(holder) == self.holder => self.over(cx),
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
            | Packet::Over { .. }
            | Packet::Loaded { .. }
            | Packet::Found { .. }
            | Packet::Raft(_)
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
            Due::Note { task, token, notes } => self.note(task, token, notes, cx),
            Due::AttemptEnds { task, token } => self.attempt_ends(task, token, cx),
            Due::GoOnStopping => self.go_on_stopping(cx),
        }
    }

    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn register(&mut self, cx: &mut Context<'_>) {
        self.lease = Lease::new(lease::Config::default(), cx.now);
        self.news = Beat(0);
        let op = Op::Register(Register {
            name: name(self.index),
            directory: DirectoryId(self.index as u128),
            boot: self.boot,
            mesh_address: String::new(),
            http_address: String::new(),
            labels: BTreeMap::new(),
            offers: offers(),
            node: None,
            left: self.left,
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
        if self.ops.remove(&key.proposal.0).is_none() {
            return;
        }
        if let Outcome::Expired { .. } = outcome {
            cx.out.push(Out::Exit);
        } else if let Outcome::Registered { holder, .. } = outcome {
            self.holder = Some(holder);
            self.heartbeat(holder, cx);
            cx.after(LOOK_UP, Due::LookUp(holder));
        }
    }

    fn heartbeat(&mut self, holder: Holder, cx: &mut Context<'_>) {
        if self.is_lapsed(cx.now) {
            self.stop_all(cx);
        }
        self.beat(holder, cx);
        cx.after(lease::Config::default().heartbeat, Due::Heartbeat(holder));
    }

    fn beat(&mut self, holder: Holder, cx: &mut Context<'_>) {
        let beat = self.lease.beat(cx.now);
        let draining = self.stopping.is_some();
        cx.send(Place::Leader, Packet::Heartbeat { holder, beat, draining });
    }

    fn granted(&mut self, beat: Beat, nodes: Vec<(Holder, Place)>) {
        self.lease.granted(beat);
        // An answer that was overtaken says nothing new.
        if beat > self.news {
            self.news = beat;
            self.nodes = nodes;
        }
    }

    fn over(&mut self, cx: &mut Context<'_>) {
        self.stop_all(cx);
        self.holder = None;
        if self.stopping.is_some() {
            return cx.out.push(Out::Exit);
        }
        self.register(cx);
    }

    /// The run that may act by its lease, whether it looks at that or not.
    pub(crate) fn leased(&self, now: Time) -> Option<Holder> {
        self.holder.filter(|_| self.lease.is_valid(now) && !self.is_leaving())
    }

    fn is_lapsed(&self, now: Time) -> bool {
        self.habits.fences_itself && !self.lease.is_valid(now)
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
        self.holder.filter(|_| !self.is_lapsed(now) && !self.is_leaving())
    }
}
