//! Node leases: how long a run of a node may act without asking, and when the leader gives it up.
//!
//! ```text
//!   node   ── heartbeat n ──►  leader: heard now; asks a quorum whether it still leads
//!          ◄── grant n ──────  … once a confirmation that began after n came has ended, and the row still says Up
//!   may act until sent(n) + TTL·(1−ε) − margin      gives up at heard + TTL·(1+ε) + margin
//! ```
//!
//! Both sides read their own steady clock, one that goes on in suspend, and no wall clock. The node counts from when it
//! sent and the leader from when it received, so a node whose clock is true within ε stops before it is given up.
//!
//! *Is not:* what keeps an agent from having two owners. Epochs and incarnations do that in the store; a lease spares
//! work that would be refused.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use crate::{id::Holder, time::Time};

/// How long leases last. All nodes of a mesh have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// How long a lease lasts by a perfect clock.
    pub ttl: Duration,
    /// How often a node asks for more; several times within `ttl`.
    pub heartbeat: Duration,
    /// ε: how much two steady clocks may differ in rate, in millionths.
    pub drift_ppm: u32,
    /// What is added on one side and taken off on the other, for what takes time between reading a clock and acting.
    pub margin: Duration,
    /// The least time between two confirmations; each serves all nodes that asked before it.
    pub confirm_every: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(6),
            heartbeat: Duration::from_secs(1),
            drift_ppm: 10_000,
            margin: Duration::from_millis(250),
            confirm_every: Duration::from_millis(100),
        }
    }
}

impl Config {
    /// How long a node may act after it sent a heartbeat that was granted.
    #[must_use]
    pub fn acts(&self) -> Duration {
        self.ttl.saturating_sub(self.drift_of(self.ttl)).saturating_sub(self.margin)
    }

    /// How long the leader waits after it received a heartbeat.
    #[must_use]
    pub fn waits(&self) -> Duration {
        self.ttl + self.drift_of(self.ttl) + self.margin
    }

    /// How long the leader waits if the node's link ended without a goodbye: two heartbeats are missed.
    fn waits_without_link(&self) -> Duration {
        let two = self.heartbeat * 2;
        two + self.drift_of(two) + self.margin
    }

    fn drift_of(&self, span: Duration) -> Duration {
        span * self.drift_ppm / 1_000_000
    }

    /// A leader that did not look for longer than this may have heartbeats before it that it has not read.
    fn stall(&self) -> Duration {
        self.ttl / 4
    }

    /// How often the leader looks, so that it notices when it did not.
    fn tick(&self) -> Duration {
        self.ttl / 8
    }
}

/// Which heartbeat of a run this is; grows from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Beat(pub u64);

/// Which confirmation of a term this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Confirmation(pub u64);

/// What the leader's side is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A run was registered, as applied here. Earlier runs of its node are over.
    Up(Holder),
    /// A run is over, as applied here.
    Gone(Holder),
    /// A heartbeat was received.
    Heartbeat {
        /// The run that sent it.
        holder: Holder,
        /// Which one it is.
        beat: Beat,
    },
    /// A quorum confirmed that this node led at some time after [`Effect::Confirm`], and all that was committed by then
    /// is applied here and was told by `Up` and `Gone`.
    Confirmed(Confirmation),
    /// No quorum could be asked. It is tried again.
    NotConfirmed(Confirmation),
    /// The link to a run's node ended without a goodbye. Not to be told while owners serve reads by their lease alone.
    LinkLost(Holder),
}

/// What the leader's side wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Ask a quorum whether this node still leads (a read index), and report `Confirmed` or `NotConfirmed`.
    Confirm(Confirmation),
    /// Tell the run that its heartbeat was granted.
    Grant {
        /// The run.
        holder: Holder,
        /// Its heartbeat.
        beat: Beat,
    },
    /// Tell the run that it is over: the node must register again.
    Refuse(Holder),
    /// Propose to expire the run, until that is answered.
    Expire(Holder),
}

/// The leader's side, for one term.
#[derive(Debug)]
pub struct Grants {
    config: Config,
    seats: BTreeMap<Holder, Seat>,
    /// Heartbeats that came after the last confirmation began.
    asking: BTreeMap<Holder, Beat>,
    confirming: Option<Confirming>,
    confirmations: u64,
    /// When the last confirmation began.
    confirm_began: Option<Time>,
    /// When this machine was last called.
    looked: Time,
}

#[derive(Debug)]
struct Seat {
    heard: Time,
    has_link: bool,
    /// Proposed to be expired: never granted again.
    given_up: bool,
}

#[derive(Debug)]
struct Confirming {
    confirmation: Confirmation,
    asked: BTreeMap<Holder, Beat>,
}

impl Grants {
    /// A new leader that has just applied the first entry of its term, with the runs that its rows say are up. It
    /// cannot know what its predecessor granted, so each gets a full lease.
    #[must_use]
    pub fn new(config: Config, now: Time, up: impl IntoIterator<Item = Holder>) -> Self {
        Self {
            config,
            seats: up.into_iter().map(|holder| (holder, Seat::new(now))).collect(),
            asking: BTreeMap::new(),
            confirming: None,
            confirmations: 0,
            confirm_began: None,
            looked: now,
        }
    }

