//! Numbers for names: whoever tells one name at the other end many things gives it a number with the first, so that no
//! name is written, read or looked up for each of them.
//!
//! Each direction of a link has a table of its own, and each lane of it, since only within a lane is a number known to
//! arrive after the name that it stands for.
//!
//! Each name has a window, as a stream has in HTTP/2: what it was told and has not settled. A name that is slow fills
//! its own and no other, so it slows those who tell it things and nobody else. What is settled is said back, with what
//! became of it, so that this end can account for all that it told.

use std::{collections::BTreeMap, sync::Arc};

use super::Flaw;

/// The most names that have a number at a time. A further one takes the number of the one that has had its own longest.
pub const NAMES_MAX: usize = 16_384;

/// A name is told nothing more while it has this many bytes to settle. Twice of what is read at once, so that a name
/// that keeps up never meets it.
pub const WINDOW_BYTES: u32 = 512 << 10;

/// A name's number, as long as no other name has taken it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number {
    place: usize,
    /// How many names have had the number before.
    before: u32,
}

/// What became of messages to a name, as the other end says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// The name's number.
    pub number: u64,
    /// How many names had it before.
    pub before: u32,
    /// What was charged for these messages.
    pub bytes: u32,
    /// How many were handled.
    pub handled: u32,
    /// How many nobody will handle.
    pub lost: u32,
}

/// What was told over a link, in messages. What is neither handled nor lost is under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Account {
    /// Told.
    pub sent: u64,
    /// Handled, as the other end says.
    pub handled: u64,
    /// Handled by nobody, as the other end says.
    pub lost: u64,
}

impl Account {
    /// Neither handled nor lost, as far as this end was told. Once the link has ended, nobody will tell.
    #[must_use]
    pub fn under_way(&self) -> u64 {
        self.sent - self.handled - self.lost
    }
}

impl std::ops::Add for Account {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let Self { sent, handled, lost } = other;
        Self { sent: self.sent + sent, handled: self.handled + handled, lost: self.lost + lost }
    }
}

/// The names to which this end has given numbers.
#[derive(Debug, Default)]
pub struct Names {
    places: Vec<Place>,
    by_name: BTreeMap<Arc<[u8]>, usize>,
    /// Whose number the next name takes when there are no more.
    oldest: usize,
    account: Account,
}

#[derive(Debug)]
struct Place {
    name: Arc<[u8]>,
    before: u32,
    /// The bytes that it was told and has not settled.
    unsettled: u32,
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
            self.places.push(Place { name: Arc::clone(&name), before: 0, unsettled: 0 });
            Number { place: self.places.len() - 1, before: 0 }
        } else {
            let place = self.oldest;
            self.oldest = (place + 1) % NAMES_MAX;
            let before = self.places[place].before.wrapping_add(1);
            let new = Place { name: Arc::clone(&name), before, unsettled: 0 };
            let gone = std::mem::replace(&mut self.places[place], new);
            self.by_name.remove(&gone.name);
            Number { place, before }
        };
        let had = self.by_name.insert(name, number.place);
        assert_eq!(had, None, "a name has one number");
        number
    }

    /// Whether the name may be told something more. What it is told may go beyond the window by one message, so that
    /// there is none that never fits.
    #[must_use]
    pub fn is_open(&self, number: Number) -> bool {
        self.places[number.place].unsettled < WINDOW_BYTES
    }

    /// The name was told a message that is charged `bytes`.
    pub fn told(&mut self, number: Number, bytes: u32) {
        self.places[number.place].unsettled += bytes;
        self.account.sent += 1;
    }

    /// Some of what was told is settled. Says whether the name was closed before and is open.
    ///
    /// # Errors
    /// More is settled than was told.
    pub fn settled(&mut self, settled: Settled) -> Result<bool, Flaw> {
        let Settled { number, before, bytes, handled, lost } = settled;
        let under_way = self.account.under_way().checked_sub(u64::from(handled) + u64::from(lost));
        under_way.ok_or(Flaw::Credit)?;
        self.account.handled += u64::from(handled);
        self.account.lost += u64::from(lost);
        let place = as_received(number).ok_or(Flaw::Unexpected)?;
        let told = self.places.get_mut(place).ok_or(Flaw::Unexpected)?;
        if told.before != before {
            // The name has lost its number since, and its window with it.
            return Ok(false);
        }
        let was_open = told.unsettled < WINDOW_BYTES;
        let bytes = if cfg!(planted = "lost_keeps_its_window") && lost > 0 { 0 } else { bytes };
        told.unsettled = told.unsettled.checked_sub(bytes).ok_or(Flaw::Credit)?;
        Ok(!was_open && told.unsettled < WINDOW_BYTES)
    }

    /// What became of all that was told, as far as the other end has said it.
    #[must_use]
    pub fn account(&self) -> Account {
        self.account
    }
}

