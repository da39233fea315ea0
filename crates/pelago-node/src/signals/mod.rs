//! Signals that follow agents' connections.
//!
//! The node that runs an agent's turn lets the signal go on from there: it has each next agent take it, wherever that
//! is, all at once, and answers with its part of the tree. So results flow back along the path, the deadline goes along
//! and shrinks with every hop, and whoever goes away calls off all that it began.
//!
//! ```text
//!   start ─► follow ─► Router ─► handle (the agent's node): turn ─► follow, follow, … ─► Branch ─► back
//! ```
//!
//! *Is not:* a rule about where signals go (`core::connection`), nor durable: a signal is lost with the node that took
//! it, and what its turns did stays done. Other nodes ask that one what became of it (`mesh::taken`).

mod content;
mod kept;

use std::{
    future::ready,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, join_all},
};
use pelago_core::{
    agent::{Failure, Work},
    connection::{BRANCHES_MAX, Branch, Hop, Next, Onward, Outcome, Signal},
    id::{Address, AgentId, Holder, Name, SignalId},
    message::Content,
    time::LogTime,
};
use pelago_wire::mesh::kind;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use kept::Trace;

use crate::{
    agents::Agents,
    handle::Error,
    host::unseal,
    ids,
    mesh::{Passing, Undone, Wish},
    metrics::Metrics,
    services::NodeServices,
};
use content::Seen;
use kept::Kept;

/// What the contents of signals that are handled here at a time may have together, in KiB; more is refused as busy.
const HANDLED_KIB_MAX: usize = 64 << 10;
/// What a signal counts at least, in KiB: its path and its part of the tree need memory too.
const HANDLED_KIB_MIN: usize = 4;
/// The part of what is left of a deadline that an agent's node keeps to answer in, and how much that is at most.
const ANSWER_PART: u32 = 20;
const ANSWER_MAX: Duration = Duration::from_millis(100);

/// How long a signal may take whose starter does not say.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How a signal is started.
#[derive(Debug, Clone)]
pub struct SignalOptions {
    /// Who starts it, in its own words; `client` unless said.
    pub from: String,
    /// How long it may take, with all its branches; 30 s unless said.
    pub timeout: Duration,
    /// How many hops a path may have; as the node is configured if nothing is said.
    pub hops_max: Option<u32>,
}

impl Default for SignalOptions {
    fn default() -> Self {
        Self { from: "client".into(), timeout: TIMEOUT, hops_max: None }
    }
}

/// Takes signals, lets them go on, and keeps their trees for a while.
pub(crate) struct Signals {
    parts: Parts,
    handled: Semaphore,
    kept: Kept,
    loops: TaskTracker,
    stop: CancellationToken,
}

pub(crate) struct Parts {
    /// This node's name.
    pub(crate) me: Name,
    pub(crate) holder: Holder,
    pub(crate) hops_max: u32,
    pub(crate) services: Arc<NodeServices>,
    pub(crate) agents: Weak<Agents>,
    pub(crate) metrics: Arc<Metrics>,
}

/// A signal that whoever started it waits for. Dropped before it has ended, it is called off.
pub(crate) struct Started {
    pub(crate) trace: Trace,
    signals: Arc<Signals>,
    calls_off: bool,
}

