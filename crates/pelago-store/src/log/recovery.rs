//! Opening a log: replaying its segments, cutting a torn tail, refusing damage.
//!
//! Everything before a flush that was acknowledged must be whole. A record written after that flush says so, in its
//! `synced`, and so does the header of a following segment. So at the first place that is no valid record:
//!
//! - if any later record or header shows that this place had been flushed, it is damage: the log is not opened;
//! - else a power cut tore the last write, of which nothing was acknowledged, and the place is the end of the log.
//!
//! A valid record behind the place is no proof by itself: a disk may write the pages of one flush in any order. What
//! lies behind the end is zeroed, so that it can never be taken for a part of what is written there next.
//!
//! What was read behind the last `synced` is written once more and flushed. It may exist in the page cache only: after
//! the process was killed before its flush, or after a flush that failed, which marks the pages clean.

use super::index::{Index, Location};
use super::segment::{Preamble, Sealed, Segment, Tail, UNFINISHED, file_name, sequence, write_failed};
use super::{Config, Entry, Error, Problem, Purged};
use crate::files::Directory;
use bytes::Bytes;
use pelago_wire::segment::{Chain, Flaw, HEADER_BYTES, Header, Kind, RECORD_HEADER_BYTES, Record};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

/// A torn tail that was cut: bytes of a write that was never acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The segment.
    pub path: PathBuf,
    /// Where the log ends now.
    pub offset: u32,
    /// Bytes that were zeroed behind it.
    pub bytes: u32,
    /// What was wrong there.
    pub flaw: Flaw,
}

/// A log that was replayed and can be written.
pub(super) struct Recovered {
    pub(super) index: Index,
    pub(super) end: End,
    pub(super) cut: Option<Cut>,
}

/// Where the log goes on.
pub(super) struct End {
    pub(super) sealed: VecDeque<Sealed>,
    pub(super) tail: Tail,
    pub(super) preamble: Preamble,
}

/// Opens the log, or begins one. Blocks.
pub(super) fn recover(directory: &Arc<dyn Directory>, config: &Config) -> Result<Recovered, Error> {
    let sequences = find_segments(&**directory)?;
    let Some(first) = sequences.first() else {
        let preamble = Preamble::default();
        let tail = Tail::create(&**directory, config, &preamble, None)?;
        let end = End { sealed: VecDeque::new(), tail, preamble };
        return Ok(Recovered { index: Index::new(0, config.cache_bytes_max), end, cut: None });
    };
    let mut last = Loaded::load(&**directory, config, *first)?;
    let mut replay = Replay::new(&last.header, config);
    let mut scan = replay.scan(&last)?;
    let mut sealed = VecDeque::new();
    for next in &sequences[1..] {
        let next = Loaded::load(&**directory, config, *next)?;
        scan.check_seam(&last, &next.header)?;
        sealed.push_back(Sealed { segment: last.segment, last_entry: scan.last_entry });
        scan = replay.scan(&next)?;
        last = next;
    }
    replay.check_complete(&**directory, *first)?;
    let (tail, cut) = scan.settle(last)?;
    let preamble = replay.preamble();
    Ok(Recovered { index: replay.index, end: End { sealed, tail, preamble }, cut })
}

/// The sequences of all segments, in order and without a hole.
fn find_segments(directory: &dyn Directory) -> Result<Vec<u64>, Error> {
    let failed = |action| move |error| Error::io(action, directory.path().to_owned(), error);
    let names = directory.names().map_err(failed("list"))?;
    if names.iter().any(|name| name == UNFINISHED) {
        directory.remove(UNFINISHED).map_err(failed("remove an unfinished segment in"))?;
    }
    let mut sequences: Vec<u64> = names.iter().filter_map(|name| sequence(name)).collect();
    sequences.sort_unstable();
    match sequences.windows(2).find(|pair| pair[1] != pair[0] + 1) {
        Some(pair) => Err(Error::Missing { directory: directory.path().to_owned(), sequence: pair[0] + 1 }),
        None => Ok(sequences),
    }
}

