//! The outside of a batch and of its outcomes: a version, then one message after the other.
//!
//! Written and read by hand, although any protobuf reader can read it: so a newer version is noticed before what it
//! governs, a batch is never held a second time as generated messages, and too many items are refused before they take
//! memory (an empty item has two bytes in a batch, and hundreds once decoded).

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

use super::{Convert, DecodeError, Fault, ITEMS_MAX, VERSION};

/// Key of `version`: field 1, a variable-length number.
const VERSION_KEY: u8 = 0x08;
/// Key of the list: field 2, with a length.
const ITEM_KEY: u8 = 0x12;

/// A version is written as one byte, which a variable-length number is only below this.
const _: () = assert!(VERSION < 0x80);

/// Appends `values` to `bytes`.
pub(super) fn encode<T: Convert<Form: Message>>(values: &[T], bytes: &mut BytesMut) {
    assert!(values.len() <= ITEMS_MAX, "a batch has at most {ITEMS_MAX} items, and this one has {}", values.len());
    bytes.put_u8(VERSION_KEY);
    // An earlier release reads what needs no later format.
    bytes.put_u8(values.iter().map(T::format).max().unwrap_or(1));
    for value in values {
        bytes.put_u8(ITEM_KEY);
        value.form().encode_length_delimited(bytes).expect("a buffer that grows has room");
    }
}

