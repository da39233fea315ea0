//! What comes over a link for agents and wants no answer.
//!
//! The other end gives each agent a number with the first message to it (`core::link::Names`), so that what arrives is
//! sorted by agent without a look at any name, and handed over many at a time. An agent that is here and has room gets
//! it on the reading loop; what has to wait, or goes on to another node, goes to a loop of the link, in order.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use pelago_core::{
    id::Address,
    link::{Bound, Lane, PerLane},
    record::Placement,
};
use pelago_net::Credit;
use pelago_wire::tell::kind;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::task::TaskTracker;

use super::router::TELL_MAX;
use crate::{Handle, agents::Told};

/// How many batches of a link wait for room or go on to other nodes. Each is at most what is read at once, and all of
/// them count against the credit of the link.
const WAITING_MAX: usize = 1_024;

/// What one link brings.
pub(super) struct Tells {
    /// Another node has looked for the agent and found it here: it is not sent on once more.
    from_node: bool,
    bound: PerLane<Bound<Recipient>>,
    /// Who was told something since the last time that all was handed over.
    touched: Vec<(Lane, u64)>,
    waiting: Option<mpsc::Sender<Waiting>>,
}

/// An agent that the other end has given a number.
struct Recipient {
    name: Bytes,
    /// Known once somebody in the mesh hosts it.
    to: Option<Arc<(Address, Placement)>>,
    messages: Vec<Bytes>,
    /// How many batches for it wait: what comes next may not overtake them.
    waiting: Arc<AtomicUsize>,
}

struct Waiting {
    to: Arc<(Address, Placement)>,
    told: Told,
    count: Arc<AtomicUsize>,
}

impl Tells {
    pub(super) fn new(from_node: bool) -> Self {
        Self { from_node, bound: PerLane::default(), touched: Vec::new(), waiting: None }
    }

    /// Takes a frame. `false` if it is none of these, or has no meaning: then the other end is wrong.
    pub(super) fn take(&mut self, lane: Lane, kind: u16, number: u64, payload: Bytes) -> bool {
        match kind {
            kind::BIND => self.bound[lane].bind(number, Recipient::new(payload)),
            kind::TELL => match self.bound[lane].get_mut(number) {
                Some(recipient) => {
                    if recipient.messages.is_empty() {
                        self.touched.push((lane, number));
                    }
                    recipient.messages.push(payload);
                    true
                }
                None => false,
            },
            _unknown => false,
        }
    }

    /// Hands over what was taken.
    pub(super) fn hand_over(&mut self, node: &Handle, credit: &Arc<Credit>, loops: &TaskTracker) {
        for (lane, number) in std::mem::take(&mut self.touched) {
            let Some(recipient) = self.bound[lane].get_mut(number) else { continue };
            let messages = std::mem::take(&mut recipient.messages);
            let told = node.told(messages, Some(Arc::clone(credit)));
            // Dropped, it counts as lost.
            let Some(to) = recipient.to(node) else { continue };
            let is_first = recipient.waiting.load(Ordering::Acquire) == 0;
            let left = if is_first { node.router().try_tell(&to.0, to.1, told).err() } else { Some(told) };
            if let Some(told) = left {
                let count = Arc::clone(&recipient.waiting);
                count.fetch_add(1, Ordering::AcqRel);
                let waiting = self.waiting.get_or_insert_with(|| {
                    let (waiting, batches) = mpsc::channel(WAITING_MAX);
                    loops.spawn(go_on(node.clone(), self.from_node, batches));
                    waiting
                });
                if let Err(full) = waiting.try_send(Waiting { to, told, count }) {
                    full.into_inner().count.fetch_sub(1, Ordering::AcqRel);
                }
            }
        }
    }
}

impl Recipient {
    fn new(name: Bytes) -> Self {
        Self { name, to: None, messages: Vec::new(), waiting: Arc::default() }
    }

    fn to(&mut self, node: &Handle) -> Option<Arc<(Address, Placement)>> {
        if self.to.is_none() {
            let name = std::str::from_utf8(&self.name).ok()?;
            self.to = node.find(name).ok().map(Arc::new);
        }
        self.to.clone()
    }
}

/// Gives agents what had to wait, in order.
async fn go_on(node: Handle, from_node: bool, mut batches: mpsc::Receiver<Waiting>) {
    while let Some(Waiting { to, told, count }) = batches.recv().await {
        let deadline = Instant::now() + TELL_MAX;
        let done = match from_node {
            true => node.router().tell_here(&to.0.agent, told, deadline).await,
            false => node.router().tell(&to.0, to.1, told, deadline).await,
        };
        if let Err(error) = done {
            tracing::debug!(agent = %to.0.agent, %error, "what an agent was told is lost");
        }
        count.fetch_sub(1, Ordering::AcqRel);
    }
}
