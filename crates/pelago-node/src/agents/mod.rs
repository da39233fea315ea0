//! The agents that this node hosts.
//!
//! Finds the mailbox of an agent, activating it when nobody has it in memory. Each activation is a loop of its own
//! (`activation`); pools need none, since whoever asks runs the turn (`pool`); a resident agent has one (`resident`);
//! `attempts` works on the tasks that the mesh gives to this node.

mod activation;
mod attempts;
mod broadcast;
mod mailbox;
mod pool;
mod resident;
mod sessions;
mod told;
mod turns;
mod waiting;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::{BoxFuture, join, join_all};
use pelago_core::{
    agent::{self, Failure, Work},
    id::{AgentId, FencingToken, Holder, Name, TaskId},
    message::{Content, ToTell},
    record::{self, Placement},
};
use pelago_store::{ProposeError, sqlite::Reader};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    committer,
    host::{Effects, Kind, Services},
    mesh::{Forward, Held, Homes},
    metrics::Metrics,
    raft::Consensus,
    services::LAPSED_MAX,
    sessions::Gates,
};
use activation::Command;
use attempts::Attempts;
use mailbox::{Mailbox, NotPut};
use pool::Pool;
use resident::{Delivery, Resident};
pub(crate) use told::Told;

/// Commands that wait for one activation; more are refused as busy.
const COMMANDS_MAX: usize = 1_024;
/// How often a delivery is tried anew because its activation was just being put away.
const TRIES_MAX: usize = 8;

/// A turn that will end with a reply.
pub(crate) type AskedTurn = BoxFuture<'static, Result<Bytes, Failure>>;

/// What the agents of a node have in common.
pub(crate) struct Agents {
    hosted: BTreeMap<Name, Hosted>,
    /// Mailboxes of activations. A short-lived lock: nothing is awaited under it.
    active: Mutex<HashMap<AgentId, Mailbox<Command>>>,
    attempts: Attempts,
    gates: Gates,
    context: Context,
    config: agent::Config,
    loops: TaskTracker,
    stopping: CancellationToken,
    /// Nothing more is begun.
    closed: CancellationToken,
    /// What runs still is not waited for any more.
    given_up: CancellationToken,
}

/// What every turn needs of its node.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) homes: Homes,
    pub(crate) lease: Held,
    pub(crate) committer: committer::Handle,
    pub(crate) forward: Forward,
    pub(crate) reader: Arc<Reader>,
    pub(crate) consensus: Arc<Consensus>,
    pub(crate) metrics: Arc<Metrics>,
    /// Set once, right after the node was put together: services reach back to the agents.
    pub(crate) services: Arc<OnceLock<Arc<dyn Services>>>,
}

impl Context {
    /// This run of this node.
    pub(crate) fn holder(&self) -> Holder {
        self.homes.me()
    }

    pub(crate) fn services(&self) -> Arc<dyn Services> {
        Arc::clone(self.services.get().expect("the node sets its services before the first turn"))
    }
}

enum Hosted {
    Keyed(Kind),
    Pool(Pool),
    Resident(Resident),
}

impl Agents {
    pub(crate) fn new(kinds: Vec<Kind>, config: agent::Config, context: Context) -> Arc<Self> {
        let loops = TaskTracker::new();
        let stopping = CancellationToken::new();
        let host = |kind: Kind| match kind.placement {
            Placement::Keyed => Hosted::Keyed(kind),
            Placement::Pool => Hosted::Pool(Pool::new(kind)),
            Placement::Resident => {
                let (alone, handle) = Resident::new(kind, context.clone());
                loops.spawn(alone.run(stopping.clone()));
                Hosted::Resident(handle)
            }
        };
        let hosted = kinds.into_iter().map(|kind| (kind.name.clone(), host(kind))).collect();
        Arc::new(Self {
            hosted,
            active: Mutex::default(),
            attempts: Attempts::default(),
            gates: Gates::default(),
            context,
            config,
            loops,
            stopping,
            closed: CancellationToken::new(),
            given_up: CancellationToken::new(),
        })
    }

