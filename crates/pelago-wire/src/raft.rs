//! What the voters of the control log keep on disk and tell each other, as bytes.
//!
//! The types are those generated from `proto/pelago/raft/v1/raft.proto`; `node::raft` turns them into its library's.

use bytes::Bytes;
use prost::Message;

pub use proto::{Config, Entry, LogId, Member, Membership, StoredMembership, Vote, entry};

mod proto {
    include!(concat!(env!("OUT_DIR"), "/pelago.raft.v1.rs"));
}

/// Bytes that are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not a {what} of the control log")]
pub struct Malformed {
    /// What they should be.
    pub what: &'static str,
    /// Why they are not.
    #[source]
    pub cause: prost::DecodeError,
}

/// Encodes one of this module's types.
#[must_use]
pub fn encode(message: &impl Message) -> Bytes {
    Bytes::from(message.encode_to_vec())
}

/// Decodes one of this module's types; `what` names it in an error.
///
/// # Errors
/// [`Malformed`] if the bytes are something else.
pub fn decode<M: Message + Default>(what: &'static str, bytes: Bytes) -> Result<M, Malformed> {
    M::decode(bytes).map_err(|cause| Malformed { what, cause })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes written by the first release. They must decode for ever.
    const ENTRY: [u8; 7] = [0x08, 0x07, 0x12, 0x03, b'o', b'p', b's'];
    const VOTE: [u8; 6] = [0x08, 0x03, 0x10, 0x02, 0x18, 0x01];

    #[test]
    fn what_the_first_release_wrote_is_read_and_written_alike() {
        let entry = Entry { term: 7, payload: Some(entry::Payload::Ops(Bytes::from_static(b"ops"))) };
        assert_eq!(encode(&entry)[..], ENTRY);
        assert_eq!(decode::<Entry>("entry", Bytes::from_static(&ENTRY)), Ok(entry));
        let vote = Vote { term: 3, voter: 2, committed: true };
        assert_eq!(encode(&vote)[..], VOTE);
        assert_eq!(decode::<Vote>("vote", Bytes::from_static(&VOTE)), Ok(vote));
    }

    #[test]
    fn cut_bytes_are_refused() {
        assert!(decode::<Entry>("entry", Bytes::from_static(&ENTRY[..5])).is_err());
    }
}
