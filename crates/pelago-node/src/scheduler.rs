//! The loop around `core::task`: the leader's scheduler.
//!
//! Every node runs the loop, and it schedules while its node leads: it begins with the rows, and forgets all when
//! another leads. Enqueues come through here so that a task can be assigned in the commit that creates it. All else the
//! scheduler learns from committed rows; an assignment that the store refused is looked up and told to it again.

use std::{
    collections::BTreeMap,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use pelago_core::{
    id::{AgentId, FencingToken, Holder, Name, NodeId, SessionId, TaskId},
    record::{
        Assign, Cancel, Enqueue, NewTask, Node, NodeState, Offer, Op, Outcome, PartOf, Phase, Placement, Refusal, Task,
        TaskState, TimeOut,
    },
    task::{Config, Effect, Input, Scheduler, Stick, Waiting},
    time::LogTime,
};
use pelago_store::{ProposeError, sqlite::Reader};
use tokio::sync::{mpsc, oneshot};

use crate::{committer, handle::Error, ids, raft::Consensus, view};

/// Requests that wait for the scheduler; whoever asks more waits.
const REQUESTS_MAX: usize = 1_024;
/// Committed batches whose rows wait to be told; the feed waits when they do.
const TOLD_MAX: usize = 64;
/// The pause before an assignment is proposed again after the control log did not answer.
const PROPOSE_AGAIN: Duration = Duration::from_millis(200);
/// The longest sleep when nothing is due.
const IDLE_MAX: Duration = Duration::from_mins(1);
/// How much longer than its limit an attempt may take before the leader ends it: its own node does so first.
const GRACE_MS: u64 = 2_000;

/// Reaches the scheduler. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Handle {
    requests: mpsc::Sender<Request>,
    told: mpsc::Sender<Vec<Row>>,
}

struct Request {
    task: Box<NewTask>,
    answer: oneshot::Sender<Result<Outcome, Error>>,
}

/// What a scheduler has to know of what was committed.
pub(crate) enum Row {
    Task(Arc<Task>),
    NodeUp(Holder, BTreeMap<Name, Offer>),
    NodeGone(Holder),
    NodeRemoved(NodeId),
}

pub(crate) struct Loop {
    core: Scheduler,
    requests: mpsc::Receiver<Request>,
    told: mpsc::Receiver<Vec<Row>>,
    committer: committer::Handle,
    consensus: Arc<Consensus>,
    reader: Arc<Reader>,
    view: view::Reader,
    config: Config,
    /// Whether this node leads, and `core` is filled.
    leads: bool,
    pending: FuturesUnordered<BoxFuture<'static, Decided>>,
    effects: Vec<Effect>,
}

/// The end of a proposal, or of a look at a row.
enum Decided {
    /// Who holds the keyed agent of a task that waits.
    Held(Box<Waiting>),
    /// Who holds the keyed agent of a task that is to be enqueued.
    HeldFor(Request, Option<Holder>),
    /// An enqueue that did not make a task.
    NotEnqueued(TaskId),
    /// The row of a task whose assignment or time-out was refused, and the run that is over if that was why.
    Refused(TaskId, Option<Arc<Task>>, Option<Holder>),
    /// A task waits for a node that was removed.
    Forlorn(TaskId, NodeId),
    /// The row will tell.
    Known,
}

impl Handle {
    /// Enqueues a task, and assigns it at once when a node has room.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the task in doubt.
    pub(crate) fn enqueue(&self, task: NewTask) -> impl Future<Output = Result<Outcome, Error>> + Send {
        let task = Box::new(task);
        async move {
            let (answer, outcome) = oneshot::channel();
            self.requests.send(Request { task, answer }).await.map_err(|_| Error::Stopping)?;
            outcome.await.map_err(|_| Error::Stopping)?
        }
    }

    /// Tells the scheduler what was committed, in order. One that has ended needs none of it.
    pub(crate) async fn tell(&self, rows: Vec<Row>) {
        if !rows.is_empty() {
            let _gone = self.told.send(rows).await;
        }
    }

    /// Tells the scheduler that a node takes no more tasks.
    pub(crate) async fn node_gone(&self, holder: Holder) {
        self.tell(vec![Row::NodeGone(holder)]).await;
    }
}