/// What the numbers of the other end stand for.
#[derive(Debug)]
pub struct Bound<T>(Vec<Binding<T>>);

#[derive(Debug)]
struct Binding<T> {
    /// How many names had the number before.
    before: u32,
    what: T,
}

impl<T> Default for Bound<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Bound<T> {
    /// From here on `number` stands for what `make` makes, which is told how many names had the number before. Returns
    /// what it stood for.
    ///
    /// # Errors
    /// The other end cannot have meant that: its numbers are given in order.
    pub fn bind(&mut self, number: u64, make: impl FnOnce(u32) -> T) -> Result<Option<T>, Flaw> {
        let place = as_received(number).filter(|place| *place < NAMES_MAX).ok_or(Flaw::Unexpected)?;
        let next = self.0.len();
        match self.0.get_mut(place) {
            Some(bound) => {
                bound.before = bound.before.wrapping_add(1);
                Ok(Some(std::mem::replace(&mut bound.what, make(bound.before))))
            }
            None if place == next => {
                self.0.push(Binding { before: 0, what: make(0) });
                Ok(None)
            }
            None => Err(Flaw::Unexpected),
        }
    }

    /// What `number` stands for.
    pub fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        self.0.get_mut(as_received(number)?).map(|bound| &mut bound.what)
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
    fn a_name_that_settles_nothing_fills_its_own_window_only() {
        let mut names = Names::default();
        let (slow, quick) = (names.bind(b"slow"), names.bind(b"quick"));
        names.told(slow, WINDOW_BYTES - 1);
        assert!(names.is_open(slow), "a last message may go beyond");
        names.told(slow, 1 << 20);
        assert_eq!((names.is_open(slow), names.is_open(quick)), (false, true));

        let settled = |bytes, handled, lost| Settled { number: 1, before: 0, bytes, handled, lost };
        assert_eq!(names.settled(settled(1 << 20, 1, 0)), Ok(true));
        assert_eq!(names.settled(settled(WINDOW_BYTES - 1, 0, 1)), Ok(false), "it was open");
        assert_eq!(names.account(), Account { sent: 2, handled: 1, lost: 1 });
        assert_eq!(names.account().under_way(), 0);
    }

    #[test]
    fn what_a_name_settles_after_it_lost_its_number_opens_no_other() {
        let mut names = Names::default();
        let first = names.bind(b"first");
        names.told(first, WINDOW_BYTES);
        for n in 0..NAMES_MAX {
            names.bind(n.to_string().as_bytes());
        }
        let second = names.find((NAMES_MAX - 1).to_string().as_bytes()).expect("it was bound");
        assert_eq!((names.number(first), names.number(second)), (None, Some(1)));
        names.told(second, WINDOW_BYTES);

        let late = Settled { number: 1, before: 0, bytes: WINDOW_BYTES, handled: 1, lost: 0 };
        assert_eq!(names.settled(late), Ok(false));
        assert!(!names.is_open(second));
        assert_eq!(names.account(), Account { sent: 2, handled: 1, lost: 0 });
    }

    #[test]
    fn more_than_was_told_cannot_be_settled() {
        let mut names = Names::default();
        let name = names.bind(b"a");
        names.told(name, 100);
        let settled = |number, bytes, handled| Settled { number, before: 0, bytes, handled, lost: 0 };
        assert_eq!(names.settled(settled(1, 100, 2)), Err(Flaw::Credit));
        assert_eq!(names.settled(settled(1, 101, 0)), Err(Flaw::Credit));
        assert_eq!(names.settled(settled(2, 0, 0)), Err(Flaw::Unexpected));
        assert_eq!(names.settled(settled(0, 0, 0)), Err(Flaw::Unexpected));
    }

    #[test]
    fn numbers_of_the_other_end_come_in_order_and_are_bounded() {
        let mut bound = Bound::default();
        let mut bind = |number, what| bound.bind(number, |before| (what, before));
        assert_eq!(bind(0, "none"), Err(Flaw::Unexpected), "no name");
        assert_eq!(bind(2, "b"), Err(Flaw::Unexpected), "1 was not bound");
        assert_eq!((bind(1, "a"), bind(2, "b"), bind(1, "c")), (Ok(None), Ok(None), Ok(Some(("a", 0)))));
        let found = [0, 1, 2, 3].map(|number| bound.get_mut(number).copied());
        assert_eq!(found, [None, Some(("c", 1)), Some(("b", 0)), None]);
        for number in 3..=NAMES_MAX as u64 {
            assert_eq!(bound.bind(number, |before| ("many", before)), Ok(None));
        }
        assert_eq!(bound.bind(NAMES_MAX as u64 + 1, |before| ("too many", before)), Err(Flaw::Unexpected));
    }
}
