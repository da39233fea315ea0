//! The log's one thread: it writes what is queued, flushes it once, and answers.
//!
//! There is no timer: what gathers while one flush runs goes out in the next. Only a mark waits for an idle moment.
//!
//! A group never crosses segments: when one is full, what is encoded for it is flushed and answered, then the next
//! segment is created. So whatever stands in a segment was written after all before it was flushed, and a record can
//! name the beginning of its group as the flushed part of the file.

use super::index::Placed;
use super::operation::{OnFlushed, Operation};
use super::recovery::End;
use super::segment::{Preamble, Sealed, Tail, file_name, record};
use super::shared::{Next, Shared};
use super::{Config, Entry, Error};
use crate::files::Directory;
use pelago_wire::segment::{Kind, RECORD_HEADER_BYTES, record_bytes};
use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

/// Capacity that the buffer for groups keeps between two of them.
const GROUP_BYTES_KEPT: usize = 1 << 20;

pub(super) struct Flusher {
    directory: Arc<dyn Directory>,
    config: Config,
    shared: Arc<Shared>,
    sealed: VecDeque<Sealed>,
    tail: Tail,
    /// As of the last record encoded; what the next segment repeats.
    preamble: Preamble,
    group: Group,
    /// Taken from the queue and not yet encoded.
    batch: VecDeque<Operation>,
    /// Why the thread ends.
    reason: Error,
}

/// Records encoded for one write and one flush.
#[derive(Default)]
struct Group {
    bytes: Vec<u8>,
    records: u64,
    placed: Vec<Placed>,
    answers: Vec<OnFlushed>,
}

impl Flusher {
    pub(super) fn new(directory: Arc<dyn Directory>, config: Config, shared: Arc<Shared>, end: End) -> Self {
        Self {
            directory,
            config,
            shared,
            sealed: end.sealed,
            tail: end.tail,
            preamble: end.preamble,
            group: Group::default(),
            batch: VecDeque::new(),
            reason: Error::Closed,
        }
    }

    /// Runs until the log is closed or an error stops it.
    pub(super) fn run(mut self) {
        if let Err(error) = self.serve() {
            self.reason = error;
        }
    }

    fn serve(&mut self) -> Result<(), Error> {
        loop {
            let mark_after = (!self.tail.marked).then_some(self.config.mark_after);
            match self.shared.next(mark_after) {
                Next::Write(operations) => self.write(operations)?,
                Next::Mark => self.mark()?,
                Next::End => return self.mark(),
            }
        }
    }

    fn write(&mut self, operations: Vec<Operation>) -> Result<(), Error> {
        let purged_before = self.purged_index();
        self.batch = operations.into();
        while let Some(operation) = self.batch.pop_front() {
            self.encode(operation)?;
        }
        self.flush()?;
        if self.purged_index() != purged_before {
            self.delete_segments()?;
        }
        self.shared.settle();
        Ok(())
    }

    fn encode(&mut self, operation: Operation) -> Result<(), Error> {
        match operation {
            Operation::Append { entries, ticket, on_flushed } => {
                let encoded = self.encode_entries(&entries, ticket);
                self.group.answers.push(on_flushed);
                encoded
            }
            Operation::Vote { vote, on_flushed } => {
                let encoded = self.encode_record(Kind::Vote, 0, &vote);
                self.group.answers.push(on_flushed);
                self.preamble.vote = Some(vote);
                encoded.map(drop)
            }
            Operation::Truncate { from } => {
                self.encode_record(Kind::Truncate, from, &[])?;
                self.preamble.next_index = from;
                Ok(())
            }
            Operation::Purge { purged } => {
                self.encode_record(Kind::Purge, purged.index, &purged.payload)?;
                self.preamble.next_index = self.preamble.next_index.max(purged.index + 1);
                self.preamble.purged = Some(purged);
                Ok(())
            }
        }
    }

