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
    message::{Headers, Priority},
    record::{Finish, Op, Outcome, Refusal, Task, TaskState, Verdict},
};
use pelago_store::ProposeError;
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Agents, Hosted};
use crate::{host::Effects, ids};

/// The pause before a result is proposed again after the control log did not answer.
const PROPOSE_AGAIN: Duration = Duration::from_millis(200);

#[derive(Default)]
pub(super) struct Attempts {
    /// A short-lived lock: nothing is awaited under it.
    running: Mutex<HashMap<TaskId, (FencingToken, CancellationToken)>>,
    loops: TaskTracker,
}

/// Compares the row with what runs, and starts or stops an attempt.
pub(super) fn task_changed(agents: &Arc<Agents>, task: &Task, input: Option<Bytes>) {
    let here = task.state == TaskState::Running && task.holder == Some(agents.context.holder());
    let ordered = task.token.filter(|_| here);
    let mut running = agents.attempts.running();
    if running.get(&task.id).map(|(token, _)| *token) == ordered {
        return;
    }
    if let Some((token, stop)) = running.remove(&task.id) {
        stop.cancel();
        agents.task_gone(&task.agent, task.id, token);
    }
    // A node that has put its agents away begins nothing: it takes leave, and the attempt does not count.
    let Some(token) = ordered.filter(|_| !agents.stopping.is_cancelled()) else { return };
    let stop = CancellationToken::new();
    running.insert(task.id, (token, stop.clone()));
    drop(running);
    let attempt = Attempt { agents: Arc::clone(agents), task: task.clone(), token };
    agents.context.metrics.attempts.inc();
    agents.attempts.loops.spawn(async move {
        let ended = tokio::select! {
            biased;
            () = stop.cancelled() => None,
            ended = attempt.run(input) => ended,
        };
        // Its own end makes the row say that it is over, which must not keep it from what follows.
        if let Some(ended) = ended {
            attempt.end(ended).await;
        }
        attempt.forget();
    });
}

/// Stops the attempts that none of `tasks` speaks of, then compares each.
pub(super) fn only_these_run(agents: &Arc<Agents>, tasks: &[Task]) {
    let ordered: HashSet<_> = tasks.iter().map(|task| task.id).collect();
    agents.attempts.running().retain(|task, (_, stop)| {
        let stays = ordered.contains(task);
        if !stays {
            stop.cancel();
        }
        stays
    });
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
        self.running().values().for_each(|(_, stop)| stop.cancel());
    }

    fn running(&self) -> MutexGuard<'_, HashMap<TaskId, (FencingToken, CancellationToken)>> {
        // Every change under the lock is a single call, so a panic leaves it whole.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Attempt {
    agents: Arc<Agents>,
    task: Task,
    token: FencingToken,
}

impl Attempt {
    /// Does the work. `None` if the attempt is over with it.
    async fn run(&self, input: Option<Bytes>) -> Option<Result<(Bytes, Effects), Failure>> {
        let input = match input {
            Some(input) => input,
            None => match self.read_input().await {
                Ok(input) => input,
                Err(failure) => return Some(Err(failure)),
            },
        };
        let limit = Duration::from_millis(self.task.policy.attempt_ms_max);
        let work = Work::Task { task: self.task.id, token: self.token, limit };
        let agent = &self.task.agent;
        let priority = Priority::new(self.task.priority.into()).unwrap_or_default();
        let input = Headers { priority, ..Headers::default() }.of(input);
        Some(match self.agents.hosted.get(&agent.name) {
            // Its turn's commit has ended the attempt, or it failed and nothing has.
            Some(Hosted::Keyed(_)) => match self.agents.run(agent, work, input).await {
                Ok(_) => return None,
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
    async fn end(&self, ended: Result<(Bytes, Effects), Failure>) {
        let Some((verdict, effects)) = self.verdict(ended) else {
            return;
        };
        // Only keyed agents have timers, and their results are part of a turn.
        let Effects { sends, enqueues, timers: _, tells } = effects;
        let finish = Finish { task: self.task.id, token: self.token, verdict, sends, enqueues };
        match self.propose(finish).await {
            Some(Outcome::Refused(Refusal::StaleToken { .. } | Refusal::NoTask(_))) | None => {}
            // The store refused the result itself: too large, an inbox full.
            Some(Outcome::Refused(refusal)) => {
                let retry_after_ms = self.retry_after_ms();
                let verdict = Verdict::Failed { reason: refusal.to_string(), retry_after_ms };
                let (sends, enqueues) = (Vec::new(), Vec::new());
                self.propose(Finish { task: self.task.id, token: self.token, verdict, sends, enqueues }).await;
            }
            Some(_) => super::tell_all(&self.agents.context, tells).await,
        }
    }

    fn verdict(&self, ended: Result<(Bytes, Effects), Failure>) -> Option<(Verdict, Effects)> {
        let verdict = match ended {
            Ok((result, effects)) => return Some((Verdict::Done(result), effects)),
            Err(Failure::Refused(Refusal::StaleToken { .. })) => return None,
            Err(Failure::Stopped | Failure::Elsewhere(_) | Failure::Lapsed) => Verdict::Returned,
            Err(Failure::Hopeless(reason)) => Verdict::Hopeless { reason },
            // If its turn was committed the attempt is over, and this is refused.
            Err(Failure::Unknown) => Verdict::Returned,
            Err(
                failure @ (Failure::Failed(_)
                | Failure::Unreadable(_)
                | Failure::Busy
                | Failure::SessionBusy
                | Failure::SessionFull { .. }
                | Failure::Interrupted
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

    /// The attempt is over, unless a later one has taken its place.
    fn forget(&self) {
        let mut running = self.agents.attempts.running();
        if running.get(&self.task.id).is_some_and(|(token, _)| *token == self.token) {
            running.remove(&self.task.id);
        }
    }
}

async fn within<T>(limit: Duration, turn: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    tokio::time::timeout(limit, turn).await.unwrap_or(Err(Failure::TimedOut { limit_ms }))
}
