//! Messages that nobody waits for, on their way to one agent.

use std::vec;

use bytes::Bytes;
use pelago_net::Held;
use pelago_wire::frame::{self, Form};
use prometheus_client::metrics::counter::Counter;

/// Messages for one agent, in the order in which they were told. Those that nobody takes out count as lost.
#[derive(Debug)]
pub(crate) struct Told {
    messages: vec::IntoIter<Bytes>,
    /// Their place in the window of the link that they came over.
    held: Option<Held>,
    /// How many there were.
    all: u32,
    /// How many of those that were taken out had no effect.
    failed: u32,
    lost: Counter,
}

impl Told {
    pub(crate) fn new(messages: Vec<Bytes>, held: Option<Held>, lost: &Counter) -> Self {
        let all = u32::try_from(messages.len()).expect("a batch of messages is small");
        Self { messages: messages.into_iter(), held, all, failed: 0, lost: lost.clone() }
    }

    /// The next message, and its place alone, to be settled by itself. It counts as lost until it [has its
    /// effect](Self::succeed).
    pub(crate) fn split_first(&mut self) -> Option<(Bytes, Self)> {
        let message = self.messages.next()?;
        self.all -= 1;
        let bytes = u32::try_from(message.len()).expect("a message fits a frame");
        let charge = frame::charge_of(Form::OneWay { number: 0 }, bytes);
        let held = self.held.as_mut().map(|held| held.split_off(charge));
        let messages = Vec::new().into_iter();
        Some((message, Self { messages, held, all: 1, failed: 1, lost: self.lost.clone() }))
    }

    /// Gives the next message up.
    pub(crate) fn lose_first(&mut self) {
        self.failed += u32::from(self.messages.next().is_some());
    }

    /// The message that was split off had its effect.
    pub(crate) fn succeed(&mut self) {
        self.failed = 0;
    }

    /// So many of those that were taken out had no effect.
    pub(crate) fn lose(&mut self, messages: u32) {
        self.failed += messages;
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
        let left = u32::try_from(self.len()).expect("a batch of messages is small");
        let lost = self.failed + left;
        self.lost.inc_by(lost.into());
        if let Some(held) = &mut self.held {
            held.handle(self.all - lost);
        }
    }
}
