//! Attempts at the tasks that the mesh gave to this node.
//!
//! The store's row is the order: a row that says "running here" starts an attempt, any other ends it. The attempt of a
//! keyed agent ends within its turn's commit; all others end by a commit of their own. Either carries the fencing
//! token.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use pelago_core::{
    agent::{Failure, Work},
    id::{FencingToken, TaskId},
    message::{Headers, Priority, TraceContext},
    record::{Finish, Op, Outcome, Refusal, Return, Task, TaskState, Verdict},
};
use pelago_store::ProposeError;
use tokio::{sync::oneshot, time::Instant};
use tokio_util::task::TaskTracker;

use super::{Agents, Hosted};
use crate::{host::Effects, ids, traces::Recorded};

/// The pause before a result is proposed again after the control log did not answer.
const PROPOSE_AGAIN: Duration = Duration::from_millis(200);

#[derive(Default)]
pub(super) struct Attempts {
    /// A short-lived lock: nothing is awaited under it.
    running: Mutex<Running>,
    loops: TaskTracker,
}

/// Each with what ends it: how its task stands by then, or nothing if it was taken away.
type Running = HashMap<TaskId, (FencingToken, oneshot::Sender<TaskState>)>;

/// Compares the row with what runs, and starts or stops an attempt.
pub(super) fn task_changed(agents: &Arc<Agents>, task: &Task, input: Option<Bytes>) {
    let here = task.state == TaskState::Running && task.holder == Some(agents.context.holder());
    let ordered = task.token.filter(|_| here);
    let mut running = agents.attempts.running();
    if running.get(&task.id).map(|(token, _)| *token) == ordered {
        return;
    }
    if let Some((token, stop)) = running.remove(&task.id) {
        // It may have come to its end.
        let _ended = stop.send(task.state);
        agents.task_gone(&task.agent, task.id, token);
    }
    // A node that has put its agents away begins nothing: it takes leave, and the attempt does not count.
    let Some(token) = ordered.filter(|_| !agents.stopping.is_cancelled()) else { return };
    let (stop, mut stopped) = oneshot::channel();
    running.insert(task.id, (token, stop));
    drop(running);
    let attempt = Attempt { agents: Arc::clone(agents), task: task.clone(), token };
    agents.context.metrics.attempts.inc();
    agents.attempts.loops.spawn(async move {
        let mut recorded = attempt.record();
        let trace = recorded.as_ref().map(Recorded::context).or(attempt.trace()).cloned();
        let ended = tokio::select! {
            biased;
            state = &mut stopped => Ended::Over(state.ok()),
            ended = attempt.run(input, trace) => ended,
        };
        let became = match ended {
            Ended::Over(state) => Became::of(state),
            // Its own end makes the row say that it is over, which must not keep it from what follows.
            Ended::Here(ended) => attempt.end(ended).await,
        };
        if let Some(recorded) = &mut recorded {
            became.tell(recorded);
        }
        // From here on it is nobody's that it could be told to stop.
        drop(stopped);
        attempt.forget();
    });
}

/// Stops the attempts that none of `tasks` speaks of, then compares each.
pub(super) fn only_these_run(agents: &Arc<Agents>, tasks: &[Task]) {
    let ordered: HashSet<_> = tasks.iter().map(|task| task.id).collect();
    agents.attempts.running().retain(|task, _| ordered.contains(task));
    tasks.iter().for_each(|task| task_changed(agents, task, None));
}

impl Attempts {
    /// Waits until no attempt runs, or until `deadline`.
    pub(super) async fn wait(&self, deadline: Instant) {
        self.loops.close();
        let _late = tokio::time::timeout_at(deadline, self.loops.wait()).await;
    }

