//! Which run of which node an agent belongs to, as this node last heard. Whoever is wrong is told by the store.

use pelago_core::{
    id::{AgentId, Holder, Name},
    pattern::Pattern,
    record::{self, Phase, Placement},
    route,
};

use super::sessions::Stick;
use crate::{gossip, handle::Error, view};

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

    /// A node that hosts this agent, which no node holds: this one if it does. Else one that both the log and gossip have
    /// as there, else one that gossip has, else one that the log has.
    pub(crate) fn any_host(&self, agent: &AgentId) -> Option<Holder> {
        self.any_host_but(agent, &[])
    }

    /// The same, but none of those that are gone.
    pub(crate) fn any_host_but(&self, agent: &AgentId, gone: &[Holder]) -> Option<Holder> {
        let (view, sights, name) = (self.view.get(), self.sights.get(), &agent.name);
        let is_left = |holder: &Holder| !gone.contains(holder);
        let logged = || view.hosts(name).filter(is_left);
        if logged().any(|holder| holder == self.me) {
            return Some(self.me);
        }
        let reachable = logged().filter(|holder| self.sights.is_reachable(holder.node));
        let seen = || route::rendezvous(agent, sights.hosts(name).filter(is_left));
        route::rendezvous(agent, reachable).or_else(seen).or_else(|| route::rendezvous(agent, logged()))
    }

    /// The host of this agent, which no node holds, that a request sticks to: not one that is gone, nor one that gossip
    /// has as down while another is there.
    pub(super) fn sticking_host(&self, agent: &AgentId, stick: Stick, gone: &[Holder]) -> Option<Holder> {
        let (view, sights, name) = (self.view.get(), self.sights.get(), &agent.name);
        let is_left = |holder: &Holder| !gone.contains(holder);
        let logged = || view.hosts(name).filter(is_left);
        let reachable = || logged().filter(|holder| self.sights.is_reachable(holder.node));
        let held = reachable().find(|holder| Some(*holder) == stick.held);
        let seen = || route::sticking(stick.key, sights.hosts(name).filter(is_left));
        held.or_else(|| route::sticking(stick.key, reachable()))
            .or_else(seen)
            .or_else(|| route::sticking(stick.key, logged()))
    }

    /// The runs that host agents whose names meet the pattern: those that the log has, and of nodes of which it has no
    /// live run those that gossip has.
    pub(crate) fn hosts_of_any(&self, names: &Pattern) -> Vec<Holder> {
        let (view, sights) = (self.view.get(), self.sights.get());
        let has_none = |holder: &Holder| !view.live().any(|node| node.id == holder.node);
        view.hosts_of_any(names).chain(sights.hosts_of_any(names).filter(has_none)).collect()
    }

    /// The name of the node that a run belongs to.
    pub(crate) fn node(&self, holder: Holder) -> Option<Name> {
        let known = self.view.get().name_of(holder.node);
        known.or_else(|| self.sights.get().get(holder.node).map(|sight| sight.name.clone()))
    }

    /// How agents of a name are placed, as the log or else gossip has it.
    ///
    /// # Errors
    /// [`Error::UnknownAgent`] with the nearest names when no node hosts any.
    pub(crate) fn placement(&self, name: &Name) -> Result<Placement, Error> {
        let placement = self.view.get().placement(name);
        placement.or_else(|unknown| self.sights.get().placement(name).ok_or(unknown))
    }

    /// Checks that a node can be asked: the log has it as there, or gossip has and there `is_linked`.
    ///
    /// # Errors
    /// [`Error::UnknownNode`], [`Error::WrongState`].
    pub(crate) fn find_node(&self, node: &Name, is_linked: bool) -> Result<(), Error> {
        let view = self.view.get();
        let known = view.named(node);
        let is_seen = || is_linked && self.sights.get().run_of(node).is_some();
        if known.is_some_and(|row| row.is_live(row.incarnation)) || is_seen() {
            return Ok(());
        }
        match known {
            None => Err(Error::UnknownNode(node.clone())),
            Some(_) => Err(Error::WrongState(format!("node {node} is down"))),
        }
    }

    /// The present run of a node: as the log says, or, if that has none, gossip.
    pub(crate) fn run_of(&self, node: &Name) -> Option<Holder> {
        let view = self.view.get();
        let run = view.named(node).map(record::Node::holder).filter(|holder| view.is_live(*holder));
        run.or_else(|| self.sights.get().run_of(node))
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use pelago_core::{
        id::{BootId, DirectoryId, Incarnation, NodeId},
        membership::{self, Hosting, Identity, Record, Stage, State},
        record::{Node, NodeState, Offer, Placement},
        time::{LogTime, Time},
    };

    use super::*;
    use crate::gossip::Sights;

    #[test]
    fn a_node_that_gossip_has_as_down_is_not_asked_while_there_is_another() {
        // The log has n1 to n3, of which n1 is this node and hosts nothing.
        let logged = [row(1, 1, false), row(2, 2, true), row(3, 3, true)];
        let with = |seen: &[(u64, u64, State)]| homes(&logged, seen);
        let chosen = |homes: &Homes| homes.any_host(&agent()).map(|holder| (holder.node.0, holder.incarnation.0));
        for (down, left) in [(2, 3), (3, 2)] {
            let seen = [(down, down, State::Down), (left, left, State::Suspect)];
            assert_eq!(chosen(&with(&seen)), Some((left, left)), "{down} is down");
        }
        // Of all that the log has none answers: whom gossip knows does.
        let parted = [(2, 2, State::Down), (3, 3, State::Left), (9, 90, State::Up)];
        assert_eq!(chosen(&with(&parted)), Some((9, 90)));
        // Or else nobody knows better than the log.
        let silent = with(&[(2, 2, State::Down), (3, 3, State::Down)]);
        assert!(matches!(chosen(&silent), Some((2 | 3, _))), "{:?}", chosen(&silent));
        assert_eq!(chosen(&homes(&[row(1, 1, true), row(2, 2, true)], &[])), Some((1, 1)), "it hosts it itself");
    }

    #[test]
    fn a_later_run_is_found_where_gossip_has_it() {
        let gone = Node { state: NodeState::Expired, ..row(2, 2, true) };
        let homes = homes(&[row(1, 1, false), gone.clone()], &[(2, 20, State::Up), (9, 90, State::Up)]);
        let sights = homes.sights.get();
        assert_eq!(homes.run_of(&name(2)), Some(holder(2, 20)));
        assert_eq!(homes.node(holder(9, 90)), Some(name(9)));
        assert_eq!(sights.address(&gone), Some("127.0.0.1:20"));
        assert_eq!(sights.address(&Node { incarnation: Incarnation(20), ..gone }), None, "the log has it too");
        assert_eq!(sights.placement(&agent().name), Some(Placement::Resident));
        assert_eq!(sights.placement(&name(1)), None);
    }

    #[test]
    fn a_broadcast_goes_to_nodes_that_only_gossip_has_too() {
        let gone = Node { state: NodeState::Expired, ..row(2, 2, true) };
        let logged = [row(1, 1, true), gone, row(3, 3, true)];
        let seen = [(2, 20, State::Up), (3, 30, State::Up), (8, 80, State::Down), (9, 90, State::Suspect)];
        let homes = homes(&logged, &seen);
        let at = |names: &str| homes.hosts_of_any(&Pattern::new(names).expect("valid"));
        assert_eq!(at("here"), [holder(1, 1), holder(3, 3), holder(2, 20), holder(9, 90)]);
        assert_eq!(at("elsewhere"), []);
    }

    fn homes(logged: &[Node], seen: &[(u64, u64, State)]) -> Homes {
        let (mut view_writer, view) = view::new();
        view_writer.replace(logged.to_vec(), Vec::new());
        let hosting = Hosting::from(&Offer::new(Placement::Resident, 1));
        let offers = BTreeMap::from([(agent().name, hosting)]);
        let record = Record { stage: Stage::Up, http_address: String::new(), labels: BTreeMap::new(), offers };
        let identities: Vec<(Identity, State)> = seen
            .iter()
            .map(|(node, run, state)| {
                let mesh_address = format!("127.0.0.1:{run}");
                (Identity { holder: holder(*node, *run), renewal: 0, name: name(*node), mesh_address }, *state)
            })
            .collect();
        let nodes = identities.iter().map(|(identity, state)| membership::Node {
            identity,
            state: *state,
            since: Time::ZERO,
            record: Some(&record),
            load: None,
        });
        let (sights_writer, sights) = crate::gossip::sights();
        sights_writer.send_replace(Arc::new(Sights::of(nodes)));
        Homes::new(holder(1, 1), view, sights)
    }

    fn row(node: u64, run: u64, hosts: bool) -> Node {
        Node {
            id: NodeId(node),
            name: name(node),
            directory: DirectoryId(u128::from(node)),
            incarnation: Incarnation(run),
            boot: BootId(u128::from(run)),
            state: NodeState::Up,
            mesh_address: format!("127.0.0.1:{node}"),
            http_address: String::new(),
            labels: BTreeMap::new(),
            offers: hosts.then(|| (agent().name, Offer::new(Placement::Resident, 1))).into_iter().collect(),
            registered: LogTime::ZERO,
        }
    }

    fn holder(node: u64, run: u64) -> Holder {
        Holder { node: NodeId(node), incarnation: Incarnation(run) }
    }

    fn name(node: u64) -> Name {
        Name::new(&format!("n{node}")).expect("valid")
    }

    fn agent() -> AgentId {
        AgentId { namespace: Name::default_namespace(), name: Name::new("here").expect("valid"), key: None }
    }
}
