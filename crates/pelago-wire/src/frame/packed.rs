//! Frames made smaller, for links whose network is slower than LZ4.
//!
//! Whole frames are packed, after they were put into a buffer and before it is written: neither whoever sends nor the
//! lock of the buffer waits for it. Frames below [`BYTES_MIN`], and those that hardly become smaller, stay as they are.

use bytes::{Bytes, BytesMut};
use pelago_core::link::{Flaw, Lane, PAYLOAD_BYTES_MAX};

use super::{HEADER, Header, field, form, put};

/// The least payload that is worth it, in bytes.
pub const BYTES_MIN: usize = 4 << 10;

/// Where the frame that begins at `at` ends. `buffer` holds whole frames, as they were put.
#[must_use]
pub fn end_of_frame(buffer: &[u8], at: usize) -> usize {
    let length = u32::from_le_bytes([buffer[at + 4], buffer[at + 5], buffer[at + 6], 0]);
    at + HEADER + length as usize
}

/// The frames of a buffer, each packed if that pays. `None` if it pays for none.
#[must_use]
pub fn pack(frames: &[u8]) -> Option<BytesMut> {
    let mut packed: Option<BytesMut> = None;
    let mut at = 0;
    while at < frames.len() {
        let end = end_of_frame(frames, at);
        let smaller = smaller(&frames[at + HEADER..end]);
        match (&mut packed, smaller) {
            (None, None) => {}
            (Some(packed), None) => packed.extend_from_slice(&frames[at..end]),
            (_, Some(smaller)) => {
                let packed = packed.get_or_insert_with(|| BytesMut::from(&frames[..at]));
                put(packed, header(&frames[at..end]), |buffer| buffer.extend_from_slice(&smaller));
            }
        }
        at = end;
    }
    packed
}

fn smaller(payload: &[u8]) -> Option<Vec<u8>> {
    if payload.len() < BYTES_MIN {
        return None;
    }
    let packed = lz4_flex::block::compress_prepend_size(payload);
    // Less than an eighth is not worth the work at the other end.
    (packed.len() <= payload.len() - payload.len() / 8).then_some(packed)
}

fn header(frame: &[u8]) -> Header {
    Header {
        length: 0,
        lane: Lane::ALL[usize::from(frame[7])],
        form: u16::from_le_bytes(field(&frame[8..10])) | form::COMPRESSED,
        kind: u16::from_le_bytes(field(&frame[10..12])),
        number: u64::from_le_bytes(field(&frame[12..20])),
    }
}

