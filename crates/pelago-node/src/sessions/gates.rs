//! Who may speak: one message of a session at a time, the others in the order of arrival.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use pelago_core::{agent::Failure, id::SessionId};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::WhenBusy;

/// How many messages of one session wait; more are refused. Each holds a request of its asker.
const WAITING_MAX: usize = 32;

/// The sessions of this node in which a message is being handled. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Gates(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// A short-lived lock: nothing is awaited under it.
    by_session: Mutex<HashMap<SessionId, Gate>>,
}

struct Gate {
    /// Stops the turn that runs.
    interrupt: CancellationToken,
    waiting: VecDeque<Waiter>,
}

struct Waiter {
    /// Dropped, it is told that it was interrupted itself.
    next: oneshot::Sender<Pass>,
    interrupts: bool,
}

/// The right to be the one message of its session that is handled. Dropped, the next one has it.
pub(crate) struct Pass {
    gates: Gates,
    session: SessionId,
    interrupted: CancellationToken,
}

impl Gates {
    /// Waits until it is this message's turn.
    ///
    /// # Errors
    /// [`Failure::SessionBusy`], [`Failure::SessionFull`], or [`Failure::Interrupted`] while it waits to interrupt.
    ///
    /// # Cancel safety
    /// Dropping the future gives the place up.
    pub(crate) async fn enter(&self, session: &SessionId, busy: WhenBusy) -> Result<Pass, Failure> {
        let turn = {
            let mut gates = self.lock();
            let gate = match gates.entry(session.clone()) {
                Entry::Vacant(free) => {
                    let interrupted = CancellationToken::new();
                    free.insert(Gate { interrupt: interrupted.clone(), waiting: VecDeque::new() });
                    return Ok(Pass { gates: self.clone(), session: session.clone(), interrupted });
                }
                Entry::Occupied(gate) => gate.into_mut(),
            };
            let (next, turn) = oneshot::channel();
            // Whoever has given up waits no more, and has no place.
            gate.waiting.retain(|waiter| !waiter.next.is_closed());
            match busy {
                WhenBusy::Reject => return Err(Failure::SessionBusy),
                WhenBusy::Queue if gate.waiting.len() >= WAITING_MAX => {
                    return Err(Failure::SessionFull { waiting: gate.waiting.len() as u64 });
                }
                WhenBusy::Queue => gate.waiting.push_back(Waiter { next, interrupts: false }),
                WhenBusy::Interrupt => {
                    gate.interrupt.cancel();
                    // One that waits to interrupt came before, and is interrupted too.
                    gate.waiting.pop_front_if(|first| first.interrupts);
                    gate.waiting.push_front(Waiter { next, interrupts: true });
                }
            }
            turn
        };
        turn.await.map_err(|_dropped| Failure::Interrupted)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Gate>> {
        // Every change under the lock leaves it whole.
        self.0.by_session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass {
    /// Resolves when another message interrupts this one.
    pub(crate) async fn interrupted(&self) {
        self.interrupted.cancelled().await;
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut gates = self.gates.lock();
        let Some(gate) = gates.get_mut(&self.session) else { return };
        let Some(Waiter { next, .. }) = gate.waiting.pop_front() else {
            gates.remove(&self.session);
            return;
        };
        gate.interrupt = CancellationToken::new();
        let interrupted = gate.interrupt.clone();
        drop(gates);
        // Whoever has given up waiting drops it, and so hands it on.
        let _gone = next.send(Pass { gates: self.gates.clone(), session: self.session.clone(), interrupted });
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, future::BoxFuture};
    use pelago_core::id::{AgentId, Name};

    use super::*;

    type Waits = BoxFuture<'static, Result<Pass, Failure>>;

    fn session(session: &str) -> SessionId {
        let name = |text| Name::new(text).expect("valid");
        SessionId { agent: AgentId::unkeyed(name("chat")), name: name(session) }
    }

    fn enter(gates: &Gates, name: &'static str, busy: WhenBusy) -> Waits {
        let gates = gates.clone();
        let mut entering = async move { gates.enter(&session(name), busy).await }.boxed();
        match (&mut entering).now_or_never() {
            Some(entered) => std::future::ready(entered).boxed(),
            None => entering,
        }
    }

    fn entered(waits: &mut Waits) -> Option<Pass> {
        waits.now_or_never().map(|entered| entered.unwrap_or_else(|failure| panic!("{failure}")))
    }

    #[test]
    fn messages_that_queue_are_handled_in_the_order_of_arrival() {
        let gates = Gates::default();
        let first = entered(&mut enter(&gates, "a", WhenBusy::Queue)).expect("nobody else is there");
        let (mut second, third, mut fourth) = (
            enter(&gates, "a", WhenBusy::Queue),
            enter(&gates, "a", WhenBusy::Queue),
            enter(&gates, "a", WhenBusy::Queue),
        );
        assert!(entered(&mut enter(&gates, "b", WhenBusy::Queue)).is_some(), "another session waits for nobody");
        assert!(entered(&mut second).is_none());
        drop(third);
        drop(first);
        assert!(entered(&mut fourth).is_none());
        let second = entered(&mut second).expect("the first is over");
        drop(second);
        drop(entered(&mut fourth).expect("the third has given up"));
        assert!(gates.lock().is_empty());
    }

    #[test]
    fn a_message_that_must_not_wait_is_refused() {
        let gates = Gates::default();
        let first = entered(&mut enter(&gates, "a", WhenBusy::Reject)).expect("nobody else is there");
        let refused = enter(&gates, "a", WhenBusy::Reject).now_or_never().and_then(Result::err);
        assert_eq!(refused, Some(Failure::SessionBusy));
        drop(first);
        assert!(entered(&mut enter(&gates, "a", WhenBusy::Reject)).is_some());
    }

    #[test]
    fn no_more_messages_wait_than_may() {
        let gates = Gates::default();
        let _first = entered(&mut enter(&gates, "a", WhenBusy::Queue)).expect("nobody else is there");
        let waiting: Vec<_> = (0..WAITING_MAX).map(|_| enter(&gates, "a", WhenBusy::Queue)).collect();
        let refused = enter(&gates, "a", WhenBusy::Queue).now_or_never().and_then(Result::err);
        assert_eq!(refused, Some(Failure::SessionFull { waiting: WAITING_MAX as u64 }));
        drop(waiting);
        assert!(enter(&gates, "a", WhenBusy::Queue).now_or_never().is_none(), "those who gave up have no place");
    }

    #[test]
    fn a_message_that_interrupts_comes_next_and_the_latest_wins() {
        let gates = Gates::default();
        let first = entered(&mut enter(&gates, "a", WhenBusy::Queue)).expect("nobody else is there");
        let mut queued = enter(&gates, "a", WhenBusy::Queue);
        assert!(first.interrupted().now_or_never().is_none());
        let mut early = enter(&gates, "a", WhenBusy::Interrupt);
        assert!(first.interrupted().now_or_never().is_some());
        let mut late = enter(&gates, "a", WhenBusy::Interrupt);
        assert_eq!((&mut early).now_or_never().and_then(Result::err), Some(Failure::Interrupted));
        drop(first);
        let late = entered(&mut late).expect("it comes next");
        assert!(late.interrupted().now_or_never().is_none());
        assert!(entered(&mut queued).is_none());
        drop(late);
        assert!(entered(&mut queued).is_some());
    }
}