impl Signals {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let handled = Semaphore::new(HANDLED_KIB_MAX);
        let (loops, stop) = (TaskTracker::new(), CancellationToken::new());
        Arc::new(Self { parts, handled, kept: Kept::default(), loops, stop })
    }

    /// Starts a signal, which goes on by itself from here.
    ///
    /// # Errors
    /// [`Error::Busy`] if too many are under way that were started here.
    pub(crate) fn start(
        self: &Arc<Self>,
        to: Address,
        content: Content,
        options: SignalOptions,
        now: LogTime,
    ) -> Result<Started, Error> {
        let SignalOptions { from, timeout, hops_max } = options;
        let hops_max = hops_max.unwrap_or(self.parts.hops_max);
        let id = SignalId::new(self.parts.holder.node, ids::random());
        let node = self.parts.me.clone();
        let trace = Trace { id, node, from: from.clone(), to: to.clone(), hops_max, started: now, tree: None };
        let off = CancellationToken::new();
        self.kept.begin(Instant::now(), trace.clone(), off.clone())?;
        let signal = Arc::new(Signal { id, from, hops_max, branches_max: BRANCHES_MAX, path: Vec::new() });
        let (signals, deadline) = (Arc::clone(self), Instant::now() + timeout);
        self.loops.spawn(async move {
            let tree = Arc::clone(&signals).follow(signal, to, content, deadline);
            let tree = signals.stop.run_until_cancelled(off.run_until_cancelled(tree)).await.flatten();
            match tree {
                Some(tree) => {
                    signals.parts.metrics.signal(tree.is_whole());
                    signals.kept.end(Instant::now(), id, tree);
                }
                // Called off.
                None => signals.kept.forget(id),
            }
        });
        Ok(Started { trace, signals: Arc::clone(self), calls_off: true })
    }

    /// A signal that was started here, once it has ended, or as it stands after `wait`. `None` if it is not known here.
    pub(crate) async fn trace(&self, id: SignalId, wait: Duration) -> Option<Trace> {
        self.kept.trace(Instant::now(), id, wait).await
    }

    /// Lets signals that were started here end until `deadline`, and calls off what is left.
    pub(crate) async fn drain(&self, deadline: Instant) {
        self.loops.close();
        if timeout_at(deadline, self.loops.wait()).await.is_err() {
            tracing::warn!(signals = self.loops.len(), "some signals did not end in time and were called off");
        }
        self.stop.cancel();
    }

    /// Has an agent of this node take a signal, and the next agents what it made of it. The answer is this agent's
    /// branch.
    ///
    /// # Errors
    /// [`Failure`] if nothing was done, or nobody knows what: another node may have the agent, or be asked later.
    pub(crate) fn handle(
        self: Arc<Self>,
        passing: Passing,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<Branch, Failure>> {
        Box::pin(async move {
            let Passing { agent, signal, mut content } = passing;
            let services = &self.parts.services;
            let trace = content.headers().trace.clone();
            let mut recorded = services.traces.follow(trace.as_ref(), || format!("signal {}", agent.name));
            if let (Some(recorded), Some(headers)) = (&mut recorded, &mut content.headers) {
                recorded.say("pelago.signal", signal.id.to_string());
                headers.trace = Some(recorded.context().clone());
            }
            let kib = content.payload.len().div_ceil(1 << 10).max(HANDLED_KIB_MIN);
            let _room = self.handled.try_acquire_many(u32::try_from(kib).unwrap_or(u32::MAX)).map_err(|_full| {
                self.parts.metrics.busy.inc();
                Failure::Busy
            })?;
            let _handled = Handled::new(&self.parts.metrics);
            let began = Instant::now();
            let deadline = sooner(began, deadline);
            let agents = self.parts.agents.upgrade().ok_or(Failure::Stopped)?;
            let work = Work::Signal(Arc::clone(&signal));
            let headers = content.headers().onward();
            let ended = timeout_at(deadline, agents.run(&agent, work, content)).await;
            // Not kept while others are waited for.
            drop(agents);
            let to = Address { node: None, agent };
            let (reply, stopped) = match ended {
                Ok(Ok(sealed)) => unseal(sealed),
                Ok(Err(
                    failure @ (Failure::Busy
                    | Failure::Elsewhere(_)
                    | Failure::Stopped
                    | Failure::Lapsed
                    | Failure::Unknown),
                )) => return Err(failure),
                Ok(Err(failure)) => return Ok(self.leaf(to, Outcome::from(failure), began)),
                Err(_elapsed) => return Ok(self.leaf(to, Outcome::TimedOut, began)),
            };
            let onward = if stopped { Onward::default() } else { self.onward(&signal, &to, &reply) };
            let Onward { next, left_out } = onward;
            let branches = next.into_iter().map(|Next { to, signal }| match signal {
                Ok(signal) => {
                    let content = headers.clone().of(reply.clone());
                    Arc::clone(&self).follow(Arc::new(signal), to, content, deadline).boxed()
                }
                Err(cut) => ready(self.cut(to, Outcome::Cut(cut))).boxed(),
            });
            let branches = join_all(branches).await;
            let mut branch = self.leaf(to, Outcome::Replied { reply: Some(reply) }, began);
            (branch.branches, branch.stopped, branch.left_out) = (branches, stopped, left_out);
            self.parts.metrics.left_out(left_out);
            branch.fit();
            Ok(branch)
        })
    }

    fn onward(&self, signal: &Signal, at: &Address, reply: &Bytes) -> Onward {
        let Parts { me, holder, services, .. } = &self.parts;
        let connections = services.view.get().connections(&at.agent, holder.node);
        let here = Hop { agent: at.agent.clone(), node: me.clone() };
        signal.goes_on(here, &connections, &Seen::new(reply))
    }

    /// Has whoever is meant take the signal, wherever that is, and waits for what becomes of it.
    async fn follow(self: Arc<Self>, signal: Arc<Signal>, to: Address, content: Content, deadline: Instant) -> Branch {
        let began = Instant::now();
        let services = &self.parts.services;
        let placement = match services.placed(&to) {
            Ok(placement) => placement,
            Err(error) => return self.cut(to, outcome_of(&error)),
        };
        let passing = Passing { agent: to.agent.clone(), signal, content };
        let wish = Wished { signals: &self, passing };
        let handled = timeout_at(deadline, services.router.fulfil(&to, placement, &wish, deadline)).await;
        let outcome = match handled {
            Ok(Ok(branch)) => return Branch { to, took: began.elapsed(), ..branch },
            Ok(Err(Undone::BreakerOpen(_))) => Outcome::BreakerOpen,
            Ok(Err(Undone::Gone(error))) => outcome_of(&error),
            Ok(Err(Undone::Failed(failure))) if Instant::now() < deadline => Outcome::from(failure),
            Ok(Err(_)) | Err(_) => Outcome::TimedOut,
        };
        let branch = self.cut(to, outcome);
        Branch { took: began.elapsed(), ..branch }
    }

    /// A branch of an agent of this node, which nothing follows yet.
    fn leaf(&self, to: Address, outcome: Outcome, began: Instant) -> Branch {
        self.parts.metrics.branch(&outcome);
        Branch::leaf(to, Some(self.parts.me.clone()), outcome, began.elapsed())
    }

    /// A branch that ends before any agent.
    fn cut(&self, to: Address, outcome: Outcome) -> Branch {
        self.parts.metrics.branch(&outcome);
        Branch::leaf(to, None, outcome, Duration::ZERO)
    }
}

