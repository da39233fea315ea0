//! What one loop asks, one request after the other.

use std::time::Duration;

use pelago_api::problem::Code;
use pelago_core::id::TaskId;
use tokio::time::timeout;

use super::{BenchArgs, Target, What};
use crate::output::Error;

/// How long a loop may take to leave nothing behind: longer than a mesh needs to find another leader.
const SETTLE_MAX: Duration = Duration::from_secs(10);
/// The pause before it tries again.
const SETTLE_AGAIN: Duration = Duration::from_millis(100);

/// The requests of one loop.
pub(super) struct Requests<'r> {
    args: &'r BenchArgs,
    target: &'r Target,
    /// The number of the agent that is asked next. Every loop has numbers of its own.
    n: u64,
    /// The task that waits in the mesh.
    queued: Option<TaskId>,
}

/// What came of a request.
pub(super) enum Answer {
    Done,
    /// The node had no room for it.
    Busy,
    /// The node that worked on it was lost.
    InDoubt,
}

impl<'r> Requests<'r> {
    pub(super) fn new(args: &'r BenchArgs, target: &'r Target, n: u32) -> Self {
        Self { args, target, n: n.into(), queued: None }
    }

    /// Asks once, and waits for the answer.
    pub(super) async fn ask(&mut self) -> Result<Answer, Error> {
        let outcome = match self.args.what {
            What::Task => self.target.task().await,
            What::Turn => self.turn().await,
            What::Propose => self.propose().await,
        };
        match outcome {
            Ok(()) => Ok(Answer::Done),
            Err(Error::Problem(problem)) if problem.code() == Some(Code::Busy) => Ok(Answer::Busy),
            // Without a majority for a moment, as while a leader is lost, a durable op is in doubt too.
            Err(Error::Problem(problem)) if matches!(problem.code(), Some(Code::InDoubt | Code::NoQuorum)) => {
                Ok(Answer::InDoubt)
            }
            Err(error) => Err(error),
        }
    }

    /// Cancels the task that is still queued. Says whether none is left.
    pub(super) async fn settle(mut self) -> bool {
        let settled = async {
            while self.queued.is_some() {
                if self.propose().await.is_err() {
                    tokio::time::sleep(SETTLE_AGAIN).await;
                }
            }
        };
        timeout(SETTLE_MAX, settled).await.is_ok()
    }

    async fn turn(&mut self) -> Result<(), Error> {
        let key = self.n % u64::from(self.args.keys);
        self.n += u64::from(self.args.in_flight);
        self.target.turn(key).await
    }

    /// Enqueues a task, or cancels the one that is queued. A cancel that failed is asked again the next time.
    async fn propose(&mut self) -> Result<(), Error> {
        match self.queued {
            Some(task) => {
                self.target.cancel(task).await?;
                self.queued = None;
            }
            None => self.queued = Some(self.target.enqueue(self.args.bytes).await?),
        }
        Ok(())
    }
}