/// A segment in memory, whose header is right.
struct Loaded {
    segment: Arc<Segment>,
    header: Header,
    bytes: Vec<u8>,
}

impl Loaded {
    fn load(directory: &dyn Directory, config: &Config, sequence: u64) -> Result<Self, Error> {
        let name = file_name(sequence);
        let path = directory.path().join(&name);
        let failed = |action| {
            let path = path.clone();
            move |error| Error::io(action, path, error)
        };
        let file = directory.open(&name).map_err(failed("open"))?;
        let length = file.length().map_err(failed("open"))?;
        let mut bytes = vec![0; usize::try_from(length).expect("a segment is below 4 GiB")];
        file.read_at(0, &mut bytes).map_err(failed("read"))?;
        let (header, seed) = Header::decode(&bytes).map_err(|flaw| Error::flawed(path.clone(), 0, flaw))?;
        if header.mesh != config.mesh {
            return Err(Error::WrongMesh { path, expected: config.mesh, found: header.mesh });
        }
        if header.sequence != sequence {
            return Err(Error::damaged(path, 0, Problem::Misnamed { found: header.sequence }));
        }
        if u64::from(header.capacity) != length {
            let problem = Problem::Short { expected: header.capacity, found: length };
            return Err(Error::damaged(path, header.capacity, problem));
        }
        Ok(Self { segment: Arc::new(Segment { sequence, path, file, seed }), header, bytes })
    }

    fn damaged(&self, offset: u32, problem: Problem) -> Error {
        Error::damaged(self.segment.path.clone(), offset, problem)
    }
}

/// What the records read so far add up to.
struct Replay {
    index: Index,
}

impl Replay {
    fn new(first: &Header, config: &Config) -> Self {
        Self { index: Index::new(first.first_index, config.cache_bytes_max) }
    }

    /// Replays the valid records of a segment.
    fn scan(&mut self, loaded: &Loaded) -> Result<Scan, Error> {
        let header = &loaded.header;
        let mut scan = Scan {
            end: HEADER_BYTES,
            synced: header.synced,
            flaw: Flaw::NotARecord,
            chain: Chain::new(loaded.segment.seed),
            last_entry: None,
            marked: true,
        };
        loop {
            match scan.chain.read(&loaded.bytes, scan.end) {
                Ok(record) => {
                    self.apply(loaded, scan.end, &record)?;
                    scan.step(&record);
                }
                Err(flaw) => {
                    scan.flaw = flaw;
                    return Ok(scan);
                }
            }
        }
    }

    fn apply(&mut self, loaded: &Loaded, offset: u32, record: &Record<'_>) -> Result<(), Error> {
        let payload = Bytes::copy_from_slice(record.payload);
        match record.kind {
            Kind::Entry if !self.index.follows(record.index) => {
                let problem = Problem::Gap { expected: self.index.next(), found: record.index };
                return Err(loaded.damaged(offset, problem));
            }
            Kind::Entry => {
                let length = record.bytes() - RECORD_HEADER_BYTES;
                let location = Location { segment: loaded.segment.clone(), offset, length };
                self.index.restore(Entry { index: record.index, payload }, location);
            }
            Kind::Vote => self.index.set_vote(payload),
            Kind::Truncate => self.index.truncate(record.index),
            Kind::Purge => self.index.purge(Purged { index: record.index, payload }),
            Kind::Mark => {}
        }
        Ok(())
    }

    /// Segments are deleted from the front, and only when the purge point has passed their entries.
    fn check_complete(&self, directory: &dyn Directory, first: u64) -> Result<(), Error> {
        let complete = match self.index.purged() {
            Some(purged) => self.index.range().start == purged.index + 1,
            None => first == 1,
        };
        if complete {
            return Ok(());
        }
        Err(Error::Missing { directory: directory.path().to_owned(), sequence: first - 1 })
    }

    fn preamble(&self) -> Preamble {
        Preamble {
            next_index: self.index.next(),
            vote: self.index.vote().cloned(),
            purged: self.index.purged().cloned(),
        }
    }
}

