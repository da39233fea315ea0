//! Who is there, without a quorum: SWIM with suspicion, and what each node says of itself passed on by the others.
//!
//! *Is:* a hint. Whether a node is suspect or down, what it hosts, how much it has to do and where it is reached, as
//! one node has heard. `foca` decides who is probed and who is down; this machine keeps its time, joins it with the
//! rumours, and compares all that is known with another node's when a link comes up and from time to time.
//!
//! *Is not:* a word on who is in the mesh, or may own anything: that is the control log's (`core::record`). Nothing
//! here is durable, and no safety rests on it.
//!
//! ```text
//!   probe ─► ack                          up
//!     └─ none in time: others probe too ─► none either: suspect ─► it contradicts: up
//!                                                            └─► it does not: down ─► it hears so: another renewal, up
//! ```

mod codec;
mod config;
mod event;
mod identity;
mod outbox;
mod rumour;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
};

pub use codec::{Codec, Garbled};
pub use config::{Config, Profile};
pub use event::{Effect, Input, Packet, State};
pub use foca::{Header, Member, Message, State as MemberState};
pub use identity::{ADDRESS_BYTES_MAX, Identity};
pub use rumour::{Hosting, LABEL_BYTES_MAX, LABELS_MAX, Load, NODES_MAX, News, OFFERS_MAX, Record, Rumour, Stage};

use self::{
    codec::Bytewise,
    outbox::{Due, Outbox},
    rumour::Rumours,
};
use crate::{
    id::{Holder, Name, NodeId},
    time::Time,
};

/// The most bytes of rumours, or of members, in one packet; one rumour that is larger is not told.
pub const RUMOUR_BYTES_MAX: usize = 48 << 10;

/// Where the library's choices come from.
pub type Dice = Box<dyn rand_core::Rng + Send>;

/// One node's view of who is there.
pub struct Membership {
    config: Config,
    swim: foca::Foca<Identity, Bytewise, Dice, foca::NoCustomBroadcast>,
    codec: Arc<dyn Codec>,
    outbox: Outbox,
    rumours: Rumours,
    /// What this node says of itself, and how often it has said anything.
    record: Record,
    versions: u64,
    /// The load that others were told last, and when.
    load: Option<(Time, Load)>,
    linked: BTreeSet<Name>,
    seen: BTreeMap<NodeId, Sighting>,
    /// Whom all that is known was compared with last.
    compared: NodeId,
    is_spreading: bool,
    has_left: bool,
}

/// How another node was seen when it was looked at last.
#[derive(Debug, Clone)]
struct Sighting {
    identity: Identity,
    state: State,
    since: Time,
}

/// A node as it is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node<'a> {
    /// Who it is.
    pub identity: &'a Identity,
    /// How it is seen.
    pub state: State,
    /// Since when.
    pub since: Time,
    /// What it says that it is, once that was heard.
    pub record: Option<&'a Record>,
    /// How much it says it has to do, once that was heard.
    pub load: Option<&'a Load>,
}

impl Membership {
    /// The view of node `me`, which knows nobody yet.
    #[must_use]
    pub fn new(now: Time, me: Identity, record: Record, config: Config, codec: Arc<dyn Codec>, dice: Dice) -> Self {
        let bytewise = Bytewise(Arc::clone(&codec));
        let mut outbox = Outbox::default();
        outbox.begin(now);
        outbox.set(Due::Compare, config.compare_every);
        let mut membership = Self {
            config,
            swim: foca::Foca::new(me, config.swim(), dice, bytewise),
            codec,
            outbox,
            rumours: Rumours::new(config.tellings.get()),
            record: record.clone(),
            versions: 0,
            load: None,
            linked: BTreeSet::new(),
            seen: BTreeMap::new(),
            compared: NodeId(0),
            is_spreading: false,
            has_left: false,
        };
        membership.say(News::Record(record));
        membership.look(now, &mut Vec::new());
        membership
    }

    /// Advances the view by one event. `now` must not go backwards between calls.
    pub fn handle(&mut self, now: Time, input: Input, effects: &mut Vec<Effect>) {
        if self.has_left {
            return;
        }
        self.outbox.begin(now);
        let renewal = self.me().renewal;
        let mut has_news = false;
        match input {
            Input::Packet { from, packet } => has_news = self.packet(&from, packet, effects),
            Input::Linked(name) => {
                self.tell_all(&name, true, effects);
                self.linked.insert(name);
            }
            Input::LinkLost(name) => _ = self.linked.remove(&name),
            Input::Stage(stage) => has_news = self.stage(stage),
            Input::Load(load) => has_news = self.load(now, load),
            Input::Leave => self.leave(effects),
        }
        self.settle(now, renewal, has_news, effects);
    }

