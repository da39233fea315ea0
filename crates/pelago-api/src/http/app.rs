//! What all resources share.

use std::{collections::BTreeMap, future::Future, sync::RwLock, time::Duration};

use pelago_core::id::{Name, NodeId};
use pelago_node::{Handle, handle::Error, metrics::Metrics};
use tokio_util::sync::CancellationToken;

/// The longest that a request may wait for something to happen.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(60);

/// The node, and what the API remembers of it.
pub(super) struct App {
    pub(super) handle: Handle,
    /// The node's counters, to add to: asking the handle for them reads their values.
    pub(super) counters: Metrics,
    /// Cancelled when the API takes no new requests.
    pub(super) stop: CancellationToken,
    /// Names of nodes by id. An id is never reused, so a name once read stays right.
    names: RwLock<BTreeMap<NodeId, Name>>,
}

impl App {
    pub(super) fn new(handle: Handle, stop: CancellationToken) -> Self {
        let counters = handle.metrics().clone();
        Self { handle, counters, stop, names: RwLock::default() }
    }

    /// Whether the node should be sent requests.
    pub(super) fn is_ready(&self) -> bool {
        self.handle.is_ready() && !self.stop.is_cancelled()
    }

    /// Whether the node, or only its API, is stopping.
    pub(super) fn is_stopping(&self) -> bool {
        self.handle.is_stopping() || self.stop.is_cancelled()
    }

    /// The name of the node `id`. Asks the node only about one it has not seen.
    pub(super) async fn name_of(&self, id: NodeId) -> Result<String, Error> {
        if let Some(name) = self.known(id) {
            return Ok(name);
        }
        let nodes = self.handle.status().await?.nodes;
        self.learn(nodes.into_iter().map(|node| (node.id, node.name)));
        Ok(self.known(id).unwrap_or_else(|| format!("#{id}")))
    }

    /// The answer of a `read` that may wait `wait`; as things stand once the API stops, so that nobody is cut off.
    pub(super) async fn watch<T, F>(&self, wait: Option<Duration>, read: impl Fn(Option<Duration>) -> F) -> T
    where
        F: Future<Output = T>,
    {
        let Some(wait) = wait else { return read(None).await };
        tokio::select! {
            biased;
            answer = read(Some(wait.min(WAIT_MAX))) => answer,
            () = self.stop.cancelled() => read(None).await,
        }
    }

    fn known(&self, id: NodeId) -> Option<String> {
        let names = self.names.read().expect("no holder of the lock panics");
        names.get(&id).map(Name::to_string)
    }

    fn learn(&self, nodes: impl Iterator<Item = (NodeId, Name)>) {
        self.names.write().expect("no holder of the lock panics").extend(nodes);
    }
}
