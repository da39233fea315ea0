//! Cut, flipped and invented bytes: an error, or a wait for more; never a panic, another frame, or much memory.

use bytes::{BufMut, BytesMut};
use pelago_core::link::{Control, Flaw, GREETING_BYTES_MAX, Lane, PAYLOAD_BYTES_MAX};
use pelago_wire::frame::{Cutter, Form, Frame, HEADER_BYTES, PREFACE, put_control, put_data};

use crate::{
    frame_body, handshake_body,
    replay::replay,
    samples::{connection, encode, frames},
};

#[test]
fn a_connection_that_is_cut_off_anywhere_is_waited_for() {
    for (name, frame) in frames() {
        let whole = connection(&encode(&frame));
        for length in 0..whole.len() {
            let mut received = BytesMut::from(&whole[..length]);
            let mut cutter = Cutter::new();
            assert_eq!(cutter.cut(&mut received), Ok(None), "{name} cut at {length}");
            // What is missing is known once the header is there, and is exact.
            let missing = if length < PREFACE.len() + HEADER_BYTES as usize { 0 } else { whole.len() - length };
            assert_eq!(cutter.missing(&received), missing, "{name} cut at {length}");
            received.extend_from_slice(&whole[length..]);
            assert_eq!(cutter.cut(&mut received), Ok(Some(frame.clone())), "{name} cut at {length}");
        }
    }
}

#[test]
fn no_flipped_bit_passes() {
    for (name, frame) in frames() {
        let whole = connection(&encode(&frame));
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let mut cutter = Cutter::new();
            let cut = cutter.cut(&mut flipped);
            // A length that grew asks for bytes that make the checksum fail.
            assert!(matches!(cut, Err(_) | Ok(None)), "{name} with bit {bit} flipped: {cut:?}");
            assert!(cutter.missing(&flipped) <= (HEADER_BYTES + GREETING_BYTES_MAX) as usize);
            flipped.put_bytes(0, (HEADER_BYTES + GREETING_BYTES_MAX) as usize);
            assert!(cutter.cut(&mut flipped).is_err(), "{name} with bit {bit} flipped waits for ever");
        }
    }
}

#[test]
fn the_corpus_of_frames_is_harmless_and_so_is_damage_to_it() {
    replay("frame", 20_000, frame_body::check);
}

#[test]
fn the_corpus_of_handshakes_is_harmless_and_so_is_damage_to_it() {
    replay("handshake", 4_000, handshake_body::check);
}

#[test]
fn payloads_that_lie_under_a_right_checksum_are_refused() {
    for (name, frame) in frames() {
        let whole = encode(&frame);
        for at in 7..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut lie = whole.clone();
                lie[at] = value;
                let checksum = crc_fast::crc32_iscsi(&lie[4..]);
                lie[..4].copy_from_slice(&checksum.to_le_bytes());
                // Whatever it is taken for has these bytes and no others, unless it is protobuf, which has many forms.
                let Ok(Some(taken)) = Cutter::new().cut(&mut connection(&lie)) else { continue };
                if !is_protobuf(&taken) {
                    assert_eq!(encode(&taken), lie, "{name} with {value} at {at}");
                }
            }
        }
    }
}

fn is_protobuf(frame: &Frame) -> bool {
    matches!(frame, Frame::Control(Control::Hello(_) | Control::Refuse(_) | Control::Goodbye(_)))
}

#[test]
fn frames_are_bounded_before_and_after_the_greeting() {
    for (is_greeted, length_max) in [(false, GREETING_BYTES_MAX), (true, PAYLOAD_BYTES_MAX)] {
        let mut cutter = Cutter::new();
        if is_greeted {
            cutter.greeted();
        }
        let mut largest = connection(&[]);
        put_data(&mut largest, Lane::Bulk, Form::OneWay { number: 0 }, 1, &vec![1; length_max as usize]);
        assert!(matches!(cutter.cut(&mut largest), Ok(Some(Frame::Data { .. }))));
        let mut larger = BytesMut::new();
        larger.put_u32_le(0);
        larger.put_u32_le(length_max + 1);
        larger.put_bytes(0, 12);
        assert_eq!(cutter.cut(&mut larger), Err(Flaw::TooLarge));
        assert_eq!(cutter.missing(&larger), 0);
    }
}

#[test]
#[should_panic(expected = "larger than a link takes")]
fn a_frame_that_no_reader_takes_is_not_written() {
    put_data(&mut BytesMut::new(), Lane::Bulk, Form::OneWay { number: 0 }, 1, &vec![0; PAYLOAD_BYTES_MAX as usize + 1]);
}

#[test]
fn frames_are_cut_in_order_without_copying() {
    let mut received = connection(&[]);
    put_data(&mut received, Lane::Requests, Form::OneWay { number: 0 }, 1, b"first");
    put_control(&mut received, &Control::Ping(1));
    put_data(&mut received, Lane::Requests, Form::OneWay { number: 0 }, 2, b"second");
    let start = received.as_ptr() as usize;
    let whole = received.len();
    let mut cutter = Cutter::new();
    let mut payloads = Vec::new();
    while let Some(frame) = cutter.cut(&mut received).expect("whole frames") {
        if let Frame::Data { payload, .. } = frame {
            assert!((start..start + whole).contains(&(payload.as_ptr() as usize)));
            payloads.push(payload);
        }
    }
    assert_eq!(payloads, [&b"first"[..], b"second"]);
    assert!(received.is_empty());
}
