//! The map of a node's loops: every long-lived one that is not an agent's is started here and joined here.
//!
//! | loop | owns |
//! |---|---|
//! | listener | connections that come from other nodes |
//! | dials | whom this node dials |
//! | committer | batches on their way |
//! | feed | the order in which commits are told |
//! | scheduler | the leader's view of tasks and room |
//! | timers | when agents that belong here are told of timers that are due |
//! | gossip | who is there, as this node hears without a quorum, and how much it has to do |
//! | leases granted | the leader's view of who is alive |
//! | lease held | this run's lease |
//! | sign of life | that this node goes on, for consensus |
//! | leader teller | who led last |
//! | voters keeper | the leader's view of who should vote |
//! | log keeper | when the database is checkpointed |
//! | keeper | what is looked after from time to time |

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The loops of one node.
#[derive(Default)]
pub(crate) struct Loops {
    set: JoinSet<&'static str>,
    stop: CancellationToken,
}

impl Loops {
    /// Starts a loop. None may end before it is told to: the others cannot do without it.
    pub(crate) fn start(&mut self, name: &'static str, run: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.set.spawn(async move {
            tokio::select! {
                biased;
                () = run => {}
                // Nothing is lost by dropping one: what counts was committed, and whoever waits is told.
                () = stop.cancelled() => {}
            }
            name
        });
    }

    /// Resolves when a loop has ended although nobody told it to, with its name.
    ///
    /// # Panics
    /// When the loop did.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(crate) async fn ended(&mut self) -> &'static str {
        match self.set.join_next().await {
            Some(Ok(name)) => name,
            Some(Err(error)) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_cancelled) => "cancelled loop",
            },
            None => std::future::pending().await,
        }
    }

    /// Ends all loops and waits for them.
    pub(crate) async fn stop(&mut self) {
        self.stop.cancel();
        while let Some(ended) = self.set.join_next().await {
            if let Err(error) = ended
                && let Ok(panic) = error.try_into_panic()
            {
                std::panic::resume_unwind(panic);
            }
        }
    }
}