    /// Runs one turn here and returns its reply once it counts.
    ///
    /// # Errors
    /// [`Failure`] says what became of it.
    pub(crate) async fn run(self: &Arc<Self>, agent: &AgentId, work: Work, content: Content) -> Result<Bytes, Failure> {
        let hosted = self.hosted.get(&agent.name);
        // Another node may be given this one's keyed agents and tasks. Residents and pools belong to nobody else.
        let is_asked = matches!(work, Work::Ask { .. } | Work::Signal(_));
        let is_own = is_asked && matches!(hosted, Some(Hosted::Pool(_) | Hosted::Resident(_)));
        if !is_own && !self.context.lease.is_valid() {
            return Err(Failure::Lapsed);
        }
        if self.closed.is_cancelled() {
            return Err(Failure::Stopped);
        }
        tokio::select! {
            biased;
            ended = self.run_hosted(hosted, agent, work, content) => ended,
            () = self.given_up.cancelled() => Err(Failure::Unknown),
        }
    }

    async fn run_hosted(
        self: &Arc<Self>,
        hosted: Option<&Hosted>,
        agent: &AgentId,
        work: Work,
        content: Content,
    ) -> Result<Bytes, Failure> {
        let (reply, effects) = match hosted {
            Some(Hosted::Keyed(kind)) => return self.run_keyed(kind, agent, work, content).await,
            Some(Hosted::Pool(pool)) => pool.run(&self.context, agent, work, content).await?,
            Some(Hosted::Resident(resident)) => resident.run(agent, work, content).await?,
            None => return Err(not_hosted(&agent.name)),
        };
        if !effects.is_empty() {
            let _under_way = self.loops.token();
            send_all(&self.context, effects).await?;
        }
        Ok(reply)
    }

    /// A turn of an agent that is asked, if it is a pool of this node whose code is known to be quick.
    pub(crate) fn quick_turn(self: Arc<Self>, agent: AgentId, content: Content) -> Option<AskedTurn> {
        let Some(Hosted::Pool(pool)) = self.hosted.get(&agent.name) else { return None };
        if !pool.is_quick() {
            return None;
        }
        let work = Work::Ask { remember: None, session: None };
        Some(Box::pin(async move { self.run(&agent, work, content).await }))
    }

    /// How many turns of a pool run or wait here.
    pub(crate) fn in_flight(&self, name: &Name) -> Option<u32> {
        match self.hosted.get(name) {
            Some(Hosted::Pool(pool)) => Some(pool.in_flight()),
            Some(Hosted::Keyed(_) | Hosted::Resident(_)) | None => None,
        }
    }

    /// Gives an agent what it is told, as soon as its mailbox has room; a keyed agent is activated here, if no other
    /// node holds it. Nobody hears what becomes of it: it is counted.
    ///
    /// # Errors
    /// [`Failure`] if the agent cannot be here; nothing was done.
    pub(crate) async fn tell(self: &Arc<Self>, agent: &AgentId, told: Told) -> Result<(), Failure> {
        if self.stopping.is_cancelled() {
            return Err(Failure::Stopped);
        }
        match self.hosted.get(&agent.name) {
            Some(Hosted::Keyed(kind)) => {
                let mut command = Command::Told(told);
                for _ in 0..TRIES_MAX {
                    let mailbox = self.mailbox(kind, agent)?;
                    match mailbox.put(command).await {
                        Ok(()) => return Ok(()),
                        // It was just being put away.
                        Err(back) => command = back.into_inner(),
                    }
                }
                Err(Failure::Stopped)
            }
            Some(Hosted::Pool(pool)) => {
                let place = pool.places().acquire_owned().await.map_err(|_| Failure::Stopped)?;
                self.pool_told(agent, told, place);
                Ok(())
            }
            Some(Hosted::Resident(resident)) => {
                let agent = agent.clone();
                resident.mailbox().put(Delivery::Told { agent, told }).await.map_err(|_| Failure::Stopped)
            }
            None => Err(not_hosted(&agent.name)),
        }
    }

