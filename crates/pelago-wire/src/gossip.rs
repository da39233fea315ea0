//! What nodes tell each other about who is there, as bytes.
//!
//! *Is:* the conversions between `core::membership` and what is generated from `proto/pelago/gossip/v1/gossip.proto`,
//! and the [`Protobuf`] codec that the machine is given. Whatever is read has the bounds that core names.
//!
//! *Is not:* a word on whether any of it is true.

mod convert;

use bytes::Bytes;
use pelago_core::membership::{Codec, Garbled, Header, Identity, Member, Packet, Rumour};
use prost::Message as _;

use crate::message::{self, Malformed};

#[expect(unreachable_pub, reason = "generated code makes everything public")]
mod proto {
    include!(concat!(env!("OUT_DIR"), "/pelago.gossip.v1.rs"));
}

/// The largest packet, in bytes. A packet of SWIM, members and rumours have bounds of their own below it.
pub const PACKET_BYTES_MAX: usize = 128 << 10;

/// Why bytes are no packet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPacket {
    /// It is larger than any node writes.
    #[error("a packet of {bytes} bytes is larger than {PACKET_BYTES_MAX}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The bytes are no protobuf message of this sort.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A part of it makes no sense.
    #[error("{0}")]
    Part(#[from] Garbled),
}

/// Encodes a packet.
#[must_use]
pub fn encode(packet: &Packet) -> Bytes {
    message::encode(&convert::packet(packet))
}

/// Decodes a packet.
///
/// # Errors
/// [`NoPacket`] if it is none, or any part of it is out of bounds.
pub fn decode(bytes: Bytes) -> Result<Packet, NoPacket> {
    if bytes.len() > PACKET_BYTES_MAX {
        return Err(NoPacket::TooLarge { bytes: bytes.len() });
    }
    Ok(convert::packet_of(message::decode("packet of gossip", bytes)?)?)
}

/// The codec of the product.
#[derive(Debug, Clone, Copy, Default)]
pub struct Protobuf;

impl Codec for Protobuf {
    fn put_header(&self, header: &Header<Identity>, out: &mut Vec<u8>) {
        put(&convert::header(header), out);
    }

    fn header(&self, bytes: &mut &[u8]) -> Result<Header<Identity>, Garbled> {
        convert::header_of(take("header", bytes)?)
    }

    fn put_member(&self, member: &Member<Identity>, out: &mut Vec<u8>) {
        put(&convert::member(member), out);
    }

    fn member(&self, bytes: &mut &[u8]) -> Result<Member<Identity>, Garbled> {
        convert::member_of(take("member", bytes)?)
    }

    fn rumour_bytes(&self, rumour: &Rumour) -> usize {
        convert::rumour(rumour).encoded_len()
    }
}

fn put(message: &impl prost::Message, out: &mut Vec<u8>) {
    message.encode_length_delimited(out).expect("a vector has room");
}

fn take<M: prost::Message + Default>(what: &str, bytes: &mut &[u8]) -> Result<M, Garbled> {
    M::decode_length_delimited(bytes).map_err(|error| Garbled(format!("the {what} cannot be read: {error}")))
}
