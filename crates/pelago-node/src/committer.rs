//! Gathers ops into batches: those of this node, and, while it leads, those of all others.
//!
//! At the leader a batch is what gathered while one is in flight; there is no timer. A lone op leaves at once, and under
//! load batches grow by themselves (group commit). One that is large by then does not wait: a second is in flight beside
//! the first, so that the disk and the network have something to do (as Nagle's rule has it for segments). What other
//! nodes propose here joins what this one does. All for entries of many items: what one costs each voter hardly depends
//! on how many.
//!
//! A node that does not lead passes on what it has, since its ops wait at the leader anyway.

use std::sync::Arc;

use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use pelago_core::record::{Append, Finish, MessageBody, NewTask, Op, Outcome, Verdict};
use pelago_store::{Propose, ProposeError};
use tokio::sync::{mpsc, oneshot};

use crate::metrics::Metrics;

/// The most items of one batch.
const ITEMS_MAX: usize = 1_024;
/// The size at which a batch is closed, in bytes of payload.
const BATCH_BYTES: usize = 512 << 10;
/// Batches on their way at a time: one being flushed, one being gathered by the log.
const IN_FLIGHT_MAX: usize = 2;
/// Batches on their way to the leader at a time. Further ones gather here.
const FORWARDED_MAX: usize = 8;
/// The items with which a batch leaves while another is in flight …
const ITEMS_LARGE: usize = 128;
/// … or the bytes.
const BYTES_LARGE: usize = 64 << 10;
/// Ops that wait for a batch; whoever proposes more waits. Four full batches.
const WAITING_MAX: usize = 4 * ITEMS_MAX;

/// The log, as this node takes part in it.
pub(crate) trait Here: Propose {
    /// Whether this node leads, as far as it knows.
    fn leads(&self) -> bool;

    /// Proposes a batch with ops of other nodes, which read there what was written.
    fn propose_with_others(&self, batch: &[Op]) -> impl Future<Output = Result<Vec<Outcome>, ProposeError>> + Send;

    /// Hears whether ops wait for the batch in flight: an entry will follow it at once.
    fn expect_more(&self, more: bool);
}

/// Proposes ops. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Handle(mpsc::Sender<Waiting>);

/// Ops that go into the same batch, and who waits for their outcomes.
struct Waiting {
    ops: Ops,
    /// About how many bytes of an entry they take.
    bytes: usize,
    answer: Answer,
}

enum Ops {
    /// Boxed: on its way into a batch it is moved several times, and a future is as large as what it holds.
    One(Box<Op>),
    Batch(Vec<Op>),
}

enum Answer {
    /// This node's: the op goes to whoever leads.
    Own(oneshot::Sender<Result<Outcome, ProposeError>>),
    /// Another node's, which believes that this one leads.
    Other(oneshot::Sender<Result<Vec<Outcome>, ProposeError>>),
}

impl Handle {
    /// Proposes `op` and waits for its outcome.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the op in doubt.
    pub(crate) fn propose(&self, op: Op) -> impl Future<Output = Result<Outcome, ProposeError>> + Send {
        let op = Ops::One(Box::new(op));
        async move {
            let (answer, outcome) = oneshot::channel();
            self.wait(op, Answer::Own(answer)).await?;
            outcome.await.map_err(|_| ProposeError::Stopped)?
        }
    }

    /// Proposes a batch of another node, if this one leads.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the batch in doubt.
    pub(crate) async fn propose_for_other(&self, batch: Vec<Op>) -> Result<Vec<Outcome>, ProposeError> {
        let (answer, outcomes) = oneshot::channel();
        self.wait(Ops::Batch(batch), Answer::Other(answer)).await?;
        outcomes.await.map_err(|_| ProposeError::Stopped)?
    }

    async fn wait(&self, ops: Ops, answer: Answer) -> Result<(), ProposeError> {
        self.0.send(Waiting::new(ops, answer)).await.map_err(|_| ProposeError::Stopped)
    }
}

/// The loop that fills and proposes batches. Ends when every handle is gone.
pub(crate) struct Committer<H, M> {
    /// Where only a leader proposes.
    here: Arc<H>,
    /// Wherever the mesh is led.
    mesh: Arc<M>,
    waiting: mpsc::Receiver<Waiting>,
    metrics: Arc<Metrics>,
}

