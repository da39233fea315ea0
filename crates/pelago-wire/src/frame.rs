//! Frames: the bytes of a link.
//!
//! Each direction of a connection begins with [`PREFACE`]; then come frames without gaps.
//!
//! ```text
//! frame    checksum 4 | length 3 | lane 1 | form 2 | kind 2 | number 8      = 20 bytes, payload
//! request  its payload begins with 4 bytes: how many milliseconds its sender waits for the reply
//! settled  its payload is before 4 | bytes 4 | handled 4 | lost 4
//! chunk    its payload comes before that of the next frame of its lane that has one of the layer above
//! ```
//!
//! A form with its highest bit set is compressed: its payload is the length of the real one, 4 bytes, and an LZ4 block.
//! Chunks and compressed frames are sent only to ends that know them (`core::link::feature`). What a frame is charged
//! does not change with either.
//!
//! Numbers are little-endian. The length is the payload's. The checksum is CRC32C (Castagnoli, as in iSCSI) over the rest
//! of the header and the payload: TCP's own 16 bits miss one flaw in 65,536, and a flipped length would take everything
//! that follows for something else.
//!
//! Frames are written in place into the buffer of a link, and read by cutting slices out of what was received, without
//! a copy. This layout belongs to version 1 of the link protocol. Preface, hello and refuse keep it for ever, so that
//! ends of any two releases can tell each other that they have no version in common.

mod greeting;
pub mod packed;

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use crc_fast::crc32_iscsi;
use pelago_core::link::{
    Control, Flaw, GREETING_BYTES_MAX, Goodbye, Hello, Lane, NoReply, PAYLOAD_BYTES_MAX, PerLane, Refusal, RequestId,
    Settled,
};

use crate::tell::Message;

/// The first bytes of each direction.
pub const PREFACE: [u8; 8] = *b"pelagolk";

/// Bytes of a frame before its payload.
pub const HEADER_BYTES: u32 = 20;

/// The most bytes of a chunk: half a millisecond on a link of a gigabit a second.
pub const CHUNK_BYTES: usize = 64 << 10;

/// Bytes of a request's payload before the sender's.
pub const WAIT_BYTES: u32 = 4;

const HEADER: usize = HEADER_BYTES as usize;
const CHECKSUM: usize = 4;

/// What a frame that carries a payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Nobody answers it.
    OneWay {
        /// Whom it is for, by the number of a name that its sender has bound; 0 if that is not how it is addressed.
        number: u64,
    },
    /// It wants a reply.
    Request {
        /// Which request.
        id: RequestId,
        /// How long its sender waits, in whole milliseconds.
        wait: Duration,
    },
    /// The reply to a request.
    Reply(RequestId),
}

/// A frame as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// It carries a payload of the layer above, and is charged.
    Data {
        /// Its lane.
        lane: Lane,
        /// What it is.
        form: Form,
        /// What it is about, as the layer above chose; 0 in a reply.
        kind: u16,
        /// The payload.
        payload: Bytes,
        /// What it is charged: all of its bytes.
        bytes: u32,
    },
    /// It keeps the link going.
    Control(Control),
    /// The other end will not reply to a request. Not charged.
    NoReply {
        /// Its lane.
        lane: Lane,
        /// Which.
        request: RequestId,
        /// Why.
        why: NoReply,
    },
}

/// A payload that is not what its frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Malformed;

impl From<Malformed> for Flaw {
    fn from(Malformed: Malformed) -> Self {
        Self::Malformed
    }
}

/// The values of `form`. They are part of the format.
mod form {
    pub(super) const HELLO: u16 = 1;
    pub(super) const REFUSE: u16 = 2;
    pub(super) const GOODBYE: u16 = 3;
    pub(super) const PING: u16 = 4;
    pub(super) const PONG: u16 = 5;
    pub(super) const CREDIT: u16 = 6;
    pub(super) const CANCEL: u16 = 7;
    pub(super) const ONE_WAY: u16 = 8;
    pub(super) const REQUEST: u16 = 9;
    pub(super) const REPLY: u16 = 10;
    pub(super) const NO_REPLY: u16 = 11;
    pub(super) const SETTLED: u16 = 12;
    pub(super) const CHUNK: u16 = 13;
    /// Set with any of them.
    pub(super) const COMPRESSED: u16 = 1 << 15;
}

#[derive(Debug, Clone, Copy)]
struct Header {
    length: u32,
    lane: Lane,
    form: u16,
    kind: u16,
    number: u64,
}

