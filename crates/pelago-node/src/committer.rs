//! Gathers the ops of a whole node into batches.
//!
//! A batch is what gathered while two are in flight; there is no timer. A lone op leaves at once, and under load
//! batches grow by themselves (group commit).

use std::sync::Arc;

use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use pelago_core::record::{Finish, MessageBody, NewTask, Op, Outcome, Verdict};
use pelago_store::{Propose, ProposeError};
use tokio::sync::{mpsc, oneshot};

use crate::metrics::Metrics;

/// The most items of one batch.
const ITEMS_MAX: usize = 1_024;
/// The size at which a batch is closed, in bytes of payload.
const BATCH_BYTES: usize = 512 << 10;
/// Batches on their way at a time: one being flushed, one being gathered by the log.
const IN_FLIGHT_MAX: usize = 2;
/// Ops that wait for a batch; whoever proposes more waits. Four full batches.
const WAITING_MAX: usize = 4 * ITEMS_MAX;

/// Proposes ops. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Handle(mpsc::Sender<Item>);

struct Item {
    op: Op,
    answer: oneshot::Sender<Result<Outcome, ProposeError>>,
}

impl Handle {
    /// Proposes `op` and waits for its outcome.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the op in doubt.
    pub(crate) async fn propose(&self, op: Op) -> Result<Outcome, ProposeError> {
        let (answer, outcome) = oneshot::channel();
        self.0.send(Item { op, answer }).await.map_err(|_| ProposeError::Stopped)?;
        outcome.await.map_err(|_| ProposeError::Stopped)?
    }
}

/// The loop that fills and proposes batches. Ends when every handle is gone.
pub(crate) struct Committer<P> {
    proposer: Arc<P>,
    items: mpsc::Receiver<Item>,
    metrics: Arc<Metrics>,
}

impl<P: Propose> Committer<P> {
    pub(crate) fn new(proposer: Arc<P>, metrics: Arc<Metrics>) -> (Self, Handle) {
        let (sender, items) = mpsc::channel(WAITING_MAX);
        (Self { proposer, items, metrics }, Handle(sender))
    }

    pub(crate) async fn run(mut self) {
        let mut in_flight: FuturesUnordered<BoxFuture<'static, ()>> = FuturesUnordered::new();
        let mut waiting: Vec<Item> = Vec::new();
        let mut open = true;
        while open || !waiting.is_empty() || !in_flight.is_empty() {
            while in_flight.len() < IN_FLIGHT_MAX && !waiting.is_empty() {
                in_flight.push(self.send(cut(&mut waiting)));
            }
            tokio::select! {
                biased;
                Some(()) = in_flight.next() => {}
                received = self.items.recv_many(&mut waiting, ITEMS_MAX), if open && waiting.len() < ITEMS_MAX => {
                    open = received > 0;
                }
            }
        }
    }

    fn send(&self, batch: Vec<Item>) -> BoxFuture<'static, ()> {
        self.metrics.batch(batch.len());
        let proposer = Arc::clone(&self.proposer);
        let (ops, answers): (Vec<_>, Vec<_>) = batch.into_iter().map(|item| (item.op, item.answer)).unzip();
        Box::pin(async move {
            let outcomes = match proposer.propose(ops).await {
                Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error); answers.len()],
            };
            assert_eq!(outcomes.len(), answers.len(), "every item of a batch has one outcome");
            for (answer, outcome) in answers.into_iter().zip(outcomes) {
                // Whoever waited may have gone; the op counts all the same.
                let _gone = answer.send(outcome);
            }
        })
    }
}

/// Takes the next batch off the front of `waiting`.
fn cut(waiting: &mut Vec<Item>) -> Vec<Item> {
    let mut bytes = 0;
    let fits = |(n, item): &(usize, &Item)| {
        // A registration must begin its entry, since the entry's index becomes an id.
        let begins = matches!(item.op, Op::Register(_)) && *n > 0;
        bytes += weight(&item.op);
        *n == 0 || (!begins && *n < ITEMS_MAX && bytes <= BATCH_BYTES)
    };
    let n = waiting.iter().enumerate().take_while(fits).count();
    waiting.drain(..n).collect()
}

