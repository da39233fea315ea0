//! What one loop asks, one request after the other.

use std::time::Duration;

use bytes::Bytes;
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
    /// What `echo` is asked, as a JSON string.
    payload: Bytes,
    /// The task that waits in the mesh.
    queued: Option<TaskId>,
    /// Enqueues of which nobody knows what became of them.
    doubtful: u64,
    /// Whether there was no majority the last time.
    no_quorum: bool,
}

/// What came of a request.
pub(super) enum Answer {
    Done {
        /// Of a broadcast: the nodes that gave no word.
        missed: Vec<String>,
    },
    /// The node had no room for it.
    Busy,
    /// The node that worked on it was lost.
    InDoubt,
}

impl<'r> Requests<'r> {
    pub(super) fn new(args: &'r BenchArgs, target: &'r Target, n: u32) -> Self {
        let payload = Bytes::from(format!("\"{}\"", "1".repeat(args.bytes.saturating_sub(2) as usize)));
        Self { args, target, n: n.into(), payload, queued: None, doubtful: 0, no_quorum: false }
    }

    /// Asks once, and waits for the answer.
    pub(super) async fn ask(&mut self) -> Result<Answer, Error> {
        let mut missed = Vec::new();
        let outcome = match self.args.what {
            What::Task => self.target.task().await,
            What::Ask => self.target.echo(&self.payload).await,
            What::Broadcast => self.target.broadcast(&self.payload).await.map(|nodes| missed = nodes),
            What::Tell | What::Fanout | What::Route => panic!("what is told or chosen has no answer"),
            What::Turn => self.turn().await,
            What::Propose => self.propose().await,
        };
        let no_quorum = std::mem::take(&mut self.no_quorum);
        match outcome {
            Ok(()) => Ok(Answer::Done { missed }),
            Err(Error::Problem(problem)) if problem.code() == Some(Code::Busy) => Ok(Answer::Busy),
            Err(Error::Problem(problem)) if problem.code() == Some(Code::InDoubt) => Ok(self.in_doubt()),
            // So a write ends that a lost leader may have appended. If the next one ends so too, nobody leads.
            Err(Error::Problem(problem))
                if self.args.what == What::Propose && problem.code() == Some(Code::NoQuorum) && !no_quorum =>
            {
                self.no_quorum = true;
                Ok(self.in_doubt())
            }
            Err(error) => Err(error),
        }
    }

    /// Cancels the task that is still queued. Says how many may be left.
    pub(super) async fn settle(mut self) -> u64 {
        let settled = async {
            while self.queued.is_some() {
                if self.propose().await.is_err() {
                    tokio::time::sleep(SETTLE_AGAIN).await;
                }
            }
        };
        let is_settled = timeout(SETTLE_MAX, settled).await.is_ok();
        self.doubtful + u64::from(!is_settled)
    }

    fn in_doubt(&mut self) -> Answer {
        let was_enqueue = self.args.what == What::Propose && self.queued.is_none();
        self.doubtful += u64::from(was_enqueue);
        Answer::InDoubt
    }

    async fn turn(&mut self) -> Result<(), Error> {
        let key = self.n % u64::from(self.args.keys);
        self.n += u64::from(self.args.in_flight());
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