/// Takes a list apart. `what` and `items` name it and its items in errors.
pub(super) fn decode<T>(what: &'static str, items: &str, mut bytes: Bytes) -> Result<Vec<T>, DecodeError>
where
    T: Convert<Form: Message + Default>,
{
    let found = version(&mut bytes).map_err(|e| e.within("version").within(what))?;
    if found > VERSION {
        return Err(DecodeError::Newer { what, found, known: VERSION });
    }
    let mut values = Vec::new();
    while bytes.has_remaining() {
        if values.len() == ITEMS_MAX {
            return Err(DecodeError::from(Fault::Many(ITEMS_MAX)).within(items).within(what));
        }
        let value =
            item(&mut bytes).map_err(|e| e.within(&format!("[{}]", values.len())).within(items).within(what))?;
        values.push(value);
    }
    Ok(values)
}

fn version(bytes: &mut Bytes) -> Result<u64, DecodeError> {
    expect_key(VERSION_KEY, bytes)?;
    let version = number(bytes)?;
    if version == 0 { Err(Fault::Missing.into()) } else { Ok(version) }
}

fn item<T>(bytes: &mut Bytes) -> Result<T, DecodeError>
where
    T: Convert<Form: Message + Default>,
{
    expect_key(ITEM_KEY, bytes)?;
    let form = T::Form::decode(take(bytes)?).map_err(|e| Fault::Protobuf(e.to_string()))?;
    T::value(form)
}

/// Appends the length of what follows.
pub(super) fn put_length(length: usize, bytes: &mut BytesMut) {
    prost::encode_length_delimiter(length, bytes).expect("a buffer that grows has room");
}

/// Takes a part that is preceded by its length.
pub(super) fn take(bytes: &mut Bytes) -> Result<Bytes, DecodeError> {
    let length = usize::try_from(number(bytes)?).map_err(|_| Fault::Cut)?;
    if length > bytes.len() { Err(Fault::Cut.into()) } else { Ok(bytes.split_to(length)) }
}

/// Takes the key of the field that must follow.
pub(super) fn expect_key(key: u8, bytes: &mut Bytes) -> Result<(), DecodeError> {
    match bytes.try_get_u8() {
        Ok(found) if found == key => Ok(()),
        Ok(_) => Err(Fault::Unexpected.into()),
        Err(_) => Err(Fault::Missing.into()),
    }
}

fn number(bytes: &mut Bytes) -> Result<u64, DecodeError> {
    let number = prost::decode_length_delimiter(bytes).map_err(|e| Fault::Protobuf(e.to_string()))?;
    Ok(number as u64)
}

#[cfg(test)]
mod tests {
    use pelago_core::{
        id::{NodeId, TaskId},
        record::{Cancel, Op, Outcome, Refusal, Remove, Retry},
        time::LogTime,
    };

    use super::*;
    use crate::{
        proto,
        record::{decode_batch, decode_entry, encode_batch, encode_entry, encode_outcomes},
    };

    fn ops(n: u128) -> Vec<Op> {
        (0..n).map(|id| Op::Retry(Retry { task: TaskId(id) })).collect()
    }

    fn refused(bytes: &[u8]) -> String {
        decode_batch(Bytes::copy_from_slice(bytes)).expect_err("refused bytes").to_string()
    }

    #[test]
    fn what_is_written_by_hand_is_what_the_schema_says() {
        for n in [0, 1, 7, 1_024] {
            let (version, items) = (1, ops(n).iter().map(Op::form).collect());
            let batch = proto::Batch { version, items };
            assert_eq!(encode_batch(&ops(n)), batch.encode_to_vec());
            for time in [0, 1_790_000_000_000] {
                let entry = proto::Entry { time_ms: Some(time), batch: Some(batch.clone()) };
                assert_eq!(encode_entry(LogTime::from_millis(time), &ops(n)), entry.encode_to_vec());
            }
        }
        let outcomes = [Outcome::Committed, Outcome::Swept { rows: 0 }];
        let form = proto::Outcomes { version: 1, outcomes: outcomes.iter().map(Outcome::form).collect() };
        assert_eq!(encode_outcomes(&outcomes), form.encode_to_vec());
    }

    #[test]
    fn a_newer_format_is_named_before_its_items_are_read() {
        let newer = DecodeError::Newer { what: "batch", found: 7, known: 6 };
        assert_eq!(decode_batch(Bytes::from_static(&[0x08, 7, 0xff, 0xff])), Err(newer));
        assert_eq!(
            refused(&[0x08, 0x80, 0x10]),
            "batch was written by a newer version of Pelago: format 2048, and this one reads up to 6"
        );
    }

    #[test]
    fn a_list_has_the_oldest_format_that_has_all_of_it() {
        let removal = Op::Remove(Remove { node: NodeId(7) });
        assert_eq!(encode_batch(&ops(2))[..2], [0x08, 1]);
        assert_eq!(encode_batch(&[ops(1), vec![removal]].concat())[..2], [0x08, 2]);
        let dead_too = |dead_too| Op::Cancel(Cancel { task: TaskId(1), reason: String::new(), dead_too });
        assert_eq!(encode_batch(&[dead_too(false)])[..2], [0x08, 1]);
        assert_eq!(encode_batch(&[dead_too(true)])[..2], [0x08, 3]);
        assert_eq!(encode_outcomes(&[Outcome::Committed])[..2], [0x08, 1]);
        assert_eq!(encode_outcomes(&[Outcome::Refused(Refusal::NodeUp(NodeId(7)))])[..2], [0x08, 2]);
    }

    #[test]
    fn a_list_without_a_version_is_refused() {
        assert_eq!(refused(&[]), "batch.version is missing");
        assert_eq!(refused(&[0x08, 0]), "batch.version is missing");
        assert_eq!(refused(&[0x12, 0]), "batch.version has bytes that do not belong there");
    }

    #[test]
    fn one_item_too_many_is_refused_before_it_is_decoded() {
        let mut bytes = encode_batch(&ops(1_024)).to_vec();
        assert_eq!(decode_batch(bytes.clone().into()).map(|ops| ops.len()), Ok(1_024));
        bytes.extend_from_slice(&[0x12, 0xff]);
        assert_eq!(refused(&bytes), "batch.items has more than 1024 parts");
    }

    #[test]
    fn a_length_beyond_the_end_takes_no_memory() {
        for length in [1_u64, 1 << 32, 1 << 46, u64::MAX] {
            let mut bytes = BytesMut::from(&[0x08, 1, 0x12][..]);
            prost::encode_length_delimiter(length as usize, &mut bytes).expect("a buffer that grows has room");
            assert_eq!(refused(&bytes), "batch.items[0] is cut short", "{length}");
        }
    }

    #[test]
    fn an_entry_ends_with_its_batch() {
        let mut bytes = encode_entry(LogTime::from_millis(5), &ops(1)).to_vec();
        bytes.push(0);
        let error = decode_entry(bytes.into()).expect_err("a byte too many");
        assert_eq!(error.to_string(), "entry.batch has bytes that do not belong there");
    }
}