impl<H: Here, M: Propose> Committer<H, M> {
    pub(crate) fn new(here: Arc<H>, mesh: Arc<M>, metrics: Arc<Metrics>) -> (Self, Handle) {
        let (sender, waiting) = mpsc::channel(WAITING_MAX);
        (Self { here, mesh, waiting, metrics }, Handle(sender))
    }

    pub(crate) async fn run(mut self) {
        let mut in_flight: FuturesUnordered<BoxFuture<'static, ()>> = FuturesUnordered::new();
        let mut waiting: Vec<Waiting> = Vec::new();
        let mut open = true;
        while open || !waiting.is_empty() || !in_flight.is_empty() {
            let leads = self.here.leads();
            let in_flight_max = if leads { IN_FLIGHT_MAX } else { FORWARDED_MAX };
            while in_flight.len() < in_flight_max
                && let Some(batch) = cut(&mut waiting, leads && !in_flight.is_empty())
            {
                in_flight.push(self.send(batch));
            }
            self.here.expect_more(!waiting.is_empty());
            tokio::select! {
                biased;
                Some(()) = in_flight.next() => {}
                received = self.waiting.recv_many(&mut waiting, ITEMS_MAX), if open && waiting.len() < ITEMS_MAX => {
                    open = received > 0;
                    if in_flight.len() < in_flight_max {
                        // Whoever is about to propose something has its turn first.
                        tokio::task::yield_now().await;
                        while waiting.len() < ITEMS_MAX && let Ok(next) = self.waiting.try_recv() {
                            waiting.push(next);
                        }
                    }
                }
            }
        }
    }

    fn send(&self, batch: Vec<Waiting>) -> BoxFuture<'static, ()> {
        let (here, mesh) = (Arc::clone(&self.here), Arc::clone(&self.mesh));
        let (mut own, mut others) = (Batch::default(), Batch::default());
        for Waiting { ops, answer, .. } in batch {
            match answer {
                Answer::Own(_) => own.push(ops, answer),
                Answer::Other(_) => others.push(ops, answer),
            }
        }
        self.metrics.batch(own.ops.len() + others.ops.len());
        Box::pin(async move {
            if others.ops.is_empty() {
                return own.propose(&*mesh).await;
            }
            let n = own.ops.len();
            own.ops.append(&mut others.ops);
            match here.propose_with_others(&own.ops).await {
                // The others look for the leader themselves.
                Err(error @ (ProposeError::NotLeader | ProposeError::Unknown)) => {
                    own.ops.truncate(n);
                    if error == ProposeError::Unknown {
                        own = own.without_doubtful();
                    }
                    others.answer(Err(error));
                    own.propose(&*mesh).await;
                }
                outcomes => {
                    own.answers.append(&mut others.answers);
                    own.answer(outcomes);
                }
            }
        })
    }
}

/// Ops of one batch, and who waits for how many of them, in order.
#[derive(Default)]
struct Batch {
    ops: Vec<Op>,
    answers: Vec<(usize, Answer)>,
}

impl Batch {
    fn push(&mut self, ops: Ops, answer: Answer) {
        let before = self.ops.len();
        match ops {
            Ops::One(op) => self.ops.push(*op),
            Ops::Batch(mut batch) => self.ops.append(&mut batch),
        }
        self.answers.push((self.ops.len() - before, answer));
    }

    async fn propose(mut self, proposer: &impl Propose) {
        if self.ops.is_empty() {
            return;
        }
        let mut outcomes = proposer.propose(&self.ops).await;
        if outcomes == Err(ProposeError::Unknown) && !self.ops.iter().all(Op::is_recognised) {
            self = self.without_doubtful();
            outcomes = if self.ops.is_empty() { Ok(Vec::new()) } else { proposer.propose(&self.ops).await };
        }
        self.answer(outcomes);
    }

