//! Places tasks on nodes: the leader's scheduler.
//!
//! Keeps in memory what waits, what runs and how much room each node has. It is a cache of the store, filled from it
//! when a leader starts: whatever it believes, the store's rules decide whether an assignment counts.
//!
//! Placement: a `keyed` agent's task goes to the agent's holder, else to the node it is pinned to or its key hashes to;
//! what is of a session or has an affinity goes where the session is, or where its text hashes to; all others go to the
//! node with the least load that offers the agent, or to the one they are pinned to. Within one agent name: priority,
//! then time, then id. Of one session one task runs at a time, and the others are in nobody's way.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    id::{AgentId, FencingToken, Holder, Name, NodeId, TaskId},
    record::{Offer, PartOf, Placement},
    route,
    time::LogTime,
};

/// The most waiting tasks of one agent name that are looked at in one go, whatever keeps each from being placed.
const LOOKED_AT_MAX: usize = 4_096;

/// Limits of a scheduler.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// The most tasks that wait; more are refused.
    pub queued_max: usize,
    /// For how many waiting tasks of one agent name room is sought where they belong, when the first has none.
    pub look_ahead: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { queued_max: 1_000_000, look_ahead: 256 }
    }
}

/// A task that waits for a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its id.
    pub task: TaskId,
    /// Who does it.
    pub agent: AgentId,
    /// How that agent is placed.
    pub placement: Placement,
    /// The node it is pinned to.
    pub node: Option<NodeId>,
    /// 0 is the most urgent.
    pub priority: u8,
    /// Not before this.
    pub run_at: LogTime,
    /// Who holds the keyed agent, or its session.
    pub held_by: Option<Holder>,
    /// What it shares its place with, if anything.
    pub stick: Option<Stick>,
}

/// What a task shares its place with: all that have the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stick {
    /// Says which.
    pub key: u64,
    /// Whether it is a session, of which one task runs at a time.
    pub is_session: bool,
}

impl Stick {
    /// What a task of this agent shares its place with.
    #[must_use]
    pub fn of(agent: &AgentId, part_of: Option<&PartOf>) -> Option<Self> {
        let PartOf { session, affinity, .. } = part_of?;
        let session = session.as_ref().map(|session| session.name.as_str());
        let text = session.or(affinity.as_deref())?;
        Some(Self { key: route::key_among(agent, text), is_session: session.is_some() })
    }
}

/// What the scheduler is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A run of a node takes work.
    NodeUp {
        /// The run.
        holder: Holder,
        /// What it hosts.
        offers: BTreeMap<Name, Offer>,
    },
    /// A run of a node is over, or takes no more work.
    NodeGone(Holder),
    /// A task waits.
    Queued(Waiting),
    /// A task was assigned.
    Assigned {
        /// The task, as it waited.
        waiting: Waiting,
        /// To whom.
        holder: Holder,
        /// Under which token.
        token: FencingToken,
        /// When the attempt is past its limit.
        until: LogTime,
    },
    /// The store refused an assignment; the task, if it still waits, is told anew.
    Refused(TaskId),
    /// An attempt ended, or the task was called off.
    Ended(TaskId),
    /// Time has passed.
    Tick,
}

/// What the scheduler wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Propose to assign the task; report `Assigned` or `Refused`.
    Assign {
        /// The task.
        task: TaskId,
        /// To whom.
        holder: Holder,
    },
    /// Propose to end the attempt, which is past its limit.
    TimeOut {
        /// The task.
        task: TaskId,
        /// The attempt.
        token: FencingToken,
    },
}

/// The order in which tasks of one agent name are placed.
type Rank = (u8, LogTime, TaskId);

