//! Who is there and what they host, as gossip has it: a hint beside what the log says (`view`), and all that a node
//! without a majority learns.

use std::{collections::BTreeMap, sync::Arc};

use pelago_core::{
    id::{Holder, Name, NodeId},
    membership::{self, Load, Record, State},
    pattern::Pattern,
    record::{self, Placement},
    time::Time,
};
use tokio::sync::watch;

/// A node as it is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// Its run.
    pub holder: Holder,
    /// Its name.
    pub name: Name,
    /// Where its links arrive.
    pub mesh_address: String,
    /// How it is seen.
    pub state: State,
    /// Since when, by this process's clock.
    pub since: Time,
    /// What it says that it is, once that was heard.
    pub record: Option<Record>,
    /// How much it says it has to do, once that was heard.
    pub load: Option<Load>,
}

/// All nodes that were heard of, by id.
#[derive(Debug, Default)]
pub(crate) struct Sights {
    nodes: BTreeMap<NodeId, Sight>,
}

/// Where the loop puts what it sees.
pub(crate) type Writer = watch::Sender<Arc<Sights>>;

/// Reads what gossip has. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Reader(watch::Receiver<Arc<Sights>>);

/// Nothing is seen yet.
pub(crate) fn sights() -> (Writer, Reader) {
    let (writer, reader) = watch::channel(Arc::default());
    (writer, Reader(reader))
}

impl Sight {
    fn of(node: &membership::Node<'_>) -> Self {
        let membership::Node { identity, state, since, record, load } = node;
        Self {
            holder: identity.holder,
            name: identity.name.clone(),
            mesh_address: identity.mesh_address.clone(),
            state: *state,
            since: *since,
            record: record.cloned(),
            load: load.copied(),
        }
    }

    /// How it places agents of this name, if it hosts any that live without the log.
    fn hosts(&self, name: &Name) -> Option<Placement> {
        let placement = self.record.as_ref()?.offers.get(name)?.placement;
        match placement {
            Placement::Resident | Placement::Pool => Some(placement),
            Placement::Keyed => None,
        }
    }
}

impl Sights {
    pub(crate) fn of<'a>(nodes: impl Iterator<Item = membership::Node<'a>>) -> Self {
        Self { nodes: nodes.map(|node| (node.identity.holder.node, Sight::of(&node))).collect() }
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Sight> {
        self.nodes.values()
    }

    pub(crate) fn get(&self, node: NodeId) -> Option<&Sight> {
        self.nodes.get(&node)
    }

    /// Those that may answer.
    fn there(&self) -> impl Iterator<Item = &Sight> {
        self.nodes().filter(|sight| sight.state.is_there())
    }

    /// The run of that name which may answer.
    pub(crate) fn run_of(&self, node: &Name) -> Option<Holder> {
        let runs = self.there().filter(|sight| sight.name == *node).map(|sight| sight.holder);
        runs.max_by_key(|holder| holder.incarnation)
    }

    /// The runs that host agents of this name without the log, and may answer.
    pub(crate) fn hosts(&self, name: &Name) -> impl Iterator<Item = Holder> {
        self.there().filter(|sight| sight.hosts(name).is_some()).map(|sight| sight.holder)
    }

    /// The runs that host agents whose names meet the pattern, and may answer.
    pub(crate) fn hosts_of_any(&self, names: &Pattern) -> impl Iterator<Item = Holder> {
        let hosts = |sight: &&Sight| {
            sight.record.iter().flat_map(|record| record.offers.keys()).any(|name| names.is_met_by(name))
        };
        self.there().filter(hosts).map(|sight| sight.holder)
    }

    /// How agents of this name are placed that live without the log.
    pub(crate) fn placement(&self, name: &Name) -> Option<Placement> {
        self.there().find_map(|sight| sight.hosts(name))
    }

    /// Where a node is now, if gossip has heard of a later run of it than the log.
    pub(crate) fn address(&self, row: &record::Node) -> Option<&str> {
        let later = self.get(row.id).filter(|sight| sight.holder.incarnation > row.incarnation);
        later.map(|sight| sight.mesh_address.as_str())
    }
}

impl Reader {
    pub(crate) fn get(&self) -> Arc<Sights> {
        Arc::clone(&self.0.borrow())
    }

    /// Whether it is worth asking a node: `false` only if it is down or has left, as far as this one has heard.
    pub(crate) fn is_reachable(&self, node: NodeId) -> bool {
        self.0.borrow().get(node).is_none_or(|sight| sight.state.is_there())
    }

    /// Resolves when anything has changed since the last call; never again once nobody writes any more.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(crate) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await
        }
    }
}
