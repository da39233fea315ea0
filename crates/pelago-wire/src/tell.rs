//! Messages that nobody answers, as bytes: the kinds of one-way frames, between nodes and from clients alike.
//!
//! The first message to a name gives it a number; what follows says the number only (see `core::link::Names`).

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// Bytes before the headers of a message.
pub const LENGTH_BYTES: usize = 2;

/// What a one-way frame is about: its kind in `wire::frame`. Numbers are never given another meaning.
pub mod kind {
    /// From here on the frame's number stands for the name that is its payload: an agent's address, or `#` and a
    /// topic.
    pub const BIND: u16 = 128;
    /// A message to the agent, or the topic, that the frame's number stands for. The payload is the message.
    pub const TELL: u16 = 129;
    /// To a client: a message of the subscription with the frame's number. The payload is a
    /// [`Published`](crate::client::Published).
    pub const PUBLISHED: u16 = 130;
    /// From a client: it wants no more of the subscription with the frame's number.
    pub const UNSUBSCRIBE: u16 = 131;
    /// What a node tells another about who is there: a packet of `wire::gossip`, for nobody's number.
    pub const GOSSIP: u16 = 132;
    /// Like [`TELL`], but the payload is a [`Message`](super::Message) with headers.
    pub const TELL_WITH: u16 = 133;
}

/// A message as it goes over a link: what it says about itself (see [`crate::headers`]), and what it says.
///
/// ```text
/// TELL_WITH  length of the headers 2 | headers | payload
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Message<'m> {
    /// Its headers; none if it says nothing about itself.
    pub headers: &'m [u8],
    /// Its payload.
    pub payload: &'m [u8],
}

impl Message<'_> {
    /// The kind of its frame.
    #[must_use]
    pub fn kind(&self) -> u16 {
        if self.headers.is_empty() { kind::TELL } else { kind::TELL_WITH }
    }

    /// How long the frame's payload is.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let headers = if self.headers.is_empty() { 0 } else { LENGTH_BYTES + self.headers.len() };
        headers + self.payload.len()
    }

    /// Writes it.
    ///
    /// # Panics
    /// If the headers are longer than any can be.
    pub fn put(&self, buffer: &mut BytesMut) {
        if !self.headers.is_empty() {
            buffer.put_u16_le(u16::try_from(self.headers.len()).expect("headers are bounded"));
            buffer.put_slice(self.headers);
        }
        buffer.put_slice(self.payload);
    }
}

/// A message that says nothing about itself.
impl<'m, T: AsRef<[u8]> + ?Sized> From<&'m T> for Message<'m> {
    fn from(payload: &'m T) -> Self {
        Self { headers: &[], payload: payload.as_ref() }
    }
}

/// Cuts the headers off a message with headers, and leaves its payload. `None` if they are not there as a whole.
#[must_use]
pub fn cut_headers(message: &mut Bytes) -> Option<Bytes> {
    let length = usize::from(message.try_get_u16_le().ok()?);
    (length <= message.len()).then(|| message.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_as_it_was_written_and_a_cut_one_is_not() {
        let plain = Message { headers: b"", payload: b"payload" };
        let with = Message { headers: b"h", payload: b"payload" };
        assert_eq!((plain.kind(), plain.bytes(), with.kind()), (kind::TELL, 7, kind::TELL_WITH));
        let mut buffer = BytesMut::new();
        with.put(&mut buffer);
        let written = buffer.freeze();
        assert_eq!((written.len(), &written[..]), (with.bytes(), &b"\x01\0hpayload"[..]));
        let mut read = written.clone();
        assert_eq!((cut_headers(&mut read).as_deref(), &read[..]), (Some(&b"h"[..]), &b"payload"[..]));
        for cut in 0..3 {
            assert_eq!(cut_headers(&mut written.slice(..cut)), None);
        }
    }
}
