//! What nodes say of themselves, and who has heard it how often.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use super::ADDRESS_BYTES_MAX;
use crate::{
    id::{Holder, Incarnation, Name, NodeId},
    record::{Offer, Placement},
};

/// The most labels of a node that are told.
pub const LABELS_MAX: usize = 256;
/// The longest name or value of a label, in bytes.
pub const LABEL_BYTES_MAX: usize = 256;
/// The most agent names of a node that are told.
pub const OFFERS_MAX: usize = 4_096;
/// The most nodes of which anything is known.
pub const NODES_MAX: usize = 1_024;

/// Something that a node says of itself, as others pass it on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rumour {
    /// Which run of which node says it.
    pub about: Holder,
    /// Of two rumours of one run the one with the greater number is right.
    pub version: u64,
    /// What it says.
    pub news: News,
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// What it is; changes seldom.
    Record(Record),
    /// How much it has to do; changes all the time.
    Load(Load),
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it stands in its life.
    pub stage: Stage,
    /// Where clients reach it; empty when it serves none.
    pub http_address: String,
    /// Zone, region, capabilities.
    pub labels: BTreeMap<String, String>,
    /// What it hosts: residents, pools and kinds of keyed agents.
    pub offers: BTreeMap<Name, Hosting>,
}

/// How a node hosts agents of one name: as much of its offer as helps to find them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hosting {
    /// How they are placed.
    pub placement: Placement,
    /// How many of their tasks may run there at a time.
    pub tasks_max: u32,
}

impl From<&Offer> for Hosting {
    fn from(offer: &Offer) -> Self {
        Self { placement: offer.placement, tasks_max: offer.tasks_max }
    }
}

/// Where a node stands, as it says itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It is registered, and takes no work yet.
    Joining,
    /// It takes work.
    Up,
    /// It ends what it has and takes no more.
    Draining,
    /// It has said goodbye.
    Left,
}

/// How much a node has to do. What its system does not tell is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Processor time in use, in thousandths of what there is.
    pub cpu: Option<u16>,
    /// Memory in use, in thousandths of what there is.
    pub memory: Option<u16>,
    /// Network in use, in thousandths of what its interfaces carry.
    pub network: Option<u16>,
    /// Bytes a second over its interfaces, in both directions.
    pub network_bytes: Option<u64>,
    /// Messages that wait in mailboxes of its agents.
    pub queued: u64,
    /// Messages that its agents handled a second.
    pub messages: u64,
}

/// Which of a node's rumours it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum About {
    Record,
    Load,
}

type Key = (NodeId, About);

/// All rumours that are known, one of each sort a node, and which of them are still told.
#[derive(Debug)]
pub(super) struct Rumours {
    known: BTreeMap<Key, Rumour>,
    /// How many times more each is told.
    fresh: BTreeMap<Key, u8>,
    tellings: u8,
}

impl Record {
    /// Whether others take it: whoever breaks a bound is told of without its names.
    pub(super) fn is_within_bounds(&self) -> bool {
        let is_short = |text: &String| text.len() <= LABEL_BYTES_MAX;
        self.http_address.len() <= ADDRESS_BYTES_MAX
            && self.labels.len() <= LABELS_MAX
            && self.labels.iter().all(|(name, value)| is_short(name) && is_short(value))
            && self.offers.len() <= OFFERS_MAX
    }

    /// The same without its names.
    pub(super) fn bare(&self) -> Self {
        Self { stage: self.stage, http_address: String::new(), labels: BTreeMap::new(), offers: BTreeMap::new() }
    }
}

impl Load {
    /// Whether others should hear of it at once: by a twentieth of what there is, or by a quarter of what is counted.
    #[must_use]
    pub fn differs_from(&self, other: &Self) -> bool {
        let share = |a: Option<u16>, b: Option<u16>| match (a, b) {
            (Some(a), Some(b)) => a.abs_diff(b) >= 50,
            (None, None) => false,
            (Some(_), None) | (None, Some(_)) => true,
        };
        let count = |a: u64, b: u64| a.abs_diff(b) > 8 + b / 4;
        share(self.cpu, other.cpu)
            || share(self.memory, other.memory)
            || share(self.network, other.network)
            || count(self.queued, other.queued)
            || count(self.messages, other.messages)
    }
}

impl Rumour {
    fn key(&self) -> Key {
        let about = match &self.news {
            News::Record(_) => About::Record,
            News::Load(_) => About::Load,
        };
        (self.about.node, about)
    }

    fn is_newer_than(&self, other: &Self) -> bool {
        (self.about.incarnation, self.version) > (other.about.incarnation, other.version)
    }
}

impl Rumours {
    pub(super) fn new(tellings: u8) -> Self {
        Self { known: BTreeMap::new(), fresh: BTreeMap::new(), tellings }
    }

    /// Takes a rumour if it is news, and passes it on from then on. Says whether it was.
    pub(super) fn hear(&mut self, rumour: Rumour) -> bool {
        let key = rumour.key();
        let is_full = self.is_full();
        match self.known.entry(key) {
            Entry::Occupied(known) if !rumour.is_newer_than(known.get()) => return false,
            Entry::Occupied(mut known) => _ = known.insert(rumour),
            Entry::Vacant(_) if is_full => return false,
            Entry::Vacant(unknown) => _ = unknown.insert(rumour),
        }
        self.fresh.insert(key, self.tellings);
        true
    }

    /// Whether nothing of further nodes is taken.
    pub(super) fn is_full(&self) -> bool {
        self.known.len() >= 2 * NODES_MAX
    }

    /// Whether anything is still to be told.
    pub(super) fn has_news(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// What is to be told next, those first that were told least, as many as `fits` says.
    pub(super) fn tell(&mut self, mut fits: impl FnMut(&Rumour) -> bool) -> Vec<Rumour> {
        let mut least_told: Vec<(u8, Key)> = self.fresh.iter().map(|(key, left)| (*left, *key)).collect();
        least_told.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut told = Vec::new();
        for (left, key) in least_told {
            let rumour = &self.known[&key];
            if !fits(rumour) {
                continue;
            }
            told.push(rumour.clone());
            if left > 1 {
                self.fresh.insert(key, left - 1);
            } else {
                self.fresh.remove(&key);
            }
        }
        told
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Rumour> {
        self.known.values()
    }

    /// What that run of a node says it is.
    pub(super) fn record(&self, of: Holder) -> Option<&Record> {
        match &self.of(of.node, of.incarnation, About::Record)?.news {
            News::Record(record) => Some(record),
            News::Load(_) => None,
        }
    }

    /// How much that run of a node says it has to do.
    pub(super) fn load(&self, of: Holder) -> Option<&Load> {
        match &self.of(of.node, of.incarnation, About::Load)?.news {
            News::Load(load) => Some(load),
            News::Record(_) => None,
        }
    }

    fn of(&self, node: NodeId, incarnation: Incarnation, about: About) -> Option<&Rumour> {
        self.known.get(&(node, about)).filter(|rumour| rumour.about.incarnation == incarnation)
    }

    /// Forgets what is known of all but these.
    pub(super) fn keep(&mut self, nodes: &BTreeSet<NodeId>) {
        self.known.retain(|(node, _), _| nodes.contains(node));
        self.fresh.retain(|(node, _), _| nodes.contains(node));
    }
}
