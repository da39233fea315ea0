//! Topics: what is published under a dotted name reaches whoever subscribes to it at that moment, on any node.
//!
//! Nothing is stored, and nobody who is slow holds up whoever publishes: a subscriber has a queue of bounded length,
//! loses what is oldest in it, and is told how much that was.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use pelago_core::{id::Name, message::Content, pattern::Pattern};
use tokio::sync::Notify;

use crate::metrics::Metrics;

/// How many messages wait for a subscriber, and how many bytes they have.
const WAITING_MAX: usize = 4_096;
const WAITING_BYTES_MAX: usize = 4 << 20;

/// Who subscribes at this node. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Topics(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The lock is held for a walk over them, and nothing is awaited under it.
    queues: RwLock<Vec<Arc<Queue>>>,
    is_closed: AtomicBool,
    metrics: Arc<Metrics>,
}

/// What one subscriber has not taken yet.
#[derive(Debug)]
struct Queue {
    topics: Pattern,
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<(Name, Content)>,
    bytes: usize,
    missed: u64,
}

/// A message that was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Its topic.
    pub topic: Name,
    /// The message.
    pub content: Content,
    /// How many messages before it this subscriber missed, since it was slow.
    pub missed: u64,
}

/// The messages of all topics that meet a pattern, from the moment it was made. It ends when it is dropped.
#[derive(Debug)]
pub struct Subscription {
    topics: Topics,
    queue: Arc<Queue>,
}

impl Topics {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Shared { queues: RwLock::default(), is_closed: AtomicBool::new(false), metrics }))
    }

    /// Hears of topics that meet the pattern, from here on.
    pub(crate) fn subscribe(&self, topics: Pattern) -> Subscription {
        let queue = Arc::new(Queue { topics, waiting: Mutex::default(), arrived: Notify::new() });
        self.0.queues.write().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&queue));
        Subscription { topics: self.clone(), queue }
    }

    /// Gives a message to all who subscribe here.
    pub(crate) fn publish(&self, topic: &Name, message: &Content) {
        let queues = self.0.queues.read().unwrap_or_else(PoisonError::into_inner);
        let mut copy = None;
        for queue in queues.iter().filter(|queue| queue.topics.is_met_by(topic)) {
            // Once: it may be a slice of all that was read at once, and a subscriber may keep it for long.
            let payload = copy.get_or_insert_with(|| Bytes::copy_from_slice(&message.payload)).clone();
            let missed = queue.put(topic.clone(), Content { headers: message.headers.clone(), payload });
            self.0.metrics.published.inc();
            self.0.metrics.published_missed.inc_by(missed);
        }
    }

    /// A node could not be told a message.
    pub(crate) fn missed(&self) {
        self.0.metrics.published_missed.inc();
    }

    /// Ends all subscriptions, once they have given what waits.
    pub(crate) fn close(&self) {
        self.0.is_closed.store(true, Ordering::Release);
        let queues = self.0.queues.read().unwrap_or_else(PoisonError::into_inner);
        queues.iter().for_each(|queue| queue.arrived.notify_one());
    }
}

impl Subscription {
    /// The next message. `None` once the node stops.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Published> {
        loop {
            let arrived = self.queue.arrived.notified();
            let is_closed = self.topics.0.is_closed.load(Ordering::Acquire);
            match self.queue.take() {
                Some(published) => return Some(published),
                None if is_closed => return None,
                None => arrived.await,
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut queues = self.topics.0.queues.write().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|queue| !Arc::ptr_eq(queue, &self.queue));
    }
}

impl Queue {
    /// Says how many older messages gave way.
    fn put(&self, topic: Name, message: Content) -> u64 {
        let mut waiting = self.lock();
        waiting.bytes += message.payload.len();
        waiting.messages.push_back((topic, message));
        let mut missed = 0;
        while waiting.messages.len() > WAITING_MAX || waiting.bytes > WAITING_BYTES_MAX && waiting.messages.len() > 1 {
            let gone = waiting.messages.pop_front();
            waiting.bytes -= gone.map_or(0, |(_, message)| message.payload.len());
            missed += 1;
        }
        waiting.missed += missed;
        let is_first = waiting.messages.len() == 1;
        drop(waiting);
        if is_first {
            self.arrived.notify_one();
        }
        missed
    }

    fn take(&self) -> Option<Published> {
        let mut waiting = self.lock();
        let (topic, content) = waiting.messages.pop_front()?;
        waiting.bytes -= content.payload.len();
        let missed = std::mem::take(&mut waiting.missed);
        Some(Published { topic, content, missed })
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics under the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics() -> Topics {
        Topics::new(Arc::new(Metrics::default()))
    }

    fn publish(topics: &Topics, topic: &str, payload: Vec<u8>) {
        topics.publish(&Name::new(topic).expect("a name"), &Bytes::from(payload).into());
    }

    #[tokio::test]
    async fn a_subscriber_hears_what_meets_its_pattern_from_then_on_and_no_more_once_the_node_stops() {
        let topics = topics();
        publish(&topics, "orders.eu", vec![0]);
        let mut orders = topics.subscribe(Pattern::new("orders.*").expect("a pattern"));
        let gone = topics.subscribe(Pattern::new("**").expect("a pattern"));
        drop(gone);
        for (topic, n) in [("orders.eu", 1), ("orders", 2), ("orders.us", 3), ("orders.us.west", 4)] {
            publish(&topics, topic, vec![n]);
        }
        topics.close();
        let mut heard = Vec::new();
        while let Some(Published { topic, content, missed: 0 }) = orders.next().await {
            heard.push((topic.to_string(), content.payload[0]));
        }
        assert_eq!(heard, [("orders.eu".into(), 1), ("orders.us".into(), 3)]);
    }

    #[tokio::test]
    async fn who_is_slow_loses_the_oldest_and_is_told_how_many() {
        let topics = topics();
        let mut slow = topics.subscribe(Pattern::new("a").expect("a pattern"));
        for n in 0..=u8::MAX {
            publish(&topics, "a", vec![n; WAITING_BYTES_MAX / 8]);
        }
        let first = slow.next().await.expect("there are eight");
        assert_eq!((first.content.payload[0], first.missed), (u8::MAX - 7, 248));
        let second = slow.next().await.expect("there are seven");
        assert_eq!((second.content.payload[0], second.missed), (u8::MAX - 6, 0));
        // One that is larger than all that may wait is heard of all the same.
        publish(&topics, "a", vec![7; WAITING_BYTES_MAX + 1]);
        let large = slow.next().await.expect("it is there");
        assert_eq!((large.content.payload[0], large.missed), (7, 6));
        for _ in 0..=WAITING_MAX {
            publish(&topics, "a", Vec::new());
        }
        assert_eq!(slow.next().await.map(|published| published.missed), Some(1));
    }
}