    /// Gives an agent what it is told at once, if it is here and has room.
    ///
    /// # Errors
    /// What it was to be told: give it to [`Self::tell`].
    pub(crate) fn try_tell(self: &Arc<Self>, agent: &AgentId, told: Told) -> Result<(), Told> {
        if self.stopping.is_cancelled() {
            return Err(told);
        }
        match self.hosted.get(&agent.name) {
            Some(Hosted::Keyed(_)) => {
                let active = self.active();
                let Some(mailbox) = active.get(agent) else { return Err(told) };
                mailbox.try_put(Command::Told(told)).map_err(|back| match back.into_inner() {
                    Command::Told(told) => told,
                    Command::Deliver { .. }
                    | Command::Arrived { .. }
                    | Command::Look
                    | Command::TaskGone { .. }
                    | Command::Interrupt { .. }
                    | Command::Drain => unreachable!("what was put is given back"),
                })
            }
            Some(Hosted::Pool(pool)) => match pool.places().try_acquire_owned() {
                Ok(place) => {
                    self.pool_told(agent, told, place);
                    Ok(())
                }
                Err(_full) => Err(told),
            },
            Some(Hosted::Resident(resident)) => {
                let delivery = Delivery::Told { agent: agent.clone(), told };
                resident.mailbox().try_put(delivery).map_err(|back| match back.into_inner() {
                    Delivery::Told { told, .. } => told,
                    Delivery::One { .. } => unreachable!("what was put is given back"),
                })
            }
            None => Err(told),
        }
    }

    fn pool_told(self: &Arc<Self>, agent: &AgentId, told: Told, place: OwnedSemaphorePermit) {
        let (agents, agent) = (Arc::clone(self), agent.clone());
        self.loops.spawn(async move {
            let Some(Hosted::Pool(pool)) = agents.hosted.get(&agent.name) else { return };
            let effects = pool.take(&agents.context, &agent, told).await;
            emit(&agents.context, &agent, effects).await;
            drop(place);
        });
    }

    async fn run_keyed(
        self: &Arc<Self>,
        kind: &Kind,
        agent: &AgentId,
        work: Work,
        content: Content,
    ) -> Result<Bytes, Failure> {
        for _ in 0..TRIES_MAX {
            let (answer, reply) = oneshot::channel();
            let command = Command::Deliver { work: work.clone(), content: content.clone(), answer };
            self.command(kind, agent, command)?;
            match reply.await.unwrap_or(Err(Failure::Stopped)) {
                // It was just being put away. What it did not do it does in its next activation.
                Err(Failure::Stopped) if !self.stopping.is_cancelled() => {}
                reply => return reply,
            }
        }
        Err(Failure::Stopped)
    }

    /// Hands a command to the agent's activation, making one if there is none.
    fn command(self: &Arc<Self>, kind: &Kind, agent: &AgentId, mut command: Command) -> Result<(), Failure> {
        loop {
            match self.mailbox(kind, agent)?.try_put(command) {
                Ok(()) => return Ok(()),
                Err(NotPut::Full(_)) => {
                    self.context.metrics.busy.inc();
                    return Err(Failure::Busy);
                }
                // It was put away in this moment.
                Err(NotPut::Closed(back)) => command = back,
            }
        }
    }

    /// Where commands for a keyed agent go: to its activation, which is made if there is none.
    fn mailbox(self: &Arc<Self>, kind: &Kind, agent: &AgentId) -> Result<Mailbox<Command>, Failure> {
        let mut active = self.active();
        if self.stopping.is_cancelled() {
            return Err(Failure::Stopped);
        }
        if let Some(mailbox) = active.get(agent).filter(|mailbox| !mailbox.is_closed()) {
            return Ok(mailbox.clone());
        }
        let mailbox = Mailbox::new(COMMANDS_MAX);
        active.insert(agent.clone(), mailbox.clone());
        let config = agent::Config { turn_max: kind.turn_max.unwrap_or(self.config.turn_max), ..self.config };
        let activation =
            activation::Loop::new(kind.clone(), agent.clone(), config, self.context.clone(), mailbox.clone());
        let (agents, own) = (Arc::clone(self), mailbox.clone());
        self.loops.spawn(async move {
            let agent = activation.run().await;
            agents.forget(&agent, &own);
        });
        Ok(mailbox)
    }

