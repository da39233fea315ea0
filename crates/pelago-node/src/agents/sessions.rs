//! Turns of sessions on this node: each sees what was said before it, and is answered once it is part of that.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use pelago_core::{
    agent::{Failure, Work},
    id::{AgentId, FencingToken, SessionId, TaskId, TurnId},
    message::{Content, Priority},
    record::{
        Append, BodyHash, Finish, IdempotencyKey, Op, Refusal, SESSION_ENTRY_BYTES_MAX, Session, SessionTurn, Task,
        TaskSession, Verdict,
    },
};
use pelago_store::sqlite;
use tokio::time::timeout;

use super::{Agents, Context, Hosted, activation::Command, not_hosted, pool::Pool, resident::Resident, send, tell_all};
use crate::{
    host::Effects,
    ids,
    sessions::{InSession, Pass, SessionRule, WhenBusy},
};

/// How often a turn is done that others overtake. Each time it has seen what they added.
const TRIES_MAX: u32 = 4;

/// Under which key a reply is remembered, and the hash of the request.
type Remembered = Option<(IdempotencyKey, BodyHash)>;

/// What a turn of a session is of.
#[derive(Debug, Clone)]
enum TurnOf {
    Question(Remembered),
    Attempt { task: TaskId, token: FencingToken, limit: Duration },
}

impl Agents {
    /// Runs one turn of a session here, after those that came before it, and returns its reply once it is appended to
    /// the session.
    ///
    /// # Errors
    /// [`Failure`] says what became of it.
    pub(crate) async fn converse(
        self: &Arc<Self>,
        agent: &AgentId,
        within: &InSession,
        remember: Remembered,
        content: Content,
    ) -> Result<Bytes, Failure> {
        let rule = self.session_rule(agent).ok_or_else(|| not_hosted(&agent.name))?;
        let within = InSession { busy: within.busy.or(Some(rule.busy)), ..within.clone() };
        self.take_turn(agent, &within, rule, &TurnOf::Question(remember), content).await
    }

    /// Runs an attempt at a task as a turn of its session, after those that came before it. The task is done once its
    /// result is appended to the session.
    ///
    /// # Errors
    /// [`Failure`] says what became of it.
    pub(super) async fn attempt_in_session(
        self: &Arc<Self>,
        task: &Task,
        session: &TaskSession,
        token: FencingToken,
        limit: Duration,
        content: Content,
    ) -> Result<Bytes, Failure> {
        let agent = &task.agent;
        let rule = self.session_rule(agent).ok_or_else(|| not_hosted(&agent.name))?;
        let ttl = session.ttl_ms.map(Duration::from_millis);
        let within = InSession { name: session.name.clone(), busy: Some(WhenBusy::Queue), ttl };
        let of = TurnOf::Attempt { task: task.id, token, limit };
        self.take_turn(agent, &within, rule, &of, content).await
    }

    async fn take_turn(
        self: &Arc<Self>,
        agent: &AgentId,
        within: &InSession,
        rule: SessionRule,
        of: &TurnOf,
        content: Content,
    ) -> Result<Bytes, Failure> {
        if content.payload.len() > SESSION_ENTRY_BYTES_MAX {
            return Err(too_large(content.payload.len()));
        }
        // A node that stops waits for it until then, for what it adds to the session too.
        let _under_way = self.loops.token();
        if self.closed.is_cancelled() {
            return Err(Failure::Stopped);
        }
        let busy = within.busy.unwrap_or_default();
        let session = within.with(agent);
        let metrics = &self.context.metrics;
        let pass = self.gates.enter(&session, busy);
        let pass = match of {
            TurnOf::Question(_) => pass.await,
            // The rest is for its turn. It comes again, and that it waited is no failure.
            TurnOf::Attempt { limit, .. } => timeout(*limit / 2, pass).await.unwrap_or(Err(Failure::SessionBusy)),
        };
        let pass = pass.inspect_err(|why| metrics.session_turn(outcome(why)))?;
        let mut tries = 0;
        loop {
            tries += 1;
            let seen = self.context.see(&session, tries > 1).await?;
            let turn = Arc::new(turn_after(session.clone(), seen.as_ref(), within, rule));
            let ended = self.turn_of_session(agent, turn, of, content.clone(), &pass).await;
            metrics.session_turn(ended.as_ref().map_or_else(outcome, |_| "appended"));
            match ended {
                // The other one is over, and is seen the next time.
                Err(Failure::Refused(Refusal::Overtaken { .. })) if busy == WhenBusy::Reject => {
                    return Err(Failure::SessionBusy);
                }
                Err(Failure::Refused(Refusal::Overtaken { .. })) if tries < TRIES_MAX => {}
                ended => return ended,
            }
        }
    }

    async fn turn_of_session(
        self: &Arc<Self>,
        agent: &AgentId,
        turn: Arc<SessionTurn>,
        of: &TurnOf,
        content: Content,
        pass: &Pass,
    ) -> Result<Bytes, Failure> {
        if !self.context.lease.is_valid() {
            return Err(Failure::Lapsed);
        }
        let id = turn.id;
        let work = of.work(Arc::clone(&turn));
        let (reply, effects) = match self.hosted.get(&agent.name) {
            Some(Hosted::Keyed(kind)) => {
                let priority = content.priority();
                let running = self.run_keyed(kind, agent, work, content);
                tokio::pin!(running);
                tokio::select! {
                    // First, so that the turn is in the mailbox before the word that it is not wanted.
                    biased;
                    reply = &mut running => return reply,
                    () = pass.interrupted() => self.interrupt(agent, id, priority).await,
                }
                // It says whether that came in time.
                return running.await;
            }
            Some(Hosted::Pool(pool)) => {
                tokio::select! {
                    ended = Pool::run(pool, &self.context, agent, work, content.clone()) => ended?,
                    () = pass.interrupted() => return Err(Failure::Interrupted),
                }
            }
            Some(Hosted::Resident(resident)) => {
                tokio::select! {
                    ended = Resident::run(resident, agent, work, content.clone()) => ended?,
                    () = pass.interrupted() => return Err(Failure::Interrupted),
                }
            }
            None => return Err(not_hosted(&agent.name)),
        };
        append(&self.context, of, &turn, content.payload, &reply, effects).await?;
        Ok(reply)
    }

