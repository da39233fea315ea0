//! What all resources share.

use std::{future::Future, time::Duration};

use pelago_core::id::NodeId;
use pelago_node::{Handle, metrics::Metrics};
use tokio_util::sync::CancellationToken;

use super::{Failure, query::Query};

/// The longest that a request may wait for something to happen.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(60);

/// The node, and what the API remembers of it.
pub(super) struct App {
    pub(super) handle: Handle,
    /// The node's counters, to add to: asking the handle for them reads their values.
    pub(super) counters: Metrics,
    /// Cancelled when the API takes no new requests.
    pub(super) stop: CancellationToken,
}

impl App {
    pub(super) fn new(handle: Handle, stop: CancellationToken) -> Self {
        let counters = handle.metrics().clone();
        Self { handle, counters, stop }
    }

    /// Whether the node should be sent requests.
    pub(super) fn is_ready(&self) -> bool {
        self.handle.is_ready() && !self.stop.is_cancelled()
    }

    /// Whether the node, or only its API, is stopping.
    pub(super) fn is_stopping(&self) -> bool {
        self.handle.is_stopping() || self.stop.is_cancelled()
    }

    /// The node as a request wants to read from it: `stale` asks for what it knows, without a majority.
    pub(super) fn reading(&self, query: &Query<'_>) -> Result<Handle, Failure> {
        Ok(if query.flag("stale")? { self.handle.stale() } else { self.handle.clone() })
    }

    /// The name of the node `id`, or the id of one that this node has not heard of yet.
    pub(super) fn name_of(&self, id: NodeId) -> String {
        self.handle.name_of(id).map_or_else(|| format!("#{id}"), |name| name.to_string())
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
}