/// About how many bytes of an entry an op takes. An entry has to fit into a frame of twice [`BATCH_BYTES`].
fn weight(op: &Op) -> usize {
    /// Ids, names, numbers and what is around them.
    const HEADER: usize = 256;
    let sends = |sends: &[MessageBody]| sends.iter().map(|send| HEADER + send.payload.len()).sum::<usize>();
    let tasks = |tasks: &[NewTask]| tasks.iter().map(|task| HEADER + task.input.len()).sum::<usize>();
    let finish = |finish: &Finish| {
        let verdict = match &finish.verdict {
            Verdict::Done(result) => result.len(),
            Verdict::Failed { reason, .. } | Verdict::Hopeless { reason } => reason.len(),
            Verdict::Returned => 0,
        };
        HEADER + verdict + sends(&finish.sends) + tasks(&finish.enqueues)
    };
    HEADER
        + match op {
            Op::Turn(turn) => {
                let buried: usize = turn.buried.iter().map(|(_, reason)| HEADER + reason.len()).sum();
                let replies: usize = turn.replies.iter().map(|reply| HEADER + reply.reply.len()).sum();
                let finishes: usize = turn.finishes.iter().map(finish).sum();
                let state = turn.state.as_ref().map_or(0, bytes::Bytes::len);
                let consumed = turn.consumed.len() * HEADER;
                let set = turn.timers.iter().map(|timer| timer.set.as_ref().map_or(0, |set| set.payload.len()));
                let timers: usize = set.map(|payload| HEADER + payload).sum();
                state + consumed + buried + replies + finishes + sends(&turn.sends) + tasks(&turn.enqueues) + timers
            }
            Op::Send(send) => send.body.payload.len(),
            Op::Enqueue(enqueue) => enqueue.task.input.len(),
            Op::Finish(ended) => finish(ended),
            Op::Progress(progress) => progress.notes.iter().map(bytes::Bytes::len).sum(),
            Op::Cancel(cancel) => cancel.reason.len(),
            Op::Register(_)
            | Op::Expire(_)
            | Op::Claim(_)
            | Op::Release(_)
            | Op::Assign(_)
            | Op::Retry(_)
            | Op::TimeOut(_)
            | Op::Sweep(_) => 0,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelago_core::{id::TaskId, record::Retry};
    use std::sync::Mutex;

    /// Answers when told to, and remembers what it was given.
    struct Gate {
        batches: Mutex<Vec<usize>>,
        open: tokio::sync::Semaphore,
    }

    impl Propose for Gate {
        async fn propose(&self, batch: Vec<Op>) -> Result<Vec<Outcome>, ProposeError> {
            self.batches.lock().expect("no test panics while it holds the lock").push(batch.len());
            self.open.acquire().await.expect("the semaphore stays open").forget();
            Ok(vec![Outcome::Committed; batch.len()])
        }
    }

    #[tokio::test]
    async fn a_batch_is_what_gathered_while_two_are_in_flight() {
        let gate = Arc::new(Gate { batches: Mutex::default(), open: tokio::sync::Semaphore::new(0) });
        let (committer, handle) = Committer::new(Arc::clone(&gate), Arc::new(Metrics::default()));
        let running = tokio::spawn(committer.run());
        let mut proposals = FuturesUnordered::new();
        for n in 0..100 {
            let handle = handle.clone();
            proposals.push(tokio::spawn(async move { handle.propose(Op::Retry(Retry { task: TaskId(n) })).await }));
            tokio::task::yield_now().await;
        }
        while gate.batches.lock().expect("not poisoned").len() < 2 {
            tokio::task::yield_now().await;
        }
        gate.open.add_permits(100);
        drop(handle);
        while let Some(outcome) = proposals.next().await {
            assert_eq!(outcome.expect("does not panic"), Ok(Outcome::Committed));
        }
        running.await.expect("the committer ends when its handles are gone");
        let batches = gate.batches.lock().expect("not poisoned").clone();
        assert_eq!(batches.iter().sum::<usize>(), 100);
        assert!(batches.len() <= 4, "gathered into few batches: {batches:?}");
    }
}