/// What a packed payload holds.
pub(super) fn unpack(packed: &[u8]) -> Result<Bytes, Flaw> {
    let (length, block) = lz4_flex::block::uncompressed_size(packed).map_err(|_| Flaw::Malformed)?;
    if length > PAYLOAD_BYTES_MAX as usize {
        return Err(Flaw::TooLarge);
    }
    let payload = lz4_flex::block::decompress(block, length).map_err(|_| Flaw::Malformed)?;
    if payload.len() == length { Ok(Bytes::from(payload)) } else { Err(Flaw::Malformed) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pelago_core::link::RequestId;

    use super::*;
    use crate::frame::{CHUNK_BYTES, Cutter, Form, Frame, PREFACE, charge_of, put_chunked, put_data};

    fn text(bytes: usize) -> Vec<u8> {
        (0_u32..).flat_map(|n| format!("{n} bottles of beer on the wall, ").into_bytes()).take(bytes).collect()
    }

    fn read(frames: &[u8]) -> Vec<Frame> {
        let mut received = BytesMut::from(&PREFACE[..]);
        received.extend_from_slice(frames);
        let mut cutter = Cutter::new();
        cutter.greeted();
        std::iter::from_fn(|| cutter.cut(&mut received).expect("it is right")).collect()
    }

    #[test]
    fn a_large_payload_arrives_whole_in_chunks_and_packed_and_is_charged_as_it_would_be() {
        for bytes in [0, 100, BYTES_MIN, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, PAYLOAD_BYTES_MAX as usize - 4]
        {
            let payload = text(bytes);
            let request = Form::Request { id: RequestId(1), wait: Duration::from_secs(1) };
            for form in [Form::OneWay { number: 7 }, request, Form::Reply(RequestId(9))] {
                let kind = if matches!(form, Form::Reply(_)) { 0 } else { 5 };
                let mut buffer = BytesMut::new();
                put_chunked(&mut buffer, Lane::Bulk, form, kind, &payload);
                let charged = charge_of(form, u32::try_from(bytes).expect("it is small"));
                let expected =
                    [Frame::Data { lane: Lane::Bulk, form, kind, payload: payload.clone().into(), bytes: charged }];
                assert_eq!(read(&buffer), expected, "{bytes} bytes");
                let packed = pack(&buffer);
                assert_eq!(packed.is_some(), bytes >= BYTES_MIN);
                if let Some(packed) = packed {
                    assert!(packed.len() < buffer.len() / 2, "{} of {}", packed.len(), buffer.len());
                    assert_eq!(read(&packed), expected, "{bytes} bytes packed");
                }
            }
        }
    }

    #[test]
    fn frames_of_other_lanes_come_between_chunks() {
        let (mut bulk, mut urgent) = (BytesMut::new(), BytesMut::new());
        put_chunked(&mut bulk, Lane::Bulk, Form::OneWay { number: 1 }, 5, &text(2 * CHUNK_BYTES));
        put_data(&mut urgent, Lane::Control, Form::OneWay { number: 2 }, 6, b"now");
        let first = end_of_frame(&bulk, 0);
        let mixed = [&bulk[..first], &urgent[..], &bulk[first..]].concat();
        let kinds: Vec<u16> =
            read(&mixed).iter().map(|frame| if let Frame::Data { kind, .. } = frame { *kind } else { 0 }).collect();
        assert_eq!(kinds, [6, 5]);
    }

    #[test]
    fn what_does_not_become_smaller_stays_as_it_is() {
        let mut noise = vec![0_u8; 64 << 10];
        let mut seed = 1_u32;
        for byte in &mut noise {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = seed.to_be_bytes()[0];
        }
        let mut buffer = BytesMut::new();
        put_data(&mut buffer, Lane::Bulk, Form::OneWay { number: 1 }, 5, &noise);
        assert_eq!(pack(&buffer), None);
        // Beside one that does, it goes along.
        put_data(&mut buffer, Lane::Bulk, Form::OneWay { number: 1 }, 5, &text(BYTES_MIN));
        let packed = pack(&buffer).expect("one becomes smaller");
        assert_eq!(read(&packed), read(&buffer));
    }

    #[test]
    fn bombs_and_endless_chunks_are_refused() {
        let cut = |frames: &[u8]| {
            let mut received = BytesMut::from(&PREFACE[..]);
            received.extend_from_slice(frames);
            let mut cutter = Cutter::new();
            cutter.greeted();
            loop {
                match cutter.cut(&mut received) {
                    Ok(Some(_)) => {}
                    Ok(None) => return None,
                    Err(flaw) => return Some(flaw),
                }
            }
        };
        let packed = |payload: &[u8]| {
            let form = form::ONE_WAY | form::COMPRESSED;
            let mut buffer = BytesMut::new();
            put(&mut buffer, Header { length: 0, lane: Lane::Bulk, form, kind: 5, number: 1 }, |buffer| {
                buffer.extend_from_slice(payload);
            });
            cut(&buffer)
        };
        assert_eq!(packed(&[0xff; 8]), Some(Flaw::TooLarge), "four gigabytes, it says");
        assert_eq!(packed(b"no"), Some(Flaw::Malformed));
        assert_eq!(packed(&[9, 0, 0, 0, 0x10, 1]), Some(Flaw::Malformed), "less than it says");

        let mut buffer = BytesMut::new();
        for _ in 0..=PAYLOAD_BYTES_MAX as usize / CHUNK_BYTES {
            let chunk = Header { length: 0, lane: Lane::Bulk, form: form::CHUNK, kind: 0, number: 0 };
            put(&mut buffer, chunk, |buffer| buffer.extend_from_slice(&[0; CHUNK_BYTES]));
        }
        assert_eq!(cut(&buffer), Some(Flaw::TooLarge));
    }
}
