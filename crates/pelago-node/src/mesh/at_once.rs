//! Questions that are answered where they are read.
//!
//! A question to a pool of this node whose code is known to be quick is put to it on the reading loop, so that neither a
//! loop nor a wake falls on it. What does not end at once goes on as a loop of its own.

use std::{
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use pelago_core::agent::Failure;
use tokio::task::coop::unconstrained;

use crate::agents::AskedTurn;

/// How long one batch of a link may keep its reading loop with questions.
const BATCH_MAX: Duration = Duration::from_micros(500);
/// How many are answered before the clock is read.
const LOOK_EVERY: u32 = 16;

/// What came of a question that was put to its agent where it was read.
pub(super) enum AtOnce {
    /// Its answer.
    Answered(Bytes),
    /// The agent waits for something.
    Waits(BoxFuture<'static, Bytes>),
}

/// Runs a turn as far as it comes without waiting.
///
/// # Errors
/// The turn, if it waits: whoever awaits it polls it again, with a waker of its own.
pub(super) fn begin(mut turn: AskedTurn) -> Result<Result<Bytes, Failure>, AskedTurn> {
    let mut nobody = Context::from_waker(Waker::noop());
    match unconstrained(&mut turn).poll_unpin(&mut nobody) {
        Poll::Ready(reply) => Ok(reply),
        Poll::Pending => Err(turn),
    }
}

/// How much of a batch may still be answered where it is read.
pub(super) struct Budget {
    since: Instant,
    answered: u32,
    is_spent: bool,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), answered: 0, is_spent: false }
    }

    pub(super) fn is_spent(&self) -> bool {
        self.is_spent
    }

    /// Counts a question that was answered.
    pub(super) fn spend(&mut self) {
        self.answered += 1;
        if self.answered.is_multiple_of(LOOK_EVERY) {
            self.is_spent = self.since.elapsed() > BATCH_MAX;
        }
    }
}
