//! What comes over the links of a mesh, one link after the other.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use pelago_core::{
    id::Name,
    link::{Account, Lane, NoReply, RequestId},
    message::Content,
};
use pelago_net::{Credit, Deliver, Handle, Incoming};
use pelago_node::handle::Published;
use pelago_wire::{client as wire, headers, tell::kind};
use tokio::sync::mpsc;

/// How many messages of topics wait for a subscription. It misses what comes when it has so many.
const WAITING_MAX: usize = 4_096;

/// What has come, and whom it is for. Clones are the same.
#[derive(Debug, Default, Clone)]
pub(super) struct Arrivals(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// The lock is held for a few lines, once a batch.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What was told over links that have ended.
    before: Account,
    link: Option<Handle>,
    subscribers: HashMap<u64, Subscriber>,
    /// The number of the last subscription.
    last: u64,
}

#[derive(Debug)]
struct Subscriber {
    messages: mpsc::Sender<Published>,
    missed: u64,
}

impl Arrivals {
    /// What takes the frames of a link.
    pub(super) fn begin(&self, link: &Handle) -> Box<dyn Deliver> {
        self.lock().link = Some(link.clone());
        Box::new(OfLink { arrivals: self.clone(), link: link.clone() })
    }

    /// What became of all that was told.
    pub(super) fn account(&self) -> Account {
        let state = self.lock();
        state.link.as_ref().map(Handle::account).into_iter().fold(state.before, |sum, link| sum + link)
    }

    /// A number for a subscription, and what will come for it.
    pub(super) fn subscribe(&self) -> (u64, mpsc::Receiver<Published>) {
        let (messages, arriving) = mpsc::channel(WAITING_MAX);
        let mut state = self.lock();
        state.last += 1;
        let number = state.last;
        state.subscribers.insert(number, Subscriber { messages, missed: 0 });
        (number, arriving)
    }

    pub(super) fn unsubscribe(&self, number: u64) {
        self.lock().subscribers.remove(&number);
    }

    fn end(&self) {
        let mut state = self.lock();
        let of_link = state.link.take().map(|link| link.account()).unwrap_or_default();
        // What was under way counts as lost.
        state.before = state.before + Account { lost: of_link.sent - of_link.handled, ..of_link };
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics under the lock.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes what comes over one link.
struct OfLink {
    arrivals: Arrivals,
    link: Handle,
}

impl Deliver for OfLink {
    fn deliver(&mut self, _lane: Lane, batch: &mut Vec<Incoming>, _credit: Credit) {
        let mut state = self.arrivals.lock();
        for Incoming { kind, number, payload, ask, .. } in batch.drain(..) {
            match (ask, kind) {
                // Nodes ask clients nothing.
                (Some(ask), _) => ask.refuse(NoReply::UnknownKind),
                (None, kind::PUBLISHED) => match state.subscribers.get_mut(&number) {
                    Some(subscriber) => subscriber.take(payload),
                    // It could not be said when it ended. If there is no room again, it is said with the next.
                    None => drop(self.link.try_send(Lane::Requests, kind::UNSUBSCRIBE, number, &[])),
                },
                (None, _unknown) => {}
            }
        }
    }

    fn called_off(&mut self, _lane: Lane, _request: RequestId) {}
}

impl Drop for OfLink {
    fn drop(&mut self) {
        self.arrivals.end();
    }
}

impl Subscriber {
    fn take(&mut self, payload: Bytes) {
        let Ok(wire::Published { topic, payload, missed, headers }) = wire::decode("message of a topic", payload)
        else {
            return;
        };
        let Ok(topic) = Name::new(&topic) else { return };
        let missed = std::mem::take(&mut self.missed) + missed;
        // Copied: it may wait for long, and is a slice of all that was read at once.
        let payload = Bytes::copy_from_slice(&payload);
        // What a later version says about it is not worth losing the message for.
        let headers = headers::of_field(headers).unwrap_or_default();
        if self.messages.try_send(Published { topic, content: Content { headers, payload }, missed }).is_err() {
            self.missed = missed + 1;
        }
    }
}
