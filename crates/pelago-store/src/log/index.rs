//! What the log holds: the vote, the purge point, and for each entry its place on disk and, if recent, its payload.
//!
//! It is changed by the calls of the writer, ahead of the disk, and by replaying segments when the log is opened. It
//! does no I/O.

use super::segment::Segment;
use super::{Entry, Error, Purged};
use bytes::Bytes;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

pub(super) struct Index {
    vote: Option<Bytes>,
    purged: Option<Purged>,
    /// Index of the first slot.
    first: u64,
    slots: VecDeque<Slot>,
    /// How many slots at the front have no payload here. All others have.
    cold: usize,
    cached_bytes: usize,
    cache_bytes_max: usize,
    next_ticket: u64,
}

struct Slot {
    payload: Option<Bytes>,
    place: Place,
}

enum Place {
    /// In the queue. The ticket tells it from an entry of the same index that was truncated while it waited.
    Queued {
        ticket: u64,
    },
    Written(Location),
}

/// A record on disk.
#[derive(Clone)]
pub(super) struct Location {
    pub(super) segment: Arc<Segment>,
    pub(super) offset: u32,
    /// Bytes of the payload.
    pub(super) length: u32,
}

/// An entry that was written to a segment.
pub(super) struct Placed {
    pub(super) index: u64,
    pub(super) ticket: u64,
    pub(super) offset: u32,
    pub(super) length: u32,
}

/// An entry as a reader gets it.
pub(super) enum Piece {
    Cached(Entry),
    OnDisk(u64, Location),
}

impl Index {
    /// An index without entries, the next of which is `first`.
    pub(super) fn new(first: u64, cache_bytes_max: usize) -> Self {
        Self {
            vote: None,
            purged: None,
            first,
            slots: VecDeque::new(),
            cold: 0,
            cached_bytes: 0,
            cache_bytes_max,
            next_ticket: 0,
        }
    }

    pub(super) fn vote(&self) -> Option<&Bytes> {
        self.vote.as_ref()
    }

    pub(super) fn purged(&self) -> Option<&Purged> {
        self.purged.as_ref()
    }

    /// The indices of the entries.
    pub(super) fn range(&self) -> Range<u64> {
        self.first..self.next()
    }

