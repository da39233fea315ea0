//! Who is there, without a quorum: the loop that drives `core::membership` over the links.
//!
//! *Is:* packets in and out, the clock, the load of this node, and what all of it comes to ([`Reader`]). A packet goes
//! to whoever there is a link with, at once or not at all: the protocol lives with losses.
//!
//! *Is not:* a word on who is in the mesh: that is the log's. Nothing that must be right rests on this.

mod load;
mod metrics;
mod sights;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use pelago_core::{
    id::Name,
    link::{Lane, Role},
    membership::{Dice, Effect, Identity, Input, Membership, Profile, Record, Stage, State},
};
use pelago_net::Links;
use pelago_wire::{
    gossip::{self as wire, Protobuf},
    tell::kind::GOSSIP,
};
use rand::{SeedableRng as _, rngs::StdRng};
use tokio::{
    sync::{
        broadcast::{self, error::RecvError},
        mpsc, oneshot,
    },
    time::MissedTickBehavior,
};

use self::load::Meter;
pub(crate) use self::sights::{Reader, Sights, Writer, sights};
pub use self::{metrics::GossipMetrics, sights::Sight};
use crate::{agents::Agents, clock, metrics::Metrics};

/// Packets that wait to be looked at; of more the oldest are dropped, since later ones say the same and more.
const PACKETS_MAX: usize = 1_024;
/// Requests of this node that wait.
const REQUESTS_MAX: usize = 32;
/// How often it is looked which links have come and gone.
const LINKS_EVERY: Duration = Duration::from_millis(250);
/// How often this node's load is measured.
const LOAD_EVERY: Duration = Duration::from_secs(1);
/// How long a goodbye may take.
const LEAVE_MAX: Duration = Duration::from_millis(500);

/// Reaches the loop. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Handle {
    packets: broadcast::Sender<(Name, Bytes)>,
    requests: mpsc::Sender<Request>,
}

enum Request {
    Stage(Stage),
    Leave(oneshot::Sender<()>),
}

/// What a loop is made of.
pub(crate) struct Parts {
    pub(crate) me: Identity,
    pub(crate) record: Record,
    pub(crate) profile: Profile,
    pub(crate) links: Links,
    pub(crate) agents: Arc<Agents>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) sights: Writer,
}

pub(crate) struct Loop {
    core: Membership,
    links: Links,
    /// Those of which the machine knows.
    linked: BTreeMap<Name, pelago_net::Handle>,
    agents: Arc<Agents>,
    meter: Meter,
    metrics: Arc<Metrics>,
    sights: Writer,
    packets: broadcast::Receiver<(Name, Bytes)>,
    requests: mpsc::Receiver<Request>,
    effects: Vec<Effect>,
}

enum Event {
    Packet(Name, Bytes),
    Request(Request),
    Missed(u64),
    Links,
    Load,
    Deadline,
    /// Nobody can ask for anything any more.
    Over,
}

impl Handle {
    /// A packet came over the link with that node. Must not block.
    pub(crate) fn packet(&self, from: Name, packet: &[u8]) {
        // Copied: it waits, and is a slice of all that was read at once. Without a loop nobody takes it.
        let _stopped = self.packets.send((from, Bytes::copy_from_slice(packet)));
    }

    /// This node stands elsewhere in its life.
    pub(crate) fn stage(&self, stage: Stage) {
        // The loop is behind by less than that many, or has ended.
        let _stopped = self.requests.try_send(Request::Stage(stage));
    }

    /// Says goodbye, so that nobody waits for a sign of life.
    pub(crate) async fn leave(&self) {
        let (done, said) = oneshot::channel();
        let leave = async {
            if self.requests.send(Request::Leave(done)).await.is_ok() {
                // An error: the loop has ended.
                let _said = said.await;
            }
        };
        // Unheard, the others find out.
        let _late = tokio::time::timeout(LEAVE_MAX, leave).await;
    }
}

impl Loop {
    pub(crate) fn new(parts: Parts) -> (Self, Handle) {
        let Parts { me, record, profile, links, agents, metrics, sights } = parts;
        let dice: Dice = Box::new(StdRng::from_rng(&mut rand::rng()));
        let whole = record.clone();
        let core = Membership::new(clock::now(), me, record, profile.config(), Arc::new(Protobuf), dice);
        if core.nodes().find_map(|node| node.record) != Some(&whole) {
            tracing::warn!(
                "this node hosts too many agents, or has too many labels, for gossip to tell of them: only the log does"
            );
        }
        let (packet_sender, packets) = broadcast::channel(PACKETS_MAX);
        let (request_sender, requests) = mpsc::channel(REQUESTS_MAX);
        let this = Self {
            core,
            links,
            linked: BTreeMap::new(),
            agents,
            meter: Meter::default(),
            metrics,
            sights,
            packets,
            requests,
            effects: vec![Effect::Changed],
        };
        (this, Handle { packets: packet_sender, requests: request_sender })
    }

