//! The leader's seat: gathers proposals into batches, drives the production scheduler, and gives up nodes that it does
//! not hear of. It is there from when the first entry of its term was applied until its voter leads no more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pelago_core::{
    id::{Holder, NodeId, TaskId},
    lease::{self, Beat, Confirmation, Grants},
    record::{self, Assign, Cancel, Expire, NodeState, Op, Outcome, Remove, Sweep, Task, TaskState, TimeOut, Write},
    task::{Config, Effect, Input, Scheduler, Waiting},
    time::{LogTime, Time},
};

use crate::{
    dice::Dice,
    ledger::Applied,
    network::{Packet, Place, ProposalKey},
    node,
    store::MapRows,
};

/// The most items of a batch.
const ITEMS_MAX: usize = 32;
/// The most batches that wait for a majority. What comes meanwhile is the next batch.
const IN_FLIGHT_MAX: usize = 2;
/// The most rows of a kind that one sweep takes: few, so that some wait for the next.
const SWEEP_ROWS_MAX: u32 = 8;
/// The longest time that an ended task is kept, by the log.
const KEPT_MS_MAX: u64 = 6_000;
/// Why a task was called off that nobody is left to do.
pub(crate) const FORLORN: &str = "the node to which it was pinned was removed";

#[derive(Debug)]
pub(crate) struct Leader {
    pub(crate) term: u64,
    scheduler: Scheduler,
    queue: VecDeque<(Option<ProposalKey>, Op)>,
    gathering: bool,
    /// Batches that are not applied yet, by index.
    in_flight: VecDeque<(usize, Vec<Option<ProposalKey>>)>,
    pub(crate) reads: Reads,
    seats: BTreeSet<Holder>,
    grants: Grants,
    /// Where the heartbeats of each run came from.
    heard: BTreeMap<Holder, Place>,
    /// What is to be told to nodes.
    pub(crate) out: Vec<(Place, Packet)>,
    /// Its clock when its term began, in the log's time.
    clock: LogTime,
    began: Time,
    /// Timers due until then were told of.
    looked: LogTime,
}

/// Proposals that are applied together, with those who wait for the outcome.
pub(crate) type Batch = Vec<(Option<ProposalKey>, Op)>;

/// Reads that wait until a majority confirms that this node still led when they had come.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    waiting: Vec<Read>,
    /// Those of the round under way.
    asked: Option<(u64, Vec<Read>)>,
}

#[derive(Debug)]
pub(crate) enum Read {
    /// What is read, and for whom.
    Rows(Place, Box<Packet>),
    /// Nothing: leases may be granted.
    Leases(Confirmation),
}

impl Reads {
    pub(crate) fn push(&mut self, read: Read) {
        self.waiting.push(read);
    }

    /// Whether a round is to be begun for those that wait.
    pub(crate) fn wants_round(&self) -> bool {
        self.asked.is_none() && !self.waiting.is_empty()
    }

    pub(crate) fn begin(&mut self, round: u64) {
        self.asked = Some((round, std::mem::take(&mut self.waiting)));
    }

    /// The reads that may be answered after a majority has answered `round`.
    pub(crate) fn confirmed(&mut self, round: u64) -> Vec<Read> {
        self.asked.take_if(|(asked, _)| *asked <= round).map_or_else(Vec::new, |(_, reads)| reads)
    }
}

impl Leader {
    /// A new leader: it knows the rows and nothing else.
    pub(crate) fn new(term: u64, now: Time, rows: &MapRows, dice: &mut Dice) -> Self {
        let mut leader = Self {
            term,
            scheduler: Scheduler::new(Config::default()),
            queue: VecDeque::new(),
            gathering: false,
            in_flight: VecDeque::new(),
            reads: Reads::default(),
            seats: BTreeSet::new(),
            grants: Grants::new(lease::Config::default(), now, rows.live()),
            heard: BTreeMap::new(),
            out: Vec::new(),
            clock: rows.time,
            began: now,
            looked: LogTime::ZERO,
        };
        // Nodes and tasks come to it from different places, so in either order.
        let nodes_first = dice.chance(500);
        if nodes_first {
            leader.seat_all(now, rows, dice);
        }
        for task in rows.tasks.keys() {
            leader.tell_task(now, *task, rows, dice);
        }
        if !nodes_first {
            leader.seat_all(now, rows, dice);
        }
        leader
    }

