//! What those who take part in the control log keep on disk and tell each other, as bytes.
//!
//! The types are those generated from `proto/pelago/raft/v1/raft.proto`; `node::raft` turns them into its library's.

pub use crate::message::{Malformed, decode, encode};
pub use proto::{
    AppendReply, AppendRequest, ClockReply, Config, Conflict, DumpPart, DumpReply, Entry, HandOver, HandOverReply,
    LastEntry, LogId, Member, Membership, StoredMembership, Vote, VoteReply, VoteRequest, append_reply, entry,
    hand_over_reply,
};

mod proto {
    include!(concat!(env!("OUT_DIR"), "/pelago.raft.v1.rs"));
}

/// What the voters ask each other, as the kind of a frame says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An [`AppendRequest`].
    Append,
    /// A [`VoteRequest`]: the vote itself.
    Vote,
    /// A [`VoteRequest`]: whether it would be granted.
    PreVote,
    /// A [`HandOver`].
    HandOver,
    /// A [`DumpPart`].
    DumpPart,
    /// What time it is; answered with [`ClockReply`].
    Clock,
}

impl Kind {
    /// The kind as a frame carries it.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::Append => 1,
            Self::Vote => 2,
            Self::PreVote => 3,
            Self::HandOver => 4,
            Self::DumpPart => 5,
            Self::Clock => 6,
        }
    }

    /// What a frame's kind means. `None` if this release does not know it.
    #[must_use]
    pub fn of(number: u16) -> Option<Self> {
        let all = [Self::Append, Self::Vote, Self::PreVote, Self::HandOver, Self::DumpPart, Self::Clock];
        all.into_iter().find(|kind| kind.number() == number)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

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
    fn the_requests_of_the_first_release_are_read_and_written_alike() {
        fn check<M: prost::Message + Default + PartialEq + std::fmt::Debug>(message: &M, golden: &[u8]) {
            assert_eq!(encode(message)[..], *golden);
            assert_eq!(decode::<M>("message", Bytes::copy_from_slice(golden)).as_ref(), Ok(message));
        }
        let vote = Some(Vote { term: 3, voter: 2, committed: true });
        let at = Some(LogId { term: 3, index: 9 });
        let entries = vec![Entry { term: 3, payload: Some(entry::Payload::Ops(Bytes::from_static(b"ops"))) }];
        check(
            &AppendRequest { vote, previous: at, committed: at, entries },
            b"\x0a\x06\x08\x03\x10\x02\x18\x01\x12\x04\x08\x03\x10\x09\x1a\x04\x08\x03\x10\x09\x22\x07\x08\x03\x12\x03ops",
        );
        check(&AppendReply { refused: None }, b"");
        check(&AppendReply { refused: Some(append_reply::Refused::Conflict(Conflict {})) }, b"\x0a\0");
        check(
            &VoteRequest { vote, last: at, handed_over: true },
            b"\x0a\x06\x08\x03\x10\x02\x18\x01\x12\x04\x08\x03\x10\x09\x18\x01",
        );
        check(
            &VoteReply { vote, granted: true, last: at },
            b"\x0a\x06\x08\x03\x10\x02\x18\x01\x10\x01\x1a\x04\x08\x03\x10\x09",
        );
        check(
            &HandOver { from: vote, to: 7, last: at },
            b"\x0a\x06\x08\x03\x10\x02\x18\x01\x10\x07\x1a\x04\x08\x03\x10\x09",
        );
        let not_flushed = hand_over_reply::Refused::NotFlushed(LastEntry { last: at });
        check(&HandOverReply { refused: Some(not_flushed) }, b"\x12\x06\x0a\x04\x08\x03\x10\x09");
        let bytes = Bytes::from_static(b"dump");
        check(
            &DumpPart { vote, dump: 5, offset: 6, bytes, last: true },
            b"\x0a\x06\x08\x03\x10\x02\x18\x01\x10\x05\x18\x06\x22\x04dump\x28\x01",
        );
        check(&ClockReply { time_ms: 0x0102 }, b"\x09\x02\x01\0\0\0\0\0\0");
        check(&DumpReply { vote }, b"\x0a\x06\x08\x03\x10\x02\x18\x01");
    }

    #[test]
    fn kinds_keep_their_numbers() {
        let known: Vec<_> = (0..8).filter_map(Kind::of).collect();
        let all = [Kind::Append, Kind::Vote, Kind::PreVote, Kind::HandOver, Kind::DumpPart, Kind::Clock];
        assert_eq!(known, all);
    }

    #[test]
    fn cut_bytes_are_refused() {
        assert!(decode::<Entry>("entry", Bytes::from_static(&ENTRY[..5])).is_err());
    }
}
