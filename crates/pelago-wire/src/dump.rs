//! The bytes of a logical dump: every row of a store in the order of its key, as values and not as pages.
//!
//! ```text
//! header   magic 8 | version 4                                  = 12 bytes
//! record   length 4 | kind 1 | body                             `length` counts kind and body
//!   table  columns 2 | name | column names
//!   row    values 2 | values
//!   end    rows 8 | hash 32
//! value    0 | 1 integer 8 | 2 text | 3 blob
//! ```
//!
//! Numbers are little-endian; a name, a text and a blob are a length of 4 bytes and their bytes. The hash is BLAKE3
//! over all bytes before it. Two stores that applied the same log have byte-equal dumps.
//!
//! This module knows the layout. Which tables there are, and what they mean, is the store's.

use std::fmt;

use bytes::{Buf, BufMut};

/// The version of dumps this release writes, and the only one it reads.
pub const VERSION: u32 = 1;

/// Bytes of a dump before its first record.
pub const HEADER_BYTES: usize = 12;

/// Bytes of a record's length.
pub const LENGTH_BYTES: usize = 4;

/// The longest record, in bytes: the largest value of a row is 512 KiB, and the rest of a row is small.
pub const RECORD_BYTES_MAX: usize = 2 << 20;

const MAGIC: [u8; 8] = *b"pelagodp";
const HASH_BYTES: usize = 32;

const KIND_TABLE: u8 = 1;
const KIND_ROW: u8 = 2;
const KIND_END: u8 = 3;

const VALUE_NULL: u8 = 0;
const VALUE_INTEGER: u8 = 1;
const VALUE_TEXT: u8 = 2;
const VALUE_BLOB: u8 = 3;

/// The hash over a whole dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hash(pub [u8; HASH_BYTES]);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// One value of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// Nothing.
    Null,
    /// A number.
    Integer(i64),
    /// Text.
    Text(&'a str),
    /// Bytes.
    Blob(&'a [u8]),
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record<'a> {
    /// The rows that follow are of this table.
    Table {
        /// Its name.
        name: &'a str,
        /// The names of its columns, in the order of a row's values.
        columns: Vec<&'a str>,
    },
    /// One row.
    Row(Vec<Value<'a>>),
    /// Nothing follows, and all before is as it was written.
    End(Hash),
}

/// Why bytes are not a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// It does not begin as a dump does.
    #[error("this is not a dump")]
    NotADump,
    /// A newer release wrote it.
    #[error("unknown version {found} of dumps")]
    UnknownVersion {
        /// The version it names.
        found: u32,
    },
    /// A record has a length that no record has.
    #[error("a record of {bytes} bytes")]
    Length {
        /// The length it names.
        bytes: u64,
    },
    /// A record does not hold what its kind demands.
    #[error("a malformed record")]
    Record,
    /// The hash does not match: some byte is not what was written.
    #[error("the hash does not match")]
    Hash,
}

/// Writes a dump, record by record, into the caller's buffer.
#[derive(Debug)]
pub struct Encoder {
    hasher: blake3::Hasher,
    rows: u64,
}

impl Encoder {
    /// Begins a dump.
    pub fn begin(out: &mut Vec<u8>) -> Self {
        let mut dump = Self { hasher: blake3::Hasher::new(), rows: 0 };
        let start = out.len();
        out.put_slice(&MAGIC);
        out.put_u32_le(VERSION);
        dump.hasher.update(&out[start..]);
        dump
    }

    /// Begins a table.
    ///
    /// # Panics
    /// When the table has more than 65,535 columns.
    pub fn table(&mut self, name: &str, columns: &[&str], out: &mut Vec<u8>) {
        self.record(KIND_TABLE, out, |out| {
            out.put_u16_le(u16::try_from(columns.len()).expect("a table has few columns"));
            put_bytes(name.as_bytes(), out);
            columns.iter().for_each(|column| put_bytes(column.as_bytes(), out));
        });
    }

    /// Adds a row of the present table.
    ///
    /// # Panics
    /// When the row is larger than [`RECORD_BYTES_MAX`].
    pub fn row<'v>(&mut self, values: impl ExactSizeIterator<Item = Value<'v>>, out: &mut Vec<u8>) {
        self.rows += 1;
        self.record(KIND_ROW, out, |out| {
            out.put_u16_le(u16::try_from(values.len()).expect("a row has few values"));
            values.for_each(|value| put_value(value, out));
        });
    }

    /// Ends the dump.
    pub fn end(mut self, out: &mut Vec<u8>) -> Hash {
        let start = out.len();
        out.put_u32_le((1 + size_of::<u64>() + HASH_BYTES) as u32);
        out.put_u8(KIND_END);
        out.put_u64_le(self.rows);
        self.hasher.update(&out[start..]);
        let hash = Hash(*self.hasher.finalize().as_bytes());
        out.put_slice(&hash.0);
        hash
    }

    fn record(&mut self, kind: u8, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
        let start = out.len();
        out.put_u32_le(0);
        out.put_u8(kind);
        body(out);
        let bytes = out.len() - start - LENGTH_BYTES;
        assert!(bytes <= RECORD_BYTES_MAX, "a row fits a record, since its values are bounded");
        out[start..start + LENGTH_BYTES].copy_from_slice(&(bytes as u32).to_le_bytes());
        self.hasher.update(&out[start..]);
    }
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.put_u32_le(u32::try_from(bytes.len()).expect("a value is far below 4 GiB"));
    out.put_slice(bytes);
}

