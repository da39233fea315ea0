//! Which nodes there are and what they host, as this node last heard.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use pelago_core::{
    id::{Holder, Incarnation, Name, NodeId},
    link::{Hello, Refusal},
    nearest::nearest_few,
    pattern::Pattern,
    record::{Node, NodeState, Offer, Placement},
};
use tokio::sync::watch;

use crate::handle::{Declared, Error};

/// The nodes of the mesh, by id.
#[derive(Debug, Default, Clone)]
pub(crate) struct View {
    nodes: BTreeMap<NodeId, Node>,
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
    /// Begins anew with `nodes`.
    pub(crate) fn replace(&mut self, nodes: Vec<Node>) {
        let nodes = nodes.into_iter().map(|node| (node.id, node)).collect();
        self.view.send_replace(Arc::new(View { nodes }));
    }

    pub(crate) fn put(&mut self, node: Node) {
        self.change(|nodes| _ = nodes.insert(node.id, node));
    }

    pub(crate) fn remove(&mut self, id: NodeId) {
        self.change(|nodes| _ = nodes.remove(&id));
    }

    /// All that the log says up to this entry is in the view.
    pub(crate) fn seen(&mut self, index: u64) {
        self.seen.fetch_max(index, Ordering::Release);
    }

    fn change(&mut self, change: impl FnOnce(&mut BTreeMap<NodeId, Node>)) {
        self.view.send_modify(|view| {
            let mut next = View::clone(view);
            change(&mut next.nodes);
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
                declared.entry(name.clone()).or_default().insert(node.name.clone(), *offer);
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

/// Where a run is reached, in words.
pub(crate) fn place(node: &Node) -> String {
    match node.http_address.as_str() {
        "" => node.mesh_address.clone(),
        http => format!("{} (for clients {http})", node.mesh_address),
    }
}
