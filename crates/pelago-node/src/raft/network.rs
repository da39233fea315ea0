//! What openraft asks of others, over links between nodes.
//!
//! A request goes over the link of consensus with the node whose name stands in the membership, whoever dialled it. An
//! append is bounded in bytes where its entries are read; see `log`. A dump goes as `dump` says.
//!
//! That something was committed is told by the next append: at once by an empty one, if another node proposed it or may
//! have something to begin with it. Else, or while ops wait for the batch in flight, an entry may tell it that comes
//! within a moment. That halves the appends.

use std::{
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
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

/// How urgent it is to tell of commits.
#[derive(Debug, Default)]
pub(super) struct Urgency {
    /// An entry will follow the one in flight at once.
    pub(super) expects_more: AtomicBool,
    /// The last entry of whose commit another node has to hear at once.
    pub(super) awaited: AtomicU64,
}

impl Urgency {
    /// Whether commits after entry `told` may be told with a later one.
    fn can_wait(&self, told: u64) -> bool {
        self.expects_more.load(Ordering::Relaxed) || self.awaited.load(Ordering::Relaxed) <= told
    }
}

pub(super) struct Network {
    pub(super) links: Links,
    pub(super) reader: Arc<Reader>,
    pub(super) urgency: Arc<Urgency>,
}

/// One voter or learner.
pub(super) struct Client {
    links: Links,
    reader: Arc<Reader>,
    urgency: Arc<Urgency>,
    /// `None` if the membership holds no valid name: nobody is there then.
    node: Option<Name>,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Client;

    async fn new_client(&mut self, _target: u64, member: &Member) -> Client {
        let Self { links, reader, urgency } = self;
        Client {
            links: links.clone(),
            reader: Arc::clone(reader),
            urgency: Arc::clone(urgency),
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

/// Appends on their way to a node.
struct Appends<S> {
    requests: S,
    urgency: Arc<Urgency>,
    /// The last entry of which it was told that it is committed.
    told: u64,
}

impl<S: Stream<Item = AppendEntriesRequest<Types>> + Unpin> Appends<S> {
    /// The next one. One without entries leaves its place to the next, which says all that it does, if it can wait.
    async fn next(mut self) -> Option<(AppendEntriesRequest<Types>, Self)> {
        let mut request = self.requests.next().await?;
        if request.entries.is_empty()
            && self.urgency.can_wait(self.told)
            && let Ok(Some(next)) = tokio::time::timeout(TELL_MAX, self.requests.next()).await
        {
            request = next;
        }
        self.told = request.leader_commit.map_or(self.told, |committed| committed.index);
        Some((request, self))
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

    fn stream_append<'s, S>(
        &'s mut self,
        requests: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        let appends = Appends { requests: requests.fuse(), urgency: Arc::clone(&self.urgency), told: 0 };
        stream_append_sequential(self, Box::pin(stream::unfold(appends, Appends::next)), option)
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

    /// An append of so many entries that tells of the commit of entry `committed`.
    fn append(entries: usize, committed: u64) -> AppendEntriesRequest<Types> {
        let vote = Vote::new(1, 1);
        let id = |index| LogId::new(vote.leader_id.to_committed(), index);
        let entries = (0..entries as u64).map(|index| Entry::new_blank(id(index))).collect();
        AppendEntriesRequest { vote, prev_log_id: None, entries, leader_commit: Some(id(committed)) }
    }

    /// How many entries each append carries of a stream of those, and the commit that each tells of.
    async fn sent(urgency: Urgency, appends: impl IntoIterator<Item = (usize, u64)>) -> Vec<(usize, u64)> {
        // As openraft's, it must not be asked again once it has ended.
        let requests = stream::unfold(appends.into_iter(), async |mut rest| {
            let (entries, committed) = rest.next()?;
            Some((append(entries, committed), rest))
        });
        let appends = Appends { requests: Box::pin(requests).fuse(), urgency: Arc::new(urgency), told: 0 };
        let told = |append: AppendEntriesRequest<Types>| {
            (append.entries.len(), append.leader_commit.map_or(0, |committed| committed.index))
        };
        stream::unfold(appends, Appends::next).map(told).collect().await
    }

    const APPENDS: [(usize, u64); 6] = [(1, 4), (0, 5), (2, 5), (0, 7), (1, 7), (0, 8)];

    #[tokio::test]
    async fn an_append_without_entries_leaves_its_place_to_one_that_is_expected() {
        let urgency = Urgency { expects_more: true.into(), awaited: 8.into() };
        assert_eq!(sent(urgency, APPENDS).await, [(1, 4), (2, 5), (1, 7), (0, 8)]);
        let urgency = Urgency { expects_more: false.into(), awaited: 8.into() };
        assert_eq!(sent(urgency, APPENDS).await, APPENDS);
    }

    #[tokio::test]
    async fn a_commit_for_which_nobody_waits_is_told_with_the_next_entry() {
        let urgency = Urgency { expects_more: false.into(), awaited: 5.into() };
        assert_eq!(sent(urgency, APPENDS).await, [(1, 4), (0, 5), (2, 5), (1, 7), (0, 8)]);
    }

    #[tokio::test]
    async fn an_append_without_entries_is_sent_when_no_other_comes() {
        let requests = stream::iter([append(0, 1)]).chain(stream::pending());
        let urgency = Arc::new(Urgency { expects_more: true.into(), ..Urgency::default() });
        let next = Appends { requests, urgency, told: 0 }.next().await;
        assert!(next.is_some_and(|(append, _)| append.entries.is_empty()));
    }
}