    pub(super) fn next(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    pub(super) fn set_vote(&mut self, vote: Bytes) {
        self.vote = Some(vote);
    }

    /// A log that never held anything may begin at any index: one that is filled from a snapshot does.
    pub(super) fn follows(&self, index: u64) -> bool {
        index == self.next() || (self.slots.is_empty() && self.purged.is_none())
    }

    pub(super) fn check_append(&self, entries: &[Entry]) -> Result<(), Error> {
        let Some(first) = entries.first() else { return Ok(()) };
        if !self.follows(first.index) {
            return Err(Error::Hole { expected: self.next(), found: first.index });
        }
        match entries.iter().zip(first.index..).find(|(entry, due)| entry.index != *due) {
            Some((entry, expected)) => Err(Error::Hole { expected, found: entry.index }),
            None => Ok(()),
        }
    }

    /// Adds entries that wait to be written and returns the ticket of the first.
    pub(super) fn append(&mut self, entries: &[Entry]) -> u64 {
        let first_ticket = self.next_ticket;
        for entry in entries {
            let ticket = self.next_ticket;
            self.next_ticket += 1;
            self.push(entry.index, entry.payload.clone(), Place::Queued { ticket });
        }
        first_ticket
    }

    /// Adds an entry found on disk.
    pub(super) fn restore(&mut self, entry: Entry, location: Location) {
        self.push(entry.index, entry.payload, Place::Written(location));
        self.evict();
    }

    pub(super) fn check_truncate(&self, from: u64) -> Result<(), Error> {
        match &self.purged {
            Some(purged) if from <= purged.index => Err(Error::Purged { purged: purged.index }),
            _ => Ok(()),
        }
    }

    pub(super) fn truncate(&mut self, from: u64) {
        while self.next() > from {
            let Some(slot) = self.slots.pop_back() else {
                // While segments are replayed, entries before the first can have been purged with their segment.
                self.first = from;
                break;
            };
            self.forget(&slot);
        }
        self.cold = self.cold.min(self.slots.len());
    }

    /// Whether a purge up to `index` would change anything.
    pub(super) fn has_unpurged(&self, index: u64) -> bool {
        match &self.purged {
            Some(purged) => index > purged.index,
            None => index + 1 >= self.first,
        }
    }

    pub(super) fn purge(&mut self, purged: Purged) {
        let next = purged.index + 1;
        while self.first < next {
            let Some(slot) = self.slots.pop_front() else {
                self.first = next;
                break;
            };
            self.forget(&slot);
            self.first += 1;
            self.cold = self.cold.saturating_sub(1);
        }
        self.purged = Some(purged);
    }

    /// Notes where entries were written, but for those that were truncated or purged since.
    pub(super) fn publish(&mut self, segment: &Arc<Segment>, placed: &[Placed]) {
        for placed in placed {
            let Some(position) = placed.index.checked_sub(self.first) else {
                continue;
            };
            let Some(slot) = usize::try_from(position).ok().and_then(|at| self.slots.get_mut(at)) else {
                continue;
            };
            if matches!(slot.place, Place::Queued { ticket } if ticket == placed.ticket) {
                let (offset, length) = (placed.offset, placed.length);
                slot.place = Place::Written(Location { segment: segment.clone(), offset, length });
            }
        }
        self.evict();
    }

    /// The entries of `range` that exist, up to `bytes_max` of payload but at least one.
    pub(super) fn collect(&self, range: Range<u64>, bytes_max: usize) -> Vec<Piece> {
        let wanted = range.start.max(self.first)..range.end.min(self.next());
        let mut pieces = Vec::new();
        let mut left = bytes_max;
        for index in wanted {
            let slot = &self.slots[position(index - self.first)];
            let length = slot.length();
            if length > left && !pieces.is_empty() {
                break;
            }
            left = left.saturating_sub(length);
            pieces.push(slot.piece(index));
        }
        pieces
    }

    fn push(&mut self, index: u64, payload: Bytes, place: Place) {
        assert!(self.follows(index), "an entry is checked before it is added");
        if self.slots.is_empty() {
            self.first = index;
        }
        self.cached_bytes += payload.len();
        self.slots.push_back(Slot { payload: Some(payload), place });
    }

    /// Drops the oldest payloads above the bound; those that are not on disk stay.
    fn evict(&mut self) {
        while self.cached_bytes > self.cache_bytes_max {
            let Some(slot) = self.slots.get_mut(self.cold) else {
                break;
            };
            if matches!(slot.place, Place::Queued { .. }) {
                break;
            }
            self.cached_bytes -= slot.payload.take().map_or(0, |payload| payload.len());
            self.cold += 1;
        }
    }

    fn forget(&mut self, slot: &Slot) {
        self.cached_bytes -= slot.payload.as_ref().map_or(0, Bytes::len);
    }
}

impl Slot {
    fn length(&self) -> usize {
        match (&self.payload, &self.place) {
            (Some(payload), _) => payload.len(),
            (None, Place::Written(location)) => location.length as usize,
            (None, Place::Queued { .. }) => unreachable!("what is not on disk stays in the cache"),
        }
    }

    fn piece(&self, index: u64) -> Piece {
        match (&self.payload, &self.place) {
            (Some(payload), _) => Piece::Cached(Entry { index, payload: payload.clone() }),
            (None, Place::Written(location)) => Piece::OnDisk(index, location.clone()),
            (None, Place::Queued { .. }) => unreachable!("what is not on disk stays in the cache"),
        }
    }
}

fn position(distance: u64) -> usize {
    usize::try_from(distance).expect("the entries are held in memory, so their number fits")
}