    /// Tells an activation that a turn is not to have any effect.
    async fn interrupt(&self, agent: &AgentId, turn: TurnId, priority: Priority) {
        let mailbox = self.active().get(agent).cloned();
        if let Some(mailbox) = mailbox {
            // One that is gone answers that turn with that.
            let _gone = mailbox.put(Command::Interrupt { turn, priority }).await;
        }
    }

    fn session_rule(&self, agent: &AgentId) -> Option<SessionRule> {
        Some(match self.hosted.get(&agent.name)? {
            Hosted::Keyed(kind) => kind.session,
            Hosted::Pool(pool) => pool.session_rule(),
            Hosted::Resident(resident) => resident.session_rule(),
        })
    }
}

impl Context {
    /// The session as it stands; `None` if it is new, or nobody used it for too long. A row that another node wrote last
    /// may be old here, and one that is not here may be elsewhere: then what a majority knows is waited for. Should this
    /// node be wrong all the same, its turn is overtaken, by which it has read what it lacked.
    async fn see(&self, id: &SessionId, was_overtaken: bool) -> Result<Option<Session>, Failure> {
        let row = self.read_session(id).await?;
        let is_own = row.as_ref().is_some_and(|row| row.holder == self.holder());
        let row = if is_own || was_overtaken {
            row
        } else {
            self.forward.catch_up().await.map_err(|_no_majority| Failure::Lapsed)?;
            self.read_session(id).await?
        };
        let now = self.consensus.log_time();
        Ok(row.filter(|row| !row.has_ended(now)))
    }

    async fn read_session(&self, id: &SessionId) -> Result<Option<Session>, Failure> {
        let (reader, id) = (Arc::clone(&self.reader), id.clone());
        let read = move || reader.view(|view| view.session(&id));
        let read: Result<_, sqlite::Error> = tokio::task::spawn_blocking(read).await.map_err(|_| Failure::Stopped)?;
        read.map_err(|error| Failure::Failed(format!("the session cannot be read: {error}")))
    }
}

fn turn_after(session: SessionId, seen: Option<&Session>, within: &InSession, rule: SessionRule) -> SessionTurn {
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    SessionTurn {
        session,
        id: TurnId(ids::random()),
        seen: seen.map_or(0, |seen| seen.entries),
        after: seen.map_or(TurnId(0), |seen| seen.last),
        ttl_ms: within.ttl.map(millis).or(seen.map(|seen| seen.ttl_ms)).unwrap_or_else(|| millis(rule.ttl)),
    }
}

impl TurnOf {
    fn work(&self, turn: Arc<SessionTurn>) -> Work {
        let session = Some(turn);
        match self {
            Self::Question(remember) => Work::Ask { remember: remember.clone(), session },
            Self::Attempt { task, token, limit } => Work::Task { task: *task, token: *token, limit: *limit, session },
        }
    }
}

/// Appends what was said and replied, together with what the turn sends and enqueues. A task is done with that.
async fn append(
    context: &Context,
    of: &TurnOf,
    turn: &SessionTurn,
    said: Bytes,
    reply: &Bytes,
    effects: Effects,
) -> Result<(), Failure> {
    let bytes = said.len() + reply.len();
    if bytes > SESSION_ENTRY_BYTES_MAX {
        return Err(too_large(bytes));
    }
    let Effects { sends, enqueues, timers: _, tells } = effects;
    let (turn, holder, replied) = (turn.clone(), context.holder(), reply.clone());
    let op = match of {
        TurnOf::Question(_) => Op::Append(Append { turn, holder, said, replied, sends, enqueues }),
        TurnOf::Attempt { task, token, limit: _ } => {
            let verdict = Verdict::Done(replied.clone());
            let append = Append { turn, holder, said, replied, sends: Vec::new(), enqueues: Vec::new() };
            Op::Finish(Finish { task: *task, token: *token, verdict, sends, enqueues, append: Some(Box::new(append)) })
        }
    };
    let sent = send(context, op).await;
    if matches!(sent, Err(Failure::Refused(Refusal::HolderGone(_)))) {
        // This run of the node is over, and nothing of the turn is kept: another node has the session.
        return Err(Failure::Stopped);
    }
    sent?;
    tell_all(context, tells).await;
    Ok(())
}

/// What became of a turn, as a counter's label.
fn outcome(failure: &Failure) -> &'static str {
    match failure {
        Failure::Refused(Refusal::Overtaken { .. }) => "overtaken",
        Failure::Interrupted => "interrupted",
        Failure::SessionBusy | Failure::SessionFull { .. } => "refused",
        Failure::Failed(_)
        | Failure::Hopeless(_)
        | Failure::Unreadable(_)
        | Failure::Busy
        | Failure::TimedOut { .. }
        | Failure::Refused(_)
        | Failure::Elsewhere(_)
        | Failure::Stopped
        | Failure::DiskFull
        | Failure::Lapsed
        | Failure::Unknown => "failed",
    }
}

fn too_large(bytes: usize) -> Failure {
    let (bytes, bytes_max) = (bytes as u64, SESSION_ENTRY_BYTES_MAX as u64);
    Failure::Refused(Refusal::TooLarge { what: "the session's entry", bytes, bytes_max })
}