/// What a frame with a payload of `payload_bytes` is charged, in bytes.
#[must_use]
pub fn charge_of(form: Form, payload_bytes: u32) -> u32 {
    match form {
        Form::OneWay { .. } | Form::Reply(_) => HEADER_BYTES + payload_bytes,
        Form::Request { .. } => HEADER_BYTES + WAIT_BYTES + payload_bytes,
    }
}

/// Writes a frame that carries a payload.
///
/// # Panics
/// If the frame is larger than [`PAYLOAD_BYTES_MAX`] allows: the caller checks, since only it can refuse.
pub fn put_data(buffer: &mut BytesMut, lane: Lane, form: Form, kind: u16, payload: &[u8]) {
    let (form, number, wait) = match form {
        Form::OneWay { number } => (form::ONE_WAY, number, None),
        Form::Request { id, wait } => (form::REQUEST, id.0, Some(wait)),
        Form::Reply(id) => (form::REPLY, id.0, None),
    };
    put(buffer, Header { length: 0, lane, form, kind, number }, |buffer| {
        if let Some(wait) = wait {
            buffer.put_u32_le(u32::try_from(wait.as_millis()).unwrap_or(u32::MAX));
        }
        buffer.put_slice(payload);
    });
}

/// Writes a frame that carries a payload, a large one in chunks, between which other lanes have their turn.
///
/// # Panics
/// Like [`put_data`].
pub fn put_chunked(buffer: &mut BytesMut, lane: Lane, form: Form, kind: u16, payload: &[u8]) {
    let whole = payload.len();
    assert!(whole <= PAYLOAD_BYTES_MAX as usize, "a payload of {whole} bytes is larger than a link takes");
    let mut rest = payload;
    while rest.len() > CHUNK_BYTES {
        let (chunk, after) = rest.split_at(CHUNK_BYTES);
        let header = Header { length: 0, lane, form: form::CHUNK, kind: 0, number: 0 };
        put(buffer, header, |buffer| buffer.put_slice(chunk));
        rest = after;
    }
    put_data(buffer, lane, form, kind, rest);
}

/// Writes a message to the name that has this number.
///
/// # Panics
/// Like [`put_data`].
pub fn put_told(buffer: &mut BytesMut, lane: Lane, number: u64, message: Message<'_>) {
    let header = Header { length: 0, lane, form: form::ONE_WAY, kind: message.kind(), number };
    put(buffer, header, |buffer| message.put(buffer));
}

/// Writes that a request gets no reply.
pub fn put_no_reply(buffer: &mut BytesMut, lane: Lane, request: RequestId, why: NoReply) {
    let kind = match why {
        NoReply::Dropped => 1,
        NoReply::Busy => 2,
        NoReply::UnknownKind => 3,
    };
    put(buffer, Header { length: 0, lane, form: form::NO_REPLY, kind, number: request.0 }, |_| ());
}

/// Writes a frame that keeps the link going.
pub fn put_control(buffer: &mut BytesMut, control: &Control) {
    let header = |form, lane, number| Header { length: 0, lane, form, kind: 0, number };
    match control {
        Control::Hello(hello) => {
            put(buffer, header(form::HELLO, Lane::Control, 0), |buffer| greeting::put_hello(buffer, hello));
        }
        Control::Refuse(refusal) => {
            put(buffer, header(form::REFUSE, Lane::Control, 0), |buffer| greeting::put_refusal(buffer, refusal));
        }
        Control::Goodbye(why) => {
            put(buffer, header(form::GOODBYE, Lane::Control, 0), |buffer| greeting::put_goodbye(buffer, *why));
        }
        Control::Ping(number) => put(buffer, header(form::PING, Lane::Control, *number), |_| ()),
        Control::Pong(number) => put(buffer, header(form::PONG, Lane::Control, *number), |_| ()),
        Control::Credit { lane, bytes } => put(buffer, header(form::CREDIT, *lane, u64::from(*bytes)), |_| ()),
        Control::Settled { lane, settled } => {
            let Settled { number, before, bytes, handled, lost } = *settled;
            put(buffer, header(form::SETTLED, *lane, number), |buffer| {
                [before, bytes, handled, lost].into_iter().for_each(|field| buffer.put_u32_le(field));
            });
        }
        Control::Cancel { lane, request } => put(buffer, header(form::CANCEL, *lane, request.0), |_| ()),
    }
}

