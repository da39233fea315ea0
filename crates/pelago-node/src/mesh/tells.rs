//! What comes over a link for agents and wants no answer.
//!
//! The other end gives each agent a number with the first message to it (`core::link::Names`), so that what arrives is
//! sorted by agent without a look at any name, and handed over many at a time. An agent that is here and has room gets
//! it on the reading loop; what has to wait, or goes on to another node, goes to a loop of its agent's own, in order.
//! Each agent has a window of its own (`net::Window`): what it has not handled holds up nobody else.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use pelago_core::{
    id::{Destination, Name},
    link::{Bound, Lane, PerLane},
    message::Content,
};
use pelago_net::{Credit, Incoming, Window};
use pelago_wire::{
    headers,
    tell::{self, Nth, kind},
};
use prometheus_client::metrics::counter::Counter;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::task::TaskTracker;

use super::{
    receive::Answers,
    router::{TELL_MAX, Untold, Whom},
};
use crate::{Handle, agents::Told, handle::Error, topics::Heard};

/// The longest name: a node's, an agent's and its key.
const NAME_BYTES_MAX: usize = 1_024;

/// What one link brings.
pub(super) struct Tells {
    source: Arc<Source>,
    bound: PerLane<Bound<Recipient>>,
    /// Who was told something since the last time that all was handed over.
    touched: Vec<(Lane, u64)>,
    /// Those whose number another name has taken, by their own, as long as they have something left to do.
    replaced: HashMap<Bytes, Recipient>,
}

/// Where messages come from, and how they are counted.
pub(super) struct Source {
    /// Another node has looked for the agent and found it here: it is not sent on once more.
    pub(super) from_node: bool,
    pub(super) link: pelago_net::Handle,
    /// This node, while it is put together.
    pub(super) node: watch::Receiver<Option<Answers>>,
    pub(super) loops: TaskTracker,
    pub(super) lost: Counter,
}

/// An agent that the other end has given a number.
struct Recipient {
    name: Bytes,
    /// Known once somebody in the mesh hosts it.
    to: Option<Arc<Whom>>,
    window: Arc<Window>,
    messages: Vec<Content>,
    /// What was charged for them.
    bytes: u32,
    /// Its loop, once something had to wait.
    waits: Option<Waits>,
    /// What came of the topic from that node, if it is one and its messages have numbers.
    heard: Option<Arc<Heard>>,
}

struct Waits {
    /// Without a bound of its own: every batch counts against the agent's window.
    batches: mpsc::UnboundedSender<Untold>,
    /// How many batches wait: what comes next may not overtake them.
    count: Arc<AtomicUsize>,
}

impl Tells {
    pub(super) fn new(source: Source) -> Self {
        let (bound, touched, replaced) = Default::default();
        Self { source: Arc::new(source), bound, touched, replaced }
    }

    /// Takes a frame that came with `credit`. `false` if it has no meaning: then the other end is wrong.
    pub(super) fn take(&mut self, lane: Lane, frame: Incoming, credit: &Arc<Credit>, node: Option<&Handle>) -> bool {
        let Incoming { kind, number, payload, charged, ask: _ } = frame;
        match kind {
            kind::BIND => {
                // What came before is for whoever had the number.
                self.hand_over(credit, node);
                self.bind(lane, number, &payload, credit)
            }
            kind::TELL | kind::TELL_WITH | kind::TELL_NUMBERED => {
                let Some((nth, content)) = content(kind, payload) else { return false };
                if let Some(nth) = nth {
                    self.count(lane, number, nth, credit, node);
                }
                let Some(recipient) = self.bound[lane].get_mut(number) else { return false };
                match recipient.messages.last() {
                    None => self.touched.push((lane, number)),
                    Some(last) if last.priority() != content.priority() => {
                        // What is as urgent comes together.
                        let told = recipient.take(credit, &self.source.lost);
                        recipient.hand_over(told, &self.source, node);
                    }
                    Some(_) => {}
                }
                recipient.messages.push(content);
                recipient.bytes += charged;
                true
            }
            _unknown => false,
        }
    }

    /// Tells those who hear of a topic what was lost of it before this message.
    fn count(&mut self, lane: Lane, number: u64, nth: Nth, credit: &Arc<Credit>, node: Option<&Handle>) {
        let (Some(recipient), Some(node)) = (self.bound[lane].get_mut(number), node) else { return };
        let topics = &node.router().topics;
        let lost = match &recipient.heard {
            Some(heard) => heard.comes(nth),
            None => {
                // Clients, and those who tell agents, number nothing.
                let Some(topic) = recipient.topic().filter(|_| self.source.from_node) else { return };
                let from = self.source.link.terms().other.boot;
                recipient.heard.insert(topics.heard(from, &topic)).comes(nth)
            }
        };
        if let (1.., Some(topic)) = (lost, recipient.topic()) {
            // What came before it was heard before.
            self.hand_over(credit, Some(node));
            topics.lost(&topic, lost);
        }
    }

    fn bind(&mut self, lane: Lane, number: u64, name: &[u8], credit: &Credit) -> bool {
        if name.len() > NAME_BYTES_MAX {
            return false;
        }
        let Self { bound, replaced, .. } = self;
        // Copied: it may be kept for long, and is a slice of all that was read at once.
        let name = Bytes::copy_from_slice(name);
        let gone = bound[lane].bind(number, |before| {
            let window = credit.window(number, before);
            match replaced.remove(&name) {
                Some(recipient) => Recipient { window, ..recipient },
                None => Recipient::new(name, window),
            }
        });
        match gone {
            Ok(Some(gone)) if gone.waiting() > 0 => {
                if replaced.len() == replaced.capacity() {
                    replaced.retain(|_, recipient| recipient.waiting() > 0);
                }
                replaced.insert(gone.name.clone(), gone);
                true
            }
            gone => gone.is_ok(),
        }
    }

