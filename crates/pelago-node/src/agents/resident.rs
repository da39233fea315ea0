//! An agent that lives and dies with its node: one loop, memory only.

use bytes::Bytes;
use pelago_core::{
    agent::{Failure, Work},
    id::AgentId,
    message::{Content, Priority},
};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{
    Context, Told, emit,
    mailbox::{Deliverable, Mailbox, NotPut},
    pool::{failure, run_some, run_turn},
};
use crate::{
    host::{Effects, Fault, Kind, Living},
    metrics::Metrics,
    sessions::SessionRule,
};

/// Deliveries that wait; more are refused as busy.
const MAILBOX_MAX: usize = 1_024;

/// Reaches the agent.
pub(super) struct Resident {
    mailbox: Mailbox<Delivery>,
    session_rule: SessionRule,
}

pub(super) enum Delivery {
    /// Something to do that is answered.
    One { agent: AgentId, work: Work, content: Content, answer: oneshot::Sender<Result<(Bytes, Effects), Failure>> },
    /// What nobody waits for.
    Told { agent: AgentId, told: Told },
}

/// The loop that owns the agent's memory.
pub(super) struct Loop {
    kind: Kind,
    context: Context,
    mailbox: Mailbox<Delivery>,
}

impl Resident {
    pub(super) fn new(kind: Kind, context: Context) -> (Loop, Self) {
        let mailbox = Mailbox::new(MAILBOX_MAX);
        let this = Self { mailbox: mailbox.clone(), session_rule: kind.session };
        (Loop { kind, context, mailbox }, this)
    }

    pub(super) async fn run(&self, agent: &AgentId, work: Work, content: Content) -> Result<(Bytes, Effects), Failure> {
        let (answer, reply) = oneshot::channel();
        let delivery = Delivery::One { agent: agent.clone(), work, content, answer };
        self.mailbox.try_put(delivery).map_err(|not_put| match not_put {
            NotPut::Full(_) => Failure::Busy,
            NotPut::Closed(_) => Failure::Stopped,
        })?;
        reply.await.map_err(|_| Failure::Stopped)?
    }

    /// Where deliveries go.
    pub(super) fn mailbox(&self) -> &Mailbox<Delivery> {
        &self.mailbox
    }

    pub(super) fn session_rule(&self) -> SessionRule {
        self.session_rule
    }
}

impl Loop {
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut memory = self.kind.behaviour.hydrate(None);
        while !stop.is_cancelled() {
            let Some((taken, delivery)) = self.mailbox.take_if(|_| true) else {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => {}
                    () = self.mailbox.arrived() => {}
                }
                continue;
            };
            if let Some(rest) = self.handle(delivery, &mut memory).await {
                taken.put_back(rest);
                // Others of this thread have their turn.
                tokio::task::yield_now().await;
            }
        }
        self.mailbox.close().for_each(drop);
    }

    /// Handles a delivery, and gives back what is left of it.
    async fn handle(&self, delivery: Delivery, memory: &mut Result<Box<dyn Living>, Fault>) -> Option<Delivery> {
        match (delivery, memory) {
            // Whoever asked may have gone: then nobody wants it any more.
            (Delivery::One { answer, .. }, _) if answer.is_closed() => None,
            (Delivery::One { agent, work, content, mut answer }, Ok(living)) => {
                let is_of_session = work.session().is_some();
                let turn = run_turn(living.as_mut(), &self.context, &agent, work, content);
                let ended = tokio::select! {
                    ended = turn => ended,
                    // Nobody waits: another message of the session interrupted it. Its memory is as the turn left it.
                    () = answer.closed(), if is_of_session => Err(Failure::Interrupted),
                };
                let Metrics { turns, turns_failed, .. } = &*self.context.metrics;
                if ended.is_ok() {
                    turns.inc()
                } else {
                    turns_failed.inc()
                };
                let _gone = answer.send(ended);
                None
            }
            (Delivery::One { answer, .. }, Err(fault)) => {
                let _gone = answer.send(Err(failure(fault.clone())));
                None
            }
            (Delivery::Told { agent, mut told }, Ok(living)) => {
                let effects = run_some(living.as_mut(), &self.context, &agent, &mut told, false).await;
                emit(&self.context, &agent, effects).await;
                (told.left() > 0).then_some(Delivery::Told { agent, told })
            }
            // Dropped, it counts as lost.
            (Delivery::Told { .. }, Err(_)) => None,
        }
    }
}

impl Deliverable for Delivery {
    fn priority(&self) -> Priority {
        match self {
            Self::One { content, .. } => content.priority(),
            Self::Told { told, .. } => told.priority(),
        }
    }
}