    /// Of a batch in doubt, the own ops that may be proposed again. Who waits for another, whose effect could come
    /// twice, is told that it is in doubt.
    fn without_doubtful(self) -> Self {
        let (mut again, mut doubtful) = (Self::default(), Self::default());
        for (op, (_, answer)) in self.ops.into_iter().zip(self.answers) {
            let batch = if op.is_recognised() { &mut again } else { &mut doubtful };
            batch.push(Ops::One(Box::new(op)), answer);
        }
        doubtful.answer(Err(ProposeError::Unknown));
        again
    }

    /// Whoever waited may have gone; the ops count all the same.
    fn answer(self, outcomes: Result<Vec<Outcome>, ProposeError>) {
        let mut outcomes = match outcomes {
            Ok(outcomes) => {
                assert_eq!(outcomes.len(), self.ops.len(), "every item of a batch has one outcome");
                Ok(outcomes.into_iter())
            }
            Err(error) => Err(error),
        };
        for (n, answer) in self.answers {
            let part = outcomes.as_mut().map(|outcomes| outcomes.take(n).collect::<Vec<_>>()).map_err(|e| e.clone());
            match answer {
                Answer::Own(one) => {
                    let one_outcome = part.map(|mut part| part.pop().expect("an own op is one item"));
                    let _gone = one.send(one_outcome);
                }
                Answer::Other(batch) => {
                    let _gone = batch.send(part);
                }
            }
        }
    }
}

/// Takes the next batch off the front of `waiting`. Beside another that is in flight, only one that is large or can grow
/// no more.
fn cut(waiting: &mut Vec<Waiting>, is_beside: bool) -> Option<Vec<Waiting>> {
    let first = waiting.first()?;
    // A registration stands alone in its entry, whose index becomes an id.
    if first.is_alone() {
        return Some(waiting.drain(..1).collect());
    }
    let (mut n, mut items, mut bytes) = (0, 0, 0);
    for next in waiting.iter() {
        let (with_next, bytes_with_next) = (items + next.ops.all().len(), bytes + next.bytes);
        if n > 0 && (next.is_alone() || with_next > ITEMS_MAX || bytes_with_next > BATCH_BYTES) {
            break;
        }
        (n, items, bytes) = (n + 1, with_next, bytes_with_next);
    }
    let leaves = !is_beside || n < waiting.len() || items >= ITEMS_LARGE || bytes >= BYTES_LARGE;
    leaves.then(|| waiting.drain(..n).collect())
}

impl Waiting {
    fn new(ops: Ops, answer: Answer) -> Self {
        let bytes = ops.all().iter().map(weight).sum();
        Self { ops, bytes, answer }
    }

    fn is_alone(&self) -> bool {
        matches!(self.ops.all(), [Op::Register(_), ..])
    }
}