    /// Hands over what was taken, or keeps it for a node that is not put together yet.
    pub(super) fn hand_over(&mut self, credit: &Arc<Credit>, node: Option<&Handle>) {
        let Self { source, bound, touched, .. } = self;
        for (lane, number) in touched.drain(..) {
            if let Some(recipient) = bound[lane].get_mut(number) {
                let told = recipient.take(credit, &source.lost);
                recipient.hand_over(told, source, node);
            }
        }
    }
}

impl Drop for Tells {
    /// The link has ended. What became of messages that this node told over it and that are not settled, nobody says.
    fn drop(&mut self) {
        self.source.lost.inc_by(self.source.link.account().under_way());
    }
}

impl Recipient {
    fn new(name: Bytes, window: Arc<Window>) -> Self {
        Self { name, to: None, window, messages: Vec::new(), bytes: 0, waits: None, heard: None }
    }

    fn topic(&self) -> Option<Name> {
        Name::new(std::str::from_utf8(&self.name).ok()?.strip_prefix(Destination::TOPIC)?).ok()
    }

    fn to(&mut self, node: &Handle) -> Option<Arc<Whom>> {
        if self.to.is_none() {
            let name = std::str::from_utf8(&self.name).ok()?;
            self.to = node.whom(name).ok().map(Arc::new);
        }
        self.to.clone()
    }

    /// How many batches wait.
    fn waiting(&self) -> usize {
        self.waits.as_ref().map_or(0, |waits| waits.count.load(Ordering::Acquire))
    }

    fn take(&mut self, credit: &Arc<Credit>, lost: &Counter) -> Told {
        let messages = std::mem::take(&mut self.messages);
        let count = u32::try_from(messages.len()).expect("a batch of frames is small");
        let held = self.window.hold(count, std::mem::take(&mut self.bytes), credit);
        Told::new(messages, Some(held), lost)
    }

    fn hand_over(&mut self, told: Told, source: &Arc<Source>, node: Option<&Handle>) {
        let left = match node {
            Some(node) if self.waiting() == 0 => match self.to(node) {
                Some(to) => try_tell(&to, told, source, node).err(),
                // Dropped, it counts as lost.
                None => None,
            },
            Some(_) | None => Some(Untold::from(told)),
        };
        let Some(told) = left else { return };
        let waits = self.waits.get_or_insert_with(|| {
            let (batches, waiting) = mpsc::unbounded_channel();
            let count = Arc::new(AtomicUsize::new(0));
            source.loops.spawn(go_on(Arc::clone(source), self.name.clone(), waiting, Arc::clone(&count)));
            Waits { batches, count }
        });
        waits.count.fetch_add(1, Ordering::AcqRel);
        if waits.batches.send(told).is_err() {
            // The link has ended. Dropped, it counts as lost.
            waits.count.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// What a frame tells, and which message of its topic that is. `None` if it is not what its kind says.
fn content(kind: u16, mut payload: Bytes) -> Option<(Option<Nth>, Content)> {
    if kind == kind::TELL {
        return Some((None, payload.into()));
    }
    let nth = if kind == kind::TELL_NUMBERED { Some(tell::cut_number(&mut payload)?) } else { None };
    let headers = tell::cut_headers(&mut payload)?;
    let content = if headers.is_empty() { payload.into() } else { headers::decode(&headers)?.of(payload) };
    Some((nth, content))
}

fn try_tell(to: &Whom, told: Told, source: &Source, node: &Handle) -> Result<(), Untold> {
    match to {
        // Another node has chosen this one.
        Whom::Agent(to, _) if source.from_node => Ok(node.router().try_tell_here(&to.agent, told)?),
        Whom::Topic(topic) if source.from_node => Ok(node.router().try_publish_here(topic, told)?),
        Whom::Agent(..) | Whom::Topic(_) => node.router().try_tell(to, told),
    }
}

/// Gives an agent what had to wait, in order, until nothing more can come.
async fn go_on(
    source: Arc<Source>,
    name: Bytes,
    mut batches: mpsc::UnboundedReceiver<Untold>,
    count: Arc<AtomicUsize>,
) {
    while let Some(told) = batches.recv().await {
        let Some(node) = source.node().await else { return };
        let to = std::str::from_utf8(&name).ok().and_then(|name| node.whom(name).ok());
        let done = match (to, source.from_node) {
            (Some(Whom::Agent(to, _)), true) => {
                node.router().tell_here(&to.agent, told.into_told()).await.map_err(Error::from)
            }
            (Some(Whom::Topic(topic)), true) => {
                node.router().publish_here(&topic, told.into_told()).await;
                Ok(())
            }
            (Some(to), false) => node.router().tell(&to, told, Instant::now() + TELL_MAX).await,
            (None, _) => {
                // It counts as lost.
                drop(told);
                Ok(())
            }
        };
        if let Err(error) = done {
            tracing::debug!(agent = %name.escape_ascii(), %error, "what an agent was told is lost");
        }
        count.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Source {
    /// This node, once it is put together. `None` if the link ends first.
    async fn node(&self) -> Option<Handle> {
        let mut node = self.node.clone();
        tokio::select! {
            node = node.wait_for(Option::is_some) => node.ok()?.as_ref().map(|node| node.handle.clone()),
            _ended = self.link.ended() => None,
        }
    }
}
