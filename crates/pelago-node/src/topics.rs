//! Topics: what is published under a dotted name reaches whoever subscribes to it at that moment, on any node.
//!
//! Nothing is stored, and nobody who is slow holds up whoever publishes: a subscriber has a queue of bounded length,
//! loses what is oldest in it, and is told how much that was. So it is told what was lost on its way from another node:
//! a node numbers what it publishes, topic by topic, and who hears of it sees which numbers are missing ([`Numbers`]).

mod numbers;

use std::{
    collections::{BTreeMap, HashMap, VecDeque, hash_map::Entry},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use pelago_core::{
    id::{BootId, Name},
    message::Content,
    pattern::Pattern,
};
use tokio::sync::Notify;

pub(crate) use numbers::{Heard, Numbers};

use crate::metrics::Metrics;
use numbers::Few;

/// The most subscriptions of one node.
pub(crate) const SUBSCRIPTIONS_MAX: usize = 8_192;
/// How many messages wait for a subscriber, and how many bytes they have, at most …
const WAITING_MAX: usize = 4_096;
const WAITING_BYTES_MAX: usize = 4 << 20;
/// … and how many bytes wait for all subscribers of a node together. Each has its share; one message always waits.
const WAITING_BYTES_ALL_MAX: usize = 256 << 20;
/// A message that so many subscribers may hear of is given to them where it is read; to more, by a loop that gives way
/// to others after each message.
const AT_ONCE_MAX: usize = 64;

/// Who subscribes at this node. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Topics(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The lock is held for a walk over those who hear of one message, and nothing is awaited under it.
    subscribers: RwLock<Subscribers>,
    is_closed: AtomicBool,
    metrics: Arc<Metrics>,
    /// What this node publishes.
    numbers: Few<Name, Numbers>,
    /// What came from runs of other nodes.
    heard: Few<(BootId, Name), Heard>,
}

/// Who subscribes, so that whoever hears of a topic is found without a look at all others.
#[derive(Debug, Default)]
struct Subscribers {
    /// By the one topic that they hear of.
    of_one: HashMap<Name, Queues>,
    /// By a pattern with stars.
    of_many: BTreeMap<Pattern, Queues>,
    count: usize,
    subscribed: u64,
}

/// By the number of the subscription.
type Queues = BTreeMap<u64, Arc<Queue>>;

/// What one subscriber has not taken yet.
#[derive(Debug)]
struct Queue {
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
    /// How many messages before it this subscriber missed, since it was slow or they were lost between nodes.
    pub missed: u64,
}

/// The messages of all topics that meet a pattern, from the moment it was made. It ends when it is dropped.
#[derive(Debug)]
pub struct Subscription {
    topics: Topics,
    to: Pattern,
    number: u64,
    queue: Arc<Queue>,
}

/// A node has as many subscriptions as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node has {SUBSCRIPTIONS_MAX} subscriptions, and takes no more")]
pub(crate) struct TooMany;