impl Loop {
    pub(crate) fn new(
        config: Config,
        committer: committer::Handle,
        consensus: Arc<Consensus>,
        reader: Arc<Reader>,
        view: view::Reader,
    ) -> (Self, Handle) {
        let (requests, from_requests) = mpsc::channel(REQUESTS_MAX);
        let (told, from_told) = mpsc::channel(TOLD_MAX);
        let this = Self {
            core: Scheduler::new(config),
            requests: from_requests,
            told: from_told,
            committer,
            consensus,
            reader,
            view,
            config,
            leads: false,
            pending: FuturesUnordered::new(),
            effects: Vec::new(),
        };
        (this, Handle { requests, told })
    }

    /// Schedules whenever this node leads. Runs until it is dropped.
    pub(crate) async fn run(mut self) {
        let consensus = Arc::clone(&self.consensus);
        loop {
            self.until(pin!(consensus.until_leading(!self.leads))).await;
            self.turn().await;
            self.carry_out();
        }
    }

    /// Takes what comes until `turned` resolves.
    async fn until(&mut self, mut turned: Pin<&mut impl Future<Output = ()>>) {
        let (mut told, mut requests) = (Vec::new(), Vec::new());
        loop {
            let wait = self.wait();
            let mut decided = None;
            tokio::select! {
                biased;
                () = &mut turned => return,
                end = self.pending.next(), if !self.pending.is_empty() => decided = end,
                _ = self.told.recv_many(&mut told, TOLD_MAX) => {}
                _ = self.requests.recv_many(&mut requests, REQUESTS_MAX) => {}
                () = tokio::time::sleep(wait) => {}
            }
            let now = self.consensus.log_time();
            while let Some(end) = decided {
                self.decided(now, end);
                // A batch's outcomes come together.
                decided = self.pending.next().now_or_never().flatten();
            }
            for row in told.drain(..).flatten() {
                self.row(now, row);
            }
            for request in requests.drain(..) {
                self.request(request);
            }
            self.core.expire(now, &mut self.effects);
            self.carry_out();
        }
    }

    /// Begins to schedule from the rows, or ends.
    async fn turn(&mut self) {
        self.core = Scheduler::new(self.config);
        self.leads = !self.leads;
        if !self.leads {
            return;
        }
        match self.read_standing().await {
            Some((nodes, tasks)) => {
                let now = self.consensus.log_time();
                for node in nodes.into_iter().filter(|node| node.state == NodeState::Up) {
                    self.row(now, Row::NodeUp(node.holder(), node.offers));
                }
                for task in tasks {
                    self.row(now, Row::Task(Arc::new(task)));
                }
            }
            // It is tried again, if it still leads.
            None => {
                self.leads = false;
                tokio::time::sleep(PROPOSE_AGAIN).await;
            }
        }
    }

    /// Reads the nodes and the tasks that have not ended, once all that was committed before this term is applied.
    async fn read_standing(&mut self) -> Option<(Vec<Node>, Vec<Task>)> {
        let consensus = Arc::clone(&self.consensus);
        let mut caught_up = pin!(consensus.catch_up());
        loop {
            tokio::select! {
                done = &mut caught_up => break done.ok()?,
                // What was told by then is in the rows; and applying waits while nobody listens.
                Some(_told_by_the_rows) = self.told.recv() => {}
            }
        }
        let reader = Arc::clone(&self.reader);
        let read = move || {
            reader.view(|view| {
                let mut tasks = view.running_tasks()?;
                tasks.extend(view.queued_tasks(None, u32::MAX)?);
                Ok((view.nodes()?, tasks))
            })
        };
        match tokio::task::spawn_blocking(read).await.ok()? {
            Ok(standing) => Some(standing),
            Err(error) => {
                tracing::error!(%error, "the tasks cannot be read, so nothing is scheduled");
                None
            }
        }
    }

    /// How long until something is due by itself.
    fn wait(&self) -> Duration {
        let Some(at) = self.core.deadline() else {
            return IDLE_MAX;
        };
        let millis = at.as_millis().saturating_sub(self.consensus.log_time().as_millis());
        Duration::from_millis(millis.max(1)).min(IDLE_MAX)
    }