    fn encode_entries(&mut self, entries: &[Entry], first_ticket: u64) -> Result<(), Error> {
        for (entry, ticket) in entries.iter().zip(first_ticket..) {
            let index = entry.index;
            let offset = self.encode_record(Kind::Entry, index, &entry.payload)?;
            let length = u32::try_from(entry.payload.len()).expect("a payload is smaller than a segment");
            self.group.placed.push(Placed { index, ticket, offset, length });
            self.tail.last_entry = self.tail.last_entry.max(Some(index));
            self.preamble.next_index = index + 1;
        }
        Ok(())
    }

    /// Adds a record to the group and returns its offset.
    fn encode_record(&mut self, kind: Kind, index: u64, payload: &[u8]) -> Result<u32, Error> {
        let bytes = record_bytes(payload.len()) as usize;
        if !self.tail.fits(self.group.bytes.len() + bytes) {
            self.flush()?;
            self.begin_segment()?;
            assert!(self.tail.fits(bytes), "a payload has at most a quarter of a segment");
        }
        let synced = self.tail.end;
        let offset = synced + u32::try_from(self.group.bytes.len()).expect("a group fits its segment");
        self.tail.chain.append(&mut self.group.bytes, offset, &record(kind, index, synced, payload));
        self.group.records += 1;
        Ok(offset)
    }

    /// Writes and flushes the group, then answers.
    fn flush(&mut self) -> Result<(), Error> {
        if !self.group.bytes.is_empty() {
            let bytes = self.group.bytes.len() as u64;
            self.tail.write(&mut self.group.bytes)?;
            self.tail.marked = false;
            self.shared.counters().count_flush(self.group.records, bytes);
            self.shared.publish(&self.tail.segment, &self.group.placed);
        }
        self.group.clear();
        for answer in mem::take(&mut self.group.answers) {
            answer(Ok(()));
        }
        Ok(())
    }

    /// Shows that all records so far were flushed. A mark that does not fit is left out: the next segment shows it.
    fn mark(&mut self) -> Result<(), Error> {
        if !self.tail.marked && self.tail.fits(RECORD_HEADER_BYTES as usize) {
            self.encode_record(Kind::Mark, 0, &[])?;
            self.tail.write(&mut self.group.bytes)?;
            self.group.clear();
            self.shared.counters().count_mark();
        }
        self.tail.marked = true;
        Ok(())
    }

    fn begin_segment(&mut self) -> Result<(), Error> {
        let next = Tail::create(&*self.directory, &self.config, &self.preamble, Some(&self.tail))?;
        let full = mem::replace(&mut self.tail, next);
        self.sealed.push_back(Sealed { segment: full.segment, last_entry: full.last_entry });
        Ok(())
    }

    /// Deletes the segments at the front whose entries are all purged. The oldest goes first and for good before the
    /// next one, so that no crash leaves a hole.
    fn delete_segments(&mut self) -> Result<(), Error> {
        let purged = self.purged_index();
        while let Some(oldest) = self.sealed.pop_front_if(|sealed| sealed.last_entry <= purged) {
            let path = &oldest.segment.path;
            let name = file_name(oldest.segment.sequence);
            self.directory.remove(&name).map_err(|error| Error::io("delete", path.clone(), error))?;
            self.directory.sync().map_err(|error| Error::flush(self.directory.path().to_owned(), error))?;
        }
        Ok(())
    }

    fn purged_index(&self) -> Option<u64> {
        self.preamble.purged.as_ref().map(|purged| purged.index)
    }
}

impl Drop for Flusher {
    /// Answers everybody who still waits, also if a callback panicked.
    fn drop(&mut self) {
        self.shared.stop(&self.reason);
        for answer in mem::take(&mut self.group.answers) {
            answer(Err(self.reason.clone()));
        }
        for operation in mem::take(&mut self.batch) {
            operation.fail(&self.reason);
        }
    }
}

impl Group {
    /// Forgets the records, which are on disk.
    fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(GROUP_BYTES_KEPT);
        self.records = 0;
        self.placed.clear();
    }
}
