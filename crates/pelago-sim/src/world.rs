//! The whole mesh and its time.
//!
//! A run has two parts. While faults last clients do what they like; then everything heals, and every ask must
//! succeed, every task must end, every message must arrive, and the store must hold what the oracle expects.

use std::{
    collections::BTreeMap,
    panic::{self, AssertUnwindSafe},
    time::Duration,
};

use pelago_core::{
    id::{BootId, Holder},
    record::Write,
    time::{LogTime, Time},
};

use crate::{
    client::{self, Client},
    dice::Dice,
    faults::{Clock, Fault, Plan, Tally},
    invariants::{Invariants, Violation},
    leader::Leader,
    log::Log,
    network::{Found, Network, Packet, Place, Weather},
    node::{self, Due, Habits, Out, Process},
    trace::{Short, Trace},
    workload::Workload,
};

const CLIENTS: usize = 6;
const TICK: Duration = Duration::from_millis(200);
/// How long after the healing everything must answer at once: a lease, an election, a look-up, and some.
const SETTLES: Duration = Duration::from_secs(15);
/// How long after the healing the mesh may take to come to rest.
const RESTS: Duration = Duration::from_secs(120);
/// A run takes some 5,000 steps. One that takes this many feeds itself.
const STEPS_MAX: u64 = 50_000;
/// Messages of one agent that one look-up finds.
const FOUND_MAX: usize = 8;
/// The day on which every simulation begins, in milliseconds since 1970.
const BEGINNING: LogTime = LogTime::from_millis(1_700_000_000_000);
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
        format!("cargo xtask sim --workload {} --seed {} --trace", self.workload, self.seed)
    }
}

