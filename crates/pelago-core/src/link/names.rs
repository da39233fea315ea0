//! Numbers for names: whoever tells one name at the other end many things gives it a number with the first, so that no
//! name is written, read or looked up for each of them.
//!
//! Each direction of a link has a table of its own, and each lane of it, since only within a lane is a number known to
//! arrive after the name that it stands for.

use std::{collections::BTreeMap, sync::Arc};

/// The most names that have a number at a time. A further one takes the number of the one that has had its own longest.
pub const NAMES_MAX: usize = 16_384;

/// A name's number, as long as no other name has taken it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number {
    place: usize,
    /// How many names have had the number before.
    before: u64,
}

/// The names to which this end has given numbers.
#[derive(Debug, Default)]
pub struct Names {
    places: Vec<Place>,
    by_name: BTreeMap<Arc<[u8]>, usize>,
    /// Whose number the next name takes when there are no more.
    oldest: usize,
}

#[derive(Debug)]
struct Place {
    name: Arc<[u8]>,
    before: u64,
}

impl Names {
    /// The number as the other end knows it. `None` if another name has taken it.
    #[must_use]
    pub fn number(&self, number: Number) -> Option<u64> {
        let place = self.places.get(number.place)?;
        (place.before == number.before).then(|| as_sent(number.place))
    }

    /// The number of a name that has one.
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<Number> {
        let place = *self.by_name.get(name)?;
        Some(Number { place, before: self.places[place].before })
    }

    /// The number that the next name gets, as the other end will know it.
    #[must_use]
    pub fn next(&self) -> u64 {
        as_sent(if self.places.len() < NAMES_MAX { self.places.len() } else { self.oldest })
    }

    /// Gives [`Self::next`] to a name that has none.
    pub fn bind(&mut self, name: &[u8]) -> Number {
        let name: Arc<[u8]> = Arc::from(name);
        let number = if self.places.len() < NAMES_MAX {
            self.places.push(Place { name: Arc::clone(&name), before: 0 });
            Number { place: self.places.len() - 1, before: 0 }
        } else {
            let place = self.oldest;
            self.oldest = (place + 1) % NAMES_MAX;
            let before = self.places[place].before + 1;
            let gone = std::mem::replace(&mut self.places[place], Place { name: Arc::clone(&name), before });
            self.by_name.remove(&gone.name);
            Number { place, before }
        };
        let had = self.by_name.insert(name, number.place);
        assert_eq!(had, None, "a name has one number");
        number
    }
}

/// What the numbers of the other end stand for.
#[derive(Debug)]
pub struct Bound<T>(Vec<T>);

impl<T> Default for Bound<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Bound<T> {
    /// From here on `number` stands for `what`. `false` if the other end cannot have meant that: its numbers are given
    /// in order.
    #[must_use]
    pub fn bind(&mut self, number: u64, what: T) -> bool {
        let Some(place) = as_received(number).filter(|place| *place < NAMES_MAX) else { return false };
        let next = self.0.len();
        match self.0.get_mut(place) {
            Some(bound) => *bound = what,
            None if place == next => self.0.push(what),
            None => return false,
        }
        true
    }

    /// What `number` stands for.
    pub fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        self.0.get_mut(as_received(number)?)
    }

    /// All of them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut()
    }
}

/// 0 stands for no name.
fn as_sent(place: usize) -> u64 {
    place as u64 + 1
}

fn as_received(number: u64) -> Option<usize> {
    usize::try_from(number.checked_sub(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_number_until_another_takes_it() {
        let mut names = Names::default();
        let name = |n: usize| n.to_string().into_bytes();
        let numbers: Vec<_> = (0..NAMES_MAX).map(|n| names.bind(&name(n))).collect();
        assert!(numbers.iter().enumerate().all(|(n, number)| names.number(*number) == Some(n as u64 + 1)));
        assert_eq!(names.find(b"7"), Some(numbers[7]));

        assert_eq!(names.next(), 1);
        let late = names.bind(b"late");
        assert_eq!((names.number(late), names.number(numbers[0]), names.find(b"0")), (Some(1), None, None));
        assert_eq!((names.next(), names.number(numbers[1])), (2, Some(2)));
        let again = names.bind(b"0");
        assert_eq!((names.number(again), names.find(b"1")), (Some(2), None));
    }

    #[test]
    fn numbers_of_the_other_end_come_in_order_and_are_bounded() {
        let mut bound = Bound::default();
        assert!(!bound.bind(0, "none"), "no name");
        assert!(!bound.bind(2, "b"), "1 was not bound");
        assert!(bound.bind(1, "a") && bound.bind(2, "b") && bound.bind(1, "c"));
        let found = [0, 1, 2, 3].map(|number| bound.get_mut(number).copied());
        assert_eq!(found, [None, Some("c"), Some("b"), None]);
        for number in 3..=NAMES_MAX as u64 {
            assert!(bound.bind(number, "many"));
        }
        assert!(!bound.bind(NAMES_MAX as u64 + 1, "too many"));
        assert_eq!(bound.iter_mut().count(), NAMES_MAX);
    }
}