    pub(crate) fn clock(&self, now: Time) -> LogTime {
        self.clock.plus_millis(u64::try_from((now - self.began).as_millis()).expect("a term is short"))
    }

    /// Whether a batch is to be gathered that nobody has announced yet.
    pub(crate) fn begin_gathering(&mut self) -> bool {
        let begins = !self.gathering && self.in_flight.len() < IN_FLIGHT_MAX && !self.queue.is_empty();
        self.gathering |= begins;
        begins
    }

    /// Takes a proposal. A new task is given a place at once if there is room.
    pub(crate) fn propose(&mut self, key: Option<ProposalKey>, mut op: Op, rows: &MapRows) {
        if let Op::Enqueue(enqueue) = &mut op
            && enqueue.task.delay_ms == 0
        {
            let task = &enqueue.task;
            enqueue.assign = self.scheduler.reserve(&Waiting {
                task: task.id,
                agent: task.agent.clone(),
                placement: task.placement,
                node: task.node,
                priority: task.priority,
                run_at: LogTime::ZERO,
                held_by: rows.holder(&task.agent),
                stick: None,
            });
        }
        self.queue.push_back((key, op));
    }

    /// A run has said that its node is to stop.
    pub(crate) fn takes_no_tasks(&mut self, now: Time, holder: Holder, rows: &MapRows, dice: &mut Dice) {
        self.tell(now, Input::NodeGone(holder), dice, rows);
    }

    pub(crate) fn heartbeat(&mut self, now: Time, from: Place, holder: Holder, beat: Beat, rows: &MapRows) {
        self.heard.insert(holder, from);
        self.lease(now, lease::Input::Heartbeat { holder, beat }, rows);
    }

    /// A majority confirmed that this node led, and what was committed by then is applied.
    pub(crate) fn confirmed(&mut self, now: Time, confirmation: Confirmation, rows: &MapRows) {
        self.lease(now, lease::Input::Confirmed(confirmation), rows);
    }

    /// The link to a run's node ended without a goodbye.
    pub(crate) fn link_lost(&mut self, now: Time, holder: Holder, rows: &MapRows) {
        self.lease(now, lease::Input::LinkLost(holder), rows);
    }

    fn lease(&mut self, now: Time, input: lease::Input, rows: &MapRows) {
        let mut effects = Vec::new();
        self.grants.handle(now, input, &mut effects);
        self.carry_out_leases(effects, rows);
    }

    fn carry_out_leases(&mut self, effects: Vec<lease::Effect>, rows: &MapRows) {
        for effect in effects {
            match effect {
                lease::Effect::Confirm(confirmation) => self.reads.push(Read::Leases(confirmation)),
                lease::Effect::Grant { holder, beat } => {
                    let nodes =
                        rows.live().filter_map(|holder| Some((holder, node::place(holder.node, rows)?))).collect();
                    let to = self.heard.get(&holder).copied();
                    self.out.extend(to.map(|to| (to, Packet::Granted { holder, beat, nodes })));
                }
                lease::Effect::Refuse(holder) => {
                    let to = self.heard.get(&holder).copied();
                    self.out.extend(to.map(|to| (to, Packet::Over { holder })));
                }
                lease::Effect::Expire(holder) => {
                    self.queue.push_back((None, Op::Expire(Expire { holder, left: false })))
                }
            }
        }
    }

