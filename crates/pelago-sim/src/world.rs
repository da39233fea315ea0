//! The whole mesh and its time.
//!
//! A run has two parts. While faults last clients do what they like; then everything heals, and every ask must
//! succeed, every task must end, every message must arrive, and the store must hold what the oracle expects.

mod failing;
mod leading;
mod voting;

use std::{
    collections::BTreeMap,
    panic::{self, AssertUnwindSafe},
    time::Duration,
};

use pelago_core::{
    id::{BootId, Incarnation},
    time::Time,
};

use voting::OfVoter;

use crate::{
    client::{self, Client},
    dice::Dice,
    faults::{Clock, Fault, Plan, Tally},
    invariants::{Invariants, Violation},
    leader::Leader,
    ledger::Ledger,
    network::{Network, Packet, Place, Weather},
    node::{self, Due, Habits, Out, Process},
    trace::Trace,
    voter::Voter,
    workload::Workload,
};

const CLIENTS: usize = 6;
const TICK: Duration = Duration::from_millis(200);
/// How long after the healing everything must answer at once: a lease, an election, a look-up, and some.
const SETTLES: Duration = Duration::from_secs(15);
/// How long after the healing the mesh may take to come to rest.
const RESTS: Duration = Duration::from_secs(120);
/// A run takes some 10,000 steps. One that takes this many feeds itself.
const STEPS_MAX: u64 = 50_000;
const _: () = assert!(SETTLES.as_secs() < RESTS.as_secs());

/// Whether a run keeps its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tracing {
    /// A line a step.
    On,
    /// None: three times as fast.
    Off,
}

/// What became of a seed.
#[derive(Debug)]
pub struct Run {
    /// The seed.
    pub seed: u64,
    /// What clients did.
    pub workload: Workload,
    /// Steps taken.
    pub steps: u64,
    /// How much time passed in the simulation.
    pub simulated: Duration,
    /// Commits of agents and changes of tasks.
    pub commits: u64,
    /// Faults that really happened, by kind.
    pub faults: Tally,
    /// What the rules had to deal with, by kind.
    pub sightings: Tally,
    /// What was violated, if anything was.
    pub violation: Option<Violation>,
    /// What happened, when [`Tracing::On`].
    pub trace: Vec<String>,
}

impl Run {
    /// Whether the run says anything: a fault happened and something was committed.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.faults.total() > 0 && self.commits > 0
    }

    /// The command that repeats this run.
    #[must_use]
    pub fn replay(&self) -> String {
        let planted = option_env!("PELAGO_PLANTED").map(|bug| format!(" --planted {bug}")).unwrap_or_default();
        format!("cargo xtask sim --workload {} --seed {} --trace{planted}", self.workload, self.seed)
    }
}

/// Runs one seed.
#[must_use]
pub fn run(seed: u64, workload: Workload, tracing: Tracing) -> Run {
    let mut world = World::new(seed, workload, tracing);
    let violation = world.run_or_panic().err();
    world.sightings.add(&world.invariants.once.renewed);
    Run {
        seed,
        workload,
        steps: world.steps,
        simulated: world.now - Time::ZERO,
        commits: world.commits,
        faults: world.tally,
        sightings: world.sightings,
        violation,
        trace: world.trace.lines,
    }
}

struct World {
    now: Time,
    steps: u64,
    agenda: BTreeMap<(Time, u64), Event>,
    scheduled: u64,
    dice: Dice,
    trace: Trace,
    workload: Workload,
    plan: Plan,
    network: Network,
    ledger: Ledger,
    invariants: Invariants,
    /// What happens to the leader at the next batch.
    crash_at: Option<Fault>,
    nodes: Vec<Seat>,
    clients: Vec<Client>,
    number: u64,
    tally: Tally,
    sightings: Tally,
    commits: u64,
    healed: bool,
    /// When the last packet from before the healing has arrived.
    rest_after: Time,
}

/// Where a node's process runs, and a voter in it.
struct Seat {
    process: Option<Process>,
    /// While the process is down, what its disk holds.
    voter: Voter,
    /// How far its leader has applied the log.
    applied: usize,
    leader: Option<Leader>,
    clock: Clock,
    paused_until: Time,
    /// How long it goes down, if its next flush is to fail.
    flush_fails: Option<Duration>,
    /// How long it stays away, if it was told to stop.
    stops_for: Option<Duration>,
    /// The last run that ended itself, as its node wrote down.
    left: Option<Incarnation>,
    slow_flush: Option<Duration>,
}

impl Seat {
    fn new(node: usize, nodes: usize, clock: Clock) -> Self {
        Self {
            process: None,
            voter: Voter::new(node, nodes),
            applied: 0,
            leader: None,
            clock,
            paused_until: Time::ZERO,
            flush_fails: None,
            stops_for: None,
            left: None,
            slow_flush: None,
        }
    }
}