impl Started {
    /// The signal once it has ended, or as it stands after `wait`; it goes on then, whoever waits.
    pub(crate) async fn wait(mut self, wait: Duration) -> Option<Trace> {
        let trace = self.signals.trace(self.trace.id, wait).await;
        self.calls_off = false;
        trace
    }

    /// Lets it go on by itself: as it began, though it may have ended since.
    pub(crate) fn detach(mut self) -> Trace {
        self.calls_off = false;
        self.trace.clone()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if self.calls_off {
            self.signals.kept.call_off(self.trace.id);
        }
    }
}

/// Counts a signal for as long as an agent of this node handles it, or waits for what follows.
struct Handled(Arc<Metrics>);

impl Handled {
    fn new(metrics: &Arc<Metrics>) -> Self {
        metrics.signals_handled.inc();
        Self(Arc::clone(metrics))
    }
}

impl Drop for Handled {
    fn drop(&mut self) {
        self.0.signals_handled.dec();
    }
}

/// A signal that an agent is to take.
struct Wished<'s> {
    signals: &'s Arc<Signals>,
    passing: Passing,
}

impl Wish for Wished<'_> {
    type Answer = Branch;
    const KIND: u16 = kind::SIGNAL;

    fn agent(&self) -> &AgentId {
        &self.passing.agent
    }

    /// Only what goes to another node is encoded.
    fn encode(&self) -> Bytes {
        self.signals.parts.metrics.signals_remote.inc();
        self.passing.encode()
    }

    fn payload(&self) -> &Bytes {
        &self.passing.content.payload
    }

    fn decode(&self, answer: Bytes) -> (Result<Branch, Failure>, Option<u32>) {
        self.passing.decode_answer(answer)
    }

    fn here(&self, _agents: Arc<Agents>, deadline: Instant) -> impl Future<Output = Result<Branch, Failure>> + Send {
        Arc::clone(self.signals).handle(self.passing.clone(), deadline)
    }

    fn may_be_repeated(&self) -> bool {
        true
    }

    fn tells_of_failure(branch: &Branch) -> bool {
        matches!(branch.outcome, Outcome::Failed { hopeless: false, .. })
    }
}

/// When an agent's node stops waiting, so that its answer is not later than who asked waits.
fn sooner(now: Instant, deadline: Instant) -> Instant {
    let left = deadline.saturating_duration_since(now);
    deadline - (left / ANSWER_PART).min(ANSWER_MAX)
}

/// Nobody can be meant: what is wrong with the address, and whom it may mean.
fn outcome_of(error: &Error) -> Outcome {
    let mut reason = error.to_string();
    if let Error::UnknownAgent { nearest, .. } = error
        && !nearest.is_empty()
    {
        let nearest: Vec<&str> = nearest.iter().map(Name::as_str).collect();
        reason.push_str(&format!("; the nearest names are {}", nearest.join(", ")));
    }
    Outcome::unknown(&reason)
}
