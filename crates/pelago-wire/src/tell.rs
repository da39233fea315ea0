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
    /// Between nodes, if both know it: a message of the topic that the frame's number stands for. The payload is a
    /// [`Message`](super::Message) with its number.
    pub const TELL_NUMBERED: u16 = 134;
}

/// A message as it goes over a link: what it says about itself (see [`crate::headers`]), and what it says.
///
/// ```text
/// TELL_WITH                              length of the headers 2 | headers | payload
/// TELL_NUMBERED  series 4 | number 8 | length of the headers 2 | headers | payload
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Message<'m> {
    /// Which message of its topic it is, if it is one of a topic that goes from node to node.
    pub nth: Option<Nth>,
    /// Its headers; none if it says nothing about itself.
    pub headers: &'m [u8],
    /// Its payload.
    pub payload: &'m [u8],
}

/// Which message of a topic it is, of those that one run of a node has published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nth {
    /// Numbers begin anew with each series; a later one is greater.
    pub series: u32,
    /// Its number: 1, 2, …
    pub n: u64,
}

impl Nth {
    const BYTES: usize = 12;

    /// How many messages are lost between the one that came last and this one. Before the first that comes, nobody knows.
    #[must_use]
    pub fn lost_since(self, last: Option<Self>) -> u64 {
        match last {
            Some(last) if last.series == self.series => self.n.saturating_sub(last.n).saturating_sub(1),
            Some(last) if last.series < self.series => self.n - 1,
            Some(_) | None => 0,
        }
    }
}

impl Message<'_> {
    /// The kind of its frame.
    #[must_use]
    pub fn kind(&self) -> u16 {
        match (self.nth, self.headers) {
            (Some(_), _) => kind::TELL_NUMBERED,
            (None, []) => kind::TELL,
            (None, _) => kind::TELL_WITH,
        }
    }

    /// How long the frame's payload is.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let before = match self.kind() {
            kind::TELL => 0,
            kind::TELL_NUMBERED => Nth::BYTES + LENGTH_BYTES,
            _with => LENGTH_BYTES,
        };
        before + self.headers.len() + self.payload.len()
    }

    /// Writes it.
    ///
    /// # Panics
    /// If the headers are longer than any can be.
    pub fn put(&self, buffer: &mut BytesMut) {
        if let Some(Nth { series, n }) = self.nth {
            buffer.put_u32_le(series);
            buffer.put_u64_le(n);
        }
        if self.kind() != kind::TELL {
            buffer.put_u16_le(u16::try_from(self.headers.len()).expect("headers are bounded"));
            buffer.put_slice(self.headers);
        }
        buffer.put_slice(self.payload);
    }
}

/// A message that says nothing about itself.
impl<'m, T: AsRef<[u8]> + ?Sized> From<&'m T> for Message<'m> {
    fn from(payload: &'m T) -> Self {
        Self { nth: None, headers: &[], payload: payload.as_ref() }
    }
}

/// Cuts the number off a message of a topic. `None` if there is none, or it is none.
#[must_use]
pub fn cut_number(message: &mut Bytes) -> Option<Nth> {
    let nth = Nth { series: message.try_get_u32_le().ok()?, n: message.try_get_u64_le().ok()? };
    (nth.n > 0).then_some(nth)
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
        let plain = Message::from("payload");
        let with = Message { headers: b"h", ..plain };
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

    #[test]
    fn a_message_of_a_topic_is_read_with_its_number() {
        let nth = Nth { series: 1, n: 2 };
        for headers in [&b""[..], b"h"] {
            let message = Message { nth: Some(nth), headers, payload: b"payload" };
            let mut buffer = BytesMut::new();
            message.put(&mut buffer);
            let mut read = buffer.freeze();
            assert_eq!((message.kind(), message.bytes()), (kind::TELL_NUMBERED, read.len()));
            assert_eq!(read[..12], *b"\x01\0\0\0\x02\0\0\0\0\0\0\0");
            assert_eq!(cut_number(&mut read.slice(..11)), None);
            assert_eq!(cut_number(&mut read), Some(nth));
            assert_eq!((cut_headers(&mut read).as_deref(), &read[..]), (Some(headers), &b"payload"[..]));
        }
        assert_eq!(cut_number(&mut Bytes::from_static(&[0; 12])), None, "there is no message 0");
    }

    #[test]
    fn what_is_lost_is_what_the_numbers_leave_out() {
        let nth = |series, n| Nth { series, n };
        let lost = |last: Option<Nth>, this: Nth| this.lost_since(last);
        assert_eq!([lost(Some(nth(1, 4)), nth(1, 5)), lost(Some(nth(1, 4)), nth(1, 9))], [0, 4]);
        assert_eq!([lost(None, nth(3, 7)), lost(Some(nth(1, 4)), nth(2, 3))], [0, 2]);
        assert_eq!([lost(Some(nth(1, 4)), nth(1, 4)), lost(Some(nth(2, 1)), nth(1, 9))], [0, 0], "late ones");
        assert_eq!(lost(Some(nth(1, u64::MAX)), nth(1, 1)), 0, "whatever another node says");
    }
}