    fn row(&mut self, now: LogTime, row: Row) {
        if !self.leads {
            return;
        }
        if let Row::Task(task) = &row
            && let (TaskState::Queued, Some(node)) = (task.state, task.node)
            && !self.core.knows(node)
        {
            self.look_for(node, task.id);
        }
        let input = match row {
            Row::Task(task)
                if task.state == TaskState::Queued
                    && self.needs_holder(task.placement, &task.agent, task.part_of.as_deref()) =>
            {
                let held = self.holder_of(task.placement, &task.agent, task.part_of.as_deref());
                let waiting = row_to_waiting(&task);
                return self.pending.push(Box::pin(async move {
                    let held_by = held.await;
                    Decided::Held(Box::new(Waiting { held_by, ..waiting }))
                }));
            }
            Row::Task(task) => to_input(&task),
            Row::NodeUp(holder, offers) => Input::NodeUp { holder, offers },
            Row::NodeGone(holder) => Input::NodeGone(holder),
            Row::NodeRemoved(id) => {
                let tasks: Vec<TaskId> = self.core.waiting_for(id).collect();
                return tasks.into_iter().for_each(|task| self.call_off(task, id));
            }
        };
        self.core.handle(now, input, &mut self.effects);
    }

    /// Finds out whether a node, to which a task is pinned, is only away. The task came after it into the log.
    fn look_for(&self, node: NodeId, task: TaskId) {
        let reader = Arc::clone(&self.reader);
        self.pending.push(Box::pin(async move {
            let read = tokio::task::spawn_blocking(move || reader.view(|view| view.nodes())).await;
            match read {
                Ok(Ok(nodes)) if nodes.iter().all(|row| row.id != node) => Decided::Forlorn(task, node),
                // Unread, it waits as for a node that is away.
                Ok(_) | Err(_) => Decided::Known,
            }
        }));
    }

    /// Nobody is left who may do a task.
    fn call_off(&mut self, task: TaskId, node: NodeId) {
        let reason = format!("node #{node}, to which it was pinned, was removed from the mesh");
        // One that died meanwhile stays dead: nobody has seen it yet.
        self.propose(task, Op::Cancel(Cancel { task, reason, dead_too: false }));
    }

    /// Whether it must be known who holds the agent, or the session with it, before its task is placed.
    fn needs_holder(&self, placement: Placement, agent: &AgentId, part_of: Option<&PartOf>) -> bool {
        let is_held = placement == Placement::Keyed || part_of.is_some_and(|part_of| part_of.session.is_some());
        is_held && self.view.get().hosts(&agent.name).count() > 1
    }

    fn holder_of(
        &self,
        placement: Placement,
        agent: &AgentId,
        part_of: Option<&PartOf>,
    ) -> impl Future<Output = Option<Holder>> + Send + use<> {
        let (reader, agent) = (Arc::clone(&self.reader), agent.clone());
        let session = part_of.and_then(|part_of| part_of.session.as_ref()).map(|session| session.name.clone());
        let session = session.filter(|_| placement != Placement::Keyed);
        let read = move || {
            reader.view(|view| match session {
                Some(name) => Ok(view.session(&SessionId { agent, name })?.map(|row| row.holder)),
                None => {
                    let row = view.agent_row(&agent)?;
                    Ok(row.filter(|row| row.phase == Phase::Active).map(|row| row.holder))
                }
            })
        };
        // Unread, it is placed as if nobody held it, and comes back if somebody does.
        async move { tokio::task::spawn_blocking(read).await.ok()?.ok()? }
    }

    fn request(&mut self, request: Request) {
        let NewTask { placement, agent, part_of, .. } = &*request.task;
        if self.leads && request.task.delay_ms == 0 && self.needs_holder(*placement, agent, part_of.as_deref()) {
            let held = self.holder_of(*placement, agent, part_of.as_deref());
            self.pending.push(Box::pin(async move { Decided::HeldFor(request, held.await) }));
        } else {
            self.enqueue(request, None);
        }
    }

