//! What comes over a link for agents and wants no answer.
//!
//! The other end gives each agent a number with the first message to it (`core::link::Names`), so that what arrives is
//! sorted by agent without a look at any name, and handed over many at a time. An agent that is here and has room gets
//! it on the reading loop; what has to wait, or goes on to another node, goes to a loop of its agent's own, in order.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
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

/// The longest name: a node's, an agent's and its key.
const NAME_BYTES_MAX: usize = 1_024;

/// What one link brings.
pub(super) struct Tells {
    /// Another node has looked for the agent and found it here: it is not sent on once more.
    from_node: bool,
    bound: PerLane<Bound<Recipient>>,
    /// Who was told something since the last time that all was handed over.
    touched: Vec<(Lane, u64)>,
    /// Those whose number another name has taken, by their own, as long as they have something left to do.
    replaced: HashMap<Bytes, Recipient>,
    /// Messages that could not be taken and are not counted yet.
    lost: u64,
}

/// An agent that the other end has given a number.
struct Recipient {
    name: Bytes,
    /// Known once somebody in the mesh hosts it.
    to: Option<Arc<(Address, Placement)>>,
    messages: Vec<Bytes>,
    /// Its loop, once something had to wait.
    waits: Option<Waits>,
}

struct Waits {
    /// Without a bound of its own: every batch counts against the credit of the link.
    batches: mpsc::UnboundedSender<Told>,
    /// How many batches wait: what comes next may not overtake them.
    count: Arc<AtomicUsize>,
}

impl Tells {
    pub(super) fn new(from_node: bool) -> Self {
        Self { from_node, bound: PerLane::default(), touched: Vec::new(), replaced: HashMap::new(), lost: 0 }
    }

    /// Takes a frame. Before there is a `node`, a message is lost. `false` if the frame has no meaning: then the other
    /// end is wrong.
    pub(super) fn take(&mut self, lane: Lane, kind: u16, number: u64, payload: Bytes, node: Option<&Handle>) -> bool {
        match kind {
            kind::BIND => self.bind(lane, number, &payload),
            kind::TELL => {
                let Some(recipient) = self.bound[lane].get_mut(number) else { return false };
                if node.is_none() {
                    self.lost += 1;
                    return true;
                }
                if recipient.messages.is_empty() {
                    self.touched.push((lane, number));
                }
                recipient.messages.push(payload);
                true
            }
            _unknown => false,
        }
    }

    fn bind(&mut self, lane: Lane, number: u64, name: &[u8]) -> bool {
        if name.len() > NAME_BYTES_MAX {
            return false;
        }
        // Copied: it may be kept for long, and is a slice of all that was read at once.
        let name = Bytes::copy_from_slice(name);
        let recipient = self.replaced.remove(&name).unwrap_or_else(|| Recipient::new(name));
        let Some(bound) = self.bound[lane].get_mut(number) else { return self.bound[lane].bind(number, recipient) };
        let before = std::mem::replace(bound, recipient);
        if before.has_something_left() {
            self.replaced.insert(before.name.clone(), before);
        }
        true
    }

    /// Hands over what was taken.
    pub(super) fn hand_over(&mut self, node: &Handle, credit: &Arc<Credit>, loops: &TaskTracker) {
        let Self { from_node, bound, touched, replaced, lost } = self;
        node.lost_told(std::mem::take(lost));
        for recipient in replaced.values_mut() {
            recipient.hand_over(node, *from_node, credit, loops);
        }
        replaced.retain(|_, recipient| recipient.has_something_left());
        for (lane, number) in touched.drain(..) {
            if let Some(recipient) = bound[lane].get_mut(number) {
                recipient.hand_over(node, *from_node, credit, loops);
            }
        }
    }
}

impl Recipient {
    fn new(name: Bytes) -> Self {
        Self { name, to: None, messages: Vec::new(), waits: None }
    }

    fn to(&mut self, node: &Handle) -> Option<Arc<(Address, Placement)>> {
        if self.to.is_none() {
            let name = std::str::from_utf8(&self.name).ok()?;
            self.to = node.find(name).ok().map(Arc::new);
        }
        self.to.clone()
    }

    fn waiting(&self) -> usize {
        self.waits.as_ref().map_or(0, |waits| waits.count.load(Ordering::Acquire))
    }

    fn has_something_left(&self) -> bool {
        !self.messages.is_empty() || self.waiting() > 0
    }

    fn hand_over(&mut self, node: &Handle, from_node: bool, credit: &Arc<Credit>, loops: &TaskTracker) {
        let messages = std::mem::take(&mut self.messages);
        if messages.is_empty() {
            return;
        }
        let told = node.told(messages, Some(Arc::clone(credit)));
        // Dropped, it counts as lost.
        let Some(to) = self.to(node) else { return };
        let left = match self.waiting() {
            0 => node.router().try_tell(&to.0, to.1, told).err(),
            _ => Some(told),
        };
        let Some(told) = left else { return };
        let waits = self.waits.get_or_insert_with(|| {
            let (batches, waiting) = mpsc::unbounded_channel();
            let count = Arc::new(AtomicUsize::new(0));
            loops.spawn(go_on(node.clone(), from_node, to, waiting, Arc::clone(&count)));
            Waits { batches, count }
        });
        waits.count.fetch_add(1, Ordering::AcqRel);
        if waits.batches.send(told).is_err() {
            // The node ends. Dropped, it counts as lost.
            waits.count.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// Gives an agent what had to wait, in order, until nothing more can come.
async fn go_on(
    node: Handle,
    from_node: bool,
    to: Arc<(Address, Placement)>,
    mut batches: mpsc::UnboundedReceiver<Told>,
    count: Arc<AtomicUsize>,
) {
    while let Some(told) = batches.recv().await {
        let done = match from_node {
            true => node.router().tell_here(&to.0.agent, told).await,
            false => node.router().tell(&to.0, to.1, told, Instant::now() + TELL_MAX).await,
        };
        if let Err(error) = done {
            tracing::debug!(agent = %to.0.agent, %error, "what an agent was told is lost");
        }
        count.fetch_sub(1, Ordering::AcqRel);
    }
}
