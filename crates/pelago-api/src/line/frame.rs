//! Frames of the line of sight: the length in four bytes, the highest first, and so many bytes of JSON.

use bytes::{Bytes, BytesMut};

/// The longest document of a frame, in bytes.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// How many bytes say how long a document is.
pub const LENGTH_BYTES: usize = 4;

/// A frame is announced that is longer than any may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {bytes} bytes is announced, and one has {FRAME_BYTES_MAX} at most")]
pub struct TooLong {
    /// Its length.
    pub bytes: u32,
}

/// Takes the first document out of what was received. `None` while it is not there as a whole.
///
/// # Errors
/// [`TooLong`]: nothing that follows can be read.
pub fn cut(received: &mut BytesMut) -> Result<Option<Bytes>, TooLong> {
    let Some(length) = length(received)? else { return Ok(None) };
    if received.len() < LENGTH_BYTES + length {
        return Ok(None);
    }
    let document = received.split_to(LENGTH_BYTES + length).freeze();
    Ok(Some(document.slice(LENGTH_BYTES..)))
}

/// How many bytes to read until there is more to know: never any of the next frame, nor of one that is too long.
///
/// # Errors
/// Like [`cut`].
pub fn missing(received: &[u8]) -> Result<usize, TooLong> {
    let whole = LENGTH_BYTES + length(received)?.unwrap_or(0);
    Ok(whole.saturating_sub(received.len()))
}

/// A frame with this document; `None` if it is longer than one may be.
#[must_use]
pub fn frame(document: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(document.len()).ok().filter(|_| document.len() <= FRAME_BYTES_MAX)?;
    Some([&length.to_be_bytes(), document].concat())
}

fn length(received: &[u8]) -> Result<Option<usize>, TooLong> {
    let Some(announced) = received.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let bytes = u32::from_be_bytes(*announced);
    match usize::try_from(bytes) {
        Ok(length) if length <= FRAME_BYTES_MAX => Ok(Some(length)),
        Ok(_) | Err(_) => Err(TooLong { bytes }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_cut_in_order_wherever_they_are_cut_off() {
        let [first, second] = [frame(b"{\"a\":1}"), frame(b"2")].map(|frame| frame.expect("short"));
        let whole = [first.clone(), second].concat();
        for at in 0..=whole.len() {
            let mut received = BytesMut::from(&whole[..at]);
            let mut cut_out = Vec::new();
            while let Some(document) = cut(&mut received).expect("they are short") {
                cut_out.push(document);
            }
            if at < whole.len() {
                assert!((1..=first.len()).contains(&missing(&received).expect("they are short")), "at {at}");
            }
            received.extend_from_slice(&whole[at..]);
            while let Some(document) = cut(&mut received).expect("they are short") {
                cut_out.push(document);
            }
            assert_eq!(cut_out, [&b"{\"a\":1}"[..], b"2"], "at {at}");
        }
    }

    #[test]
    fn a_frame_beyond_its_bound_is_neither_read_nor_written() {
        let mut most = BytesMut::from(&[0, 0x10, 0, 0][..]);
        assert_eq!((cut(&mut most), missing(&most)), (Ok(None), Ok(FRAME_BYTES_MAX)));
        let mut more = BytesMut::from(&[0, 0x10, 0, 1][..]);
        let too_long = TooLong { bytes: (1 << 20) + 1 };
        assert_eq!((cut(&mut more), missing(&more)), (Err(too_long), Err(too_long)));
        assert!(frame(&vec![b' '; FRAME_BYTES_MAX]).is_some() && frame(&vec![b' '; FRAME_BYTES_MAX + 1]).is_none());
    }
}
