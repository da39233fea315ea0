//! Numbers of messages of topics, by which a node notices what was lost on its way from another.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use pelago_wire::tell::Nth;

/// Of how many topics numbers are kept. What is lost of one that gave way to others since is not noticed.
const KEPT_MAX: usize = 4_096;

/// The numbers of what this node publishes under one topic.
#[derive(Debug)]
pub(crate) struct Numbers(Mutex<Nth>);

impl Numbers {
    pub(super) fn begin(series: u32) -> Self {
        Self(Mutex::new(Nth { series, n: 0 }))
    }

    /// Gives the next message its number, and lets nobody publish the one after it before `publish` is done.
    pub(crate) fn next(&self, publish: impl FnOnce(Nth)) {
        let mut nth = lock(&self.0);
        nth.n += 1;
        publish(*nth);
    }
}

/// What came under one topic from one run of another node.
#[derive(Debug, Default)]
pub(crate) struct Heard(Mutex<Option<Nth>>);

impl Heard {
    /// A message comes. Says how many before it were lost.
    pub(crate) fn comes(&self, nth: Nth) -> u64 {
        let mut last = lock(&self.0);
        let lost = nth.lost_since(*last);
        let is_late = last.is_some_and(|last| (last.series, last.n) >= (nth.series, nth.n));
        if !is_late {
            *last = Some(nth);
        }
        lost
    }
}

/// Values of the topics that were used first since, as many as are kept. The lock is held for a look.
#[derive(Debug)]
pub(super) struct Few<K, V>(Mutex<Kept<K, V>>);

#[derive(Debug)]
struct Kept<K, V> {
    of: HashMap<K, Arc<V>>,
    /// The oldest first.
    order: VecDeque<K>,
    begun: u32,
}

impl<K, V> Default for Few<K, V> {
    fn default() -> Self {
        Self(Mutex::new(Kept { of: HashMap::new(), order: VecDeque::new(), begun: 0 }))
    }
}

impl<K: Clone + Eq + Hash, V> Few<K, V> {
    /// The value of a key; a new one is made with how many were made before it.
    pub(super) fn of(&self, key: &K, make: impl FnOnce(u32) -> V) -> Arc<V> {
        let mut kept = lock(&self.0);
        if let Some(value) = kept.of.get(key) {
            return Arc::clone(value);
        }
        if kept.order.len() == KEPT_MAX
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.of.remove(&oldest);
        }
        let value = Arc::new(make(kept.begun));
        kept.begun = kept.begun.wrapping_add(1);
        kept.order.push_back(key.clone());
        kept.of.insert(key.clone(), Arc::clone(&value));
        value
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change under these locks is whole: what a panic leaves behind is right.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_as_long_as_their_topic_is_kept_and_begin_a_later_series_after_that() {
        let few = Few::default();
        let next = |topic: usize| {
            let mut given = None;
            few.of(&topic, Numbers::begin).next(|nth| given = Some((nth.series, nth.n)));
            given.expect("it was published")
        };
        assert_eq!([next(0), next(0), next(1)], [(0, 1), (0, 2), (1, 1)]);
        for topic in 2..KEPT_MAX {
            next(topic);
        }
        assert_eq!(next(0), (0, 3), "there is room for all of them");
        next(KEPT_MAX);
        assert_eq!([next(1), next(0)], [(1, 2), (4_097, 1)]);
        assert_eq!(lock(&few.0).of.len(), KEPT_MAX);
    }

    #[test]
    fn what_is_lost_is_counted_once_whatever_comes_late() {
        let heard = Heard::default();
        let comes = |series, n| heard.comes(Nth { series, n });
        assert_eq!([comes(1, 5), comes(1, 6), comes(1, 9)], [0, 0, 2]);
        assert_eq!([comes(1, 7), comes(1, 10)], [0, 0], "a late one changes nothing");
        assert_eq!([comes(4, 3), comes(4, 4)], [2, 0]);
    }
}
