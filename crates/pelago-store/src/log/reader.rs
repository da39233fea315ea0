//! Reading the log: from the cache at once, or from disk on a thread that may block.

use super::index::{Location, Piece};
use super::segment::{Segment, bytes_on_disk};
use super::shared::Shared;
use super::{Entry, Error, Purged};
use bytes::Bytes;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;

/// Bytes read from disk at a time; a larger record is read alone.
const BLOCK_BYTES: u64 = 1 << 20;

/// A reader of the log. Clones are independent. All its methods answer from memory, without waiting.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

/// Entries that were asked for.
pub enum Read {
    /// All were in memory.
    Cached(Vec<Entry>),
    /// Some are on disk only.
    OnDisk(ColdRead),
}

/// A read that has to go to the disk. What it returns is fixed: neither truncation nor purge after the call changes it.
pub struct ColdRead {
    pieces: Vec<Piece>,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The vote saved last, which may not be durable yet.
    ///
    /// # Errors
    /// The error that stopped the log.
    pub fn vote(&self) -> Result<Option<Bytes>, Error> {
        self.shared.read(|index| index.vote().cloned())
    }

    /// Up to where the log was purged.
    ///
    /// # Errors
    /// The error that stopped the log.
    pub fn purged(&self) -> Result<Option<Purged>, Error> {
        self.shared.read(|index| index.purged().cloned())
    }

    /// The indices of the entries in the log. Empty, it begins and ends with the index that comes next.
    ///
    /// # Errors
    /// The error that stopped the log.
    pub fn range(&self) -> Result<Range<u64>, Error> {
        self.shared.read(|index| index.range())
    }

    /// The entries of `range` that the log has, in order, up to `bytes_max` of payload but at least one.
    ///
    /// # Errors
    /// The error that stopped the log.
    pub fn read(&self, range: impl RangeBounds<u64>, bytes_max: usize) -> Result<Read, Error> {
        let pieces = self.shared.read(|index| index.collect(half_open(&range), bytes_max))?;
        if pieces.iter().any(|piece| matches!(piece, Piece::OnDisk(..))) {
            return Ok(Read::OnDisk(ColdRead { pieces }));
        }
        let cached = pieces.into_iter().filter_map(|piece| match piece {
            Piece::Cached(entry) => Some(entry),
            Piece::OnDisk(..) => None,
        });
        Ok(Read::Cached(cached.collect()))
    }
}

impl Read {
    /// The entries, wherever they are. Blocks if some are on disk.
    ///
    /// # Errors
    /// As [`ColdRead::load`].
    pub fn load(self) -> Result<Vec<Entry>, Error> {
        match self {
            Self::Cached(entries) => Ok(entries),
            Self::OnDisk(cold) => cold.load(),
        }
    }
}

impl ColdRead {
    /// Reads the entries. Blocks.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the disk returns something else than was written, [`Error::Io`] if it returns nothing.
    pub fn load(self) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::with_capacity(self.pieces.len());
        let mut pieces = self.pieces.as_slice();
        while let Some((piece, rest)) = pieces.split_first() {
            match piece {
                Piece::Cached(entry) => {
                    entries.push(entry.clone());
                    pieces = rest;
                }
                Piece::OnDisk(_, first) => {
                    let (block, behind) = pieces.split_at(block_length(first, pieces));
                    load_block(first, block, &mut entries)?;
                    pieces = behind;
                }
            }
        }
        Ok(entries)
    }
}

/// How many of `pieces`, which begin with `first`, lie so near to each other that one read gets them.
fn block_length(first: &Location, pieces: &[Piece]) -> usize {
    let near = |piece: &&Piece| match piece {
        Piece::Cached(_) => false,
        Piece::OnDisk(_, at) => Arc::ptr_eq(&at.segment, &first.segment) && at.end() <= first.start() + BLOCK_BYTES,
    };
    pieces.iter().take_while(near).count().max(1)
}

fn load_block(first: &Location, pieces: &[Piece], entries: &mut Vec<Entry>) -> Result<(), Error> {
    let located = || {
        pieces.iter().filter_map(|piece| match piece {
            Piece::OnDisk(index, location) => Some((*index, location)),
            Piece::Cached(_) => None,
        })
    };
    let end = located().last().map_or(first.end(), |(_, last)| last.end());
    let block = first.segment.read(first.start(), end)?;
    for (index, location) in located() {
        let start = usize::try_from(location.start() - first.start()).expect("a block is in memory");
        let segment = &location.segment;
        let record = segment.seed.read(&block[start..], location.offset);
        let record = record.map_err(|flaw| Error::flawed(segment.path.clone(), location.offset, flaw))?;
        assert_eq!(record.index, index, "a record's place is noted with its index");
        entries.push(Entry { index, payload: block.slice_ref(record.payload) });
    }
    Ok(())
}

impl Location {
    fn start(&self) -> u64 {
        u64::from(self.offset)
    }

    fn end(&self) -> u64 {
        self.start() + bytes_on_disk(self.length) as u64
    }
}

impl Segment {
    fn read(&self, start: u64, end: u64) -> Result<Bytes, Error> {
        let mut bytes = vec![0; usize::try_from(end - start).expect("a block is in memory")];
        let read = self.file.read_at(start, &mut bytes);
        read.map_err(|error| Error::io("read", self.path.clone(), error))?;
        Ok(bytes.into())
    }
}

fn half_open(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}
