//! What openraft asks of others, over links between nodes.
//!
//! A request goes over the link of consensus with the node whose name stands in the membership, whoever dialled it. An
//! append is bounded in bytes where its entries are read; see `log`. A dump goes as `dump` says.
//!
//! That something was committed is told by the next append: at once by an empty one, or, while ops wait for the batch in
//! flight, with the entry that they become. Under load that halves the appends.

use std::{
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use openraft::{
    AnyError, OptionalSend, RaftNetworkFactory,
    base::{BoxFuture, BoxStream},
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::{RPCOption, stream_append_sequential, v2::RaftNetworkV2},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
        TransferLeaderResponse, VoteRequest, VoteResponse,
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
/// How long a commit may wait to be told with an entry. About as long as a batch that is applied slowly.
const TELL_MAX: Duration = Duration::from_millis(3);

pub(super) struct Network {
    pub(super) links: Links,
    pub(super) reader: Arc<Reader>,
    /// Whether an entry will follow the one in flight at once.
    pub(super) expects_more: Arc<AtomicBool>,
}

/// One voter or learner.
pub(super) struct Client {
    links: Links,
    reader: Arc<Reader>,
    expects_more: Arc<AtomicBool>,
    /// `None` if the membership holds no valid name: nobody is there then.
    node: Option<Name>,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Client;

    async fn new_client(&mut self, _target: u64, member: &Member) -> Client {
        let Self { links, reader, expects_more } = self;
        Client {
            links: links.clone(),
            reader: Arc::clone(reader),
            expects_more: Arc::clone(expects_more),
            node: Name::new(&member.0).ok(),
        }
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

/// The next append of a stream. One without entries leaves its place to the next, which says all that it does, if that
/// is on its way.
async fn next_append<S>(
    (mut requests, expects_more): (S, Arc<AtomicBool>),
) -> Option<(AppendEntriesRequest<Types>, (S, Arc<AtomicBool>))>
where
    S: Stream<Item = AppendEntriesRequest<Types>> + Unpin,
{
    let mut request = requests.next().await?;
    if request.entries.is_empty()
        && expects_more.load(Ordering::Relaxed)
        && let Ok(Some(next)) = tokio::time::timeout(TELL_MAX, requests.next()).await
    {
        request = next;
    }
    Some((request, (requests, expects_more)))
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

    fn stream_append<'s, S>(
        &'s mut self,
        requests: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        let requests = stream::unfold((requests.fuse(), Arc::clone(&self.expects_more)), next_append);
        stream_append_sequential(self, Box::pin(requests), option)
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

#[cfg(test)]
mod tests {
    use openraft::{entry::RaftEntry as _, vote::RaftLeaderId as _};

    use super::{
        super::types::{Entry, LogId},
        *,
    };

    fn append(entries: usize) -> AppendEntriesRequest<Types> {
        let vote = Vote::new(1, 1);
        let entry = |index| Entry::new_blank(LogId::new(vote.leader_id.to_committed(), index));
        let entries = (0..entries as u64).map(entry).collect();
        AppendEntriesRequest { vote, prev_log_id: None, entries, leader_commit: None }
    }

    /// How many entries each append carries of a stream that carries so many.
    async fn sent(expects_more: bool, entries: impl IntoIterator<Item = usize>) -> Vec<usize> {
        // As openraft's, it must not be asked again once it has ended.
        let requests = stream::unfold(entries.into_iter(), async |mut rest| Some((append(rest.next()?), rest)));
        let requests = Box::pin(requests);
        let appends = stream::unfold((requests.fuse(), Arc::new(AtomicBool::new(expects_more))), next_append);
        appends.map(|append| append.entries.len()).collect().await
    }

    #[tokio::test]
    async fn an_append_without_entries_leaves_its_place_to_one_that_is_expected() {
        assert_eq!(sent(true, [1, 0, 2, 0]).await, [1, 2, 0]);
        assert_eq!(sent(false, [1, 0, 2, 0]).await, [1, 0, 2, 0]);
    }

    #[tokio::test]
    async fn an_append_without_entries_is_sent_when_no_other_comes() {
        let requests = stream::iter([append(0)]).chain(stream::pending());
        let next = next_append((requests, Arc::new(AtomicBool::new(true)))).await;
        assert!(next.is_some_and(|(append, _)| append.entries.is_empty()));
    }
}