/// Runs one seed.
#[must_use]
pub fn run(seed: u64, workload: Workload, tracing: Tracing) -> Run {
    let mut world = World::new(seed, workload, tracing);
    let violation = world.run_or_panic().err();
    Run {
        seed,
        workload,
        steps: world.steps,
        simulated: world.now - Time::ZERO,
        commits: world.commits,
        faults: world.tally,
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
    log: Log,
    invariants: Invariants,
    leader: Option<Leader>,
    terms: u64,
    /// What happens to the next batch.
    batch_fault: Option<Fault>,
    nodes: Vec<Seat>,
    clients: Vec<Client>,
    number: u64,
    tally: Tally,
    commits: u64,
    healed: bool,
    /// When the last packet from before the healing has arrived.
    rest_after: Time,
}

/// Where a node's process runs.
struct Seat {
    process: Option<Process>,
    clock: Clock,
    paused_until: Time,
}

enum Event {
    Deliver { from: Place, to: Place, packet: Packet },
    Due { node: usize, boot: BootId, due: Due },
    Start { node: usize },
    Client { index: usize },
    Elect { clock_ahead_ms: u64 },
    Flush { term: u64 },
    Tick { term: u64 },
    Fault { index: usize },
    CalmDown,
    Mend { from: Place, to: Place },
    Heal,
    Settled,
}

impl World {
    fn new(seed: u64, workload: Workload, tracing: Tracing) -> Self {
        let mut dice = Dice::new(seed);
        let plan = Plan::of(seed, &mut dice);
        let nodes = plan.clocks.iter().map(|clock| Seat { process: None, clock: *clock, paused_until: Time::ZERO });
        let mut world = Self {
            now: Time::ZERO,
            steps: 0,
            agenda: BTreeMap::new(),
            scheduled: 0,
            dice,
            trace: Trace::new(tracing == Tracing::On),
            workload,
            network: Network::default(),
            log: Log::default(),
            invariants: Invariants::default(),
            leader: None,
            terms: 0,
            batch_fault: None,
            nodes: nodes.collect(),
            clients: (0..CLIENTS).map(Client::new).collect(),
            number: 0,
            tally: Tally::default(),
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
        self.at(Time::ZERO, Event::Elect { clock_ahead_ms: 0 });
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
                self.invariants.check_end(&self.log.rows)?;
                return Err(Violation::new("I8 (recovers)", "clients still wait".to_owned()));
            }
        }
        unreachable!("the leader always has a next tick")
    }

    fn check_end(&self) -> Result<(), Violation> {
        let load = self.leader.as_ref().map_or((0, 0, 0), Leader::load);
        if load != (0, 0, 0) {
            let what = format!("the scheduler believes that {load:?} tasks wait, run and take room, and none do");
            return Err(Violation::new("I5 (conservation)", what));
        }
        self.invariants.check_end(&self.log.rows)
    }

    fn is_at_rest(&self) -> bool {
        self.healed
            && self.now > self.rest_after
            && self.clients.iter().all(Client::is_done)
            && self.leader.as_ref().is_some_and(Leader::is_idle)
            && self.log.rows.is_at_rest()
    }

    fn step(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Deliver { from, to, packet } => self.deliver(from, to, packet)?,
            Event::Due { node, boot, due } => self.due(node, boot, due),
            Event::Start { node } => self.start(node),
            Event::Client { index } => self.client(index, None)?,
            Event::Elect { clock_ahead_ms } => self.elect(clock_ahead_ms),
            Event::Flush { term } => self.flush(term)?,
            Event::Tick { term } => self.tick(term),
            Event::Fault { index } => self.fault(self.plan.faults[index].1.clone()),
            Event::CalmDown => self.network.weather = Weather::default(),
            Event::Mend { from, to } => {
                self.network.cut.remove(&(from, to));
            }
            Event::Heal => self.heal(),
            Event::Settled => self.settled(),
        }
        Ok(())
    }

    // ── the network ──

    fn send(&mut self, from: Place, to: Place, packet: Packet) {
        let (first, second) = self.network.carry(self.now, (from, to), &packet, &mut self.dice, &mut self.tally);
        if let Some(at) = second {
            self.at(at, Event::Deliver { from, to, packet: packet.clone() });
        }
        match first {
            Some(at) => self.at(at, Event::Deliver { from, to, packet }),
            None => self.trace.note(self.now, || format!("{from} → {to}: lost: {packet}")),
        }
    }

    fn deliver(&mut self, from: Place, to: Place, packet: Packet) -> Result<(), Violation> {
        match to {
            Place::Node(node) if self.nodes[node].paused_until > self.now => {
                let until = self.nodes[node].paused_until;
                self.at(until, Event::Deliver { from, to, packet });
            }
            Place::Node(node) => {
                self.trace.note(self.now, || format!("{from} → {to}: {packet}"));
                self.in_process(node, |process, cx| process.receive(packet, cx));
            }
            Place::Client(index) => {
                self.trace.note(self.now, || format!("{from} → {to}: {packet}"));
                self.client(index, Some(packet))?;
            }
            Place::Leader => {
                self.trace.note(self.now, || format!("{from} → {to}: {packet}"));
                self.ask_leader(from, packet);
            }
        }
        Ok(())
    }

    // ── nodes ──

    fn start(&mut self, node: usize) {
        if self.nodes[node].process.is_some() {
            return;
        }
        self.trace.note(self.now, || format!("node {node} starts"));
        let (habits, mut out) = (self.habits(), Vec::new());
        let now = self.nodes[node].clock.read(self.now);
        let mut cx = node::Context { now, dice: &mut self.dice, out: &mut out };
        let process = Process::start(node, habits, &mut cx);
        let boot = process.boot;
        self.nodes[node].process = Some(process);
        self.carry_out(node, boot, out);
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
                Out::After { wait, due } => {
                    let wait = self.nodes[node].clock.wait(wait);
                    self.after(wait, Event::Due { node, boot, due });
                }
            }
        }
    }

    // ── the leader ──

    fn elect(&mut self, clock_ahead_ms: u64) {
        if self.leader.is_some() {
            return;
        }
        self.terms += 1;
        let millis = u64::try_from((self.now - Time::ZERO).as_millis()).expect("a run is short");
        let clock = BEGINNING.plus_millis(millis + clock_ahead_ms).max(self.log.rows.time);
        self.trace.note(self.now, || format!("leader of term {}", self.terms));
        self.leader = Some(Leader::new(self.terms, self.now, clock, &self.log.rows, &mut self.dice));
        self.flush_soon();
        self.after(TICK, Event::Tick { term: self.terms });
        // A new leader wakes everybody: what its predecessor said may not have arrived.
        for holder in self.log.rows.live().collect::<Vec<Holder>>() {
            let to = node::place(holder.node, &self.log.rows);
            self.send(Place::Leader, to, Packet::Wake);
        }
    }

    fn lose_leader(&mut self, election: Duration, clock_ahead_ms: u64) {
        self.leader = None;
        self.after(election, Event::Elect { clock_ahead_ms });
    }

    fn ask_leader(&mut self, from: Place, packet: Packet) {
        let Some(leader) = &mut self.leader else { return };
        let rows = &self.log.rows;
        match packet {
            Packet::Propose { key, op } => {
                leader.propose(Some(key), op, rows);
                self.flush_soon();
            }
            Packet::Heartbeat { holder, sent } => {
                let may_act = leader.heartbeat(self.now, holder, rows);
                let nodes = rows.live().map(|holder| (holder, node::place(holder.node, rows))).collect();
                self.send(Place::Leader, from, Packet::Granted { holder, sent, may_act, nodes });
            }
            Packet::Load { boot, from: node, activation, load, agent, holder } => {
                let kept = rows.kept(&agent);
                let held_elsewhere = rows.holder(&agent).is_some_and(|other| other != holder);
                let packet = Packet::Loaded { boot, activation, load, kept, held_elsewhere };
                self.send(Place::Leader, Place::Node(node), packet);
            }
            Packet::LookUp { holder, sent } => {
                let messages = rows.messages_for(holder, FOUND_MAX);
                let found = Found { messages, attempts: rows.attempts_of(holder) };
                self.send(Place::Leader, from, Packet::Found { holder, sent, found });
            }
            Packet::Decided { .. }
            | Packet::Granted { .. }
            | Packet::Loaded { .. }
            | Packet::Found { .. }
            | Packet::Wake
            | Packet::AttemptGone { .. }
            | Packet::Ask(_)
            | Packet::Answer { .. } => unreachable!("the leader is asked only"),
        }
    }

    fn flush_soon(&mut self) {
        if let Some(leader) = &mut self.leader
            && leader.begin_flush()
        {
            let (term, wait) = (leader.term, Duration::from_micros(self.dice.between(200, 3_000)));
            self.after(wait, Event::Flush { term });
        }
    }

    fn flush(&mut self, term: u64) -> Result<(), Violation> {
        let Some(leader) = self.leader.as_mut().filter(|leader| leader.term == term) else { return Ok(()) };
        let (waiting, batch): (Vec<_>, Vec<_>) = leader.take_batch().into_iter().unzip();
        let clock = leader.clock(self.now);
        let fault = self.batch_fault.take();
        if let Some(fault) = &fault {
            self.tally.count(fault.kind());
        }
        if let Some(Fault::FailBatch { applied: false, election }) = fault {
            self.trace.note(self.now, || format!("a batch of {} is rolled back", batch.len()));
            self.lose_leader(election, 0);
            return Ok(());
        }
        let all = self.log.append(clock, batch, &mut self.invariants)?;
        for applied in &all {
            self.trace.note(self.now, || format!("{}.{}: {} ⇒ {:?}", applied.stamp.index, applied.stamp.item, Short(&applied.op), applied.outcome));
            let counts = |write: &&Write| matches!(write, Write::Agent { .. } | Write::Task { .. });
            self.commits += applied.writes.iter().filter(counts).count() as u64;
        }
        if let Some(Fault::FailBatch { election, .. }) = fault {
            self.trace.note(self.now, || "the answers of the batch are lost".to_owned());
            self.lose_leader(election, 0);
            return Ok(());
        }
        let Some(leader) = &mut self.leader else { return Ok(()) };
        let mut packets = Vec::new();
        for (key, applied) in waiting.into_iter().zip(all) {
            packets.extend(leader.applied(self.now, &applied, &self.log.rows, &mut self.dice));
            packets.extend(key.map(|key| (key.from, Packet::Decided { key, outcome: applied.outcome })));
        }
        for (to, packet) in packets {
            self.send(Place::Leader, to, packet);
        }
        self.flush_soon();
        Ok(())
    }

    fn tick(&mut self, term: u64) {
        let Some(leader) = self.leader.as_mut().filter(|leader| leader.term == term) else { return };
        leader.tick(self.now, &self.log.rows, &mut self.dice);
        self.flush_soon();
        self.after(TICK, Event::Tick { term });
    }

    // ── clients ──

    fn client(&mut self, index: usize, packet: Option<Packet>) -> Result<(), Violation> {
        let mut out = Vec::new();
        let mut cx = client::Context {
            now: self.now,
            nodes: self.nodes.len(),
            workload: self.workload,
            dice: &mut self.dice,
            invariants: &mut self.invariants,
            rows: &self.log.rows,
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

    // ── faults ──

    fn fault(&mut self, fault: Fault) {
        if self.healed {
            return;
        }
        self.trace.note(self.now, || format!("fault: {fault:?}"));
        let kind = fault.kind();
        let installed = match fault {
            Fault::Crash { node, down } => {
                self.nodes[node].paused_until = self.now;
                self.after(down, Event::Start { node });
                self.nodes[node].process.take().is_some()
            }
            Fault::Pause { node, still } => {
                self.nodes[node].paused_until = self.now + still;
                self.nodes[node].process.is_some()
            }
            Fault::LoseLeader { election, clock_ahead_ms } => {
                let lost = self.leader.is_some();
                if lost {
                    self.lose_leader(election, clock_ahead_ms);
                }
                lost
            }
            // Counted when a batch meets it.
            Fault::FailBatch { .. } => {
                self.batch_fault = Some(fault);
                return;
            }
            Fault::Storm { weather, lasts } => {
                self.network.weather = weather;
                self.after(lasts, Event::CalmDown);
                true
            }
            Fault::Cut { from, to, lasts } => {
                self.after(lasts, Event::Mend { from, to });
                self.network.cut.insert((from, to))
            }
        };
        if installed {
            self.tally.count(kind);
        }
    }

    /// What was begun is over, or is waited for a little longer. Then what is asked must succeed.
    fn settled(&mut self) {
        if self.log.rows.is_at_rest() {
            self.clients.iter_mut().for_each(Client::probe);
        } else {
            self.after(Duration::from_secs(1), Event::Settled);
        }
    }

    fn heal(&mut self) {
        self.trace.note(self.now, || "all faults end".to_owned());
        self.healed = true;
        self.rest_after = self.network.last_arrival;
        self.network.weather = Weather::default();
        self.network.cut.clear();
        self.batch_fault = None;
        self.elect(0);
        for node in 0..self.nodes.len() {
            self.nodes[node].paused_until = self.now;
            self.start(node);
        }
    }
}