    fn enqueue(&mut self, request: Request, held_by: Option<Holder>) {
        let Request { task, answer } = request;
        if self.core.is_full() {
            // Whoever asked may have gone.
            let _gone = answer.send(Err(Error::Busy("too many tasks wait".into())));
            return;
        }
        let id = task.id;
        let is_due = self.leads && task.delay_ms == 0;
        let assign = if is_due { self.core.reserve(&Waiting { held_by, ..to_waiting(&task) }) } else { None };
        let proposing = self.committer.clone();
        self.pending.push(Box::pin(async move {
            let outcome = proposing.propose(Op::Enqueue(Enqueue { task: *task, assign })).await;
            let made = matches!(outcome, Ok(Outcome::Enqueued { .. }));
            // Whoever asked may have gone; the task exists all the same.
            let _gone = answer.send(outcome.map_err(Error::from));
            if made { Decided::Known } else { Decided::NotEnqueued(id) }
        }));
    }

    fn decided(&mut self, now: LogTime, decided: Decided) {
        match decided {
            Decided::Held(waiting) if self.leads => self.core.handle(now, Input::Queued(*waiting), &mut self.effects),
            Decided::Forlorn(task, node) if self.leads => self.call_off(task, node),
            Decided::HeldFor(request, held_by) => self.enqueue(request, held_by),
            Decided::NotEnqueued(id) => self.core.handle(now, Input::Refused(id), &mut self.effects),
            Decided::Refused(id, row, gone) => {
                // First, or the task would be given to that run again.
                if let Some(holder) = gone {
                    self.core.handle(now, Input::NodeGone(holder), &mut self.effects);
                }
                self.core.handle(now, Input::Refused(id), &mut self.effects);
                if let Some(task) = row {
                    self.row(now, Row::Task(task));
                }
            }
            Decided::Held(_) | Decided::Forlorn(..) | Decided::Known => {}
        }
    }

    fn carry_out(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::Assign { task, holder } => self.propose(task, Op::Assign(Assign { task, holder })),
                Effect::TimeOut { task, token } => self.time_out(task, token),
            }
        }
    }

    fn time_out(&mut self, task: TaskId, token: FencingToken) {
        let retry_after_ms = ids::jittered(GRACE_MS / 2);
        self.propose(task, Op::TimeOut(TimeOut { task, token, retry_after_ms }));
    }

    /// Proposes until there is an answer. If it is a refusal, the row says what is true.
    fn propose(&mut self, id: TaskId, op: Op) {
        let (committer, reader) = (self.committer.clone(), Arc::clone(&self.reader));
        self.pending.push(Box::pin(async move {
            let gone = loop {
                match committer.propose(op.clone()).await {
                    Ok(outcome) if outcome.is_success() => return Decided::Known,
                    Ok(Outcome::Refused(Refusal::HolderGone(holder))) => break Some(holder),
                    Ok(_) => break None,
                    Err(ProposeError::Stopped | ProposeError::Malformed { .. }) => return Decided::Known,
                    Err(ProposeError::NotLeader | ProposeError::Unknown | ProposeError::DiskFull) => {
                        tokio::time::sleep(PROPOSE_AGAIN).await;
                    }
                }
            };
            let read = tokio::task::spawn_blocking(move || reader.view(|view| view.task(id))).await;
            // A row that cannot be read is told when it changes next.
            Decided::Refused(id, read.ok().and_then(Result::ok).flatten().map(|whole| Arc::new(whole.task)), gone)
        }));
    }
}

fn to_input(task: &Task) -> Input {
    match (task.state, task.holder, task.token) {
        (TaskState::Running, Some(holder), Some(token)) => {
            let until = task.changed.plus_millis(task.policy.attempt_ms_max).plus_millis(GRACE_MS);
            Input::Assigned { waiting: row_to_waiting(task), holder, token, until }
        }
        (TaskState::Queued, _, _) => Input::Queued(row_to_waiting(task)),
        (TaskState::Running | TaskState::Done | TaskState::Dead | TaskState::Cancelled, _, _) => Input::Ended(task.id),
    }
}

fn row_to_waiting(task: &Task) -> Waiting {
    let Task { id, ref agent, placement, node, priority, run_at, ref part_of, .. } = *task;
    let stick = Stick::of(agent, part_of.as_deref());
    Waiting { task: id, agent: agent.clone(), placement, node, priority, run_at, held_by: None, stick }
}

fn to_waiting(task: &NewTask) -> Waiting {
    Waiting {
        task: task.id,
        agent: task.agent.clone(),
        placement: task.placement,
        node: task.node,
        priority: task.priority,
        run_at: LogTime::ZERO,
        held_by: None,
        stick: Stick::of(&task.agent, task.part_of.as_deref()),
    }
}
