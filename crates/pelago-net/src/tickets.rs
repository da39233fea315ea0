//! Those who wait for a reply, by the tickets that `core::link` knows them by.

use bytes::Bytes;
use pelago_core::link::Ticket;
use tokio::sync::oneshot;

use crate::handle::RequestError;

/// Gives the end of a request to whoever waits for it.
pub(crate) type Waiter = oneshot::Sender<Result<Bytes, RequestError>>;

/// A slab: tickets are places, and are used again. Bounded by the requests that the other end takes.
#[derive(Debug, Default)]
pub(crate) struct Tickets {
    waiters: Vec<Option<Waiter>>,
    free: Vec<u32>,
}

impl Tickets {
    pub(crate) fn add(&mut self, waiter: Waiter) -> Ticket {
        if let Some(place) = self.free.pop() {
            self.waiters[place as usize] = Some(waiter);
            return Ticket(place);
        }
        let place = u32::try_from(self.waiters.len()).expect("requests in flight are bounded far below 2^32");
        self.waiters.push(Some(waiter));
        Ticket(place)
    }

    pub(crate) fn take(&mut self, Ticket(place): Ticket) -> Waiter {
        let waiter = self.waiters[place as usize].take().expect("a ticket is taken once");
        self.free.push(place);
        waiter
    }
}
