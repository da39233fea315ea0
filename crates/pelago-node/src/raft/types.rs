//! Our types as openraft knows them, and their bytes.

use std::{collections::BTreeSet, fmt};

use bytes::Bytes;
use openraft::impls::leader_id_std;
use pelago_core::record::Outcome;
use pelago_wire::raft as wire;

openraft::declare_raft_types!(
    /// The control log.
    pub(crate) Types:
        D = Proposal,
        R = Vec<Outcome>,
        NodeId = u64,
        Node = Member,
        Term = u64,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
);

pub(super) type LogId = openraft::type_config::alias::LogIdOf<Types>;
pub(super) type Vote = openraft::type_config::alias::VoteOf<Types>;
pub(super) type Entry = openraft::type_config::alias::EntryOf<Types>;
pub(super) type Payload = openraft::EntryPayload<Proposal, u64, Member>;
pub(super) type Membership = openraft::Membership<u64, Member>;
pub(super) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<Types>;

/// An encoded batch of ops with its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proposal {
    pub(crate) ops: Bytes,
    /// Whether no other node has to hear of its commit at once. Only where it was proposed: the log does not keep it.
    pub(crate) is_quiet: bool,
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of ops", self.ops.len())
    }
}

/// The name of the node a Raft id stands for. Membership holds no addresses: those change without a vote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Member(pub(crate) String);

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

pub(super) fn log_id(id: &LogId) -> wire::LogId {
    wire::LogId { term: id.leader_id.term, index: id.index }
}

pub(super) fn read_log_id(id: wire::LogId) -> LogId {
    LogId::new_term_index(id.term, id.index)
}

pub(super) fn vote(vote: &Vote) -> wire::Vote {
    wire::Vote { term: vote.leader_id.term, voter: vote.leader_id.voted_for, committed: vote.committed }
}

pub(super) fn read_vote(vote: wire::Vote) -> Vote {
    let wire::Vote { term, voter, committed } = vote;
    if committed { Vote::new_committed(term, voter) } else { Vote::new(term, voter) }
}

pub(super) fn membership(of: &Membership) -> wire::Membership {
    let configs = of.get_joint_config().iter().map(|set| wire::Config { voters: set.iter().copied().collect() });
    let members = of.nodes().map(|(raft_id, member)| wire::Member { raft_id: *raft_id, node: member.0.clone() });
    wire::Membership { configs: configs.collect(), members: members.collect() }
}

pub(super) fn read_membership(from: wire::Membership) -> std::io::Result<Membership> {
    let configs = from.configs.into_iter().map(|config| config.voters.into_iter().collect::<BTreeSet<_>>());
    let members = from.members.into_iter().map(|member| (member.raft_id, Member(member.node)));
    let members: std::collections::BTreeMap<_, _> = members.collect();
    Membership::new(configs.collect(), members).map_err(std::io::Error::other)
}

pub(super) fn stored_membership(of: &StoredMembership) -> wire::StoredMembership {
    wire::StoredMembership { log_id: of.log_id().as_ref().map(log_id), membership: Some(membership(of.membership())) }
}

pub(super) fn read_stored_membership(from: wire::StoredMembership) -> std::io::Result<StoredMembership> {
    let membership = read_membership(from.membership.unwrap_or_default())?;
    Ok(StoredMembership::new(from.log_id.map(read_log_id), membership))
}

/// The payload of an entry's record in the log; its index stands in the record itself.
pub(super) fn entry(entry: &Entry) -> Bytes {
    wire::encode(&wire_entry(entry))
}

pub(super) fn read_entry(index: u64, bytes: Bytes) -> std::io::Result<Entry> {
    read_wire_entry(index, wire::decode("entry", bytes).map_err(std::io::Error::other)?)
}

pub(super) fn wire_entry(entry: &Entry) -> wire::Entry {
    let payload = match &entry.payload {
        Payload::Blank => None,
        Payload::Normal(proposal) => Some(wire::entry::Payload::Ops(proposal.ops.clone())),
        Payload::Membership(of) => Some(wire::entry::Payload::Membership(membership(of))),
    };
    wire::Entry { term: entry.log_id.leader_id.term, payload }
}

pub(super) fn read_wire_entry(index: u64, entry: wire::Entry) -> std::io::Result<Entry> {
    let wire::Entry { term, payload } = entry;
    let payload = match payload {
        None => Payload::Blank,
        Some(wire::entry::Payload::Ops(ops)) => Payload::Normal(Proposal { ops, is_quiet: false }),
        Some(wire::entry::Payload::Membership(of)) => Payload::Membership(read_membership(of)?),
    };
    Ok(Entry { log_id: LogId::new_term_index(term, index), payload })
}
