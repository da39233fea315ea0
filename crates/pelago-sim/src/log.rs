//! A voter's log: what is written, and of that what a crash leaves.
//!
//! A flush takes time and covers what was written when it began. Cutting off a tail becomes durable with the next flush
//! too: a crash before it brings the old tail back.

use std::{fmt, rc::Rc};

use pelago_core::{record::Op, time::LogTime};

/// One batch, as it is replicated. A term has one leader, so index and term name an entry.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) term: u64,
    pub(crate) clock: LogTime,
    /// None in the first entry of a term.
    pub(crate) ops: Rc<[Op]>,
}

/// Where a log ends. The greater one is the more up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) term: u64,
    pub(crate) index: usize,
}

/// Indexes count from 1.
#[derive(Debug, Default)]
pub(crate) struct Log {
    written: Vec<Entry>,
    disk: Vec<Entry>,
    /// How many entries at the front are the same on the disk, once the flush under way has ended.
    same: usize,
    flushing: Option<Flushing>,
    cut_off: usize,
}

#[derive(Debug)]
struct Flushing {
    from: usize,
    entries: Vec<Entry>,
}

impl Log {
    pub(crate) fn len(&self) -> usize {
        self.written.len()
    }

    pub(crate) fn end(&self) -> Position {
        self.position(self.len())
    }

    pub(crate) fn entry(&self, index: usize) -> Option<&Entry> {
        self.written.get(index.checked_sub(1)?)
    }

    pub(crate) fn position(&self, index: usize) -> Position {
        Position { term: self.entry(index).map_or(0, |entry| entry.term), index }
    }

    pub(crate) fn holds(&self, at: Position) -> bool {
        at.index <= self.len() && self.position(at.index) == at
    }

    pub(crate) fn after(&self, index: usize) -> Vec<Entry> {
        self.written[index..].to_vec()
    }

    pub(crate) fn push(&mut self, entry: Entry) {
        self.written.push(entry);
    }

    /// Takes over what a leader says to follow `index`. Only what contradicts it is cut off: the message may be old.
    pub(crate) fn accept(&mut self, index: usize, entries: Vec<Entry>) {
        for (index, entry) in (index + 1..).zip(entries) {
            if self.holds(Position { term: entry.term, index }) {
                continue;
            }
            self.cut_off += self.len() - (index - 1);
            self.written.truncate(index - 1);
            self.same = self.same.min(index - 1);
            self.push(entry);
        }
    }

    /// How many entries were ever cut off for others.
    pub(crate) fn cut_off(&self) -> usize {
        self.cut_off
    }

    /// How many entries a crash would leave as they are.
    pub(crate) fn flushed(&self) -> usize {
        self.flushing.as_ref().map_or(self.same, |flushing| flushing.from.min(self.same))
    }

    /// Whether a flush has begun. One is under way at a time.
    pub(crate) fn begin_flush(&mut self) -> bool {
        if self.flushing.is_some() || self.same == self.len() {
            return false;
        }
        self.flushing = Some(Flushing { from: self.same, entries: self.after(self.same) });
        self.same = self.len();
        true
    }

    pub(crate) fn end_flush(&mut self) {
        if let Some(Flushing { from, entries }) = self.flushing.take() {
            self.disk.truncate(from);
            self.disk.extend(entries);
        }
    }

    pub(crate) fn crash(&mut self) {
        self.flushing = None;
        self.written.clone_from(&self.disk);
        self.same = self.disk.len();
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of term {}", self.index, self.term)
    }
}
