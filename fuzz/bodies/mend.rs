//! Makes frames of a link out of any bytes, so that what lies under a checksum is reached.

use bytes::BytesMut;
use pelago_wire::frame::{HEADER_BYTES, PREFACE};

const HEADER: usize = HEADER_BYTES as usize;

/// A connection that begins as it must, with these bytes as frames: no length beyond the end, and checksums that are
/// right.
pub(crate) fn mended(bytes: &[u8]) -> BytesMut {
    let mut connection = connection(bytes);
    let mut at = PREFACE.len();
    while let Some(frame) = connection.get_mut(at..).filter(|left| left.len() >= HEADER) {
        let left = frame.len() - HEADER;
        let announced = u32::from_le_bytes([frame[4], frame[5], frame[6], 0]) as usize;
        let length = announced.min(left);
        frame[4..7].copy_from_slice(&(length as u32).to_le_bytes()[..3]);
        let checksum = crc_fast::crc32_iscsi(&frame[4..HEADER + length]);
        frame[..4].copy_from_slice(&checksum.to_le_bytes());
        at += HEADER + length;
    }
    connection
}

/// A connection that begins as it must, with these bytes as they are.
pub(crate) fn connection(bytes: &[u8]) -> BytesMut {
    let mut connection = BytesMut::from(&PREFACE[..]);
    connection.extend_from_slice(bytes);
    connection
}
