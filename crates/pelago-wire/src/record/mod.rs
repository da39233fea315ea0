//! Ops and their outcomes as bytes: what a proposer sends to the leader, what stands in an entry of the control log,
//! and what comes back.
//!
//! *Is:* one conversion a direction for every part of an [`Op`] and an [`Outcome`], between core's types and those
//! generated from `proto/pelago/record/v1/record.proto`. Decoding checks what core's types promise and what its rules
//! rely on (a commit has a turn, sums do not overflow): a voter that panics on an entry panics on it at every start.
//!
//! *Is not:* a check of integrity. Bytes that were damaged may decode to another value; links and the log have
//! checksums.
//!
//! ```text
//!   encode_batch ──► Batch ──────────► decode_batch        proposer to leader
//!   encode_entry ──► Entry { Batch } ► decode_entry        leader to log, log to state machine
//!   encode_outcomes ► Outcomes ──────► decode_outcomes     leader to proposer
//! ```

mod agent;
mod connection;
mod convert;
mod error;
mod id;
mod list;
mod node;
mod op;
mod outcome;
mod session;
mod task;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use pelago_core::{
    record::{Op, Outcome},
    time::LogTime,
};

pub use error::{DecodeError, Fault};

use self::convert::Convert;

/// The most ops in one batch.
pub const ITEMS_MAX: usize = 1_024;

/// The newest format of batches and outcomes that this release reads. It writes the oldest that has all of what is
/// written, so that a mesh whose nodes are of two releases agrees as long as nobody needs what only one of them has.
pub const VERSION: u64 = 6;

/// Key of `Entry.time_ms`: field 1, 8 bytes.
const TIME: u8 = 0x09;
/// Key of `Entry.batch`: field 2, with a length.
const BATCH: u8 = 0x12;
/// The longest head of an entry: both keys, the time, and the batch's length.
const ENTRY_HEAD_BYTES_MAX: usize = 1 + 8 + 1 + 10;

/// Encodes ops that are proposed together. The same ops are always the same bytes.
///
/// # Panics
/// If there are more than [`ITEMS_MAX`].
#[must_use]
pub fn encode_batch(ops: &[Op]) -> Bytes {
    let mut bytes = BytesMut::new();
    list::encode(ops, &mut bytes);
    bytes.freeze()
}

/// Decodes ops that are proposed together. Payloads are slices of `bytes`, which they keep alive.
///
/// # Errors
/// [`DecodeError`] names the first part that is not valid.
pub fn decode_batch(bytes: Bytes) -> Result<Vec<Op>, DecodeError> {
    list::decode("batch", "items", bytes)
}

/// Encodes what stands in an entry of the control log.
///
/// # Panics
/// If there are more than [`ITEMS_MAX`] ops.
#[must_use]
pub fn encode_entry(time: LogTime, ops: &[Op]) -> Bytes {
    // The head holds the batch's length, so it is written last, right in front of the batch.
    let mut bytes = BytesMut::zeroed(ENTRY_HEAD_BYTES_MAX);
    list::encode(ops, &mut bytes);
    let mut head = BytesMut::with_capacity(ENTRY_HEAD_BYTES_MAX);
    head.put_u8(TIME);
    head.put_u64_le(time.as_millis());
    head.put_u8(BATCH);
    list::put_length(bytes.len() - ENTRY_HEAD_BYTES_MAX, &mut head);
    let start = ENTRY_HEAD_BYTES_MAX - head.len();
    bytes[start..ENTRY_HEAD_BYTES_MAX].copy_from_slice(&head);
    bytes.advance(start);
    bytes.freeze()
}

/// Decodes what stands in an entry of the control log. Payloads are slices of `bytes`, which they keep alive.
///
/// # Errors
/// [`DecodeError`] names the first part that is not valid.
pub fn decode_entry(mut bytes: Bytes) -> Result<(LogTime, Vec<Op>), DecodeError> {
    let time = time_of(&mut bytes).map_err(|e| e.within("time_ms").within("entry"))?;
    let batch = batch_of(bytes).map_err(|e| e.within("batch").within("entry"))?;
    Ok((time, decode_batch(batch)?))
}

fn time_of(bytes: &mut Bytes) -> Result<LogTime, DecodeError> {
    list::expect_key(TIME, bytes)?;
    let millis = bytes.try_get_u64_le().map_err(|_| Fault::Cut)?;
    LogTime::value(millis)
}

fn batch_of(mut bytes: Bytes) -> Result<Bytes, DecodeError> {
    list::expect_key(BATCH, &mut bytes)?;
    let batch = list::take(&mut bytes)?;
    if bytes.has_remaining() { Err(Fault::Unexpected.into()) } else { Ok(batch) }
}

/// Encodes what became of a batch, in the order of its ops.
///
/// # Panics
/// If there are more than [`ITEMS_MAX`].
#[must_use]
pub fn encode_outcomes(outcomes: &[Outcome]) -> Bytes {
    let mut bytes = BytesMut::new();
    list::encode(outcomes, &mut bytes);
    bytes.freeze()
}

/// Decodes what became of a batch. Replies are slices of `bytes`, which they keep alive.
///
/// # Errors
/// [`DecodeError`] names the first part that is not valid.
pub fn decode_outcomes(bytes: Bytes) -> Result<Vec<Outcome>, DecodeError> {
    list::decode("outcomes", "outcomes", bytes)
}
