//! Questions that are answered where they are read.
//!
//! A question to a pool of this node whose code is known to be quick is put to it on the reading loop, so that neither
//! a loop nor a wake falls on it. What does not end at once goes on as a loop of its own.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
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
    let begun = catch_unwind(AssertUnwindSafe(|| unconstrained(&mut turn).poll_unpin(&mut nobody)));
    match begun {
        Ok(Poll::Ready(reply)) => Ok(reply),
        Ok(Poll::Pending) => Err(turn),
        // Even what makes the agent may panic, and the link is no part of it.
        Err(_panic) => Ok(Err(Failure::Failed("it panicked before its turn began".into()))),
    }
}

/// How long a batch may still be answered where it is read.
pub(super) struct Budget(Instant);

impl Budget {
    pub(super) fn new() -> Self {
        Self(Instant::now() + BATCH_MAX)
    }

    pub(super) fn is_spent(&self) -> bool {
        Instant::now() >= self.0
    }
}