/// The valid records of one segment: where they end, and why.
struct Scan {
    end: u32,
    /// The highest offset that something in the segment shows to have been flushed.
    synced: u32,
    flaw: Flaw,
    chain: Chain,
    last_entry: Option<u64>,
    marked: bool,
}

impl Scan {
    fn step(&mut self, record: &Record<'_>) {
        self.end += record.bytes();
        self.synced = self.synced.max(record.synced);
        // What a segment begins with was flushed before it got its name.
        self.marked = record.kind == Kind::Mark || self.end <= self.synced;
        if record.kind == Kind::Entry {
            self.last_entry = self.last_entry.max(Some(record.index));
        }
    }

    /// Checks that a segment which is not the last one ends where the next one says.
    fn check_seam(&self, loaded: &Loaded, next: &Header) -> Result<(), Error> {
        if self.end < next.previous_end {
            self.check_version(loaded)?;
            let problem = Problem::Sealed { flaw: self.flaw, end: next.previous_end };
            return Err(loaded.damaged(self.end, problem));
        }
        if self.end > next.previous_end || self.chain.link() != next.previous_chain {
            return Err(loaded.damaged(self.end, Problem::Seam));
        }
        Ok(())
    }

    /// Cuts the last segment behind its last record, unless the rest of it was flushed, and makes it durable.
    fn settle(self, mut loaded: Loaded) -> Result<(Tail, Option<Cut>), Error> {
        self.check_version(&loaded)?;
        self.check_unproven(&loaded)?;
        let used = used_bytes(&loaded.bytes);
        let cut = (used > self.end).then(|| Cut {
            path: loaded.segment.path.clone(),
            offset: self.end,
            bytes: used - self.end,
            flaw: self.flaw,
        });
        loaded.bytes[self.end as usize..].fill(0);
        self.rewrite(&loaded, used.max(self.end))?;
        let tail = Tail {
            capacity: loaded.header.capacity,
            segment: loaded.segment,
            end: self.end,
            chain: self.chain,
            written: 0,
            last_entry: self.last_entry,
            marked: self.marked,
        };
        Ok((tail, cut))
    }

    /// A whole record that this release does not know is neither damage nor a torn write.
    fn check_version(&self, loaded: &Loaded) -> Result<(), Error> {
        match self.flaw {
            Flaw::UnknownVersion { .. } | Flaw::UnknownKind { .. } => {
                Err(Error::flawed(loaded.segment.path.clone(), self.end, self.flaw))
            }
            Flaw::NotASegment
            | Flaw::NotARecord
            | Flaw::HeaderChecksum
            | Flaw::Length
            | Flaw::PayloadChecksum
            | Flaw::Chain => Ok(()),
        }
    }

    fn check_unproven(&self, loaded: &Loaded) -> Result<(), Error> {
        let header = (loaded.header.synced > self.end).then_some(0);
        match header.or_else(|| loaded.segment.seed.find_proof(&loaded.bytes, self.end)) {
            Some(proof) => Err(loaded.damaged(self.end, Problem::Synced { flaw: self.flaw, proof })),
            None => Ok(()),
        }
    }

    fn rewrite(&self, loaded: &Loaded, used: u32) -> Result<(), Error> {
        let (file, path) = (&loaded.segment.file, &loaded.segment.path);
        let unsure = &loaded.bytes[self.synced as usize..used as usize];
        let failed = |error| write_failed(error, "write", path.clone());
        file.write_at(u64::from(self.synced), unsure).map_err(failed)?;
        file.sync().map_err(|error| Error::flush(path.clone(), error))
    }
}

/// The offset behind the last byte that is not zero.
fn used_bytes(bytes: &[u8]) -> u32 {
    const PAGE: [u8; 4096] = [0; 4096];
    // Whole pages are compared at memory speed: a segment is mostly zeros.
    let mut end = bytes.len();
    while end >= PAGE.len() && bytes[end - PAGE.len()..end] == PAGE {
        end -= PAGE.len();
    }
    let used = bytes[..end].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    u32::try_from(used).expect("a segment is below 4 GiB")
}
