//! An agent that lives and dies with its node: one loop, memory only.

use bytes::Bytes;
use pelago_core::{
    agent::{Failure, Work},
    id::AgentId,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    Context, Told, emit,
    pool::{failure, run_all, run_turn},
};
use crate::{
    host::{Effects, Kind},
    metrics::Metrics,
};

/// Deliveries that wait; more are refused as busy.
const MAILBOX_MAX: usize = 1_024;

/// Reaches the agent.
pub(super) struct Resident(mpsc::Sender<Delivery>);

pub(super) enum Delivery {
    /// Something to do that is answered.
    One { agent: AgentId, work: Work, payload: Bytes, answer: oneshot::Sender<Result<(Bytes, Effects), Failure>> },
    /// What nobody waits for.
    Told { agent: AgentId, told: Told },
}

/// The loop that owns the agent's memory.
pub(super) struct Loop {
    kind: Kind,
    context: Context,
    deliveries: mpsc::Receiver<Delivery>,
}

impl Resident {
    pub(super) fn new(kind: Kind, context: Context) -> (Loop, Self) {
        let (sender, deliveries) = mpsc::channel(MAILBOX_MAX);
        (Loop { kind, context, deliveries }, Self(sender))
    }

    pub(super) async fn run(&self, agent: &AgentId, work: Work, payload: Bytes) -> Result<(Bytes, Effects), Failure> {
        let (answer, reply) = oneshot::channel();
        let delivery = Delivery::One { agent: agent.clone(), work, payload, answer };
        self.0.try_send(delivery).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Failure::Busy,
            mpsc::error::TrySendError::Closed(_) => Failure::Stopped,
        })?;
        reply.await.map_err(|_| Failure::Stopped)?
    }

    /// Where deliveries go.
    pub(super) fn mailbox(&self) -> &mpsc::Sender<Delivery> {
        &self.0
    }
}

impl Loop {
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut memory = self.kind.behaviour.hydrate(None);
        loop {
            let delivery = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(delivery) = self.deliveries.recv() => delivery,
                else => return,
            };
            match (delivery, &mut memory) {
                (Delivery::One { agent, work, payload, answer }, Ok(living)) => {
                    let ended = run_turn(living.as_mut(), &self.context, &agent, work, payload).await;
                    let Metrics { turns, turns_failed, .. } = &*self.context.metrics;
                    if ended.is_ok() {
                        turns.inc()
                    } else {
                        turns_failed.inc()
                    };
                    // Whoever asked may have gone.
                    let _gone = answer.send(ended);
                }
                (Delivery::One { answer, .. }, Err(fault)) => drop(answer.send(Err(failure(fault.clone())))),
                (Delivery::Told { agent, told }, Ok(living)) => {
                    let effects = run_all(living.as_mut(), &self.context, &agent, told, false).await;
                    emit(&self.context, &agent, effects).await;
                }
                // Dropped, it counts as lost.
                (Delivery::Told { .. }, Err(_)) => {}
            }
        }
    }
}