    /// Whether nothing waits to be applied.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.in_flight.is_empty()
    }

    /// How many tasks the scheduler believes to wait, to run, and to take room on nodes.
    pub(crate) fn load(&self) -> (usize, usize, u32) {
        let (waiting, running) = self.scheduler.load();
        (waiting, running, self.seats.iter().map(|holder| self.scheduler.running_on(*holder)).sum())
    }

    /// The next batch. A registration is one of its own, since the entry's index becomes an id.
    pub(crate) fn take_batch(&mut self) -> Batch {
        self.gathering = false;
        let alone = |op: &Op| matches!(op, Op::Register(_));
        let together = self.queue.iter().take(ITEMS_MAX).take_while(|(_, op)| !alone(op)).count();
        self.queue.drain(..together.max(1).min(self.queue.len())).collect()
    }

    pub(crate) fn appended(&mut self, index: usize, waiting: Vec<Option<ProposalKey>>) {
        self.in_flight.push_back((index, waiting));
    }

    /// Who waits for the batch at `index`, if it was appended by this leader.
    pub(crate) fn take_waiting(&mut self, index: usize) -> Vec<Option<ProposalKey>> {
        let next = self.in_flight.pop_front_if(|(first, _)| *first == index);
        next.map_or_else(Vec::new, |(_, waiting)| waiting)
    }

    /// Looks for nodes that were not heard of, for attempts that take too long, and for timers.
    pub(crate) fn tick(&mut self, now: Time, rows: &MapRows, dice: &mut Dice) {
        let mut effects = Vec::new();
        if self.grants.deadline().is_some_and(|due| due <= now) {
            self.grants.expire(now, &mut effects);
        }
        self.carry_out_leases(effects, rows);
        let mut effects = Vec::new();
        let time = rows.time.max(self.clock(now));
        self.scheduler.expire(time, &mut effects);
        self.carry_out(effects, rows, dice);
        let homes = rows.homes_of_timers_due(self.looked, time);
        self.out.extend(homes.into_iter().filter_map(|holder| Some((node::place(holder.node, rows)?, Packet::Wake))));
        self.looked = time;
    }

    /// Now and then has a node removed that was given up.
    pub(crate) fn remove(&mut self, rows: &MapRows, dice: &mut Dice) {
        for node in rows.nodes.values().filter(|node| node.state != NodeState::Up) {
            if dice.chance(30) {
                self.queue.push_back((None, Op::Remove(Remove { node: node.id })));
            }
        }
    }

    /// Now and then has old rows swept, far sooner than a real leader does.
    pub(crate) fn sweep(&mut self, now: Time, rows: &MapRows, dice: &mut Dice) {
        if dice.chance(900) {
            return;
        }
        let time = rows.time.max(self.clock(now)).as_millis();
        let mut before = || LogTime::from_millis(time.saturating_sub(dice.below(KEPT_MS_MAX)));
        let (ended_before, keyed_ended_before) = (before(), before());
        self.queue.push_back((None, Op::Sweep(Sweep { ended_before, keyed_ended_before, rows_max: SWEEP_ROWS_MAX })));
    }

    /// Takes note of what was applied.
    pub(crate) fn applied(&mut self, now: Time, applied: &Applied, rows: &MapRows, dice: &mut Dice) {
        if let Outcome::Registered { holder, .. } = applied.outcome {
            self.lease(now, lease::Input::Up(holder), rows);
            self.seat(now, holder, rows, dice);
        }
        self.forget_the_dead(now, rows, dice);
        for task in concerned(applied) {
            self.tell_task(now, task, rows, dice);
        }
        for write in &applied.writes {
            if let Write::NodeGone(node) = write {
                self.call_off_all(*node);
            }
        }
        self.out.extend(wakes(applied, rows));
    }

    fn seat_all(&mut self, now: Time, rows: &MapRows, dice: &mut Dice) {
        for holder in rows.live() {
            self.seat(now, holder, rows, dice);
        }
    }

    fn seat(&mut self, now: Time, holder: Holder, rows: &MapRows, dice: &mut Dice) {
        self.seats.insert(holder);
        self.tell(now, Input::NodeUp { holder, offers: node::offers() }, dice, rows);
    }

    fn forget_the_dead(&mut self, now: Time, rows: &MapRows, dice: &mut Dice) {
        let dead: Vec<Holder> = self.seats.iter().copied().filter(|holder| !rows.is_live(*holder)).collect();
        for holder in dead {
            self.seats.remove(&holder);
            self.tell(now, Input::NodeGone(holder), dice, rows);
            self.lease(now, lease::Input::Gone(holder), rows);
        }
    }

    /// Nobody is left for the tasks that wait for a node.
    fn call_off_all(&mut self, node: NodeId) {
        let tasks: Vec<TaskId> = self.scheduler.waiting_for(node).collect();
        tasks.into_iter().for_each(|task| self.call_off(task));
    }

    fn call_off(&mut self, task: TaskId) {
        self.queue.push_back((None, Op::Cancel(Cancel { task, reason: FORLORN.to_owned(), dead_too: false })));
    }

    /// Tells the scheduler what the rows say of a task.
    fn tell_task(&mut self, now: Time, id: TaskId, rows: &MapRows, dice: &mut Dice) {
        let pinned = rows.tasks.get(&id).filter(|task| task.state == TaskState::Queued).and_then(|task| task.node);
        if pinned.is_some_and(|node| !rows.nodes.contains_key(&node)) {
            self.call_off(id);
        }
        let input = match rows.tasks.get(&id) {
            None => Input::Refused(id),
            Some(task) => match (task.state, task.holder, task.token) {
                (TaskState::Queued, ..) => Input::Queued(waiting(task, rows)),
                (TaskState::Running, Some(holder), Some(token)) => {
                    let until = task.changed.plus_millis(task.policy.attempt_ms_max);
                    Input::Assigned { waiting: waiting(task, rows), holder, token, until }
                }
                (TaskState::Running | TaskState::Done | TaskState::Dead | TaskState::Cancelled, ..) => Input::Ended(id),
            },
        };
        self.tell(now, input, dice, rows);
    }

    fn tell(&mut self, now: Time, input: Input, dice: &mut Dice, rows: &MapRows) {
        let mut effects = Vec::new();
        self.scheduler.handle(rows.time.max(self.clock(now)), input, &mut effects);
        self.carry_out(effects, rows, dice);
    }

    fn carry_out(&mut self, effects: Vec<Effect>, rows: &MapRows, dice: &mut Dice) {
        for effect in effects {
            let op = match effect {
                Effect::Assign { task, holder } => Op::Assign(Assign { task, holder }),
                Effect::TimeOut { task, token } => {
                    let backoff = rows.tasks.get(&task).map_or(0, |task| task.policy.backoff(task.attempt));
                    Op::TimeOut(TimeOut { task, token, retry_after_ms: backoff + dice.below(100) })
                }
            };
            self.queue.push_back((None, op));
        }
    }
}

