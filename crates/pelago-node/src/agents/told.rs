//! Messages that nobody waits for, on their way to one agent.

use std::{sync::Arc, vec};

use bytes::Bytes;
use pelago_net::Credit;
use prometheus_client::metrics::counter::Counter;

/// Messages for one agent, in the order in which they were told. Those that nobody takes out count as lost;
/// those that a link ended under, on their way, are counted by nobody.
#[derive(Debug)]
pub(crate) struct Told {
    messages: vec::IntoIter<Bytes>,
    /// Of the link that they came over: as long as any of them is here, they count against what it may bring.
    _credit: Option<Arc<Credit>>,
    lost: Counter,
}

impl Told {
    pub(crate) fn new(messages: Vec<Bytes>, credit: Option<Arc<Credit>>, lost: &Counter) -> Self {
        Self { messages: messages.into_iter(), _credit: credit, lost: lost.clone() }
    }

    /// Gives the next message up.
    pub(crate) fn lose_first(&mut self) {
        self.lost.inc_by(u64::from(self.messages.next().is_some()));
    }

    /// The message that is next.
    pub(crate) fn first(&self) -> Option<&Bytes> {
        self.messages.as_slice().first()
    }
}

impl Iterator for Told {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        self.messages.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.messages.size_hint()
    }
}

impl ExactSizeIterator for Told {}

impl Drop for Told {
    fn drop(&mut self) {
        self.lost.inc_by(self.len() as u64);
    }
}