impl Topics {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        let (subscribers, is_closed) = (RwLock::default(), AtomicBool::new(false));
        Self(Arc::new(Shared { subscribers, is_closed, metrics, numbers: Few::default(), heard: Few::default() }))
    }

    /// Hears of topics that meet the pattern, from here on.
    ///
    /// # Errors
    /// [`TooMany`].
    pub(crate) fn subscribe(&self, to: Pattern) -> Result<Subscription, TooMany> {
        let queue = Arc::new(Queue { waiting: Mutex::default(), arrived: Notify::new() });
        let mut subscribers = self.write();
        if subscribers.count >= SUBSCRIPTIONS_MAX {
            return Err(TooMany);
        }
        subscribers.subscribed += 1;
        let number = subscribers.subscribed;
        subscribers.add(&to, number, Arc::clone(&queue));
        drop(subscribers);
        Ok(Subscription { topics: self.clone(), to, number, queue })
    }

    /// Whether a message is given quickly enough to those who hear of it to do so where it is read.
    pub(crate) fn is_quick(&self, topic: &Name) -> bool {
        let subscribers = self.read();
        let of_many: usize = subscribers.of_many.values().map(BTreeMap::len).take(AT_ONCE_MAX + 1).sum();
        of_many + subscribers.of_one.get(topic).map_or(0, BTreeMap::len) <= AT_ONCE_MAX
    }

    /// Gives a message to all who subscribe here.
    pub(crate) fn publish(&self, topic: &Name, message: &Content) {
        let subscribers = self.read();
        let share = (WAITING_BYTES_ALL_MAX / subscribers.count.max(1)).min(WAITING_BYTES_MAX);
        let mut copy = None;
        for queue in subscribers.of(topic) {
            // Once: it may be a slice of all that was read at once, and a subscriber may keep it for long.
            let payload = copy.get_or_insert_with(|| Bytes::copy_from_slice(&message.payload)).clone();
            let missed = queue.put(topic.clone(), Content { headers: message.headers.clone(), payload }, share);
            self.0.metrics.published.inc();
            self.0.metrics.published_missed.inc_by(missed);
        }
    }

    /// The numbers of what this node publishes under a topic.
    pub(crate) fn numbers(&self, topic: &Name) -> Arc<Numbers> {
        self.0.numbers.of(topic, Numbers::begin)
    }

    /// What came from a run of another node under a topic.
    pub(crate) fn heard(&self, from: BootId, topic: &Name) -> Arc<Heard> {
        self.0.heard.of(&(from, topic.clone()), |_series| Heard::default())
    }

    /// So many messages of a topic were lost on their way to this node.
    pub(crate) fn lost(&self, topic: &Name, messages: u64) {
        self.read().of(topic).for_each(|queue| {
            let mut queue = queue.lock();
            queue.missed = queue.missed.saturating_add(messages);
        });
    }

    /// A node could not be told a message.
    pub(crate) fn missed(&self) {
        self.0.metrics.published_missed.inc();
    }

    /// Ends all subscriptions, once they have given what waits.
    pub(crate) fn close(&self) {
        self.0.is_closed.store(true, Ordering::Release);
        let subscribers = self.read();
        let all = subscribers.of_one.values().chain(subscribers.of_many.values());
        all.flat_map(BTreeMap::values).for_each(|queue| queue.arrived.notify_one());
    }

    // Nothing panics under the lock.
    fn read(&self) -> RwLockReadGuard<'_, Subscribers> {
        self.0.subscribers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Subscribers> {
        self.0.subscribers.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscribers {
    fn add(&mut self, to: &Pattern, number: u64, queue: Arc<Queue>) {
        self.count += 1;
        match to.as_name() {
            Some(name) => self.of_one.entry(name).or_default().insert(number, queue),
            None => self.of_many.entry(to.clone()).or_default().insert(number, queue),
        };
    }

    fn remove(&mut self, to: &Pattern, number: u64) {
        self.count -= 1;
        match to.as_name() {
            Some(name) => {
                if let Entry::Occupied(mut queues) = self.of_one.entry(name) {
                    queues.get_mut().remove(&number);
                    if queues.get().is_empty() {
                        queues.remove();
                    }
                }
            }
            None => {
                let is_empty = self.of_many.get_mut(to).is_some_and(|queues| {
                    queues.remove(&number);
                    queues.is_empty()
                });
                if is_empty {
                    self.of_many.remove(to);
                }
            }
        }
    }

    /// Those who hear of a topic.
    fn of<'s>(&'s self, topic: &'s Name) -> impl Iterator<Item = &'s Arc<Queue>> {
        let met = self.of_many.iter().filter(|(to, _)| to.is_met_by(topic)).map(|(_, queues)| queues);
        self.of_one.get(topic).into_iter().chain(met).flat_map(BTreeMap::values)
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
        self.topics.write().remove(&self.to, self.number);
    }
}

impl Queue {
    /// Says how many older messages gave way, so that no more than `bytes_max` wait.
    fn put(&self, topic: Name, message: Content, bytes_max: usize) -> u64 {
        let mut waiting = self.lock();
        waiting.bytes += message.payload.len();
        waiting.messages.push_back((topic, message));
        let mut missed = 0;
        while waiting.messages.len() > WAITING_MAX || waiting.bytes > bytes_max && waiting.messages.len() > 1 {
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
        let mut orders = topics.subscribe(Pattern::new("orders.*").expect("a pattern")).expect("there are few");
        let gone = topics.subscribe(Pattern::new("**").expect("a pattern")).expect("there are few");
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
        let mut slow = topics.subscribe(Pattern::new("a").expect("a pattern")).expect("there are few");
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

    #[tokio::test]
    async fn a_node_has_so_many_subscriptions_and_all_of_them_together_keep_so_much() {
        let topics = topics();
        let to = |n: usize| Pattern::new(&format!("t{n}")).expect("a pattern");
        let mut all: Vec<_> = (0..SUBSCRIPTIONS_MAX).map(|n| topics.subscribe(to(n)).expect("there is room")).collect();
        assert_eq!(topics.subscribe(to(0)).err(), Some(TooMany));
        assert!(topics.is_quick(&Name::new("t7").expect("a name")), "the others hear of other topics");
        let share = WAITING_BYTES_ALL_MAX / SUBSCRIPTIONS_MAX;
        for n in 0..3 {
            publish(&topics, "t7", vec![n; share / 2]);
        }
        let first = all[7].next().await.expect("two are left");
        assert_eq!((first.content.payload[0], first.missed), (1, 1));
        all.clear();
        assert!(topics.read().of_one.is_empty() && topics.read().count == 0);
        let many: Vec<_> = (0..=AT_ONCE_MAX).map(|_| topics.subscribe(to(1)).expect("there is room")).collect();
        assert!(!topics.is_quick(&Name::new("t1").expect("a name")));
        assert!(topics.is_quick(&Name::new("t2").expect("a name")));
        drop(many);
    }
}
