//! The bytes of a segment, one file of the Raft log on disk.
//!
//! A segment is a preallocated file: a [`Header`], then records without gaps, then zeros.
//!
//! ```text
//! header   magic 8 | version 4 | capacity 4 | mesh 16 | sequence 8 | first index 8
//!          | previous end 4 | previous chain 4 | synced 4 | checksum 4                         = 64 bytes
//! record   magic 2 | version 1 | kind 1 | length 4 | index 8 | synced 4 | payload checksum 4
//!          | chain 4 | header checksum 4                                                      = 32 bytes, payload
//! ```
//!
//! Numbers are little-endian, checksums are CRC-32 (IEEE). The chain of a record is the running checksum of all record
//! headers before it, begun with the checksum of the segment's header, which names the last chain of the segment
//! before. A header checksum also covers the segment and the record's offset, neither of which is stored: bytes copied
//! from elsewhere, a client's payload included, are never taken for a record.
//!
//! `synced` says how much of the file was known to be on the disk when the record was written. It turns a damaged place
//! into a decision: below the mark of any later record it was durable, so it is damage; else it is a torn tail.
//!
//! This module knows layouts and checksums. What a damaged place means is decided by the log.

use bytes::{Buf, BufMut};

/// The version of segments this release writes, and the only one it reads.
///
/// A release that changes the layout of the record header must raise it, so that an older one refuses the file instead
/// of taking its records for a torn tail.
pub const VERSION: u32 = 1;

/// Bytes of a segment's header.
pub const HEADER_BYTES: u32 = 64;

/// Bytes of a record before its payload.
pub const RECORD_HEADER_BYTES: u32 = 32;

const SEGMENT_MAGIC: [u8; 8] = *b"pelagolg";
const RECORD_MAGIC: [u8; 2] = [0xa7, 0x1e];
const RECORD_VERSION: u8 = 1;
/// Header bytes covered by the chain: all before it.
const CHAINED_BYTES: usize = 24;
/// Header bytes covered by the header checksum: all before it.
const CHECKED_BYTES: usize = 28;

/// The first bytes of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the whole file. A shorter file has lost its end.
    pub capacity: u32,
    /// The mesh the log belongs to.
    pub mesh: u128,
    /// Number of the segment: 1 for the first of a log, then without gaps.
    pub sequence: u64,
    /// Index that the next entry had when the segment was begun.
    pub first_index: u64,
    /// Offset at which the records of the segment before end; 0 in the first segment.
    pub previous_end: u32,
    /// Chain of the last record of the segment before; 0 in the first segment.
    pub previous_chain: u32,
    /// Offset up to which this file was on the disk before it got its name.
    pub synced: u32,
}

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An entry of the log; `index` is its place.
    Entry,
    /// The vote, replacing earlier ones.
    Vote,
    /// Entries at `index` and above are gone.
    Truncate,
    /// Entries up to and including `index` are gone; the payload is their last log id.
    Purge,
    /// Nothing: it is written for its `synced`.
    Mark,
}

/// One record of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// What it says.
    pub kind: Kind,
    /// Meaning by kind; 0 where it has none.
    pub index: u64,
    /// Offset up to which the segment was on the disk when the record was written.
    pub synced: u32,
    /// Bytes of the layer above; the log does not look into them.
    pub payload: &'a [u8],
}

/// Why bytes are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// The file does not begin as a segment does.
    #[error("this is not a log segment")]
    NotASegment,
    /// A newer release wrote this, or the version is damaged.
    #[error("unknown version {found}")]
    UnknownVersion {
        /// The version in the file.
        found: u32,
    },
    /// A newer release wrote this.
    #[error("unknown kind of record {found}")]
    UnknownKind {
        /// The kind in the file.
        found: u8,
    },
    /// No record begins here.
    #[error("no record begins here")]
    NotARecord,
    /// The header's checksum does not match.
    #[error("the checksum of the header does not match")]
    HeaderChecksum,
    /// The payload ends behind the end of the file.
    #[error("the payload does not fit the file")]
    Length,
    /// The payload's checksum does not match.
    #[error("the checksum of the payload does not match")]
    PayloadChecksum,
    /// The record is whole, but it does not follow the one before.
    #[error("the record does not follow the one before")]
    Chain,
}

