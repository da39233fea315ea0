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
    /// A word that no other run has.
    run: &'r str,
    /// The number of the agent that is asked next, or of the task that is enqueued or cancelled next. Every loop has
    /// numbers of its own.
    n: u64,
    queued: Queued,
}

/// What came of a request.
pub(super) enum Answer {
    Done,
    /// The node had no room for it.
    Busy,
    /// The node that worked on it was lost.
    InDoubt,
}

/// Whether the task with the present number waits in the mesh.
enum Queued {
    No,
    /// It may: nobody said what became of its enqueue.
    InDoubt,
    Yes(TaskId),
}

impl<'r> Requests<'r> {
    pub(super) fn new(args: &'r BenchArgs, target: &'r Target, run: &'r str, n: u32) -> Self {
        Self { args, target, run, n: n.into(), queued: Queued::No }
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
            Err(Error::Problem(problem)) if problem.code() == Some(Code::InDoubt) => Ok(Answer::InDoubt),
            Err(error) => Err(error),
        }
    }

    /// Cancels the task that may still be queued. Says whether it is certain that none is.
    pub(super) async fn settle(mut self) -> bool {
        let settled = async {
            while !matches!(self.queued, Queued::No) {
                if self.propose().await.is_err() {
                    tokio::time::sleep(SETTLE_AGAIN).await;
                }
            }
        };
        timeout(SETTLE_MAX, settled).await.is_ok()
    }

    async fn turn(&mut self) -> Result<(), Error> {
        let key = self.n % u64::from(self.args.keys);
        self.next();
        self.target.turn(key).await
    }

    /// Enqueues a task, or cancels the one that is queued. What failed is asked again the next time: both count once,
    /// the enqueue by its key.
    async fn propose(&mut self) -> Result<(), Error> {
        if let Queued::Yes(task) = self.queued {
            self.target.cancel(task).await?;
            self.queued = Queued::No;
            self.next();
            return Ok(());
        }
        match self.target.enqueue(self.args.bytes, format!("bench-{}-{}", self.run, self.n)).await {
            Ok(task) => self.queued = Queued::Yes(task),
            Err(error) => {
                if !is_refusal(&error) {
                    self.queued = Queued::InDoubt;
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn next(&mut self) {
        self.n += u64::from(self.args.in_flight);
    }
}

/// Whether nothing was done.
fn is_refusal(error: &Error) -> bool {
    matches!(error, Error::Problem(problem) if problem.status < 500)
}
