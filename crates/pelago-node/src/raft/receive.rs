//! What others ask of openraft here, over links between nodes.
//!
//! Each request is worked on by itself, for as long as it takes, so that the loop that reads the link goes on. Requests
//! of one sender may overtake each other: openraft sends appends one at a time and takes late ones for what they are,
//! and a dump's parts wait for each other.

use std::{fmt, io, sync::Arc};

use bytes::Bytes;
use openraft::Raft;
use pelago_core::{
    id::Name,
    link::{Lane, NoReply, RequestId},
    time::LogTime,
};
use pelago_net::{Ask, Credit, Deliver, Handle, Incoming};
use pelago_wire::raft::{self as wire, Kind};
use tokio::{runtime, sync::watch};

use super::{
    dump::{self, Taken},
    machine::Machine,
    rpc,
    types::Types,
};

/// Takes what comes over the links of consensus. Links are made before consensus starts; until then requests are
/// refused. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Receiver {
    runtime: runtime::Handle,
    part: watch::Sender<Option<Arc<Part>>>,
}

/// This node's part in the control log, as others reach it.
pub(super) struct Part {
    pub(super) raft: Raft<Types, Machine>,
    pub(super) dumps: dump::Receiver,
    pub(super) wall: fn() -> LogTime,
}

impl Receiver {
    pub(super) fn new(runtime: runtime::Handle) -> Self {
        Self { runtime, part: watch::Sender::default() }
    }

    /// Who takes what comes over a link of the role consensus.
    pub(crate) fn deliver(&self, link: &Handle) -> Box<dyn Deliver> {
        Box::new(OverLink { receiver: self.clone(), from: link.terms().other.node_name.clone() })
    }

    /// From here on requests are answered.
    pub(super) fn begin(&self, part: Part) {
        self.part.send_replace(Some(Arc::new(part)));
    }

    /// From here on they are refused. What answered them reaches back to the links, and is let go of.
    pub(crate) fn shut(&self) {
        self.part.send_replace(None);
    }
}

struct OverLink {
    receiver: Receiver,
    from: Name,
}

impl Deliver for OverLink {
    fn deliver(&mut self, _lane: Lane, batch: &mut Vec<Incoming>, credit: Credit) {
        // All of the batch counts against what the other end may send, until the last of it is done.
        let credit = Arc::new(credit);
        for Incoming { kind, payload, ask, .. } in batch.drain(..) {
            let Some(ask) = ask else {
                tracing::warn!(from = %self.from, kind, "a message of consensus that asks nothing");
                continue;
            };
            let Some(kind) = Kind::of(kind) else {
                ask.refuse(NoReply::UnknownKind);
                continue;
            };
            let (part, from, credit) = (self.receiver.part.borrow().clone(), self.from.clone(), Arc::clone(&credit));
            self.receiver.runtime.spawn(async move {
                // Dropped unanswered, the ask says so itself.
                if let Some(part) = part {
                    part.answer(kind, &from, payload, ask).await;
                }
                drop(credit);
            });
        }
    }

    /// What was asked is done all the same, and its answer is dropped by the link.
    fn called_off(&mut self, _lane: Lane, _request: RequestId) {}
}

/// Why a request has no answer.
enum Refused {
    Malformed(io::Error),
    /// This node's part has ended, while its links are still there.
    Stopped(String),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Malformed(error)
    }
}

impl Refused {
    fn stopped(error: impl fmt::Display) -> Self {
        Self::Stopped(error.to_string())
    }
}

impl Part {
    async fn answer(&self, kind: Kind, from: &Name, payload: Bytes, ask: Ask) {
        match self.reply(kind, from, payload).await {
            // If the link went down meanwhile nobody waits for the reply.
            Ok(reply) => drop(ask.reply(&reply).await),
            Err(Refused::Malformed(error)) => {
                tracing::warn!(%from, ?kind, %error, "a request of consensus is not what it should be");
            }
            Err(Refused::Stopped(error)) => tracing::debug!(%from, ?kind, %error, "consensus has stopped here"),
        }
    }

    async fn reply(&self, kind: Kind, from: &Name, payload: Bytes) -> Result<Bytes, Refused> {
        let raft = &self.raft;
        match kind {
            Kind::Append => {
                let reply = raft.append_entries(rpc::read_append(payload)?).await.map_err(Refused::stopped)?;
                Ok(rpc::append_reply(&reply)?)
            }
            Kind::Vote => {
                let reply = raft.vote(rpc::read_vote_request(payload)?).await.map_err(Refused::stopped)?;
                Ok(rpc::vote_reply(&reply))
            }
            Kind::PreVote => {
                let reply = raft.pre_vote(rpc::read_vote_request(payload)?).await.map_err(Refused::stopped)?;
                Ok(rpc::vote_reply(&reply))
            }
            Kind::HandOver => {
                let request = rpc::read_hand_over(payload)?;
                let reply = raft.handle_transfer_leader(request).await.map_err(Refused::stopped)?;
                Ok(rpc::hand_over_reply(&reply))
            }
            Kind::Clock => Ok(wire::encode(&wire::ClockReply { time_ms: (self.wall)().as_millis() })),
            Kind::DumpPart => match self.dumps.take(from, payload).await? {
                Taken::Part => Ok(dump::reply(None)),
                Taken::Whole(vote, snapshot) => {
                    let reply = raft.install_full_snapshot(vote, *snapshot).await.map_err(Refused::stopped)?;
                    Ok(dump::reply(Some(&reply.vote)))
                }
            },
        }
    }
}