fn waiting(task: &Task, rows: &MapRows) -> Waiting {
    Waiting {
        task: task.id,
        agent: task.agent.clone(),
        placement: task.placement,
        node: task.node,
        priority: task.priority,
        run_at: task.run_at,
        held_by: rows.holder(&task.agent),
        stick: None,
    }
}

/// The tasks whose place may have changed: those written, and those that somebody tried to place.
fn concerned(applied: &Applied) -> BTreeSet<TaskId> {
    let mut tasks = BTreeSet::new();
    for write in &applied.writes {
        if let Write::NewTask { task, .. } | Write::Task { task, .. } = write {
            tasks.insert(task.id);
        }
    }
    if let Op::Enqueue(record::Enqueue { task: record::NewTask { id, .. }, .. })
    | Op::Assign(Assign { task: id, .. })
    | Op::TimeOut(TimeOut { task: id, .. }) = &applied.op
    {
        tasks.insert(*id);
    }
    tasks
}

/// Wakes the nodes that have something new to do.
fn wakes(applied: &Applied, rows: &MapRows) -> Vec<(Place, Packet)> {
    let mut holders = BTreeSet::new();
    for write in &applied.writes {
        if let Write::NewTask { task, .. } | Write::Task { task, .. } = write {
            holders.extend(task.holder);
        } else if let Write::Message(message) = write
            && message.buried.is_none()
        {
            holders.extend(rows.home(&message.to));
        }
    }
    let wakes = holders.into_iter().filter_map(|holder| Some((node::place(holder.node, rows)?, Packet::Wake)));
    let gone = applied.taken.iter().filter_map(|taken| {
        let packet = Packet::AttemptGone { task: taken.task, token: taken.token };
        Some((node::place(taken.holder.node, rows)?, packet))
    });
    wakes.chain(gone).collect()
}
