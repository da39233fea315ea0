//! What a name of this end was told over a link, until it is settled.
//!
//! The other end tells a name nothing more while too much of it is not settled (`core::link::Names`), so whoever is slow
//! slows those who tell it things, and nobody else. What all names of a link hold together is bounded by the credit of
//! its lane, which goes back at once only as long as they hold little.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
};

use pelago_core::link::{Lane, Settled, WINDOW_BYTES};

use crate::{deliver::Credit, outbox::Outbox};

/// The most bytes that names of one link hold while the credit for them goes back at once. Beyond it, what they hold
/// keeps it: a link with more than a hundred slow names slows all who tell over it.
const HELD_BYTES_MAX: u64 = 64 << 20;

/// The window of a name, as long as the name has its number.
#[derive(Debug)]
pub struct Window {
    outbox: Arc<Outbox>,
    lane: Lane,
    /// The lock is held for a few lines, once a batch.
    unsaid: Mutex<Unsaid>,
}

/// What the other end has not heard yet.
#[derive(Debug)]
struct Unsaid {
    /// What is neither handled nor lost, in bytes.
    held: u32,
    /// What is.
    settled: Settled,
}

/// Messages to a name that are not settled. Dropped, those that were not [handled](Self::handle) count as lost.
#[derive(Debug)]
pub struct Held {
    window: Arc<Window>,
    bytes: u32,
    messages: u32,
    handled: u32,
    /// Of what was read with them.
    credit: Option<Arc<Credit>>,
}

impl Window {
    pub(crate) fn new(outbox: Arc<Outbox>, lane: Lane, number: u64, before: u32) -> Self {
        let settled = Settled { number, before, bytes: 0, handled: 0, lost: 0 };
        Self { outbox, lane, unsaid: Mutex::new(Unsaid { held: 0, settled }) }
    }

    /// Messages arrived, with `credit`, and were charged `bytes`.
    #[must_use]
    pub fn hold(self: &Arc<Self>, messages: u32, bytes: u32, credit: &Arc<Credit>) -> Held {
        self.with(|unsaid| unsaid.held += bytes);
        let all = self.outbox.held.fetch_add(u64::from(bytes), Ordering::Relaxed) + u64::from(bytes);
        let credit = (all > HELD_BYTES_MAX).then(|| Arc::clone(credit));
        Held { window: Arc::clone(self), bytes, messages, handled: 0, credit }
    }

    fn settle(&self, bytes: u32, handled: u32, lost: u32) {
        self.outbox.held.fetch_sub(u64::from(bytes), Ordering::Relaxed);
        let settled = self.with(|unsaid| {
            let Unsaid { held, settled } = unsaid;
            *held -= bytes;
            settled.bytes += bytes;
            settled.handled += handled;
            settled.lost += lost;
            // Often enough that a name which keeps up is never waited for, and always when it has done all.
            let is_worth_a_frame = *held == 0 || settled.bytes >= WINDOW_BYTES / 4;
            let rest = Settled { bytes: 0, handled: 0, lost: 0, ..*settled };
            is_worth_a_frame.then(|| mem::replace(settled, rest))
        });
        if let Some(settled) = settled {
            self.outbox.settled(self.lane, settled);
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Unsaid) -> T) -> T {
        // Nothing panics under the lock.
        work(&mut self.unsaid.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Held {
    /// So many more of them are handled.
    ///
    /// # Panics
    /// If those are more than there are.
    pub fn handle(&mut self, messages: u32) {
        self.handled += messages;
        assert!(self.handled <= self.messages, "{} of {} messages cannot be handled", self.handled, self.messages);
    }

    /// Takes one message out that was charged `bytes`, to be settled by itself.
    ///
    /// # Panics
    /// If there are none.
    #[must_use]
    pub fn split_off(&mut self, bytes: u32) -> Self {
        self.messages = self.messages.checked_sub(1).expect("there is a message");
        self.bytes = self.bytes.checked_sub(bytes).expect("it was charged with the others");
        let (window, credit) = (Arc::clone(&self.window), self.credit.clone());
        Self { window, bytes, messages: 1, handled: 0, credit }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.window.settle(self.bytes, self.handled, self.messages - self.handled);
    }
}
