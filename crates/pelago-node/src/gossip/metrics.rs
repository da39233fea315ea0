//! What gossip counts.

use pelago_core::membership::State;
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

type Label = [(&'static str, &'static str); 1];

/// The counters of gossip on one node.
#[derive(Debug, Clone, Default)]
pub struct GossipMetrics {
    /// How often this node saw another become suspect.
    pub suspects: Counter,
    packets: Family<Label, Counter>,
    members: Family<Label, Gauge>,
}

impl GossipMetrics {
    pub(super) fn sent(&self) {
        self.count("sent", 1);
    }

    pub(super) fn received(&self) {
        self.count("received", 1);
    }

    /// They had no link, or found no room.
    pub(super) fn dropped(&self, packets: u64) {
        self.count("dropped", packets);
    }

    /// They could not be read, or made no sense.
    pub(super) fn refused(&self) {
        self.count("refused", 1);
    }

    fn count(&self, what: &'static str, packets: u64) {
        self.packets.get_or_create(&[("what", what)]).inc_by(packets);
    }

    /// All nodes are seen in these states.
    pub(super) fn seen(&self, states: impl Iterator<Item = State>) {
        let states: Vec<State> = states.collect();
        for state in State::ALL {
            let nodes = states.iter().filter(|seen| **seen == state).count();
            self.members.get_or_create(&[("state", state.name())]).set(i64::try_from(nodes).unwrap_or(i64::MAX));
        }
    }

    pub(crate) fn register(&self, all: &mut Registry) {
        let help = "How often this node saw another become suspect";
        all.register("gossip_suspects", help, self.suspects.clone());
        all.register("gossip_packets", "Packets of gossip, by what became of them", self.packets.clone());
        all.register("gossip_members", "Nodes as gossip sees them, by state", self.members.clone());
    }
}