impl Header {
    /// Writes the header into `out` and returns the segment's [`Seed`].
    pub fn encode(&self, out: &mut Vec<u8>) -> Seed {
        let start = out.len();
        out.put_slice(&SEGMENT_MAGIC);
        out.put_u32_le(VERSION);
        out.put_u32_le(self.capacity);
        out.put_u128_le(self.mesh);
        out.put_u64_le(self.sequence);
        out.put_u64_le(self.first_index);
        out.put_u32_le(self.previous_end);
        out.put_u32_le(self.previous_chain);
        out.put_u32_le(self.synced);
        let checksum = crc32fast::hash(&out[start..]);
        out.put_u32_le(checksum);
        Seed(checksum)
    }

    /// Reads the header of a segment and the segment's [`Seed`].
    ///
    /// # Errors
    /// [`Flaw::NotASegment`], [`Flaw::UnknownVersion`] or [`Flaw::HeaderChecksum`].
    pub fn decode(segment: &[u8]) -> Result<(Self, Seed), Flaw> {
        let bytes = segment.get(..HEADER_BYTES as usize).ok_or(Flaw::NotASegment)?;
        let (checked, mut checksum) = bytes.split_at(bytes.len() - 4);
        let mut fields = checked.strip_prefix(&SEGMENT_MAGIC).ok_or(Flaw::NotASegment)?;
        let found = fields.get_u32_le();
        if found != VERSION {
            return Err(Flaw::UnknownVersion { found });
        }
        let checksum = checksum.get_u32_le();
        if checksum != crc32fast::hash(checked) {
            return Err(Flaw::HeaderChecksum);
        }
        let header = Self {
            capacity: fields.get_u32_le(),
            mesh: fields.get_u128_le(),
            sequence: fields.get_u64_le(),
            first_index: fields.get_u64_le(),
            previous_end: fields.get_u32_le(),
            previous_chain: fields.get_u32_le(),
            synced: fields.get_u32_le(),
        };
        Ok((header, Seed(checksum)))
    }
}

/// Ties the checksums of records to one segment: the checksum of its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(u32);

impl Seed {
    /// Reads the record at `offset` of the segment. `bytes` begin there and may reach further than the record.
    ///
    /// This does not check that the record follows the one before: see [`Chain::read`].
    ///
    /// # Errors
    /// A [`Flaw`] of the record.
    pub fn read(self, bytes: &[u8], offset: u32) -> Result<Record<'_>, Flaw> {
        self.decode(bytes, offset).map(|(record, _)| record)
    }

    /// Finds the first record header after `offset` which proves that the byte at `offset` was on the disk before that
    /// record was written. Returns the offset of that record.
    #[must_use]
    pub fn find_proof(self, segment: &[u8], offset: u32) -> Option<u32> {
        let later = segment.get(offset as usize + 1..)?;
        let heads = later.windows(RECORD_HEADER_BYTES as usize).zip(offset + 1..);
        heads
            .filter(|(head, _)| head.starts_with(&RECORD_MAGIC))
            .filter_map(|(head, at)| Some((Head::decode(head, self, at).ok()?, at)))
            .find(|(head, _)| head.synced > offset)
            .map(|(_, at)| at)
    }

    fn decode(self, bytes: &[u8], offset: u32) -> Result<(Record<'_>, u32), Flaw> {
        let head = Head::decode(bytes, self, offset)?;
        let payload = &bytes[RECORD_HEADER_BYTES as usize..];
        let payload = payload.get(..head.length as usize).ok_or(Flaw::Length)?;
        if crc32fast::hash(payload) != head.payload_checksum {
            return Err(Flaw::PayloadChecksum);
        }
        let kind = head.kind()?;
        Ok((Record { kind, index: head.index, synced: head.synced, payload }, head.chain))
    }

    /// The checksum of a record header: over the segment's seed, the record's offset and the header.
    fn checksum(self, offset: u32, checked: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.0);
        hasher.update(&offset.to_le_bytes());
        hasher.update(checked);
        hasher.finalize()
    }
}

/// The running checksum that ties each record to all before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    seed: Seed,
    link: u32,
}

impl Chain {
    /// The chain before the first record of a segment.
    #[must_use]
    pub fn new(seed: Seed) -> Self {
        Self { seed, link: seed.0 }
    }

    /// The value a following segment names in its header.
    #[must_use]
    pub fn link(&self) -> u32 {
        self.link
    }