    /// Advances by one event.
    pub fn handle(&mut self, now: Time, input: Input, effects: &mut Vec<Effect>) {
        self.notice_stall(now);
        match input {
            Input::Up(holder) => self.up(now, holder),
            Input::Gone(holder) => {
                self.seats.remove(&holder);
            }
            Input::Heartbeat { holder, beat } => self.heard(now, holder, beat),
            Input::Confirmed(confirmation) => self.confirmed(confirmation, effects),
            Input::NotConfirmed(confirmation) => self.not_confirmed(confirmation),
            Input::LinkLost(holder) => {
                if let Some(seat) = self.seats.get_mut(&holder) {
                    seat.has_link = false;
                }
            }
        }
        self.confirm(now, effects);
    }

    /// Gives up the runs that were not heard for too long. Call when [`Self::deadline`] has passed, and at once: a call
    /// that comes very late is taken for a stall of this node, after which everybody gets a full lease.
    pub fn expire(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.notice_stall(now);
        for (holder, seat) in &mut self.seats {
            if !seat.given_up && seat.until(&self.config) <= now {
                seat.given_up = true;
                effects.push(Effect::Expire(*holder));
            }
        }
        self.confirm(now, effects);
    }

    /// When [`Self::expire`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        let waited_for = self.seats.values().filter(|seat| !seat.given_up);
        let first = waited_for.map(|seat| seat.until(&self.config)).min();
        let look = first.map(|_| self.looked + self.config.tick());
        let confirm = (self.confirming.is_none() && !self.asking.is_empty()).then(|| self.confirm_at());
        [first, look, confirm].into_iter().flatten().min()
    }

    /// A leader that stood still has read no heartbeat meanwhile: silence says nothing about the others.
    fn notice_stall(&mut self, now: Time) {
        if now - self.looked > self.config.stall() {
            self.seats.values_mut().for_each(|seat| seat.heard = now);
        }
        self.looked = self.looked.max(now);
    }

    fn up(&mut self, now: Time, holder: Holder) {
        self.seats.retain(|known, _| known.node != holder.node || known == &holder);
        self.seats.entry(holder).or_insert_with(|| Seat::new(now));
    }

    fn heard(&mut self, now: Time, holder: Holder, beat: Beat) {
        if let Some(seat) = self.seats.get_mut(&holder) {
            seat.heard = now;
            seat.has_link = true;
        }
        // A run that is not known here may be in what the confirmation waits for.
        self.ask(holder, beat);
    }

    fn ask(&mut self, holder: Holder, beat: Beat) {
        let asked = self.asking.entry(holder).or_insert(beat);
        *asked = beat.max(*asked);
    }

    fn confirm(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if self.confirming.is_some() || self.asking.is_empty() || now < self.confirm_at() {
            return;
        }
        self.confirmations += 1;
        let confirmation = Confirmation(self.confirmations);
        self.confirming = Some(Confirming { confirmation, asked: std::mem::take(&mut self.asking) });
        self.confirm_began = Some(now);
        effects.push(Effect::Confirm(confirmation));
    }

    fn confirm_at(&self) -> Time {
        self.confirm_began.map_or(self.looked, |began| began + self.config.confirm_every)
    }

    fn confirmed(&mut self, confirmation: Confirmation, effects: &mut Vec<Effect>) {
        for (holder, beat) in self.take_asked(confirmation) {
            match self.seats.get(&holder) {
                None => effects.push(Effect::Refuse(holder)),
                // Its row will say so soon.
                Some(Seat { given_up: true, .. }) => {}
                Some(Seat { given_up: false, .. }) => effects.push(Effect::Grant { holder, beat }),
            }
        }
    }

    fn not_confirmed(&mut self, confirmation: Confirmation) {
        for (holder, beat) in self.take_asked(confirmation) {
            self.ask(holder, beat);
        }
    }

    fn take_asked(&mut self, confirmation: Confirmation) -> BTreeMap<Holder, Beat> {
        let ended = self.confirming.take_if(|confirming| confirming.confirmation == confirmation);
        ended.map(|confirming| confirming.asked).unwrap_or_default()
    }
}

impl Seat {
    fn new(now: Time) -> Self {
        Self { heard: now, has_link: true, given_up: false }
    }

    fn until(&self, config: &Config) -> Time {
        self.heard + if self.has_link { config.waits() } else { config.waits_without_link() }
    }
}

/// The node's side, for one run.
#[derive(Debug)]
pub struct Lease {
    config: Config,
    beats: u64,
    /// When heartbeats that may still be granted were sent.
    sent: BTreeMap<Beat, Time>,
    until: Time,
}

impl Lease {
    /// The lease of a run whose registration was first proposed at `proposed`: the leader has counted since it applied
    /// that, so not from before.
    #[must_use]
    pub fn new(config: Config, proposed: Time) -> Self {
        Self { config, beats: 0, sent: BTreeMap::new(), until: proposed + config.acts() }
    }

    /// The next heartbeat, which is sent at `now` or later.
    pub fn beat(&mut self, now: Time) -> Beat {
        self.beats += 1;
        // What was sent so long ago gives nothing any more.
        self.sent.retain(|_, sent| now - *sent < self.config.acts());
        self.sent.insert(Beat(self.beats), now);
        Beat(self.beats)
    }

    /// The leader granted a heartbeat. A lease that has lapsed goes on from here; one granted out of turn loses
    /// nothing.
    pub fn granted(&mut self, beat: Beat) {
        if let Some(sent) = self.sent.remove(&beat) {
            self.until = self.until.max(sent + self.config.acts());
        }
    }

    /// Whether this run may begin anything, and finish what it began.
    #[must_use]
    pub fn is_valid(&self, now: Time) -> bool {
        now < self.until
    }

    /// When the lease lapses unless more is granted.
    #[must_use]
    pub fn deadline(&self) -> Time {
        self.until
    }
}
