//! The turns of a pool: so many run at a time, and of those that wait the most urgent is next.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pelago_core::message::Priority;
use tokio::sync::oneshot;

use super::waiting::{Place, Waiting};

/// How many turns may run, and who waits for one. Whoever waits is bounded elsewhere.
#[derive(Debug)]
pub(super) struct Turns(Mutex<State>);

#[derive(Debug)]
struct State {
    free: usize,
    waiting: Waiting<oneshot::Sender<Running>>,
}

/// A turn that may run, until it is dropped.
#[derive(Debug)]
pub(super) struct Running(Option<Arc<Turns>>);

impl Turns {
    pub(super) fn new(free: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { free, waiting: Waiting::default() })))
    }

    /// How many more may run at once.
    pub(super) fn free(&self) -> usize {
        self.lock().free
    }

    /// Waits for a turn.
    ///
    /// # Cancel safety
    /// Dropping the future gives the place up.
    pub(super) async fn begin(self: &Arc<Self>, priority: Priority) -> Running {
        let waiting = {
            let mut state = self.lock();
            if state.free > 0 {
                state.free -= 1;
                return Running(Some(Arc::clone(self)));
            }
            let (turn, granted) = oneshot::channel();
            let place = state.waiting.push(priority, turn);
            Wait { turns: self, place, granted }
        };
        waiting.turn().await.expect("whoever waits is given a turn in the end: those that run hold the turns")
    }

    /// Gives a turn that has ended to whoever is next.
    fn end(self: Arc<Self>) {
        let mut state = self.lock();
        while let Some((_, next)) = state.waiting.pop() {
            match next.send(Running(Some(Arc::clone(&self)))) {
                Ok(()) => return,
                // It has gone. Dropped under the lock, its turn must not come back here.
                Err(mut turn) => turn.0 = None,
            }
        }
        state.free += 1;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who waits for a turn, and leaves no trace if dropped.
struct Wait<'a> {
    turns: &'a Turns,
    place: Place,
    granted: oneshot::Receiver<Running>,
}

impl Wait<'_> {
    async fn turn(mut self) -> Result<Running, oneshot::error::RecvError> {
        (&mut self.granted).await
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        // Outside the lock: a turn that was given in this moment ends with it.
        let gone = self.turns.lock().waiting.remove(self.place);
        drop(gone);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(turns) = self.0.take() {
            turns.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, future::join};

    use super::*;

    #[tokio::test]
    async fn whoever_is_most_urgent_is_next_and_who_has_gone_holds_nobody_up() {
        let turns = Turns::new(1);
        let running = turns.begin(Priority::DEFAULT).await;
        let priority = |number| Priority::new(number).expect("valid");
        let (mut late, mut gone) = (Box::pin(turns.begin(priority(9))), Box::pin(turns.begin(priority(0))));
        let mut urgent = Box::pin(turns.begin(priority(1)));
        assert!((&mut late).now_or_never().is_none() && (&mut gone).now_or_never().is_none());
        assert!((&mut urgent).now_or_never().is_none());
        drop(gone);
        drop(running);
        assert!((&mut late).now_or_never().is_none(), "it was not the most urgent");
        let next = async {
            drop(urgent.await);
        };
        let ((), last) = join(next, late).await;
        assert_eq!(turns.free(), 0);
        drop(last);
        assert_eq!(turns.free(), 1);
    }

    #[tokio::test]
    async fn a_turn_that_was_given_to_somebody_who_then_goes_is_free_again() {
        let turns = Turns::new(1);
        let running = turns.begin(Priority::DEFAULT).await;
        let mut waits = Box::pin(turns.begin(Priority::DEFAULT));
        assert!((&mut waits).now_or_never().is_none());
        drop(running);
        drop(waits);
        assert_eq!(turns.free(), 1);
    }
}
