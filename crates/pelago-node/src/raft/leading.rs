//! Who leads, for the parts of a node that act only where it does.

use openraft::async_runtime::watch::WatchReceiver as _;
use pelago_store::ProposeError;

use super::{ANSWER_MAX, Consensus};

impl Consensus {
    /// Resolves once this node leads, or does not, as wanted.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(crate) async fn until_leading(&self, leads: bool) {
        // Not all of the metrics: those change with every commit.
        let mut metrics = self.raft.server_metrics();
        loop {
            if metrics.borrow_watched().state.is_leader() == leads {
                return;
            }
            if metrics.changed().await.is_err() {
                // Consensus has ended: nothing changes any more.
                return std::future::pending().await;
            }
        }
    }

    /// Waits, if this node leads, until it has applied all that was acknowledged before.
    ///
    /// # Errors
    /// As [`Self::read_index`].
    pub(crate) async fn catch_up(&self) -> Result<(), ProposeError> {
        let index = self.read_index().await?;
        if self.applied(index, ANSWER_MAX).await { Ok(()) } else { Err(ProposeError::Unknown) }
    }
}