    /// Runs until it is dropped.
    pub(crate) async fn run(mut self) {
        let mut links = tokio::time::interval(LINKS_EVERY);
        let mut load = tokio::time::interval(LOAD_EVERY);
        load.set_missed_tick_behavior(MissedTickBehavior::Delay);
        links.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.carry_out();
        loop {
            let event = tokio::select! {
                Some(request) = self.requests.recv() => Event::Request(request),
                packet = self.packets.recv() => match packet {
                    Ok((from, packet)) => Event::Packet(from, packet),
                    Err(RecvError::Lagged(missed)) => Event::Missed(missed),
                    Err(RecvError::Closed) => Event::Over,
                },
                _ = links.tick() => Event::Links,
                _ = load.tick() => Event::Load,
                () = clock::until(self.core.deadline()) => Event::Deadline,
            };
            match event {
                Event::Packet(from, packet) => self.packet(from, packet),
                Event::Request(Request::Stage(stage)) => self.handle(Input::Stage(stage)),
                Event::Request(Request::Leave(done)) => {
                    self.handle(Input::Leave);
                    self.carry_out();
                    // Whoever stops may have given up waiting.
                    let _late = done.send(());
                }
                Event::Missed(packets) => self.metrics.gossip.dropped(packets),
                Event::Links => self.look_for_links(),
                Event::Load => self.measure(),
                Event::Deadline => self.core.expire(clock::now(), &mut self.effects),
                Event::Over => return,
            }
            self.carry_out();
        }
    }

    fn handle(&mut self, input: Input) {
        self.core.handle(clock::now(), input, &mut self.effects);
    }

    fn packet(&mut self, from: Name, packet: Bytes) {
        self.metrics.gossip.received();
        match wire::decode(packet) {
            Ok(packet) => self.handle(Input::Packet { from, packet }),
            Err(error) => {
                self.metrics.gossip.refused();
                tracing::debug!(node = %from, %error, "a packet of gossip cannot be read");
            }
        }
    }

    fn look_for_links(&mut self) {
        let up = self.links.all().into_iter().filter(|link| link.terms().other.role == Role::Main);
        let up: BTreeMap<Name, _> = up.map(|link| (link.terms().other.node_name.clone(), link)).collect();
        let before = std::mem::replace(&mut self.linked, up.clone());
        for name in before.keys().filter(|name| !up.contains_key(name)) {
            self.handle(Input::LinkLost(name.clone()));
        }
        for name in up.keys() {
            // One that ended may have been followed by another.
            if before.get(name).is_none_or(|link| link.has_ended().is_some()) {
                self.handle(Input::Linked(name.clone()));
            }
        }
    }

    fn measure(&mut self) {
        let handled = self.metrics.turns.get() + self.metrics.turns_failed.get();
        let load = self.meter.measure(clock::now(), self.agents.queued(), handled);
        self.handle(Input::Load(load));
    }

    fn carry_out(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::Send { to, packet } => match self.links.get(&to, Role::Main) {
                    Some(link) if link.try_send(Lane::Control, GOSSIP, 0, &wire::encode(&packet)).is_ok() => {
                        self.metrics.gossip.sent();
                    }
                    Some(_) | None => self.metrics.gossip.dropped(1),
                },
                Effect::Seen { holder, name, state } => match state {
                    State::Suspect => {
                        self.metrics.gossip.suspects.inc();
                        tracing::info!(node = %name, run = %holder, "a node gives no sign of life and is suspect");
                    }
                    State::Down => tracing::warn!(node = %name, run = %holder, "a node is down, as gossip has it"),
                    State::Joining | State::Up | State::Draining | State::Left => {
                        tracing::debug!(node = %name, run = %holder, state = state.name(), "a node is seen");
                    }
                },
                Effect::Changed => {
                    let sights = Sights::of(self.core.nodes());
                    self.metrics.gossip.seen(sights.nodes().map(|sight| sight.state));
                    self.sights.send_replace(Arc::new(sights));
                }
                Effect::Refused { why } => {
                    self.metrics.gossip.refused();
                    tracing::debug!(why, "a packet of gossip came to nothing");
                }
            }
        }
    }
}
