//! The library's view of the world: what it wants to send, and when it wants to be called again.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use foca::{Notification, Timer};

use super::Identity;
use crate::{id::Name, time::Time};

/// What is due at some time.
#[derive(Debug)]
pub(super) enum Due {
    /// A timer of the library.
    Swim(Timer<Identity>),
    /// News is told.
    Spread,
    /// All that is known is compared with another node's.
    Compare,
}

/// Keeps what the library wants done.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Packets, by the names of those they are for.
    pub(super) packets: Vec<(Name, Bytes)>,
    timers: BTreeMap<(Time, u64), Due>,
    /// Timers that are due at the same time are due in the order in which they were set.
    set: u64,
    now: Time,
}

impl Outbox {
    /// What is set from here on is counted from `now`.
    pub(super) fn begin(&mut self, now: Time) {
        self.now = self.now.max(now);
    }

    pub(super) fn set(&mut self, due: Due, after: Duration) {
        self.set += 1;
        self.timers.insert((self.now + after, self.set), due);
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.timers.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next that is due.
    pub(super) fn due(&mut self) -> Option<Due> {
        let first = self.timers.first_entry()?;
        (first.key().0 <= self.now).then(|| first.remove())
    }

    /// Puts everything off.
    pub(super) fn put_off(&mut self, by: Duration) {
        let timers = std::mem::take(&mut self.timers);
        self.timers = timers.into_iter().map(|((at, set), due)| ((at + by, set), due)).collect();
    }
}

impl foca::Runtime<Identity> for &mut Outbox {
    /// What has changed is seen by looking.
    fn notify(&mut self, _notification: Notification<'_, Identity>) {}

    fn send_to(&mut self, to: Identity, data: &[u8]) {
        self.packets.push((to.name, Bytes::copy_from_slice(data)));
    }

    fn submit_after(&mut self, event: Timer<Identity>, after: Duration) {
        self.set(Due::Swim(event), after);
    }
}
