//! Segments as files: creating one, and the one at the end of the log that is written.
//!
//! A segment gets its name only when it is complete and flushed, so a file with the name of a segment that does not
//! begin as one is damaged. It begins with a [`Preamble`], so that those before it can be deleted whole.

use super::error::is_full;
use super::{Config, Error, Purged};
use crate::files::{Directory, File};
use bytes::Bytes;
use pelago_wire::segment::{Chain, HEADER_BYTES, Header, Kind, Record, Seed, record_bytes};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// The name of a segment that is being created.
pub(super) const UNFINISHED: &str = "unfinished";

const SUFFIX: &str = ".segment";

/// Small groups write zeros up to the next multiple of this.
const ZEROED_AHEAD_BYTES: usize = 64 << 10;

/// A segment that can be read.
pub(super) struct Segment {
    pub(super) sequence: u64,
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn File>,
    pub(super) seed: Seed,
}

/// A segment that is complete, with the highest index among its entries.
pub(super) struct Sealed {
    pub(super) segment: Arc<Segment>,
    pub(super) last_entry: Option<u64>,
}

/// The last segment: where records are written.
pub(super) struct Tail {
    pub(super) segment: Arc<Segment>,
    pub(super) capacity: u32,
    /// Offset behind the last record. All before it is flushed.
    pub(super) end: u32,
    pub(super) chain: Chain,
    /// Offset up to which the file's blocks were written at least once, as far as this run knows.
    pub(super) written: usize,
    pub(super) last_entry: Option<u64>,
    /// Whether no mark is due: nothing follows the last one.
    pub(super) marked: bool,
}

/// What a segment must repeat of those before it.
#[derive(Clone, Default)]
pub(super) struct Preamble {
    pub(super) next_index: u64,
    pub(super) vote: Option<Bytes>,
    pub(super) purged: Option<Purged>,
}

/// The file name of a segment; names sort as sequences do.
pub(super) fn file_name(sequence: u64) -> String {
    format!("{sequence:020}{SUFFIX}")
}

/// The sequence in a segment's file name; `None` if it is another file.
pub(super) fn sequence(file_name: &str) -> Option<u64> {
    file_name.strip_suffix(SUFFIX)?.parse().ok()
}

impl Tail {
    /// Creates the segment after `previous`, or the first. All of `previous` must be flushed.
    pub(super) fn create(
        directory: &dyn Directory,
        config: &Config,
        preamble: &Preamble,
        previous: Option<&Self>,
    ) -> Result<Self, Error> {
        let header = Header {
            capacity: config.segment_bytes,
            mesh: config.mesh,
            sequence: previous.map_or(1, |tail| tail.segment.sequence + 1),
            first_index: preamble.next_index,
            previous_end: previous.map_or(0, |tail| tail.end),
            previous_chain: previous.map_or(0, |tail| tail.chain.link()),
            synced: HEADER_BYTES + preamble.records().map(|record| record.bytes()).sum::<u32>(),
        };
        let mut bytes = Vec::with_capacity(header.synced as usize);
        let mut chain = Chain::new(header.encode(&mut bytes));
        let mut offset = HEADER_BYTES;
        for record in preamble.records() {
            chain.append(&mut bytes, offset, &record);
            offset += record.bytes();
        }
        let segment = Segment::create(directory, &header, chain.seed(), &bytes)?;
        let (capacity, end) = (header.capacity, header.synced);
        Ok(Self { segment: Arc::new(segment), capacity, end, chain, written: 0, last_entry: None, marked: true })
    }

    /// Whether `bytes` more fit.
    pub(super) fn fits(&self, bytes: usize) -> bool {
        bytes <= (self.capacity - self.end) as usize
    }

    /// Writes and flushes a group of records, which goes on where the others end. Leaves zeros behind it in `group`.
    pub(super) fn write(&mut self, group: &mut Vec<u8>) -> Result<(), Error> {
        let length = u32::try_from(group.len()).expect("a group fits its segment");
        self.zero_ahead(group);
        let segment = &self.segment;
        let failed = |error| write_failed(error, "write", segment.path.clone());
        segment.file.write_at(u64::from(self.end), group).map_err(failed)?;
        segment.file.sync().map_err(|error| Error::flush(segment.path.clone(), error))?;
        self.end += length;
        Ok(())
    }

    /// Lengthens a small group by zeros when it reaches blocks that were allocated and never written.
    ///
    /// The flush that first writes a block must also have the file system note that in its journal: measured on ext4,
    /// 100 µs for 8 KiB in place of 55. So one small group in several pays for the next ones; a large one is not
    /// worth it.
    fn zero_ahead(&mut self, group: &mut Vec<u8>) {
        let end = self.end as usize + group.len();
        if end > self.written && group.len() < ZEROED_AHEAD_BYTES / 4 {
            self.written = end.next_multiple_of(ZEROED_AHEAD_BYTES).min(self.capacity as usize);
            group.resize(self.written - self.end as usize, 0);
        }
    }
}

impl Segment {
    fn create(directory: &dyn Directory, header: &Header, seed: Seed, bytes: &[u8]) -> Result<Self, Error> {
        let name = file_name(header.sequence);
        let path = directory.path().join(&name);
        let failed = |action| {
            let path = path.clone();
            move |error| write_failed(error, action, path)
        };
        let file = directory.create(UNFINISHED, u64::from(header.capacity)).map_err(failed("create"))?;
        file.write_at(0, bytes).map_err(failed("write"))?;
        file.sync().map_err(|error| Error::flush(path.clone(), error))?;
        directory.rename(UNFINISHED, &name).map_err(failed("name"))?;
        directory.sync().map_err(|error| Error::flush(directory.path().to_owned(), error))?;
        Ok(Self { sequence: header.sequence, path, file, seed })
    }
}

impl Preamble {
    /// The records; they are flushed with the header, which says so.
    fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let vote = self.vote.iter().map(|vote| record(Kind::Vote, 0, 0, vote));
        vote.chain(self.purged.iter().map(|purged| record(Kind::Purge, purged.index, 0, &purged.payload)))
    }
}

pub(super) fn record(kind: Kind, index: u64, synced: u32, payload: &[u8]) -> Record<'_> {
    Record { kind, index, synced, payload }
}

/// Bytes on disk of a payload of that many bytes.
pub(super) fn bytes_on_disk(payload_bytes: u32) -> usize {
    record_bytes(payload_bytes as usize) as usize
}

/// Tells a disk without space from one that fails.
pub(super) fn write_failed(error: io::Error, action: &'static str, path: PathBuf) -> Error {
    if is_full(&error) {
        let directory = path.parent().map_or_else(PathBuf::new, PathBuf::from);
        return Error::Full { directory, source: Arc::new(error) };
    }
    Error::io(action, path, error)
}