enum Event {
    Deliver { from: Place, to: Place, packet: Packet },
    Due { node: usize, boot: BootId, due: Due },
    Start { node: usize },
    Client { index: usize },
    OfVoter { node: usize, boot: BootId, what: OfVoter },
    Fault { index: usize },
    CalmDown,
    DiskRecovers { node: usize },
    Mend { from: Place, to: Place },
    Heal,
    Settled,
}

impl World {
    fn new(seed: u64, workload: Workload, tracing: Tracing) -> Self {
        let mut dice = Dice::new(seed);
        let plan = Plan::of(seed, &mut dice);
        let clocks = plan.clocks.iter().enumerate();
        let nodes = clocks.map(|(node, clock)| Seat::new(node, plan.clocks.len(), *clock));
        let mut world = Self {
            now: Time::ZERO,
            steps: 0,
            agenda: BTreeMap::new(),
            scheduled: 0,
            dice,
            trace: Trace::new(tracing == Tracing::On),
            workload,
            network: Network::default(),
            ledger: Ledger::default(),
            invariants: Invariants::default(),
            crash_at: None,
            nodes: nodes.collect(),
            clients: (0..CLIENTS).map(Client::new).collect(),
            number: 0,
            tally: Tally::default(),
            sightings: Tally::default(),
            commits: 0,
            healed: false,
            rest_after: Time::ZERO,
            plan,
        };
        world.lay_out();
        world
    }

    /// Puts down what is known from the start.
    fn lay_out(&mut self) {
        for node in 0..self.nodes.len() {
            self.after(Duration::from_millis(1), Event::Start { node });
        }
        for index in 0..CLIENTS {
            self.after(Duration::from_millis(50), Event::Client { index });
        }
        for index in 0..self.plan.faults.len() {
            self.at(self.plan.faults[index].0, Event::Fault { index });
        }
        self.at(self.plan.heal, Event::Heal);
        self.at(self.plan.heal + SETTLES, Event::Settled);
    }

    fn at(&mut self, at: Time, event: Event) {
        self.scheduled += 1;
        self.agenda.insert((at, self.scheduled), event);
    }

    fn after(&mut self, wait: Duration, event: Event) {
        self.at(self.now + wait, event);
    }

    /// A core that stops at an impossible state has failed its seed, like one that goes on.
    fn run_or_panic(&mut self) -> Result<(), Violation> {
        let caught = panic::catch_unwind(AssertUnwindSafe(|| self.run()));
        caught.unwrap_or_else(|_| Err(Violation::new("no core panics", "the message stands above".to_owned())))
    }

    fn run(&mut self) -> Result<(), Violation> {
        while let Some(((at, _), event)) = self.agenda.pop_first() {
            self.now = at;
            self.steps += 1;
            if self.steps > STEPS_MAX {
                return Err(Violation::new("I7 (bounded)", format!("{STEPS_MAX} steps and no end")));
            }
            self.step(event)?;
            if self.is_at_rest() {
                return self.check_end();
            }
            if self.now > self.plan.heal + RESTS {
                self.invariants.check_end(&self.ledger.rows)?;
                return Err(Violation::new("I8 (recovers)", "clients still wait".to_owned()));
            }
        }
        unreachable!("a voter always has a next campaign")
    }

    fn check_end(&self) -> Result<(), Violation> {
        let load = self.leader().map_or((0, 0, 0), Leader::load);
        if load != (0, 0, 0) {
            let what = format!("the scheduler believes that {load:?} tasks wait, run and take room, and none do");
            return Err(Violation::new("I5 (conservation)", what));
        }
        self.invariants.check_end(&self.ledger.rows)
    }

    fn is_at_rest(&self) -> bool {
        self.healed
            && self.now > self.rest_after
            && self.clients.iter().all(Client::is_done)
            && self.leader().is_some_and(Leader::is_idle)
            && self.ledger.rows.is_at_rest()
    }

