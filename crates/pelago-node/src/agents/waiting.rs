//! What waits, by how urgent it is.

use std::collections::BTreeMap;

use pelago_core::message::Priority;

/// Things that wait: the most urgent comes first, and of what is as urgent, what came first.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    of: BTreeMap<Place, T>,
    came: u64,
}

/// Where something waits: how urgent it is, and when it came.
pub(super) type Place = (Priority, u64);

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self { of: BTreeMap::new(), came: 0 }
    }
}

impl<T> Waiting<T> {
    pub(super) fn push(&mut self, priority: Priority, what: T) -> Place {
        self.came += 1;
        let place = (priority, self.came);
        self.of.insert(place, what);
        place
    }

    /// Takes out what waits at a place, if it still does.
    pub(super) fn remove(&mut self, place: Place) -> Option<T> {
        self.of.remove(&place)
    }

    /// Puts back what was taken.
    pub(super) fn put_back(&mut self, place: Place, what: T) {
        self.of.insert(place, what);
    }

    pub(super) fn first(&self) -> Option<&T> {
        self.of.first_key_value().map(|(_, what)| what)
    }

    pub(super) fn pop(&mut self) -> Option<(Place, T)> {
        self.of.pop_first()
    }

    pub(super) fn len(&self) -> usize {
        self.of.len()
    }

    /// What is left, in order.
    pub(super) fn into_rest(self) -> impl Iterator<Item = T> {
        self.of.into_values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_urgent_comes_first_and_what_was_put_back_keeps_its_place() {
        let mut waiting = Waiting::default();
        for (priority, what) in [(4, 'a'), (9, 'b'), (4, 'c'), (0, 'd')] {
            waiting.push(Priority::new(priority).expect("valid"), what);
        }
        let mut next = || waiting.pop().expect("something waits");
        assert_eq!(next().1, 'd');
        let (place, a) = next();
        waiting.put_back(place, a);
        assert_eq!((waiting.first(), waiting.len()), (Some(&'a'), 3));
        assert_eq!(waiting.into_rest().collect::<String>(), "acb");
    }
}