/// Writes a header, what `payload` writes, and then the length and the checksum of it.
fn put(buffer: &mut BytesMut, header: Header, payload: impl FnOnce(&mut BytesMut)) {
    let start = buffer.len();
    let mut fixed = [0; HEADER];
    fixed[7] = header.lane as u8;
    fixed[8..10].copy_from_slice(&header.form.to_le_bytes());
    fixed[10..12].copy_from_slice(&header.kind.to_le_bytes());
    fixed[12..20].copy_from_slice(&header.number.to_le_bytes());
    buffer.put_slice(&fixed);
    payload(buffer);
    let frame = &mut buffer[start..];
    let length = u32::try_from(frame.len() - HEADER).expect("a payload is far below 4 GiB");
    assert!(length <= PAYLOAD_BYTES_MAX, "a frame of {length} bytes is larger than a link takes");
    frame[4..7].copy_from_slice(&length.to_le_bytes()[..3]);
    let checksum = crc32_iscsi(&frame[CHECKSUM..]);
    frame[..CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
}

/// Cuts frames out of what one direction of a connection received.
#[derive(Debug, Default)]
pub struct Cutter {
    has_preface: bool,
    is_greeted: bool,
    /// What came in chunks, and is not whole yet.
    chunks: PerLane<BytesMut>,
}

impl Cutter {
    /// A cutter at the start of a connection: frames are bounded by [`GREETING_BYTES_MAX`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The handshake is done: from here on, frames are bounded by [`PAYLOAD_BYTES_MAX`].
    pub fn greeted(&mut self) {
        self.is_greeted = true;
    }

    /// Takes the next frame off the front of `received`; `None` if it is not there as a whole yet.
    ///
    /// # Errors
    /// The bytes are no frame that belongs here. What follows them has no meaning.
    pub fn cut(&mut self, received: &mut BytesMut) -> Result<Option<Frame>, Flaw> {
        if !self.has_preface && !self.cut_preface(received)? {
            return Ok(None);
        }
        loop {
            let Some(mut header) = self.header(received)? else { return Ok(None) };
            let bytes = HEADER + header.length as usize;
            if received.len() < bytes {
                return Ok(None);
            }
            let checksum = u32::from_le_bytes(field(&received[..CHECKSUM]));
            if crc32_iscsi(&received[CHECKSUM..bytes]) != checksum {
                return Err(Flaw::Malformed);
            }
            let mut payload = received.split_to(bytes).freeze();
            payload.advance(HEADER);
            if self.is_greeted && header.form & form::COMPRESSED != 0 {
                payload = packed::unpack(&payload)?;
                header.form &= !form::COMPRESSED;
                header.length = u32::try_from(payload.len()).map_err(|_| Flaw::TooLarge)?;
            }
            if self.is_greeted && header.form == form::CHUNK {
                self.keep(header, &payload)?;
            } else {
                return self.whole(interpret(header, payload)?).map(Some);
            }
        }
    }

    /// Keeps a chunk until the rest of its payload comes.
    fn keep(&mut self, header: Header, chunk: &[u8]) -> Result<(), Flaw> {
        let chunks = &mut self.chunks[header.lane];
        if (header.kind, header.number) != (0, 0) {
            return Err(Flaw::Malformed);
        }
        if chunks.len() + chunk.len() > PAYLOAD_BYTES_MAX as usize {
            return Err(Flaw::TooLarge);
        }
        chunks.extend_from_slice(chunk);
        Ok(())
    }

    /// A frame with what came before it in chunks.
    fn whole(&mut self, frame: Frame) -> Result<Frame, Flaw> {
        let Frame::Data { lane, form, kind, payload, bytes } = frame else { return Ok(frame) };
        let chunks = &mut self.chunks[lane];
        if chunks.is_empty() {
            return Ok(Frame::Data { lane, form, kind, payload, bytes });
        }
        let before = u32::try_from(chunks.len()).map_err(|_| Flaw::TooLarge)?;
        let bytes = bytes + before;
        if bytes > HEADER_BYTES + PAYLOAD_BYTES_MAX {
            return Err(Flaw::TooLarge);
        }
        let mut whole = std::mem::take(chunks);
        whole.extend_from_slice(&payload);
        Ok(Frame::Data { lane, form, kind, payload: whole.freeze(), bytes })
    }

    /// How many bytes the frame at the front of `received` still needs; 0 if that is not known. What a caller reserves
    /// for it is bounded, since a frame beyond its bound is refused by its header.
    #[must_use]
    pub fn missing(&self, received: &BytesMut) -> usize {
        let header = if self.has_preface { self.header(received) } else { Ok(None) };
        let Ok(Some(header)) = header else { return 0 };
        (HEADER + header.length as usize).saturating_sub(received.len())
    }

    /// `false` if more bytes are needed.
    fn cut_preface(&mut self, received: &mut BytesMut) -> Result<bool, Flaw> {
        let there = received.len().min(PREFACE.len());
        if received[..there] != PREFACE[..there] {
            return Err(Flaw::Malformed);
        }
        if there < PREFACE.len() {
            return Ok(false);
        }
        received.advance(PREFACE.len());
        self.has_preface = true;
        Ok(true)
    }

    fn header(&self, received: &[u8]) -> Result<Option<Header>, Flaw> {
        let Some(fixed) = received.get(..HEADER) else { return Ok(None) };
        let length = u32::from_le_bytes([fixed[4], fixed[5], fixed[6], 0]);
        let length_max = if self.is_greeted { PAYLOAD_BYTES_MAX } else { GREETING_BYTES_MAX };
        if length > length_max {
            return Err(Flaw::TooLarge);
        }
        let lane = Lane::ALL.get(usize::from(fixed[7])).copied().ok_or(Flaw::Malformed)?;
        Ok(Some(Header {
            length,
            lane,
            form: u16::from_le_bytes(field(&fixed[8..10])),
            kind: u16::from_le_bytes(field(&fixed[10..12])),
            number: u64::from_le_bytes(field(&fixed[12..20])),
        }))
    }
}

fn interpret(header: Header, mut payload: Bytes) -> Result<Frame, Flaw> {
    let Header { length, lane, form, kind, number } = header;
    let request = RequestId(number);
    // A field without a meaning is 0, so that a later version can give it one that no older reader overlooks.
    let form = match form {
        form::ONE_WAY => Form::OneWay { number },
        form::REPLY if kind == 0 => Form::Reply(request),
        form::REQUEST => {
            let wait = payload.try_get_u32_le().map_err(|_| Flaw::Malformed)?;
            Form::Request { id: request, wait: Duration::from_millis(u64::from(wait)) }
        }
        form::NO_REPLY if payload.is_empty() => {
            return Ok(Frame::NoReply { lane, request, why: no_reply(kind)? });
        }
        _ => return control(header, &payload).map(Frame::Control),
    };
    Ok(Frame::Data { lane, form, kind, payload, bytes: HEADER_BYTES + length })
}

fn no_reply(kind: u16) -> Result<NoReply, Flaw> {
    match kind {
        1 => Ok(NoReply::Dropped),
        2 => Ok(NoReply::Busy),
        3 => Ok(NoReply::UnknownKind),
        _ => Err(Flaw::Malformed),
    }
}

fn control(header: Header, payload: &[u8]) -> Result<Control, Flaw> {
    let Header { lane, form, kind, number, .. } = header;
    if kind != 0 {
        return Err(Flaw::Malformed);
    }
    match (form, lane, number, payload) {
        (form::HELLO, Lane::Control, 0, _) => Ok(Control::Hello(Box::new(hello(payload)?))),
        (form::REFUSE, Lane::Control, 0, _) => Ok(Control::Refuse(refusal(payload)?)),
        (form::GOODBYE, Lane::Control, 0, _) => Ok(Control::Goodbye(goodbye(payload)?)),
        (form::PING, Lane::Control, _, []) => Ok(Control::Ping(number)),
        (form::PONG, Lane::Control, _, []) => Ok(Control::Pong(number)),
        (form::CREDIT, _, _, []) => {
            let bytes = u32::try_from(number).map_err(|_| Flaw::Malformed)?;
            Ok(Control::Credit { lane, bytes })
        }
        (form::SETTLED, _, _, payload) if payload.len() == 16 => {
            let field = |n: usize| u32::from_le_bytes(field(&payload[4 * n..4 * n + 4]));
            let [before, bytes, handled, lost] = [field(0), field(1), field(2), field(3)];
            Ok(Control::Settled { lane, settled: Settled { number, before, bytes, handled, lost } })
        }
        (form::CANCEL, _, _, []) => Ok(Control::Cancel { lane, request: RequestId(number) }),
        (_, _, _, _) => Err(Flaw::Malformed),
    }
}

fn hello(payload: &[u8]) -> Result<Hello, Flaw> {
    Ok(greeting::hello(payload)?)
}

fn refusal(payload: &[u8]) -> Result<Refusal, Flaw> {
    Ok(greeting::refusal(payload)?)
}

fn goodbye(payload: &[u8]) -> Result<Goodbye, Flaw> {
    Ok(greeting::goodbye(payload)?)
}

fn field<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("a field has its width")
}