    /// Does what is due. Call when [`Self::deadline`] has passed.
    pub fn expire(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if self.has_left {
            return;
        }
        self.outbox.begin(now);
        // A node that stood still has heard nobody meanwhile: their silence says nothing about them.
        let late = self.deadline().map_or_else(Default::default, |deadline| now - deadline);
        if late > self.config.probe_every {
            self.outbox.put_off(late);
        }
        let renewal = self.me().renewal;
        while let Some(due) = self.outbox.due() {
            let done = match due {
                Due::Swim(timer) => self.swim.handle_timer(timer, &mut self.outbox),
                Due::Spread => {
                    self.is_spreading = false;
                    self.swim.gossip(&mut self.outbox)
                }
                Due::Compare => {
                    self.outbox.set(Due::Compare, self.config.compare_every);
                    self.compare(effects);
                    Ok(())
                }
            };
            refuse(done, effects);
        }
        self.settle(now, renewal, false, effects);
    }

    /// When to call [`Self::expire`].
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        self.outbox.deadline().filter(|_| !self.has_left)
    }

    /// All nodes that were heard of, this one too, by id.
    pub fn nodes(&self) -> impl Iterator<Item = Node<'_>> {
        self.seen.values().map(|Sighting { identity, state, since }| Node {
            identity,
            state: *state,
            since: *since,
            record: self.rumours.record(identity.holder),
            load: self.rumours.load(identity.holder),
        })
    }

    fn me(&self) -> &Identity {
        self.swim.identity()
    }

    /// All others, without what this node was before it was taken for dead.
    fn others(&self) -> impl Iterator<Item = &Member<Identity>> {
        let me = self.me().holder.node;
        self.swim.iter_membership_state().filter(move |member| member.id().holder.node != me)
    }

    fn packet(&mut self, from: &Name, packet: Packet, effects: &mut Vec<Effect>) -> bool {
        let Packet { swim, members, rumours, answer } = packet;
        if self.swim.iter_membership_state().len() >= NODES_MAX {
            effects.push(Effect::Refused { why: format!("more than {NODES_MAX} nodes were heard of") });
            return false;
        }
        if !swim.is_empty() {
            refuse(self.swim.handle_data(&swim, &mut self.outbox), effects);
        }
        if !members.is_empty() {
            refuse(self.swim.apply_many(members.into_iter(), true, &mut self.outbox), effects);
        }
        if self.rumours.is_full() {
            let known = self.swim.iter_membership_state().map(|member| member.id().holder.node);
            self.rumours.keep(&known.chain([self.me().holder.node]).collect());
        }
        let me = self.me().holder.node;
        let mut has_news = false;
        for rumour in rumours {
            // Nobody knows better than this node what it says.
            has_news |= rumour.about.node != me && self.rumours.hear(rumour);
        }
        if answer {
            self.tell_all(from, false, effects);
        }
        has_news
    }

    fn stage(&mut self, stage: Stage) -> bool {
        if self.record.stage == stage {
            return false;
        }
        self.record.stage = stage;
        self.say(News::Record(self.record.clone()));
        true
    }

    /// Tells others of a load that is not what they know, and of any from time to time.
    fn load(&mut self, now: Time, load: Load) -> bool {
        let known = self.load.filter(|(told, _)| now - *told < self.config.compare_every);
        if known.is_some_and(|(_, known)| !load.differs_from(&known)) {
            return false;
        }
        self.load = Some((now, load));
        self.say(News::Load(load));
        true
    }

    fn leave(&mut self, effects: &mut Vec<Effect>) {
        self.stage(Stage::Left);
        refuse(self.swim.leave_cluster(&mut self.outbox), effects);
    }

    fn say(&mut self, news: News) {
        self.versions += 1;
        let mut rumour = Rumour { about: self.me().holder, version: self.versions, news };
        let is_small = self.codec.rumour_bytes(&rumour) <= RUMOUR_BYTES_MAX;
        if let News::Record(record) = &rumour.news
            && !(is_small && record.is_within_bounds())
        {
            // Too much to be told: that it is there is more than nothing.
            rumour.news = News::Record(record.bare());
        }
        self.rumours.hear(rumour);
    }

    /// Compares all that is known with the next node in turn, so that what was lost on the way is known in the end.
    fn compare(&mut self, effects: &mut Vec<Effect>) {
        let active: BTreeMap<NodeId, &Name> =
            self.swim.iter_members().map(|member| (member.id().holder.node, &member.id().name)).collect();
        let next = active.range((Excluded(self.compared), Unbounded)).next().or_else(|| active.first_key_value());
        if let Some((node, name)) = next.map(|(node, name)| (*node, (*name).clone())) {
            self.compared = node;
            self.tell_all(&name, true, effects);
        }
    }

    /// Tells one node all that is known: who is there, and what they say. Not who is down: of them it may know better,
    /// and nothing but a renewal takes that back. But it is told if it is taken for dead itself.
    fn tell_all(&self, to: &Name, answer: bool, effects: &mut Vec<Effect>) {
        let is_told = |member: &&Member<Identity>| member.state() != MemberState::Down || member.id().name == *to;
        let members = self.others().filter(is_told).cloned();
        let members = members.chain([Member::alive(self.me().clone())]);
        let mut packets = vec![Packet::default()];
        let mut bytes = 0;
        for member in members {
            let mut written = Vec::new();
            self.codec.put_member(&member, &mut written);
            room_for(written.len(), &mut bytes, &mut packets).members.push(member);
        }
        for rumour in self.rumours.all() {
            room_for(self.codec.rumour_bytes(rumour), &mut bytes, &mut packets).rumours.push(rumour.clone());
        }
        if let Some(last) = packets.last_mut() {
            last.answer = answer;
        }
        effects.extend(packets.into_iter().map(|packet| Effect::Send { to: to.clone(), packet }));
    }

    /// Sends what the library wants to send, with news on top, and says what has changed.
    fn settle(&mut self, now: Time, renewal: u32, has_news: bool, effects: &mut Vec<Effect>) {
        let packets = std::mem::take(&mut self.outbox.packets);
        for (to, swim) in packets.into_iter().filter(|(to, _)| *to != self.swim.identity().name) {
            let mut bytes = 0;
            let rumours = self.rumours.tell(|rumour| {
                let with = bytes + self.codec.rumour_bytes(rumour);
                let fits = with <= RUMOUR_BYTES_MAX;
                bytes = if fits { with } else { bytes };
                fits
            });
            effects.push(Effect::Send { to, packet: Packet { swim, rumours, ..Packet::default() } });
        }
        if self.me().renewal != renewal {
            // Those who took this node for dead are not among those whom the library tells.
            for name in self.linked.clone() {
                self.tell_all(&name, false, effects);
            }
        }
        if self.record.stage == Stage::Left {
            self.has_left = true;
        } else if !self.is_spreading && self.swim.num_members() > 0 && self.has_news() {
            self.is_spreading = true;
            self.outbox.set(Due::Spread, self.config.spread_every);
        }
        if self.look(now, effects) || has_news {
            effects.push(Effect::Changed);
        }
    }

    fn has_news(&self) -> bool {
        self.rumours.has_news() || self.swim.updates_backlog() > 0
    }

    /// Compares how nodes are seen with how they were. Says whether anything has changed.
    fn look(&mut self, now: Time, effects: &mut Vec<Effect>) -> bool {
        let mut before_all = std::mem::take(&mut self.seen);
        let stage = |holder: Holder| self.rumours.record(holder).map(|record| record.stage);
        let me = (self.me(), State::of(MemberState::Alive, stage(self.me().holder)));
        let others = self.others().map(|member| (member.id(), State::of(member.state(), stage(member.id().holder))));
        let mut looked = BTreeMap::new();
        let mut is_new = false;
        for (identity, state) in others.chain([me]) {
            let before = before_all.remove(&identity.holder.node);
            let is_as_before = |before: &Sighting| (before.identity.holder, before.state) == (identity.holder, state);
            let since = before.as_ref().filter(|before| is_as_before(before)).map(|before| before.since);
            is_new |= before.is_none_or(|before| before.identity != *identity || before.state != state);
            if since.is_none() {
                effects.push(Effect::Seen { holder: identity.holder, name: identity.name.clone(), state });
            }
            let sighting = Sighting { identity: identity.clone(), state, since: since.unwrap_or(now) };
            looked.insert(identity.holder.node, sighting);
        }
        // Those that are left were down for so long that they are forgotten.
        self.seen = looked;
        if !before_all.is_empty() {
            self.rumours.keep(&self.seen.keys().copied().collect());
        }
        is_new || !before_all.is_empty()
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership").field("me", self.me()).field("seen", &self.seen).finish_non_exhaustive()
    }
}

/// The packet that has room for so many bytes more: the last one, or another.
fn room_for<'a>(wanted: usize, bytes: &mut usize, packets: &'a mut Vec<Packet>) -> &'a mut Packet {
    if *bytes > 0 && *bytes + wanted > RUMOUR_BYTES_MAX {
        packets.push(Packet::default());
        *bytes = 0;
    }
    *bytes += wanted;
    packets.last_mut().expect("there is always one")
}

fn refuse(done: Result<(), foca::Error>, effects: &mut Vec<Effect>) {
    if let Err(error) = done {
        effects.push(Effect::Refused { why: error.to_string() });
    }
}
