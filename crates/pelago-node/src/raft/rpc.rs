//! What voters ask each other: openraft's requests and replies as the wire's messages.
//!
//! What comes from another node is checked here: whatever is missing or does not fit is an error, never a default.

use std::io;

use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use pelago_wire::raft as wire;

use super::types::{self, LogId, Types, Vote};

/// Encodes a request to append. `None` when its entries do not follow each other, which only indices could tell, and
/// those are not sent.
pub(super) fn append(request: &AppendEntriesRequest<Types>) -> Option<Bytes> {
    let first = next(request.prev_log_id);
    let follows = (first..).zip(&request.entries).all(|(index, entry)| entry.log_id.index == index);
    follows.then(|| {
        wire::encode(&wire::AppendRequest {
            vote: Some(types::vote(&request.vote)),
            previous: request.prev_log_id.as_ref().map(types::log_id),
            committed: request.leader_commit.as_ref().map(types::log_id),
            entries: request.entries.iter().map(types::wire_entry).collect(),
        })
    })
}

pub(super) fn read_append(bytes: Bytes) -> io::Result<AppendEntriesRequest<Types>> {
    let request: wire::AppendRequest = wire::decode("request to append", bytes).map_err(io::Error::other)?;
    let previous = request.previous.map(types::read_log_id);
    let entries = (next(previous)..).zip(request.entries);
    Ok(AppendEntriesRequest {
        vote: read_vote(request.vote)?,
        prev_log_id: previous,
        entries: entries.map(|(index, entry)| types::read_wire_entry(index, entry)).collect::<io::Result<_>>()?,
        leader_commit: request.committed.map(types::read_log_id),
    })
}

fn next(previous: Option<LogId>) -> u64 {
    previous.map_or(0, |id| id.index + 1)
}

pub(super) fn append_reply(reply: &AppendEntriesResponse<Types>) -> io::Result<Bytes> {
    use wire::append_reply::Refused;
    let refused = match reply {
        AppendEntriesResponse::Success => None,
        AppendEntriesResponse::Conflict => Some(Refused::Conflict(wire::Conflict {})),
        AppendEntriesResponse::HigherVote(vote) => Some(Refused::Higher(types::vote(vote))),
        // Whoever receives takes all or nothing.
        AppendEntriesResponse::PartialSuccess(_) => return Err(io::Error::other("a part of a request was taken")),
    };
    Ok(wire::encode(&wire::AppendReply { refused }))
}

pub(super) fn read_append_reply(bytes: Bytes) -> io::Result<AppendEntriesResponse<Types>> {
    use wire::append_reply::Refused;
    let reply: wire::AppendReply = wire::decode("reply to append", bytes).map_err(io::Error::other)?;
    Ok(match reply.refused {
        None => AppendEntriesResponse::Success,
        Some(Refused::Conflict(wire::Conflict {})) => AppendEntriesResponse::Conflict,
        Some(Refused::Higher(vote)) => AppendEntriesResponse::HigherVote(types::read_vote(vote)),
    })
}

pub(super) fn vote(request: &VoteRequest<Types>) -> Bytes {
    wire::encode(&wire::VoteRequest {
        vote: Some(types::vote(&request.vote)),
        last: request.last_log_id.as_ref().map(types::log_id),
        handed_over: request.leadership_transfer,
    })
}

pub(super) fn read_vote_request(bytes: Bytes) -> io::Result<VoteRequest<Types>> {
    let request: wire::VoteRequest = wire::decode("request for a vote", bytes).map_err(io::Error::other)?;
    let last = request.last.map(types::read_log_id);
    Ok(VoteRequest { leadership_transfer: request.handed_over, ..VoteRequest::new(read_vote(request.vote)?, last) })
}

pub(super) fn vote_reply(reply: &VoteResponse<Types>) -> Bytes {
    wire::encode(&wire::VoteReply {
        vote: Some(types::vote(&reply.vote)),
        granted: reply.vote_granted,
        last: reply.last_log_id.as_ref().map(types::log_id),
    })
}

pub(super) fn read_vote_reply(bytes: Bytes) -> io::Result<VoteResponse<Types>> {
    let reply: wire::VoteReply = wire::decode("reply to a request for a vote", bytes).map_err(io::Error::other)?;
    Ok(VoteResponse::new(read_vote(reply.vote)?, reply.last.map(types::read_log_id), reply.granted))
}

pub(super) fn hand_over(request: &TransferLeaderRequest<Types>) -> Bytes {
    wire::encode(&wire::HandOver {
        from: Some(types::vote(request.from_leader())),
        to: *request.to_node_id(),
        last: request.last_log_id().map(types::log_id),
    })
}

pub(super) fn read_hand_over(bytes: Bytes) -> io::Result<TransferLeaderRequest<Types>> {
    let request: wire::HandOver = wire::decode("hand-over", bytes).map_err(io::Error::other)?;
    Ok(TransferLeaderRequest::new(read_vote(request.from)?, request.to, request.last.map(types::read_log_id)))
}

pub(super) fn hand_over_reply(reply: &TransferLeaderResponse<Types>) -> Bytes {
    use wire::hand_over_reply::Refused;
    let refused = reply.as_ref().err().map(|refusal| match refusal {
        TransferLeaderError::VoteChanged { actual, .. } => Refused::VoteChanged(types::vote(actual)),
        TransferLeaderError::LogNotFlushed { actual, .. } => {
            Refused::NotFlushed(wire::LastEntry { last: actual.as_ref().map(types::log_id) })
        }
    });
    wire::encode(&wire::HandOverReply { refused })
}

/// Decodes the reply to `request`, which says what was expected.
pub(super) fn read_hand_over_reply(
    request: &TransferLeaderRequest<Types>,
    bytes: Bytes,
) -> io::Result<TransferLeaderResponse<Types>> {
    use wire::hand_over_reply::Refused;
    let reply: wire::HandOverReply = wire::decode("reply to a hand-over", bytes).map_err(io::Error::other)?;
    Ok(match reply.refused {
        None => Ok(()),
        Some(Refused::VoteChanged(vote)) => {
            let expected = *request.from_leader();
            Err(TransferLeaderError::VoteChanged { expected, actual: types::read_vote(vote) })
        }
        Some(Refused::NotFlushed(wire::LastEntry { last })) => {
            let expected = request.last_log_id().copied();
            Err(TransferLeaderError::LogNotFlushed { expected, actual: last.map(types::read_log_id) })
        }
    })
}

pub(super) fn read_vote(vote: Option<wire::Vote>) -> io::Result<Vote> {
    vote.map(types::read_vote).ok_or_else(|| io::Error::other("a request or reply without a vote"))
}
