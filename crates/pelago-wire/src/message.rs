//! Generated messages as bytes, whatever they say.

use bytes::Bytes;
use prost::Message;

/// Bytes that are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not a {what}")]
pub struct Malformed {
    /// What they should be.
    pub what: &'static str,
    /// Why they are not.
    #[source]
    pub cause: prost::DecodeError,
}

/// Encodes a message.
#[must_use]
pub fn encode(message: &impl Message) -> Bytes {
    Bytes::from(message.encode_to_vec())
}

/// Decodes a message; `what` names it in an error.
///
/// # Errors
/// [`Malformed`] if the bytes are something else.
pub fn decode<M: Message + Default>(what: &'static str, bytes: Bytes) -> Result<M, Malformed> {
    M::decode(bytes).map_err(|cause| Malformed { what, cause })
}
