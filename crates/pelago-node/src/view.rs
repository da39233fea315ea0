//! Which nodes there are and what they host, as this node last heard.

use std::{collections::BTreeMap, sync::Arc};

use pelago_core::{
    id::{Name, NodeId},
    nearest::nearest_few,
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
pub(crate) struct Writer(watch::Sender<Arc<View>>);

/// Reads the view. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Reader(watch::Receiver<Arc<View>>);

/// A view that begins with `nodes`.
pub(crate) fn new(nodes: Vec<Node>) -> (Writer, Reader) {
    let nodes = nodes.into_iter().map(|node| (node.id, node)).collect();
    let (writer, reader) = watch::channel(Arc::new(View { nodes }));
    (Writer(writer), Reader(reader))
}

impl Writer {
    pub(crate) fn put(&mut self, node: Node) {
        self.0.send_modify(|view| {
            let mut next = View::clone(view);
            next.nodes.insert(node.id, node);
            *view = Arc::new(next);
        });
    }
}

impl Reader {
    pub(crate) fn get(&self) -> Arc<View> {
        Arc::clone(&self.0.borrow())
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

    fn live(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().filter(|node| node.state == NodeState::Up)
    }
}