fn put_value(value: Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.put_u8(VALUE_NULL),
        Value::Integer(n) => {
            out.put_u8(VALUE_INTEGER);
            out.put_i64_le(n);
        }
        Value::Text(text) => {
            out.put_u8(VALUE_TEXT);
            put_bytes(text.as_bytes(), out);
        }
        Value::Blob(bytes) => {
            out.put_u8(VALUE_BLOB);
            put_bytes(bytes, out);
        }
    }
}

/// Reads a dump: first [`HEADER_BYTES`], then for each record [`LENGTH_BYTES`] and as many bytes as they say.
#[derive(Debug)]
pub struct Decoder {
    hasher: blake3::Hasher,
    rows: u64,
}

impl Decoder {
    /// Begins with a dump's header.
    ///
    /// # Errors
    /// [`Flaw::NotADump`] or [`Flaw::UnknownVersion`].
    pub fn begin(header: &[u8; HEADER_BYTES]) -> Result<Self, Flaw> {
        let mut rest = header.as_slice();
        if rest[..MAGIC.len()] != MAGIC {
            return Err(Flaw::NotADump);
        }
        rest.advance(MAGIC.len());
        let found = rest.get_u32_le();
        if found != VERSION {
            return Err(Flaw::UnknownVersion { found });
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(header);
        Ok(Self { hasher, rows: 0 })
    }

    /// How many bytes the record has whose length these are.
    ///
    /// # Errors
    /// [`Flaw::Length`] when no record has that many.
    pub fn length(&mut self, length: [u8; LENGTH_BYTES]) -> Result<usize, Flaw> {
        let bytes = u32::from_le_bytes(length) as usize;
        if bytes == 0 || bytes > RECORD_BYTES_MAX {
            return Err(Flaw::Length { bytes: bytes as u64 });
        }
        self.hasher.update(&length);
        Ok(bytes)
    }

    /// Reads one record, after its length. Rows are to be trusted only once [`Record::End`] was read.
    ///
    /// # Errors
    /// The [`Flaw`] that shows.
    pub fn record<'a>(&mut self, mut record: &'a [u8]) -> Result<Record<'a>, Flaw> {
        let whole = record;
        match take_u8(&mut record)? {
            KIND_END => self.end(whole, record),
            KIND_TABLE => {
                self.hasher.update(whole);
                all(record, table)
            }
            KIND_ROW => {
                self.hasher.update(whole);
                self.rows += 1;
                all(record, row)
            }
            _ => Err(Flaw::Record),
        }
    }

    fn end<'a>(&mut self, whole: &[u8], mut body: &[u8]) -> Result<Record<'a>, Flaw> {
        let rows = body.try_get_u64_le().map_err(|_| Flaw::Record)?;
        let hash: [u8; HASH_BYTES] = body.try_into().map_err(|_| Flaw::Record)?;
        self.hasher.update(&whole[..whole.len() - HASH_BYTES]);
        if rows != self.rows || *self.hasher.finalize().as_bytes() != hash {
            return Err(Flaw::Hash);
        }
        Ok(Record::End(Hash(hash)))
    }
}

fn all<'a>(mut body: &'a [u8], read: fn(&mut &'a [u8]) -> Result<Record<'a>, Flaw>) -> Result<Record<'a>, Flaw> {
    let record = read(&mut body)?;
    if body.is_empty() { Ok(record) } else { Err(Flaw::Record) }
}