    /// The segment this chain belongs to.
    #[must_use]
    pub fn seed(&self) -> Seed {
        self.seed
    }

    /// Appends to `out` the bytes of `record`, which stands at `offset` of the segment.
    pub fn append(&mut self, out: &mut Vec<u8>, offset: u32, record: &Record<'_>) {
        let length = u32::try_from(record.payload.len()).expect("the log bounds a payload below a segment's size");
        let start = out.len();
        out.put_slice(&RECORD_MAGIC);
        out.put_u8(RECORD_VERSION);
        out.put_u8(record.kind.encode());
        out.put_u32_le(length);
        out.put_u64_le(record.index);
        out.put_u32_le(record.synced);
        out.put_u32_le(crc32fast::hash(record.payload));
        self.link = self.next(&out[start..]);
        out.put_u32_le(self.link);
        let checksum = self.seed.checksum(offset, &out[start..]);
        out.put_u32_le(checksum);
        out.put_slice(record.payload);
    }

    /// Reads the record at `offset` of `segment` and steps over it; on a flaw it stays where it was.
    ///
    /// # Errors
    /// A [`Flaw`] of the record, [`Flaw::Chain`] if it is whole but does not follow the one read before.
    pub fn read<'a>(&mut self, segment: &'a [u8], offset: u32) -> Result<Record<'a>, Flaw> {
        let bytes = segment.get(offset as usize..).ok_or(Flaw::NotARecord)?;
        let (record, link) = self.seed.decode(bytes, offset)?;
        if link != self.next(&bytes[..CHAINED_BYTES]) {
            return Err(Flaw::Chain);
        }
        self.link = link;
        Ok(record)
    }

    fn next(&self, chained: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.link);
        hasher.update(chained);
        hasher.finalize()
    }
}

impl Record<'_> {
    /// Bytes of the record in the file.
    ///
    /// # Panics
    /// If the payload does not fit a segment.
    #[must_use]
    pub fn bytes(&self) -> u32 {
        record_bytes(self.payload.len())
    }
}

/// Bytes in the file of a record with a payload of `length` bytes.
///
/// # Panics
/// If the payload does not fit a segment.
#[must_use]
pub fn record_bytes(length: usize) -> u32 {
    let payload = u32::try_from(length).expect("the log bounds a payload below a segment's size");
    RECORD_HEADER_BYTES + payload
}

impl Kind {
    fn encode(self) -> u8 {
        match self {
            Self::Entry => 1,
            Self::Vote => 2,
            Self::Truncate => 3,
            Self::Purge => 4,
            Self::Mark => 5,
        }
    }

    fn decode(found: u8) -> Result<Self, Flaw> {
        match found {
            1 => Ok(Self::Entry),
            2 => Ok(Self::Vote),
            3 => Ok(Self::Truncate),
            4 => Ok(Self::Purge),
            5 => Ok(Self::Mark),
            _ => Err(Flaw::UnknownKind { found }),
        }
    }
}

/// A record header whose checksum matched.
struct Head {
    version: u8,
    kind: u8,
    length: u32,
    index: u64,
    synced: u32,
    payload_checksum: u32,
    chain: u32,
}

impl Head {
    fn decode(bytes: &[u8], seed: Seed, offset: u32) -> Result<Self, Flaw> {
        let mut fields = bytes.strip_prefix(&RECORD_MAGIC).ok_or(Flaw::NotARecord)?;
        if bytes.len() < RECORD_HEADER_BYTES as usize {
            return Err(Flaw::NotARecord);
        }
        let head = Self {
            version: fields.get_u8(),
            kind: fields.get_u8(),
            length: fields.get_u32_le(),
            index: fields.get_u64_le(),
            synced: fields.get_u32_le(),
            payload_checksum: fields.get_u32_le(),
            chain: fields.get_u32_le(),
        };
        if fields.get_u32_le() != seed.checksum(offset, &bytes[..CHECKED_BYTES]) {
            return Err(Flaw::HeaderChecksum);
        }
        Ok(head)
    }