    fn forget(&self, agent: &AgentId, mailbox: &Mailbox<Command>) {
        let mut active = self.active();
        if active.get(agent).is_some_and(|present| present.is_same(mailbox)) {
            active.remove(agent);
        }
    }

    /// Whether a keyed agent is in memory here.
    pub(crate) fn is_active(&self, agent: &AgentId) -> bool {
        self.active().contains_key(agent)
    }

    /// Gives a keyed agent a message that came into its inbox by the entry of the log with this index, if the agent is
    /// here or belongs here. Whoever holds it elsewhere hears of it there.
    pub(crate) fn arrived(self: &Arc<Self>, message: record::Message, index: u64) {
        let agent = message.to.clone();
        if (self.is_active(&agent) || self.context.homes.is_home(&agent))
            && let Some(Hosted::Keyed(kind)) = self.hosted.get(&agent.name)
        {
            // A full mailbox is no loss: the inbox is looked into again when the mailbox has room.
            let _later = self.command(kind, &agent, Command::Arrived { message: Box::new(message), index });
        }
    }

    /// Tells a keyed agent that its inbox has something, or that a timer is due, which activates it here unless another
    /// node holds it.
    pub(crate) fn look_into_inbox(self: &Arc<Self>, agent: &AgentId) {
        if let Some(Hosted::Keyed(kind)) = self.hosted.get(&agent.name) {
            // A full mailbox is no loss: the inbox is looked into again when the mailbox has room.
            let _later = self.command(kind, agent, Command::Look);
        }
    }

    /// Tells all agents that are here that their inboxes may have anything: nobody was told of each message.
    pub(crate) fn look_into_all(&self) {
        for mailbox in self.active().values() {
            // Whose mailbox is full looks too.
            let _later = mailbox.try_put(Command::Look);
        }
    }

    /// How many messages wait in mailboxes.
    pub(crate) fn queued(&self) -> u64 {
        let hosted = self.hosted.values().map(|hosted| match hosted {
            Hosted::Keyed(_) => 0,
            Hosted::Pool(pool) => pool.waiting(),
            Hosted::Resident(resident) => resident.mailbox().len(),
        });
        let hosted: usize = hosted.sum();
        let active: usize = self.active().values().map(Mailbox::len).sum();
        (hosted + active) as u64
    }

    /// Begins or ends the attempt that the task's row speaks of.
    pub(crate) fn task_changed(self: &Arc<Self>, task: &record::Task, input: Option<Bytes>) {
        attempts::task_changed(self, task, input);
    }

    /// Begins and ends attempts so that those run here which these tasks speak of, and no others.
    pub(crate) fn only_these_run(self: &Arc<Self>, running: &[record::Task]) {
        attempts::only_these_run(self, running);
    }

    /// An attempt at a keyed agent's task was taken away.
    fn task_gone(&self, agent: &AgentId, task: TaskId, token: FencingToken) {
        if let Some(mailbox) = self.active().get(agent) {
            // If the mailbox is full the attempt runs on, and its result is refused.
            let _later = mailbox.try_put(Command::TaskGone { task, token });
        }
    }

    /// Takes no more work, lets what runs end until `drain_max` has passed, puts the agents away.
    pub(crate) async fn drain(&self, drain_max: Duration) {
        let deadline = tokio::time::Instant::now() + drain_max;
        self.attempts.wait(deadline).await;
        self.stopping.cancel();
        self.attempts.end_all();
        let mailboxes: Vec<_> = self.active().values().cloned().collect();
        for mailbox in mailboxes {
            // An activation that has gone is put away already.
            let _gone = tokio::time::timeout_at(deadline, mailbox.put(Command::Drain)).await;
        }
        self.loops.close();
        let ended = async {
            self.ended().await;
            self.closed.cancel();
            // What was begun in the moment between.
            self.ended().await;
        };
        if tokio::time::timeout_at(deadline, ended).await.is_err() {
            tracing::warn!(loops = self.loops.len(), "some turns did not end in time and were given up");
        }
        self.closed.cancel();
        // Whoever asked is told so.
        self.given_up.cancel();
    }

