//! The cutter of frames, over any bytes: an error, or a wait for more; never a panic, another frame in other pieces, or
//! much memory.
//!
//! The first byte says how: bit 0 mends the checksums, bit 1 is after the greeting, the others how large the pieces are.

use bytes::BytesMut;
use pelago_core::link::{Flaw, GREETING_BYTES_MAX, PAYLOAD_BYTES_MAX};
use pelago_wire::frame::{Cutter, Frame, HEADER_BYTES, put_control, put_data, put_no_reply};

use crate::mend::{connection, mended};

pub(crate) fn check(bytes: &[u8]) {
    let Some((&how, rest)) = bytes.split_first() else { return };
    let whole = if how & 1 == 0 { connection(rest) } else { mended(rest) };
    let is_greeted = how & 2 != 0;
    let at_once = cut_in_pieces(&whole, is_greeted, whole.len());
    let in_pieces = cut_in_pieces(&whole, is_greeted, 1 + usize::from(how >> 2));
    assert_eq!(at_once, in_pieces, "the pieces change what is read");
    for frame in &at_once.0 {
        let mut again = connection(&encode(frame));
        let mut cutter = Cutter::new();
        cutter.greeted();
        assert_eq!(cutter.cut(&mut again), Ok(Some(frame.clone())), "what is read cannot be written");
    }
}

fn cut_in_pieces(whole: &[u8], is_greeted: bool, piece: usize) -> (Vec<Frame>, Option<Flaw>) {
    let mut cutter = Cutter::new();
    let payload_bytes_max = if is_greeted { PAYLOAD_BYTES_MAX } else { GREETING_BYTES_MAX };
    if is_greeted {
        cutter.greeted();
    }
    let (mut frames, mut received) = (Vec::new(), BytesMut::new());
    for piece in whole.chunks(piece.max(1)) {
        received.extend_from_slice(piece);
        loop {
            match cutter.cut(&mut received) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(flaw) => return (frames, Some(flaw)),
            }
        }
        assert!(cutter.missing(&received) <= (HEADER_BYTES + payload_bytes_max) as usize, "it asks for too much");
    }
    (frames, None)
}

/// The frame as this release writes it. A protobuf payload may have come in another form.
fn encode(frame: &Frame) -> BytesMut {
    let mut bytes = BytesMut::new();
    match frame {
        Frame::Data { lane, form, kind, payload, .. } => put_data(&mut bytes, *lane, *form, *kind, payload),
        Frame::NoReply { lane, request, why } => put_no_reply(&mut bytes, *lane, *request, *why),
        Frame::Control(control) => put_control(&mut bytes, control),
    }
    bytes
}
