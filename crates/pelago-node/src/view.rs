//! Which nodes there are, what they host, and along which connections signals go on, as this node last heard.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use pelago_core::{
    connection::Connection,
    id::{Address, AgentId, Holder, Incarnation, Name, NodeId},
    link::{Hello, Refusal},
    nearest::nearest_few,
    pattern::Pattern,
    record::{Node, NodeState, Offer, Placement},
};
use tokio::sync::watch;

use crate::handle::{Declared, Error};

/// The nodes of the mesh by id, and the connections between agents.
#[derive(Debug, Default, Clone)]
pub(crate) struct View {
    nodes: BTreeMap<NodeId, Node>,
    /// Connections that were added while the mesh runs, by namespace, agent and the text of where they lead.
    connections: BTreeMap<(Name, Name, String), Connection>,
}

/// Keeps the view; there is one writer.
pub(crate) struct Writer {
    view: watch::Sender<Arc<View>>,
    seen: Arc<AtomicU64>,
}

/// Reads the view. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Reader {
    view: watch::Receiver<Arc<View>>,
    /// Up to which entry of the log the view has everything.
    seen: Arc<AtomicU64>,
}

/// A view without nodes.
pub(crate) fn new() -> (Writer, Reader) {
    let (writer, reader) = watch::channel(Arc::default());
    let seen = Arc::new(AtomicU64::new(0));
    (Writer { view: writer, seen: Arc::clone(&seen) }, Reader { view: reader, seen })
}

impl Writer {
    /// Begins anew with these nodes and connections.
    pub(crate) fn replace(&mut self, nodes: Vec<Node>, connections: Vec<(Name, Connection)>) {
        let nodes = nodes.into_iter().map(|node| (node.id, node)).collect();
        let connections = connections.into_iter().map(|(from, one)| (key(&from, &one.to), one)).collect();
        self.view.send_replace(Arc::new(View { nodes, connections }));
    }

    pub(crate) fn connect(&mut self, from: &Name, connection: Connection) {
        self.change(|view| _ = view.connections.insert(key(from, &connection.to), connection));
    }

    pub(crate) fn disconnect(&mut self, from: &Name, to: &Address) {
        self.change(|view| _ = view.connections.remove(&key(from, to)));
    }

    pub(crate) fn put(&mut self, node: Node) {
        self.change(|view| _ = view.nodes.insert(node.id, node));
    }

    pub(crate) fn remove(&mut self, id: NodeId) {
        self.change(|view| _ = view.nodes.remove(&id));
    }

    /// All that the log says up to this entry is in the view.
    pub(crate) fn seen(&mut self, index: u64) {
        self.seen.fetch_max(index, Ordering::Release);
    }

    fn change(&mut self, change: impl FnOnce(&mut View)) {
        self.view.send_modify(|view| {
            let mut next = View::clone(view);
            change(&mut next);
            *view = Arc::new(next);
        });
    }
}

impl Reader {
    pub(crate) fn get(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// Why a node must have no link, as the log says: it was removed, or another process registered as it later.
    pub(crate) fn objection(&self, other: &Hello) -> Option<Refusal> {
        if other.node == NodeId(0) {
            return None;
        }
        // In this order: what was seen is in the view that is looked at afterwards.
        let seen = self.seen.load(Ordering::Acquire);
        match self.get().nodes.get(&other.node) {
            // Its id is the entry that admitted it.
            None => (seen >= other.node.0).then_some(Refusal::Removed),
            Some(row) => {
                let is_run = other.incarnation != Incarnation(0) && row.state == NodeState::Up;
                let is_later = row.incarnation > other.incarnation && row.boot != other.boot;
                (is_run && is_later).then(|| Refusal::OldRun { at: place(row) })
            }
        }
    }

    /// Resolves when the view has changed since the last call; never again once its writer is gone.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(crate) async fn changed(&mut self) {
        if self.view.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

impl View {
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    pub(crate) fn name_of(&self, id: NodeId) -> Option<Name> {
        self.nodes.get(&id).map(|node| node.name.clone())
    }

    pub(crate) fn named(&self, name: &Name) -> Option<&Node> {
        self.nodes.values().find(|node| node.name == *name)
    }

    /// How agents of this name are placed.
    ///
    /// # Errors
    /// [`Error::UnknownAgent`] with the nearest names when no node hosts any.
    pub(crate) fn placement(&self, name: &Name) -> Result<Placement, Error> {
        let mut offers = self.live().filter_map(|node| node.offers.get(name));
        offers.next().map(|offer| offer.placement).ok_or_else(|| self.unknown(name))
    }

    /// All kinds that live nodes host.
    pub(crate) fn declared(&self) -> Vec<Declared> {
        let mut declared: BTreeMap<Name, BTreeMap<Name, Offer>> = BTreeMap::new();
        for node in self.live() {
            for (name, offer) in &node.offers {
                declared.entry(name.clone()).or_default().insert(node.name.clone(), offer.clone());
            }
        }
        declared.into_iter().map(|(name, nodes)| Declared { name, nodes }).collect()
    }

    fn unknown(&self, name: &Name) -> Error {
        let declared = self.declared();
        let near = nearest_few(name.as_str(), declared.iter().map(|declared| declared.name.as_str()));
        let nearest = near.into_iter().filter_map(|name| Name::new(name).ok()).collect();
        Error::UnknownAgent { name: name.clone(), nearest }
    }

    /// The runs that host agents whose names meet the pattern.
    pub(crate) fn hosts_of_any(&self, names: &Pattern) -> impl Iterator<Item = Holder> {
        self.live().filter(|node| node.offers.keys().any(|name| names.is_met_by(name))).map(Node::holder)
    }

    /// The connections along which signals go on that this agent handles on that node: those of the node's
    /// configuration, then those that were added.
    pub(crate) fn connections(&self, agent: &AgentId, node: NodeId) -> Vec<Connection> {
        let offer = self.nodes.get(&node).and_then(|node| node.offers.get(&agent.name));
        let declared = offer.into_iter().flat_map(|offer| &offer.connections);
        let first = (agent.namespace.clone(), agent.name.clone(), String::new());
        let added = self.connections.range(first..);
        let added = added.take_while(|((namespace, name, _), _)| (namespace, name) == (&agent.namespace, &agent.name));
        declared.chain(added.map(|(_, connection)| connection)).cloned().collect()
    }

    /// All connections that were added, each with the agent that it leads on from.
    pub(crate) fn added_connections(&self) -> impl Iterator<Item = (&Name, &Connection)> {
        self.connections.iter().map(|((_, from, _), connection)| (from, connection))
    }

    /// The runs that host agents of this name.
    pub(crate) fn hosts(&self, name: &Name) -> impl Iterator<Item = Holder> {
        self.live().filter(|node| node.offers.contains_key(name)).map(Node::holder)
    }

    /// Whether this run may act, as far as this node has heard. One that was given up stays so.
    pub(crate) fn is_live(&self, holder: Holder) -> bool {
        self.nodes.get(&holder.node).is_some_and(|node| node.is_live(holder.incarnation))
    }

    pub(crate) fn live(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().filter(|node| node.state == NodeState::Up)
    }
}

fn key(from: &Name, to: &Address) -> (Name, Name, String) {
    (to.agent.namespace.clone(), from.clone(), to.to_string())
}

/// Where a run is reached, in words.
pub(crate) fn place(node: &Node) -> String {
    match node.http_address.as_str() {
        "" => node.mesh_address.clone(),
        http => format!("{} (for clients {http})", node.mesh_address),
    }
}