    /// Ends what runs. It goes to others when this run is over, and does not count.
    pub(super) fn end_all(&self) {
        self.running().clear();
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        // Every change under the lock is a single call, so a panic leaves it whole.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Attempt {
    agents: Arc<Agents>,
    task: Task,
    token: FencingToken,
}

/// How an attempt came to its end.
enum Ended {
    /// Its row says that it is over, and how the task stands, unless it was taken away.
    Over(Option<TaskState>),
    /// Its turn ended here, and its row does not know yet.
    Here(Result<(Bytes, Effects), Failure>),
}

/// What became of an attempt, for whoever collects traces.
struct Became {
    what: &'static str,
    why: Option<String>,
}

impl Attempt {
    /// Begins its span, if its task is part of a trace that is recorded.
    fn record(&self) -> Option<Recorded> {
        let Task { id, agent, attempt, .. } = &self.task;
        let of = Some(self.trace()?);
        let mut recorded = self.agents.context.services().traces().follow(of, || format!("attempt {}", agent.name))?;
        recorded.say("pelago.agent", agent.to_string());
        recorded.say("pelago.task", id.to_string());
        recorded.say("pelago.attempt", i64::from(*attempt));
        Some(recorded)
    }

    fn trace(&self) -> Option<&TraceContext> {
        self.task.part_of.as_ref()?.trace.as_ref()
    }

    /// Does the work, of which what follows is part of `trace`.
    async fn run(&self, input: Option<Bytes>, trace: Option<TraceContext>) -> Ended {
        let input = match input {
            Some(input) => input,
            None => match self.read_input().await {
                Ok(input) => input,
                Err(failure) => return Ended::Here(Err(failure)),
            },
        };
        let limit = Duration::from_millis(self.task.policy.attempt_ms_max);
        let work = Work::Task { task: self.task.id, token: self.token, limit, session: None };
        let agent = &self.task.agent;
        let priority = Priority::new(self.task.priority.into()).unwrap_or_default();
        let input = Headers { priority, trace, ..Headers::default() }.of(input);
        if let Some(session) = self.task.part_of.as_ref().and_then(|part_of| part_of.session.as_ref()) {
            // Its entry is appended by the commit that ends the attempt.
            let turn = Box::pin(self.agents.attempt_in_session(&self.task, session, self.token, limit, input));
            return match within(limit, turn).await {
                Ok(_) => Ended::Over(Some(TaskState::Done)),
                Err(failure) => Ended::Here(Err(failure)),
            };
        }
        Ended::Here(match self.agents.hosted.get(&agent.name) {
            // Its turn's commit has ended the attempt, or it failed and nothing has.
            Some(Hosted::Keyed(_)) => match self.agents.run(agent, work, input).await {
                Ok(_) => return Ended::Over(Some(TaskState::Done)),
                Err(failure) => Err(failure),
            },
            Some(Hosted::Pool(pool)) => within(limit, pool.run(&self.agents.context, agent, work, input)).await,
            Some(Hosted::Resident(resident)) => within(limit, resident.run(agent, work, input)).await,
            None => Err(Failure::Hopeless(format!("agent {} is not hosted here", agent.name))),
        })
    }

    async fn read_input(&self) -> Result<Bytes, Failure> {
        let (reader, id) = (Arc::clone(&self.agents.context.reader), self.task.id);
        let read = tokio::task::spawn_blocking(move || reader.view(|view| view.task(id))).await;
        let whole = read.map_err(|_| Failure::Stopped)?.map_err(|error| Failure::Failed(error.to_string()))?;
        whole.map(|whole| whole.input).ok_or(Failure::Stopped)
    }

    /// Proposes how the attempt ended, until the store has an answer.
    async fn end(&self, ended: Result<(Bytes, Effects), Failure>) -> Became {
        let Some((verdict, effects)) = self.verdict(ended) else { return Became::of(None) };
        let became = Became::by(&verdict);
        // Only keyed agents have timers, and their results are part of a turn.
        let Effects { sends, enqueues, timers: _, tells } = effects;
        let (task, token) = (self.task.id, self.token);
        match self.propose(Finish { task, token, verdict, sends, enqueues, append: None }).await {
            Some(Outcome::Refused(Refusal::StaleToken { .. } | Refusal::NoTask(_))) | None => Became::of(None),
            // The store refused the result itself: too large, an inbox full.
            Some(Outcome::Refused(refusal)) => {
                let retry_after_ms = self.retry_after_ms();
                let verdict = Verdict::Failed { reason: refusal.to_string(), retry_after_ms };
                let became = Became::by(&verdict);
                let (sends, enqueues) = (Vec::new(), Vec::new());
                self.propose(Finish { task, token, verdict, sends, enqueues, append: None }).await;
                became
            }
            Some(_) => {
                super::tell_all(&self.agents.context, tells).await;
                became
            }
        }
    }

