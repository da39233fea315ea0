//! What openraft asks of others, over links between nodes.
//!
//! A request goes over the link of consensus with the node whose name stands in the membership, whoever dialled it. An
//! append is bounded in bytes where its entries are read; see `log`. A dump goes as `dump` says.

use std::{future::Future, io, sync::Arc, time::Duration};

use bytes::Bytes;
use openraft::{
    AnyError, RaftNetworkFactory,
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::{RPCOption, v2::RaftNetworkV2},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
        VoteRequest, VoteResponse,
    },
    type_config::alias::SnapshotOf,
};
use pelago_core::{
    id::Name,
    link::{Lane, Role},
};
use pelago_net::{Links, RequestError};
use pelago_store::sqlite::Reader;
use pelago_wire::raft::Kind;

use super::{
    dump,
    machine::Snapshot,
    rpc,
    types::{Member, Types, Vote},
};

/// How long entries may take at least: they are flushed over there, which a heartbeat is not.
const FLUSH_MAX: Duration = Duration::from_millis(1_000);

pub(super) struct Network {
    pub(super) links: Links,
    pub(super) reader: Arc<Reader>,
}

/// One voter or learner.
pub(super) struct Client {
    links: Links,
    reader: Arc<Reader>,
    /// `None` if the membership holds no valid name: nobody is there then.
    node: Option<Name>,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Client;

    async fn new_client(&mut self, _target: u64, member: &Member) -> Client {
        Client { links: self.links.clone(), reader: Arc::clone(&self.reader), node: Name::new(&member.0).ok() }
    }
}

impl Client {
    pub(super) async fn ask(
        &self,
        lane: Lane,
        kind: Kind,
        payload: &[u8],
        wait: Duration,
    ) -> Result<Bytes, RPCError<Types>> {
        let link = self.node.as_ref().and_then(|node| self.links.get(node, Role::Consensus));
        let Some(link) = link else {
            return Err(Unreachable::new(&io::Error::from(io::ErrorKind::NotConnected)).into());
        };
        link.request(lane, kind.number(), payload, wait).await.map_err(|error| match error {
            RequestError::NotSent(_) => Unreachable::new(&error).into(),
            RequestError::Deadline | RequestError::Unknown | RequestError::NoReply(_) => {
                NetworkError::new(&error).into()
            }
        })
    }

    async fn control(&self, kind: Kind, payload: &[u8], wait: Duration) -> Result<Bytes, RPCError<Types>> {
        self.ask(Lane::Control, kind, payload, wait).await
    }
}

/// The other end answered with something else than an answer.
pub(super) fn nonsense(error: io::Error) -> RPCError<Types> {
    NetworkError::new(&error).into()
}

impl RaftNetworkV2<Types> for Client {
    type SnapshotData = Snapshot;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let wait = if request.entries.is_empty() { option.hard_ttl() } else { option.hard_ttl().max(FLUSH_MAX) };
        let bytes = rpc::append(&request)
            .ok_or_else(|| NetworkError::new(&AnyError::error("entries that do not follow each other")))?;
        let reply = self.control(Kind::Append, &bytes, wait).await?;
        rpc::read_append_reply(reply).map_err(nonsense)
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let reply = self.control(Kind::Vote, &rpc::vote(&request), option.hard_ttl()).await?;
        rpc::read_vote_reply(reply).map_err(nonsense)
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let reply = self.control(Kind::PreVote, &rpc::vote(&request), option.hard_ttl()).await?;
        rpc::read_vote_reply(reply).map_err(nonsense)
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let reply = self.control(Kind::HandOver, &rpc::hand_over(&request), option.hard_ttl()).await?;
        rpc::read_hand_over_reply(&request, reply).map_err(nonsense)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        _handle: SnapshotOf<Types, Snapshot>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let sent = dump::send(self, Arc::clone(&self.reader), vote, option.hard_ttl());
        tokio::select! {
            closed = cancel => Err(closed.into()),
            sent = sent => Ok(sent?),
        }
    }
}
