//! Which run of which node an agent belongs to, as this node last heard. Whoever is wrong is told by the store.

use pelago_core::{
    id::{AgentId, Holder, Name},
    pattern::Pattern,
    record::{self, Phase},
    route,
};

use crate::{gossip, view};

/// Knows who hosts what. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Homes {
    me: Holder,
    view: view::Reader,
    sights: gossip::Reader,
}

impl Homes {
    pub(crate) fn new(me: Holder, view: view::Reader, sights: gossip::Reader) -> Self {
        Self { me, view, sights }
    }

    pub(crate) fn me(&self) -> Holder {
        self.me
    }

    /// Whether a keyed agent that nobody holds belongs to this node.
    pub(crate) fn is_home(&self, agent: &AgentId) -> bool {
        self.home(agent) == Some(self.me)
    }

    /// Where a keyed agent belongs that nobody holds.
    pub(crate) fn home(&self, agent: &AgentId) -> Option<Holder> {
        let view = self.view.get();
        route::rendezvous(agent, view.hosts(&agent.name))
    }

    /// Who else holds the agent, as its row says.
    pub(crate) fn held_elsewhere(&self, row: &record::Agent) -> bool {
        row.phase == Phase::Active && row.holder != self.me && self.view.get().is_live(row.holder)
    }

    /// Where a keyed agent with this row is to be found.
    pub(crate) fn place(&self, agent: &AgentId, row: Option<&record::Agent>) -> Option<Holder> {
        let held_by = row.filter(|row| row.phase == Phase::Active).map(|row| row.holder);
        held_by.filter(|holder| self.view.get().is_live(*holder)).or_else(|| self.home(agent))
    }

    /// Whether that run may act, as far as this node has heard.
    pub(crate) fn is_live(&self, holder: Holder) -> bool {
        self.view.get().is_live(holder)
    }

    /// Whether this is the only node that hosts agents of this name.
    pub(crate) fn is_only_host(&self, name: &Name) -> bool {
        self.view.get().hosts(name).all(|holder| holder == self.me)
    }

    /// A node that hosts this agent, which no node holds: this one if it does.
    pub(crate) fn any_host(&self, agent: &AgentId) -> Option<Holder> {
        let hosts = self.hosts(&agent.name);
        if hosts.contains(&self.me) {
            return Some(self.me);
        }
        route::rendezvous(agent, hosts)
    }

    /// The runs that host agents of this name, which need no log: those that both the log and gossip have as there, else
    /// those that gossip has, else those that the log has.
    fn hosts(&self, name: &Name) -> Vec<Holder> {
        let view = self.view.get();
        let (there, gone): (Vec<Holder>, Vec<Holder>) =
            view.hosts(name).partition(|holder| *holder == self.me || self.sights.is_reachable(holder.node));
        if !there.is_empty() {
            return there;
        }
        let seen: Vec<Holder> = self.sights.get().hosts(name).collect();
        if seen.is_empty() { gone } else { seen }
    }

    /// The runs that host agents whose names meet the pattern.
    pub(crate) fn hosts_of_any(&self, names: &Pattern) -> Vec<Holder> {
        self.view.get().hosts_of_any(names).collect()
    }

    /// The names of the other nodes that are up.
    pub(crate) fn others(&self) -> Vec<Name> {
        let view = self.view.get();
        view.live().filter(|node| node.id != self.me.node).map(|node| node.name.clone()).collect()
    }

    /// The name of the node that a run belongs to.
    pub(crate) fn node(&self, holder: Holder) -> Option<Name> {
        let known = self.view.get().name_of(holder.node);
        known.or_else(|| self.sights.get().get(holder.node).map(|sight| sight.name.clone()))
    }

    /// The present run of a node: as the log says, or, if that has none, gossip.
    pub(crate) fn run_of(&self, node: &Name) -> Option<Holder> {
        let view = self.view.get();
        let run = view.named(node).map(record::Node::holder).filter(|holder| view.is_live(*holder));
        run.or_else(|| self.sights.get().run_of(node))
    }
}