/// The leader's view of tasks and room.
#[derive(Debug)]
pub struct Scheduler {
    config: Config,
    seats: BTreeMap<Holder, Seat>,
    waiting: BTreeMap<TaskId, Waiting>,
    ready: BTreeMap<Name, BTreeSet<Rank>>,
    /// Those that no node could do that is here, however much room it had.
    forlorn: BTreeMap<Name, BTreeSet<Rank>>,
    /// Those whose session has a task that runs, by session.
    behind: BTreeMap<u64, BTreeSet<Rank>>,
    /// The sessions that have a task which runs.
    talking: BTreeSet<u64>,
    delayed: BTreeSet<(LogTime, TaskId)>,
    placed: BTreeMap<TaskId, Placed>,
    limits: BTreeSet<(LogTime, TaskId)>,
}

#[derive(Debug)]
struct Seat {
    offers: BTreeMap<Name, Offer>,
    running: BTreeMap<Name, u32>,
}

#[derive(Debug)]
struct Placed {
    name: Name,
    holder: Holder,
    session: Option<u64>,
    attempt: Option<(FencingToken, LogTime)>,
}

impl Scheduler {
    /// A scheduler that knows nothing yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            seats: BTreeMap::new(),
            waiting: BTreeMap::new(),
            ready: BTreeMap::new(),
            forlorn: BTreeMap::new(),
            behind: BTreeMap::new(),
            talking: BTreeSet::new(),
            delayed: BTreeSet::new(),
            placed: BTreeMap::new(),
            limits: BTreeSet::new(),
        }
    }

    /// Advances the scheduler by one event. `now` is the log's time.
    pub fn handle(&mut self, now: LogTime, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::NodeUp { holder, offers } => self.node_up(holder, offers, effects),
            Input::NodeGone(holder) => self.node_gone(holder, effects),
            Input::Queued(waiting) => self.queue(now, waiting, effects),
            Input::Assigned { waiting, holder, token, until } => self.assigned(waiting, holder, token, until),
            Input::Refused(task) | Input::Ended(task) => self.forget(task, effects),
            Input::Tick => {}
        }
        self.wake_delayed(now, effects);
    }

    /// Ends the attempts that are past their limits. Call when [`Self::deadline`] has passed.
    pub fn expire(&mut self, now: LogTime, effects: &mut Vec<Effect>) {
        self.wake_delayed(now, effects);
        while let Some((until, task)) = self.limits.first().copied().filter(|(until, _)| *until <= now) {
            self.limits.remove(&(until, task));
            if let Some(Placed { attempt: Some((token, _)), .. }) = self.placed.get(&task) {
                effects.push(Effect::TimeOut { task, token: *token });
            }
        }
    }

    /// When [`Self::expire`] is due, in the log's time.
    #[must_use]
    pub fn deadline(&self) -> Option<LogTime> {
        let delayed = self.delayed.first().map(|(at, _)| *at);
        let limit = self.limits.first().map(|(at, _)| *at);
        [delayed, limit].into_iter().flatten().min()
    }

    /// Reserves room for a task that is about to be enqueued, so that it can be assigned in the same commit. Report
    /// `Assigned`, `Queued` or `Refused` afterwards.
    pub fn reserve(&mut self, waiting: &Waiting) -> Option<Holder> {
        // Sent twice: it has its place.
        if self.waiting.contains_key(&waiting.task) || self.placed.contains_key(&waiting.task) {
            return None;
        }
        // Those who waited longer go first.
        if self.ready.get(&waiting.agent.name).is_some_and(|ready| !ready.is_empty()) {
            return None;
        }
        let holder = self.choose(waiting)?;
        self.occupy(waiting.task, waiting.agent.name.clone(), waiting.session(), holder);
        Some(holder)
    }

    /// Whether so many tasks wait that more must be refused.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.waiting.len() >= self.config.queued_max
    }

    /// How many tasks wait, and how many run.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        (self.waiting.len(), self.placed.len())
    }

    /// How many tasks run on a node, those included whose assignment is on its way.
    #[must_use]
    pub fn running_on(&self, holder: Holder) -> u32 {
        self.seats.get(&holder).map_or(0, |seat| seat.running.values().sum())
    }

    /// The tasks that wait and are pinned to a node.
    pub fn waiting_for(&self, node: NodeId) -> impl Iterator<Item = TaskId> {
        self.waiting.values().filter(move |waiting| waiting.node == Some(node)).map(|waiting| waiting.task)
    }

    /// Whether a run of a node takes work.
    #[must_use]
    pub fn knows(&self, node: NodeId) -> bool {
        self.seats.keys().any(|holder| holder.node == node)
    }

    fn node_up(&mut self, holder: Holder, offers: BTreeMap<Name, Offer>, effects: &mut Vec<Effect>) {
        let names: Vec<Name> = offers.keys().cloned().collect();
        // Its tasks may have been told first, by a new leader or before the node stopped taking work for a while.
        let mut running = BTreeMap::new();
        for placed in self.placed.values().filter(|placed| placed.holder == holder) {
            *running.entry(placed.name.clone()).or_default() += 1;
        }
        self.seats.insert(holder, Seat { offers, running });
        // A node has one run: those before it take nothing any more.
        let earlier = |known: &Holder| known.node == holder.node && *known != holder;
        let over: Vec<Holder> = self.seats.keys().copied().filter(earlier).collect();
        for holder in over {
            self.node_gone(holder, effects);
        }
        for name in names {
            let forlorn = self.forlorn.remove(&name).unwrap_or_default();
            self.ready.entry(name.clone()).or_default().extend(forlorn);
            self.place_ready(&name, effects);
        }
    }

    fn node_gone(&mut self, holder: Holder, effects: &mut Vec<Effect>) {
        let Some(seat) = self.seats.remove(&holder) else { return };
        // What waited for this node alone has another home from here on.
        for name in seat.offers.keys() {
            self.place_ready(name, effects);
        }
    }

    fn queue(&mut self, now: LogTime, waiting: Waiting, effects: &mut Vec<Effect>) {
        // It may have been placed before: its attempt failed, or a reservation came to nothing. What that makes room for
        // comes after it, if it comes after it in the queue.
        let freed = self.set_free(waiting.task);
        let (task, run_at, name) = (waiting.task, waiting.run_at, waiting.agent.name.clone());
        let rank = rank(&waiting);
        self.waiting.insert(task, waiting);
        if run_at > now {
            self.delayed.insert((run_at, task));
            if freed.is_some() {
                self.place_ready(&name, effects);
            }
        } else {
            self.ready.entry(name.clone()).or_default().insert(rank);
            self.place_ready(&name, effects);
        }
    }

    fn assigned(&mut self, waiting: Waiting, holder: Holder, token: FencingToken, until: LogTime) {
        let task = waiting.task;
        // It may have been placed elsewhere meanwhile; the store has decided.
        self.remove(task);
        let session = waiting.session();
        self.occupy(task, waiting.agent.name, session, holder);
        if let Some(placed) = self.placed.get_mut(&task) {
            placed.attempt = Some((token, until));
            self.limits.insert((until, task));
        }
    }

    /// The task is neither waiting nor running any more.
    fn forget(&mut self, task: TaskId, effects: &mut Vec<Effect>) {
        if let Some(name) = self.set_free(task) {
            self.place_ready(&name, effects);
        }
    }

    /// Takes out whatever is known of a task. Returns the name of its agent if that may let another be placed.
    fn set_free(&mut self, task: TaskId) -> Option<Name> {
        let (waiting, placed) = self.remove(task);
        // One of a session may be what others of it wait for, even while it waits for room itself.
        let waiting = waiting.map(|waiting| (waiting.session(), waiting.agent.name));
        let waiting = waiting.filter(|(session, _)| session.is_some());
        let (session, name) = placed.map(|placed| (placed.session, placed.name)).or(waiting)?;
        if let Some(session) = session {
            self.let_next_speak(session, &name);
        }
        Some(name)
    }

    /// Takes out whatever is known of a task: how it waited, and where it was placed.
    fn remove(&mut self, task: TaskId) -> (Option<Waiting>, Option<Placed>) {
        let waiting = self.remove_waiting(task);
        let placed = self.placed.remove(&task);
        if let Some(Placed { name, holder, attempt, session }) = &placed {
            if let Some((_, until)) = attempt {
                self.limits.remove(&(*until, task));
            }
            if let Some(running) = self.seats.get_mut(holder).and_then(|seat| seat.running.get_mut(name)) {
                *running -= 1;
            }
            if let Some(session) = session {
                self.talking.remove(session);
            }
        }
        (waiting, placed)
    }

    fn remove_waiting(&mut self, task: TaskId) -> Option<Waiting> {
        let waiting = self.waiting.remove(&task)?;
        self.delayed.remove(&(waiting.run_at, task));
        for ranks in [&mut self.ready, &mut self.forlorn] {
            if let Some(ranks) = ranks.get_mut(&waiting.agent.name) {
                ranks.remove(&rank(&waiting));
            }
        }
        if let Some(behind) = waiting.session().and_then(|session| self.behind.get_mut(&session)) {
            behind.remove(&rank(&waiting));
        }
        Some(waiting)
    }

    /// The first of those that wait for their turn in a session may be placed, if none of it runs.
    fn let_next_speak(&mut self, session: u64, name: &Name) {
        if self.talking.contains(&session) {
            return;
        }
        let Some(behind) = self.behind.get_mut(&session) else { return };
        let next = behind.pop_first();
        if behind.is_empty() {
            self.behind.remove(&session);
        }
        if let Some(next) = next {
            self.ready.entry(name.clone()).or_default().insert(next);
        }
    }

    fn wake_delayed(&mut self, now: LogTime, effects: &mut Vec<Effect>) {
        while let Some((at, task)) = self.delayed.first().copied().filter(|(at, _)| *at <= now) {
            self.delayed.remove(&(at, task));
            if let Some(waiting) = self.waiting.get(&task) {
                let name = waiting.agent.name.clone();
                self.ready.entry(name.clone()).or_default().insert(rank(waiting));
                self.place_ready(&name, effects);
            }
        }
    }

    /// Places what can be placed of one agent name, in order.
    fn place_ready(&mut self, name: &Name, effects: &mut Vec<Effect>) {
        let (mut passed_over, mut looked_at) = (0, 0);
        let mut from: Option<Rank> = None;
        // Those without room where they belong: others that belong there need no look of their own.
        let mut crowded = BTreeSet::new();
        while passed_over < self.config.look_ahead && looked_at < LOOKED_AT_MAX {
            looked_at += 1;
            let Some(ready) = self.ready.get(name) else { return };
            let next = match from {
                None => ready.first(),
                Some(rank) => ready.range((std::ops::Bound::Excluded(rank), std::ops::Bound::Unbounded)).next(),
            };
            let Some(rank) = next.copied() else { return };
            let waiting = &self.waiting[&rank.2];
            let session = waiting.session();
            if let Some(session) = session.filter(|session| self.talking.contains(session)) {
                if let Some(ready) = self.ready.get_mut(name) {
                    ready.remove(&rank);
                }
                self.behind.entry(session).or_default().insert(rank);
                continue;
            }
            let belongs = waiting.stick.filter(|_| waiting.node.is_none()).map(|stick| stick.key);
            if belongs.is_some_and(|key| crowded.contains(&key)) {
                from = Some(rank);
                continue;
            }
            match self.choose(waiting) {
                Some(holder) => {
                    effects.push(Effect::Assign { task: rank.2, holder });
                    if let Some(ready) = self.ready.get_mut(name) {
                        ready.remove(&rank);
                    }
                    self.occupy(rank.2, name.clone(), session, holder);
                }
                // It must not be in the way of those behind it, for as long as its node is away.
                None if !self.has_candidate(waiting) => {
                    if let Some(ready) = self.ready.get_mut(name) {
                        ready.remove(&rank);
                    }
                    self.forlorn.entry(name.clone()).or_default().insert(rank);
                }
                // Without room for one task of a pool there is none for the next.
                None if waiting.goes_anywhere() => return,
                None => {
                    passed_over += 1;
                    crowded.extend(belongs);
                    from = Some(rank);
                }
            }
        }
    }

    fn occupy(&mut self, task: TaskId, name: Name, session: Option<u64>, holder: Holder) {
        if let Some(seat) = self.seats.get_mut(&holder) {
            *seat.running.entry(name.clone()).or_default() += 1;
        }
        self.talking.extend(session);
        self.placed.insert(task, Placed { name, holder, session, attempt: None });
    }

    /// The nodes that may do a task that nobody is bound to do, whether or not they have room.
    fn candidates(&self, waiting: &Waiting) -> impl Iterator<Item = (&Holder, &Seat)> {
        let offers = |seat: &Seat| {
            seat.offers.get(&waiting.agent.name).is_some_and(|offer| offer.placement == waiting.placement)
        };
        let allowed = |holder: &Holder| waiting.node.is_none_or(|pinned| pinned == holder.node);
        self.seats.iter().filter(move |(holder, seat)| offers(seat) && allowed(holder))
    }

    /// The run that holds the keyed agent, if it takes work.
    fn held_by(&self, waiting: &Waiting) -> Option<Holder> {
        waiting.held_by.filter(|holder| self.seats.contains_key(holder))
    }

    fn has_candidate(&self, waiting: &Waiting) -> bool {
        let is_held = waiting.placement == Placement::Keyed && self.held_by(waiting).is_some();
        is_held || self.candidates(waiting).next().is_some()
    }

    fn choose(&self, waiting: &Waiting) -> Option<Holder> {
        if waiting.session().is_some_and(|session| self.talking.contains(&session)) {
            return None;
        }
        let name = &waiting.agent.name;
        let candidates = self.candidates(waiting);
        match waiting.placement {
            Placement::Keyed => {
                let held_by = self.held_by(waiting);
                let home = held_by.or_else(|| route::rendezvous(&waiting.agent, candidates.map(|(holder, _)| *holder)));
                home.filter(|holder| self.seats[holder].has_room(name))
            }
            Placement::Pool | Placement::Resident if let Some(stick) = waiting.stick => {
                let candidates: Vec<Holder> = candidates.map(|(holder, _)| *holder).collect();
                let held_by = waiting.held_by.filter(|holder| candidates.contains(holder));
                let place = held_by.or_else(|| route::sticking(stick.key, candidates));
                place.filter(|holder| self.seats[holder].has_room(name))
            }
            Placement::Pool | Placement::Resident => candidates
                .filter(|(_, seat)| seat.has_room(name))
                .min_by_key(|(holder, seat)| (seat.load(name), **holder))
                .map(|(holder, _)| *holder),
        }
    }
}

impl Waiting {
    /// The session that it is of.
    fn session(&self) -> Option<u64> {
        self.stick.filter(|stick| stick.is_session).map(|stick| stick.key)
    }

    /// Whether any node will do that offers its agent.
    fn goes_anywhere(&self) -> bool {
        self.placement != Placement::Keyed && self.node.is_none() && self.stick.is_none()
    }
}

impl Seat {
    fn running(&self, name: &Name) -> u32 {
        self.running.get(name).copied().unwrap_or(0)
    }

    fn has_room(&self, name: &Name) -> bool {
        self.offers.get(name).is_some_and(|offer| self.running(name) < offer.tasks_max)
    }

    /// Tasks of this name per thousand places, so that nodes of different size fill alike.
    fn load(&self, name: &Name) -> u64 {
        let places = self.offers.get(name).map_or(1, |offer| offer.tasks_max.max(1));
        u64::from(self.running(name)) * 1_000 / u64::from(places)
    }
}

fn rank(waiting: &Waiting) -> Rank {
    (waiting.priority, waiting.run_at, waiting.task)
}