    fn kind(&self) -> Result<Kind, Flaw> {
        if self.version != RECORD_VERSION {
            return Err(Flaw::UnknownVersion { found: u32::from(self.version) });
        }
        Kind::decode(self.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    const HEADER: Header = Header {
        capacity: 4096,
        mesh: 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff,
        sequence: 3,
        first_index: 42,
        previous_end: 4000,
        previous_chain: 0xdead_beef,
        synced: 64,
    };

    const RECORDS: [Record<'static>; 5] = [
        Record { kind: Kind::Vote, index: 0, synced: 64, payload: b"vote" },
        Record { kind: Kind::Purge, index: 40, synced: 64, payload: b"log id" },
        Record { kind: Kind::Entry, index: 42, synced: 138, payload: b"an entry" },
        Record { kind: Kind::Truncate, index: 42, synced: 178, payload: b"" },
        Record { kind: Kind::Mark, index: 0, synced: 210, payload: b"" },
    ];

    #[test]
    fn the_bytes_of_every_kind_of_record_stay_as_released() {
        let segment = segment();
        let mut lines = format!("segment  {}\n", hex(&segment[..HEADER_BYTES as usize]));
        let mut at = HEADER_BYTES as usize;
        for record in RECORDS {
            let end = at + record.bytes() as usize;
            let name = format!("{:?}", record.kind).to_lowercase();
            writeln!(lines, "{name:<8} {}", hex(&segment[at..end])).expect("a string takes any text");
            at = end;
        }
        assert_eq!(lines, include_str!("../tests/golden/segment-v1.hex"));
    }

    #[test]
    fn what_was_written_is_read_back() {
        let segment = segment();
        let (header, seed) = Header::decode(&segment).expect("the header is whole");
        assert_eq!(header, HEADER);
        let mut chain = Chain::new(seed);
        let mut offset = HEADER_BYTES;
        for record in RECORDS {
            assert_eq!(chain.read(&segment, offset), Ok(record));
            offset += record.bytes();
        }
        assert_eq!(chain.read(&segment, offset), Err(Flaw::NotARecord));
    }

    #[test]
    fn a_record_is_valid_at_its_own_place_only() {
        let segment = segment();
        let (_, seed) = Header::decode(&segment).expect("the header is whole");
        let at = HEADER_BYTES as usize;
        assert_eq!(seed.read(&segment[at..], HEADER_BYTES + 1), Err(Flaw::HeaderChecksum));
        assert_eq!(Seed(7).read(&segment[at..], HEADER_BYTES), Err(Flaw::HeaderChecksum));
        let second = HEADER_BYTES + RECORDS[0].bytes();
        assert_eq!(Chain::new(seed).read(&segment, second), Err(Flaw::Chain));
    }

    #[test]
    fn a_newer_record_is_unknown_and_not_damaged() {
        assert_eq!(read_patched(2, 9), Err(Flaw::UnknownVersion { found: 9 }));
        assert_eq!(read_patched(3, 9), Err(Flaw::UnknownKind { found: 9 }));
    }

    #[test]
    fn only_a_later_record_written_after_the_flush_is_proof() {
        let segment = segment();
        let (_, seed) = Header::decode(&segment).expect("the header is whole");
        // Vote and purge were written together: neither proves the other. The entry, at 138, was written after both.
        assert_eq!(seed.find_proof(&segment, 64), Some(138));
        assert_eq!(seed.find_proof(&segment, 137), Some(138));
        assert_eq!(seed.find_proof(&segment, 138), Some(178));
        assert_eq!(seed.find_proof(&segment, 210), None);
    }

    fn segment() -> Vec<u8> {
        let mut out = Vec::new();
        let mut chain = Chain::new(HEADER.encode(&mut out));
        for record in RECORDS {
            let offset = u32::try_from(out.len()).expect("the sample is small");
            chain.append(&mut out, offset, &record);
        }
        out.resize(out.len() + 100, 0);
        out
    }

    /// Reads the first record with one header byte replaced and the checksum made to match, as a newer release would.
    fn read_patched(byte: usize, value: u8) -> Result<(), Flaw> {
        let mut segment = segment();
        let (_, seed) = Header::decode(&segment).expect("the header is whole");
        let record = &mut segment[HEADER_BYTES as usize..];
        record[byte] = value;
        let checksum = seed.checksum(HEADER_BYTES, &record[..CHECKED_BYTES]);
        record[CHECKED_BYTES..CHECKED_BYTES + 4].copy_from_slice(&checksum.to_le_bytes());
        seed.read(record, HEADER_BYTES).map(|_| ())
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
    }
}
