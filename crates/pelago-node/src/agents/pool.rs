//! Agents without state of their own: whoever asks runs the turn, a bounded number at a time.

use std::sync::Arc;

use bytes::Bytes;
use pelago_core::{
    agent::{Failure, Work},
    id::AgentId,
    message::Content,
    record::REASON_BYTES_MAX,
};
use tokio::sync::Semaphore;

use super::{Context, Told, turns::Turns};
use crate::{
    host::{Counts, Effects, Fault, Kind, Living, Turn},
    sessions::SessionRule,
};

/// How many turns of a pool may wait for each one that runs.
const WAITING_PER_TURN_MAX: usize = 128;

pub(super) struct Pool {
    kind: Kind,
    turns: Arc<Turns>,
    /// Turns running and waiting. Whatever one is told at once takes one.
    places: Arc<Semaphore>,
    places_max: usize,
}

impl Pool {
    pub(super) fn new(kind: Kind) -> Self {
        let turns = kind.tasks_max.get() as usize;
        let places_max = turns * (1 + WAITING_PER_TURN_MAX);
        Self { kind, turns: Turns::new(turns), places: Arc::new(Semaphore::new(places_max)), places_max }
    }

    /// Whether its turns may run wherever they are asked for.
    pub(super) fn is_quick(&self) -> bool {
        self.kind.behaviour.is_quick()
    }

    pub(super) fn session_rule(&self) -> SessionRule {
        self.kind.session
    }

    /// How many turns wait for one of those that run.
    pub(super) fn waiting(&self) -> usize {
        let running_max = self.kind.tasks_max.get() as usize;
        let taken = running_max * (1 + WAITING_PER_TURN_MAX) - self.places.available_permits();
        taken.saturating_sub(running_max - self.turns.free())
    }

    /// How many turns run or wait.
    pub(super) fn in_flight(&self) -> u32 {
        let taken = self.places_max.saturating_sub(self.places.available_permits());
        u32::try_from(taken).unwrap_or(u32::MAX)
    }

    /// Waits until no turn runs or waits. Meanwhile fewer and fewer find a place.
    pub(super) async fn drained(&self) {
        let all = u32::try_from(self.places_max).unwrap_or(u32::MAX);
        // Never closed.
        drop(self.places.acquire_many(all).await);
    }

    /// A place for what one is told.
    pub(super) fn places(&self) -> Arc<Semaphore> {
        Arc::clone(&self.places)
    }

    /// Runs one turn. Dropping the future stops it.
    pub(super) async fn run(
        &self,
        context: &Context,
        agent: &AgentId,
        work: Work,
        content: Content,
    ) -> Result<(Bytes, Effects), Failure> {
        let Ok(_place) = self.places.try_acquire() else {
            context.metrics.busy.inc();
            return Err(Failure::Busy);
        };
        let _turn = self.turns.begin(content.priority()).await;
        let mut fresh = self.kind.behaviour.hydrate(None).map_err(failure)?;
        let ended = run_turn(fresh.as_mut(), context, agent, work, content).await;
        let counter = if ended.is_ok() { &context.metrics.turns } else { &context.metrics.turns_failed };
        counter.inc();
        ended
    }

    /// Runs a turn for each of `told`.
    pub(super) async fn take(&self, context: &Context, agent: &AgentId, mut told: Told) -> Effects {
        let _turn = self.turns.begin(told.priority()).await;
        match self.kind.behaviour.hydrate(None) {
            Ok(mut fresh) => {
                let mut effects = Effects::default();
                while told.left() > 0 {
                    effects.append(run_some(fresh.as_mut(), context, agent, &mut told, true).await);
                    tokio::task::yield_now().await;
                }
                effects
            }
            // Dropped, what it was told counts as lost.
            Err(_fault) => Effects::default(),
        }
    }
}

/// Runs one turn of an agent whose memory is not stored.
pub(super) async fn run_turn(
    agent: &mut dyn Living,
    context: &Context,
    id: &AgentId,
    work: Work,
    content: Content,
) -> Result<(Bytes, Effects), Failure> {
    let Content { headers, payload } = content;
    let mut turn = Turn::new(id.clone(), work, headers, context.services());
    let reply = guarded(agent, payload, &mut turn).await.map_err(failure)?;
    Ok((reply, turn.into_effects()))
}

/// Runs a turn for each of `told`, until others should have their turn, of an agent whose memory is not stored; each on
/// a new one if `anew`.
pub(super) async fn run_some(
    agent: &mut dyn Living,
    context: &Context,
    id: &AgentId,
    told: &mut Told,
    anew: bool,
) -> Effects {
    use futures_util::FutureExt as _;
    let mut turn = Turn::new(id.clone(), Work::Tell, None, context.services());
    let running = std::panic::AssertUnwindSafe(agent.run_some(told, anew, &mut turn));
    if running.catch_unwind().await.is_err() {
        turn.take_back();
        tracing::warn!(agent = %id, "it panicked at something that it was told");
    }
    let Counts { done, failed } = turn.told();
    told.lose(u32::try_from(failed).expect("a batch of messages is small"));
    context.metrics.told.inc_by(done);
    context.metrics.turns.inc_by(done);
    context.metrics.turns_failed.inc_by(failed);
    turn.into_effects()
}

/// Runs a behaviour; a panic is its failure and nobody else's.
pub(super) async fn guarded(agent: &mut dyn Living, payload: Bytes, turn: &mut Turn) -> Result<Bytes, Fault> {
    use futures_util::FutureExt as _;
    let mut recorded = turn.record();
    let running = std::panic::AssertUnwindSafe(agent.run(payload, turn));
    let ended = running.catch_unwind().await.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(Fault::new(format!("it panicked: {}", text.unwrap_or_else(|| "without a message".into()))))
    });
    if let (Some(recorded), Err(fault)) = (&mut recorded, &ended) {
        recorded.fail(fault.reason());
    }
    ended.map(|reply| turn.sealed(reply))
}

pub(super) fn failure(fault: Fault) -> Failure {
    let Fault { mut reason, hopeless } = fault;
    // It may quote what the agent was given.
    reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
    if hopeless { Failure::Hopeless(reason) } else { Failure::Failed(reason) }
}