    /// Waits until nothing runs. Whoever asks a pool runs its turn: there is no loop to wait for.
    async fn ended(&self) {
        let pools = self.hosted.values().filter_map(|hosted| match hosted {
            Hosted::Pool(pool) => Some(pool.drained()),
            Hosted::Keyed(_) | Hosted::Resident(_) => None,
        });
        join(self.loops.wait(), join_all(pools)).await;
    }

    fn active(&self) -> MutexGuard<'_, HashMap<AgentId, Mailbox<Command>>> {
        // Every change under the lock is a single call, so a panic leaves it whole.
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_hosted(name: &Name) -> Failure {
    Failure::Hopeless(format!("agent {name} is not hosted here"))
}

/// Sends what a turn without durable state wants to send, each at least once.
async fn send_all(context: &Context, effects: Effects) -> Result<(), Failure> {
    let Effects { sends, enqueues, timers: _, tells } = effects;
    for (already_sent, op) in ops(sends, enqueues).enumerate() {
        send(context, op).await.map_err(|failure| after(already_sent, failure))?;
    }
    tell_all(context, tells).await;
    Ok(())
}

/// Sends what turns want to send whom nobody waits for: what is refused to one is no reason to keep that of others.
async fn emit(context: &Context, agent: &AgentId, effects: Effects) {
    let Effects { sends, enqueues, timers: _, tells } = effects;
    for op in ops(sends, enqueues) {
        if let Err(error) = send(context, op).await {
            tracing::warn!(%agent, %error, "what an agent wanted to send when it was told something is lost");
        }
    }
    tell_all(context, tells).await;
}

async fn tell_all(context: &Context, tells: ToTell) {
    if !tells.is_empty() {
        context.services().tell(tells).await;
    }
}

fn ops(sends: Vec<record::MessageBody>, enqueues: Vec<record::NewTask>) -> impl Iterator<Item = record::Op> {
    let send = |body| record::Op::Send(record::Send { id: crate::ids::random(), idempotency: None, body });
    let enqueue = |task| record::Op::Enqueue(record::Enqueue { task, assign: None });
    sends.into_iter().map(send).chain(enqueues.into_iter().map(enqueue))
}

/// Of all that a turn without durable state does, only this needs a majority.
async fn send(context: &Context, op: record::Op) -> Result<(), Failure> {
    let sent = tokio::select! {
        biased;
        sent = context.committer.propose(op) => sent,
        () = context.lease.missing(LAPSED_MAX) => return Err(Failure::Unknown),
    };
    match sent {
        Ok(record::Outcome::Refused(refusal)) => Err(Failure::Refused(refusal)),
        Ok(_) => Ok(()),
        Err(error) => Err(unsent(error)),
    }
}

/// What becomes of a turn if what it wants to send cannot be sent.
fn unsent(error: ProposeError) -> Failure {
    match error {
        // It may have happened, and whoever hears that it failed would do it again.
        ProposeError::Unknown => Failure::Unknown,
        ProposeError::NotLeader => Failure::Lapsed,
        ProposeError::DiskFull => Failure::DiskFull,
        ProposeError::Stopped => Failure::Stopped,
        ProposeError::Malformed { .. } => Failure::Failed(error.to_string()),
    }
}

/// The same, after a part was sent: that stays, so the turn may not be tried elsewhere as if nothing had been done.
fn after(already_sent: usize, failure: Failure) -> Failure {
    let is_undone = matches!(failure, Failure::Lapsed | Failure::DiskFull | Failure::Stopped);
    if already_sent > 0 && is_undone { Failure::Unknown } else { failure }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handle;

    #[test]
    fn what_cannot_be_sent_for_want_of_space_or_since_the_node_stops_is_no_fault_of_the_agent() {
        for (error, told) in [
            (ProposeError::DiskFull, handle::Error::DiskFull),
            (ProposeError::Stopped, handle::Error::Stopping),
            (ProposeError::NotLeader, handle::Error::NoQuorum),
            (ProposeError::Unknown, handle::Error::InDoubt),
        ] {
            let failure = unsent(error.clone());
            assert_eq!(handle::Error::from(after(0, failure.clone())), told, "{error}");
            assert_eq!(handle::Error::from(after(1, failure)), handle::Error::InDoubt, "{error}");
        }
    }
}
