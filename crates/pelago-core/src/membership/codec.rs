//! How identities become bytes: passed in by whoever knows bytes, for the library to use.

use std::{fmt, sync::Arc};

use bytes::{Buf, BufMut};

use super::{Header, Identity, Member, Rumour};

/// Turns what is told into bytes and back. `wire::gossip` has the one of the product.
pub trait Codec: Send + Sync {
    /// Writes the head of a packet, so that its end can be found.
    fn put_header(&self, header: &Header<Identity>, out: &mut Vec<u8>);

    /// Reads the head of a packet, and leaves what follows.
    ///
    /// # Errors
    /// [`Garbled`] if it is none.
    fn header(&self, bytes: &mut &[u8]) -> Result<Header<Identity>, Garbled>;

    /// Writes what is said of a node, so that its end can be found.
    fn put_member(&self, member: &Member<Identity>, out: &mut Vec<u8>);

    /// Reads what is said of a node, and leaves what follows.
    ///
    /// # Errors
    /// [`Garbled`] if it is none.
    fn member(&self, bytes: &mut &[u8]) -> Result<Member<Identity>, Garbled>;

    /// How many bytes a rumour takes in a packet.
    fn rumour_bytes(&self, rumour: &Rumour) -> usize;
}

/// Bytes that are not what they should be, or no room for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Garbled(pub String);

impl fmt::Display for Garbled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Garbled {}

/// The same, as the library wants it.
pub(super) struct Bytewise(pub(super) Arc<dyn Codec>);

impl foca::Codec<Identity> for Bytewise {
    type Error = Garbled;

    fn encode_header(&mut self, header: &Header<Identity>, buf: impl BufMut) -> Result<(), Garbled> {
        put(buf, |out| self.0.put_header(header, out))
    }

    fn decode_header(&mut self, buf: impl Buf) -> Result<Header<Identity>, Garbled> {
        take(buf, |bytes| self.0.header(bytes))
    }

    fn encode_member(&mut self, member: &Member<Identity>, buf: impl BufMut) -> Result<(), Garbled> {
        put(buf, |out| self.0.put_member(member, out))
    }

    fn decode_member(&mut self, buf: impl Buf) -> Result<Member<Identity>, Garbled> {
        take(buf, |bytes| self.0.member(bytes))
    }
}

/// Leaves the buffer as it was if there is no room: the library goes on with what fits.
fn put(mut buf: impl BufMut, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), Garbled> {
    let mut written = Vec::new();
    write(&mut written);
    if buf.remaining_mut() < written.len() {
        return Err(Garbled("there is no room for more".into()));
    }
    buf.put_slice(&written);
    Ok(())
}

fn take<T>(mut buf: impl Buf, read: impl FnOnce(&mut &[u8]) -> Result<T, Garbled>) -> Result<T, Garbled> {
    // The library reads packets, each of which is one slice.
    let mut left = buf.chunk();
    let before = left.len();
    let value = read(&mut left)?;
    let taken = before - left.len();
    buf.advance(taken);
    Ok(value)
}