    fn verdict(&self, ended: Result<(Bytes, Effects), Failure>) -> Option<(Verdict, Effects)> {
        let verdict = match ended {
            Ok((result, effects)) => return Some((Verdict::Done(result), effects)),
            Err(Failure::Refused(Refusal::StaleToken { .. })) => return None,
            // If its turn was committed the attempt is over, and this is refused.
            Err(Failure::Stopped | Failure::Elsewhere(_) | Failure::Lapsed | Failure::Unknown) => {
                Verdict::Returned(Return::NotTaken)
            }
            // Others of its session came first: it has its turn after them.
            Err(Failure::SessionBusy | Failure::SessionFull { .. } | Failure::Refused(Refusal::Overtaken { .. })) => {
                Verdict::Returned(Return::SessionBusy)
            }
            Err(Failure::Interrupted) => Verdict::Returned(Return::Interrupted),
            Err(Failure::Hopeless(reason)) => Verdict::Hopeless { reason },
            Err(
                failure @ (Failure::Failed(_)
                | Failure::Unreadable(_)
                | Failure::Busy
                | Failure::DiskFull
                | Failure::TimedOut { .. }
                | Failure::Refused(_)),
            ) => Verdict::Failed { reason: failure.to_string(), retry_after_ms: self.retry_after_ms() },
        };
        Some((verdict, Effects::default()))
    }

    fn retry_after_ms(&self) -> u64 {
        ids::jittered(self.task.policy.backoff(self.task.attempt))
    }

    async fn propose(&self, finish: Finish) -> Option<Outcome> {
        loop {
            match self.agents.context.committer.propose(Op::Finish(finish.clone())).await {
                Ok(outcome) => return Some(outcome),
                Err(ProposeError::Stopped | ProposeError::Malformed { .. }) => return None,
                Err(ProposeError::NotLeader | ProposeError::Unknown | ProposeError::DiskFull) => {
                    tokio::time::sleep(PROPOSE_AGAIN).await;
                }
            }
        }
    }

    /// The attempt is over. Another may have taken its place, under the same token too, if a row of before was heard of
    /// between two that order it: then somebody waits to be stopped.
    fn forget(&self) {
        let mut running = self.agents.attempts.running();
        if running.get(&self.task.id).is_some_and(|(_, stop)| stop.is_closed()) {
            running.remove(&self.task.id);
        }
    }
}

impl Became {
    /// As the row says it of the task.
    fn of(state: Option<TaskState>) -> Self {
        let what = match state {
            Some(TaskState::Done) => "done",
            Some(TaskState::Queued) => "failed",
            Some(TaskState::Dead) => "dead",
            Some(TaskState::Cancelled) => "cancelled",
            Some(TaskState::Running) | None => "taken away",
        };
        Self { what, why: None }
    }

    fn by(verdict: &Verdict) -> Self {
        let (what, why) = match verdict {
            Verdict::Done(_) => ("done", None),
            Verdict::Failed { reason, retry_after_ms: _ } => ("failed", Some(reason.clone())),
            Verdict::Hopeless { reason } => ("dead", Some(reason.clone())),
            Verdict::Returned(_) => ("returned", None),
        };
        Self { what, why }
    }

    fn tell(self, recorded: &mut Recorded) {
        recorded.say("pelago.outcome", self.what);
        if self.what != "done" {
            recorded.fail(self.why.as_deref().unwrap_or(self.what));
        }
    }
}

async fn within<T>(limit: Duration, turn: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    tokio::time::timeout(limit, turn).await.unwrap_or(Err(Failure::TimedOut { limit_ms }))
}
