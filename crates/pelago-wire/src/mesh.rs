//! What nodes ask each other over their links, as bytes: batches for the leader, questions to agents, signs of life.
//!
//! The types are those generated from `proto/pelago/mesh/v1/mesh.proto`; `node::mesh` turns them into core's.

use bytes::Bytes;
use pelago_core::id::SignalId;

pub use crate::message::{Malformed, decode, encode};
pub use proto::{
    Applied, Ask, Asked, Branch, Broadcast, Converse, Granted, Heartbeat, Hop, Nothing, Proposed, Reached, Run, Signal,
    Taken, Trace, Traced, Verdict, Within, asked, branch, proposed,
};

mod proto {
    include!(concat!(env!("OUT_DIR"), "/pelago.mesh.v1.rs"));
}

/// What a frame between nodes is about: its kind in `wire::frame`. Numbers are never given another meaning.
pub mod kind {
    /// A batch, `pelago.record.v1.Batch`, for the leader; answered with [`Proposed`](super::Proposed).
    pub const PROPOSE: u16 = 1;
    /// A batch with the registration of a node that wants to be admitted; answered with [`Proposed`](super::Proposed).
    pub const JOIN: u16 = 2;
    /// Asks the leader how far the log is; answered with [`Proposed`](super::Proposed) without outcomes.
    pub const READ_INDEX: u16 = 3;
    /// [`Ask`](super::Ask), answered with [`Asked`](super::Asked).
    pub const ASK: u16 = 4;
    /// [`Heartbeat`](super::Heartbeat), answered with [`Granted`](super::Granted).
    pub const HEARTBEAT: u16 = 5;
    /// A batch with the removal of a node, for the leader, who takes its vote first; answered with
    /// [`Proposed`](super::Proposed).
    pub const REMOVE: u16 = 6;
    /// [`Broadcast`](super::Broadcast), answered with [`Reached`](super::Reached).
    pub const BROADCAST: u16 = 7;
    /// [`Signal`](super::Signal), answered with [`Asked`](super::Asked), whose reply is a [`Branch`](super::Branch).
    pub const SIGNAL: u16 = 8;
    /// [`Converse`](super::Converse), answered with [`Asked`](super::Asked).
    pub const CONVERSE: u16 = 9;
    /// [`Trace`](super::Trace), answered with [`Traced`](super::Traced).
    pub const TRACE: u16 = 10;
}

/// Writes a signal's id.
#[must_use]
pub fn signal_bytes(id: SignalId) -> Bytes {
    Bytes::copy_from_slice(&id.0.to_be_bytes())
}

/// Reads a signal's id. `None` if it is not 16 bytes.
#[must_use]
pub fn signal_of(bytes: &[u8]) -> Option<SignalId> {
    Some(SignalId(u128::from_be_bytes(bytes.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes written by the first release. They must decode for ever.
    const APPLIED: [u8; 7] = [0x0a, 0x05, 0x0a, 0x01, b'o', 0x10, 0x07];
    const HEARTBEAT: [u8; 10] = [0x0a, 0x04, 0x08, 0x02, 0x10, 0x09, 0x10, 0x03, 0x18, 0x01];

    #[test]
    fn what_the_first_release_wrote_is_read_and_written_alike() {
        let applied = Applied { outcomes: Bytes::from_static(b"o"), index: 7 };
        let proposed = Proposed { answer: Some(proposed::Answer::Applied(applied)) };
        assert_eq!(encode(&proposed)[..], APPLIED);
        assert_eq!(decode("answer", Bytes::from_static(&APPLIED)), Ok(proposed));
        let heartbeat = Heartbeat { run: Some(Run { node: 2, incarnation: 9 }), beat: 3, draining: true };
        assert_eq!(encode(&heartbeat)[..], HEARTBEAT);
        assert_eq!(decode("heartbeat", Bytes::from_static(&HEARTBEAT)), Ok(heartbeat));
    }

    #[test]
    fn cut_bytes_are_refused() {
        assert!(decode::<Proposed>("answer", Bytes::from_static(&APPLIED[..5])).is_err());
    }
}