    fn step(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Deliver { from, to, packet } => self.deliver(from, to, packet)?,
            Event::Due { node, boot, due } => self.due(node, boot, due),
            Event::Start { node } => self.start(node)?,
            Event::Client { index } => self.client(index, None)?,
            Event::OfVoter { node, boot, what } => self.of_voter(node, boot, what)?,
            Event::Fault { index } => self.fault(self.plan.faults[index].1.clone()),
            Event::CalmDown => self.network.weather = Weather::default(),
            Event::DiskRecovers { node } => self.nodes[node].slow_flush = None,
            Event::Mend { from, to } => {
                self.network.cut.remove(&(from, to));
            }
            Event::Heal => self.heal()?,
            Event::Settled => self.settled(),
        }
        Ok(())
    }

    fn send(&mut self, from: Place, to: Place, packet: Packet) {
        let to = if to == Place::Leader { self.believed_leader(from) } else { Some(to) };
        let Some(to) = to else {
            return self.trace.note(self.now, || format!("{from}: knows no leader: {packet}"));
        };
        let (first, second) = self.network.carry(self.now, (from, to), &packet, &mut self.dice, &mut self.tally);
        if let Some(at) = second {
            self.at(at, Event::Deliver { from, to, packet: packet.clone() });
        }
        match first {
            Some(at) => self.at(at, Event::Deliver { from, to, packet }),
            None => self.trace.note(self.now, || format!("{from} → {to}: lost: {packet}")),
        }
    }

    /// Who leads, as far as the sender's voter knows. A client asks one of the nodes.
    fn believed_leader(&mut self, from: Place) -> Option<Place> {
        let asked = match from {
            Place::Node(node) => node,
            Place::Client(_) => self.dice.index(self.nodes.len()),
            Place::Leader => unreachable!("a leader is a node"),
        };
        self.nodes[asked].voter.leader().map(Place::Node)
    }

    fn deliver(&mut self, from: Place, to: Place, packet: Packet) -> Result<(), Violation> {
        match to {
            Place::Node(node) if self.nodes[node].paused_until > self.now => {
                let until = self.nodes[node].paused_until;
                self.at(until, Event::Deliver { from, to, packet });
            }
            Place::Node(node) => {
                self.trace.note(self.now, || format!("{from} → {to}: {packet}"));
                if let Packet::Raft(message) = packet {
                    let Place::Node(from) = from else { unreachable!("voters are nodes") };
                    self.hear(node, from, message)?;
                } else if packet.is_for_leader() {
                    self.ask_leader(node, from, packet)?;
                } else {
                    self.in_process(node, |process, cx| process.receive(packet, cx));
                }
            }
            Place::Client(index) => {
                self.trace.note(self.now, || format!("{from} → {to}: {packet}"));
                self.client(index, Some(packet))?;
            }
            Place::Leader => unreachable!("what is sent to the leader goes to a node"),
        }
        Ok(())
    }

    fn start(&mut self, node: usize) -> Result<(), Violation> {
        if self.nodes[node].process.is_some() {
            return Ok(());
        }
        self.trace.note(self.now, || format!("node {node} starts"));
        let (habits, mut out) = (self.habits(), Vec::new());
        let now = self.clock(node);
        let mut cx = node::Context { now, dice: &mut self.dice, out: &mut out };
        let left = self.nodes[node].left;
        let process = Process::start(node, habits, left, &mut cx);
        let boot = process.boot;
        self.nodes[node].process = Some(process);
        self.carry_out(node, boot, out);
        self.start_voter(node)
    }

    /// A node's own steady clock.
    fn clock(&self, node: usize) -> Time {
        self.nodes[node].clock.read(self.now)
    }

    fn habits(&self) -> Habits {
        Habits { fences_itself: self.plan.fences_itself, careless_look_ups: self.plan.careless_look_ups }
    }

    fn due(&mut self, node: usize, boot: BootId, due: Due) {
        let seat = &self.nodes[node];
        if seat.process.as_ref().is_none_or(|process| process.boot != boot) {
            return;
        }
        if seat.paused_until > self.now {
            let until = seat.paused_until;
            return self.at(until, Event::Due { node, boot, due });
        }
        self.trace.note(self.now, || format!("node {node}: {due:?}"));
        self.in_process(node, |process, cx| process.due(due, cx));
    }

    fn in_process(&mut self, node: usize, step: impl FnOnce(&mut Process, &mut node::Context<'_>)) {
        let seat = &mut self.nodes[node];
        let Some(process) = &mut seat.process else { return };
        let mut out = Vec::new();
        let mut cx = node::Context { now: seat.clock.read(self.now), dice: &mut self.dice, out: &mut out };
        step(process, &mut cx);
        let boot = process.boot;
        self.carry_out(node, boot, out);
    }

    fn carry_out(&mut self, node: usize, boot: BootId, out: Vec<Out>) {
        for out in out {
            match out {
                Out::Send { to, packet } => self.send(Place::Node(node), to, packet),
                Out::Exit => self.stopped(node),
                Out::After { wait, due } => {
                    let wait = self.nodes[node].clock.wait(wait);
                    self.after(wait, Event::Due { node, boot, due });
                }
            }
        }
    }

    fn client(&mut self, index: usize, packet: Option<Packet>) -> Result<(), Violation> {
        let mut out = Vec::new();
        let mut cx = client::Context {
            now: self.now,
            nodes: self.nodes.len(),
            workload: self.workload,
            dice: &mut self.dice,
            invariants: &mut self.invariants,
            rows: &self.ledger.rows,
            number: &mut self.number,
            out: &mut out,
        };
        let client = &mut self.clients[index];
        match packet {
            Some(packet) => client.receive(packet, &mut cx)?,
            None => {
                let wait = client.step(!self.healed, &mut cx)?;
                self.after(wait, Event::Client { index });
            }
        }
        for (to, packet) in out {
            self.send(Place::Client(index), to, packet);
        }
        Ok(())
    }
}