impl Ops {
    fn all(&self) -> &[Op] {
        match self {
            Self::One(op) => std::slice::from_ref(op),
            Self::Batch(ops) => ops,
        }
    }
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
            Verdict::Returned(_) => 0,
        };
        HEADER + verdict + sends(&finish.sends) + tasks(&finish.enqueues)
    };
    let append = |append: &Append| {
        let entry = append.said.len() + append.replied.len();
        HEADER + entry + sends(&append.sends) + tasks(&append.enqueues)
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
                let appends: usize = turn.appends.iter().map(append).sum();
                let done = consumed + buried + replies + finishes + appends;
                state + done + sends(&turn.sends) + tasks(&turn.enqueues) + timers
            }
            Op::Send(send) => send.body.payload.len(),
            Op::Enqueue(enqueue) => enqueue.task.input.len(),
            Op::Finish(ended) => finish(ended),
            Op::Append(appended) => append(appended),
            Op::Progress(progress) => progress.notes.iter().map(bytes::Bytes::len).sum(),
            Op::Cancel(cancel) => cancel.reason.len(),
            Op::Register(_)
            | Op::Expire(_)
            | Op::Remove(_)
            | Op::Claim(_)
            | Op::Release(_)
            | Op::Assign(_)
            | Op::Retry(_)
            | Op::TimeOut(_)
            | Op::Sweep(_)
            | Op::Dismiss(_)
            | Op::Connect(_)
            | Op::EndSession(_) => 0,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelago_core::{
        id::{BootId, DirectoryId, Name, TaskId},
        record::{Register, Retry, Sweep},
        time::LogTime,
    };
    use std::sync::Mutex;

    /// Answers when told to, and remembers what it was given.
    struct Gate {
        leads: bool,
        batches: Mutex<Vec<usize>>,
        open: tokio::sync::Semaphore,
    }

    impl Propose for Gate {
        async fn propose(&self, batch: &[Op]) -> Result<Vec<Outcome>, ProposeError> {
            self.batches.lock().expect("no test panics while it holds the lock").push(batch.len());
            self.open.acquire().await.expect("the semaphore stays open").forget();
            Ok(vec![Outcome::Committed; batch.len()])
        }
    }

    impl Here for Gate {
        fn leads(&self) -> bool {
            self.leads
        }

        async fn propose_with_others(&self, batch: &[Op]) -> Result<Vec<Outcome>, ProposeError> {
            self.propose(batch).await
        }

        fn expect_more(&self, _more: bool) {}
    }

    /// Proposes so many ops, one after the other, while nothing is answered. Returns the batches that left by then, and
    /// all of them.
    async fn batches(leads: bool, ops: usize) -> (Vec<usize>, Vec<usize>) {
        let gate = Arc::new(Gate { leads, batches: Mutex::default(), open: tokio::sync::Semaphore::new(0) });
        let left = || gate.batches.lock().expect("not poisoned").clone();
        let (committer, handle) = Committer::new(Arc::clone(&gate), Arc::clone(&gate), Arc::new(Metrics::default()));
        let running = tokio::spawn(committer.run());
        let mut proposals = FuturesUnordered::new();
        for n in 0..ops {
            let handle = handle.clone();
            proposals.push(tokio::spawn(async move { handle.propose(retry(n as u128)).await }));
            // Until it is proposed, and the committer has looked around for more.
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
        }
        let unanswered = left();
        gate.open.add_permits(ops);
        drop(handle);
        while let Some(outcome) = proposals.next().await {
            assert_eq!(outcome.expect("does not panic"), Ok(Outcome::Committed));
        }
        running.await.expect("the committer ends when its handles are gone");
        (unanswered, left())
    }

    #[tokio::test]
    async fn a_batch_is_what_gathered_while_one_is_in_flight() {
        let (unanswered, all) = batches(true, 100).await;
        assert_eq!(unanswered, all[..1], "the others wait for the first");
        assert_eq!(all.iter().sum::<usize>(), 100);
        assert_eq!(all.len(), 2, "{all:?}");
    }

    #[tokio::test]
    async fn a_large_batch_leaves_beside_another_and_a_third_does_not() {
        let (unanswered, all) = batches(true, 3 * ITEMS_LARGE).await;
        assert_eq!(unanswered.len(), IN_FLIGHT_MAX, "{unanswered:?}");
        assert_eq!(unanswered[1], ITEMS_LARGE);
        assert_eq!(all.iter().sum::<usize>(), 3 * ITEMS_LARGE);
    }

    #[tokio::test]
    async fn who_does_not_lead_passes_on_what_it_has() {
        let (unanswered, all) = batches(false, 100).await;
        assert_eq!(unanswered, [1; FORWARDED_MAX], "nothing waits for the first");
        assert_eq!(all.len(), FORWARDED_MAX + 1, "the rest gathers: {all:?}");
    }

    #[test]
    fn a_batch_of_many_bytes_leaves_beside_another() {
        let of = |bytes| Waiting { bytes, ..own(retry(1)) };
        assert!(cut(&mut vec![of(1), of(BYTES_LARGE - 2)], true).is_none());
        assert!(cut(&mut vec![of(1), of(BYTES_LARGE - 1)], true).is_some());
    }

    /// Leads, or does not.
    struct Leads(bool);

    impl Propose for Leads {
        async fn propose(&self, batch: &[Op]) -> Result<Vec<Outcome>, ProposeError> {
            if self.0 { Ok(vec![Outcome::Committed; batch.len()]) } else { Err(ProposeError::NotLeader) }
        }
    }

    impl Here for Leads {
        fn leads(&self) -> bool {
            self.0
        }

        async fn propose_with_others(&self, batch: &[Op]) -> Result<Vec<Outcome>, ProposeError> {
            self.propose(batch).await
        }

        fn expect_more(&self, _more: bool) {}
    }

    fn retry(n: u128) -> Op {
        Op::Retry(Retry { task: TaskId(n) })
    }

    fn own(op: Op) -> Waiting {
        Waiting::new(Ops::One(Box::new(op)), Answer::Own(oneshot::channel().0))
    }

    /// Proposes one own op and a batch of two of another node. Returns what each gets, and how many batches there were.
    async fn mixed(leads: bool) -> (Result<Outcome, ProposeError>, Result<Vec<Outcome>, ProposeError>, u64) {
        let metrics = Arc::new(Metrics::default());
        let (committer, handle) = Committer::new(Arc::new(Leads(leads)), Arc::new(Leads(true)), Arc::clone(&metrics));
        let other = handle.clone();
        // Both wait when the committer begins.
        let own = tokio::spawn(async move { handle.propose(retry(1)).await });
        let other = tokio::spawn(async move { other.propose_for_other(vec![retry(2), retry(3)]).await });
        tokio::task::yield_now().await;
        committer.run().await;
        (own.await.expect("does not panic"), other.await.expect("does not panic"), metrics.batches.get())
    }

    #[tokio::test]
    async fn what_another_node_proposes_joins_what_this_one_does() {
        assert_eq!(mixed(true).await, (Ok(Outcome::Committed), Ok(vec![Outcome::Committed; 2]), 1));
    }

    #[test]
    fn a_registration_stands_alone_whoever_it_is_from() {
        let register = Op::Register(Register {
            name: Name::new("n1").expect("valid"),
            directory: DirectoryId(1),
            boot: BootId(1),
            mesh_address: String::new(),
            http_address: String::new(),
            labels: Default::default(),
            offers: Default::default(),
            node: None,
            left: None,
        });
        let other = |op| Waiting::new(Ops::Batch(vec![op]), Answer::Other(oneshot::channel().0));
        let mut waiting =
            vec![own(retry(1)), other(register.clone()), own(retry(2)), other(retry(3)), own(register), own(retry(4))];
        let mut batches = Vec::new();
        while let Some(batch) = cut(&mut waiting, false) {
            batches.push(batch.iter().map(|waiting| waiting.ops.all().len()).sum::<usize>());
        }
        assert_eq!(batches, [1, 1, 2, 1, 1]);
    }

    #[tokio::test]
    async fn what_another_node_proposes_is_not_forwarded_again() {
        assert_eq!(mixed(false).await, (Ok(Outcome::Committed), Err(ProposeError::NotLeader), 1));
    }

    /// Loses what may not be proposed again.
    struct Loses;

    impl Propose for Loses {
        async fn propose(&self, batch: &[Op]) -> Result<Vec<Outcome>, ProposeError> {
            let is_lost = !batch.iter().all(Op::is_recognised);
            if is_lost { Err(ProposeError::Unknown) } else { Ok(vec![Outcome::Committed; batch.len()]) }
        }
    }

    impl Here for Loses {
        fn leads(&self) -> bool {
            true
        }

        async fn propose_with_others(&self, batch: &[Op]) -> Result<Vec<Outcome>, ProposeError> {
            self.propose(batch).await
        }

        fn expect_more(&self, _more: bool) {}
    }

    #[tokio::test]
    async fn an_op_that_may_not_be_repeated_keeps_no_other_in_doubt() {
        let (committer, handle) = Committer::new(Arc::new(Loses), Arc::new(Loses), Arc::new(Metrics::default()));
        let sweep = Op::Sweep(Sweep { ended_before: LogTime::ZERO, keyed_ended_before: LogTime::ZERO, rows_max: 1 });
        let (one, another) = (handle.clone(), handle);
        // Both wait when the committer begins.
        let may = tokio::spawn(async move { one.propose(sweep).await });
        let may_not = tokio::spawn(async move { another.propose(retry(1)).await });
        tokio::task::yield_now().await;
        committer.run().await;
        assert_eq!(may.await.expect("does not panic"), Ok(Outcome::Committed));
        assert_eq!(may_not.await.expect("does not panic"), Err(ProposeError::Unknown));
    }
}