fn table<'a>(body: &mut &'a [u8]) -> Result<Record<'a>, Flaw> {
    let columns = body.try_get_u16_le().map_err(|_| Flaw::Record)?;
    let name = take_text(body)?;
    let columns = (0..columns).map(|_| take_text(body)).collect::<Result<_, _>>()?;
    Ok(Record::Table { name, columns })
}

fn row<'a>(body: &mut &'a [u8]) -> Result<Record<'a>, Flaw> {
    let values = body.try_get_u16_le().map_err(|_| Flaw::Record)?;
    Ok(Record::Row((0..values).map(|_| take_value(body)).collect::<Result<_, _>>()?))
}

fn take_value<'a>(body: &mut &'a [u8]) -> Result<Value<'a>, Flaw> {
    match take_u8(body)? {
        VALUE_NULL => Ok(Value::Null),
        VALUE_INTEGER => Ok(Value::Integer(body.try_get_i64_le().map_err(|_| Flaw::Record)?)),
        VALUE_TEXT => Ok(Value::Text(take_text(body)?)),
        VALUE_BLOB => Ok(Value::Blob(take_bytes(body)?)),
        _ => Err(Flaw::Record),
    }
}

fn take_u8(body: &mut &[u8]) -> Result<u8, Flaw> {
    body.try_get_u8().map_err(|_| Flaw::Record)
}

fn take_bytes<'a>(body: &mut &'a [u8]) -> Result<&'a [u8], Flaw> {
    let length = body.try_get_u32_le().map_err(|_| Flaw::Record)? as usize;
    let (bytes, rest) = body.split_at_checked(length).ok_or(Flaw::Record)?;
    *body = rest;
    Ok(bytes)
}

fn take_text<'a>(body: &mut &'a [u8]) -> Result<&'a str, Flaw> {
    std::str::from_utf8(take_bytes(body)?).map_err(|_| Flaw::Record)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut out = Vec::new();
        let mut dump = Encoder::begin(&mut out);
        dump.table("nodes", &["id", "name", "boot"], &mut out);
        dump.row([Value::Integer(-1), Value::Text("n1"), Value::Blob(&[7, 8])].into_iter(), &mut out);
        dump.row([Value::Integer(2), Value::Text(""), Value::Null].into_iter(), &mut out);
        dump.end(&mut out);
        out
    }

    fn read(mut bytes: &[u8]) -> Result<Vec<String>, Flaw> {
        let header = bytes.first_chunk().ok_or(Flaw::NotADump)?;
        let mut dump = Decoder::begin(header)?;
        bytes.advance(HEADER_BYTES);
        let mut told = Vec::new();
        loop {
            let length = *bytes.first_chunk().ok_or(Flaw::Record)?;
            bytes.advance(LENGTH_BYTES);
            let length = dump.length(length)?;
            let (record, rest) = bytes.split_at_checked(length).ok_or(Flaw::Record)?;
            bytes = rest;
            let record = dump.record(record)?;
            if matches!(record, Record::End(_)) {
                return Ok(told);
            }
            told.push(format!("{record:?}"));
        }
    }

    #[test]
    fn a_dump_is_read_as_it_was_written() {
        let told = read(&sample()).expect("the sample is whole");
        assert_eq!(
            told,
            [
                r#"Table { name: "nodes", columns: ["id", "name", "boot"] }"#,
                r#"Row([Integer(-1), Text("n1"), Blob([7, 8])])"#,
                r#"Row([Integer(2), Text(""), Null])"#,
            ]
        );
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let whole = sample();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&bytes).is_err(), "bit {bit} was flipped and nobody noticed");
        }
    }

    #[test]
    fn a_dump_cut_anywhere_is_refused() {
        let whole = sample();
        for bytes in 0..whole.len() {
            assert!(read(&whole[..bytes]).is_err(), "{bytes} bytes passed");
        }
    }

    #[test]
    fn the_layout_is_that_of_version_1() {
        let golden = "70656c61676f64700100000022000000010300050000006e6f646573020000006964040000006e616d6504000000626f6f\
                      741a00000002030001ffffffffffffffff02020000006e3103020000000708120000000203000102000000000000000200\
                      0000000029000000030200000000000000";
        let bytes: String = sample().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(&bytes[..bytes.len() - 2 * HASH_BYTES], golden);
    }
}
