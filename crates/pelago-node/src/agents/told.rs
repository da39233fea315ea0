//! Messages that nobody waits for, on their way to one agent.

use std::{
    time::{Duration, Instant},
    vec,
};

use pelago_core::message::{Content, Priority};
use pelago_net::Held;
use pelago_wire::{
    frame::{self, Form},
    headers,
};
use prometheus_client::metrics::counter::Counter;

/// Messages for one agent, in the order in which they were told. Those that nobody takes out count as lost, and so do
/// those that nobody wants any more: they are left out.
#[derive(Debug)]
pub(crate) struct Told {
    messages: vec::IntoIter<Content>,
    /// Their place in the window of the link that they came over.
    held: Option<Held>,
    /// When they came.
    since: Instant,
    /// How many there were.
    all: u32,
    /// How many of those that were taken out had no effect.
    failed: u32,
    lost: Counter,
}

impl Told {
    pub(crate) fn new(messages: Vec<Content>, held: Option<Held>, lost: &Counter) -> Self {
        let all = u32::try_from(messages.len()).expect("a batch of messages is small");
        Self { messages: messages.into_iter(), held, since: Instant::now(), all, failed: 0, lost: lost.clone() }
    }

    /// The next message, and its place alone, to be settled by itself. It counts as lost until it [has its
    /// effect](Self::succeed).
    pub(crate) fn split_first(&mut self) -> Option<(Content, Self)> {
        let message = self.next()?;
        self.all -= 1;
        let held = self.held.as_mut().map(|held| held.split_off(charge_of(&message)));
        let messages = Vec::new().into_iter();
        let (since, lost) = (self.since, self.lost.clone());
        Some((message, Self { messages, held, since, all: 1, failed: 1, lost }))
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

    /// The message that is next, and how long it has been here.
    pub(crate) fn first(&mut self) -> Option<(&Content, Duration)> {
        while self.messages.as_slice().first()?.is_late_since(self.since) {
            self.lose_first();
        }
        self.messages.as_slice().first().map(|message| (message, self.since.elapsed()))
    }

    /// How urgent they are, all alike: what differs comes in another batch.
    pub(crate) fn priority(&self) -> Priority {
        self.messages.as_slice().first().map_or(Priority::DEFAULT, Content::priority)
    }

    /// How many are left.
    pub(crate) fn left(&self) -> usize {
        self.messages.len()
    }
}

impl Iterator for Told {
    type Item = Content;

    fn next(&mut self) -> Option<Content> {
        loop {
            let message = self.messages.next()?;
            if !message.is_late_since(self.since) {
                return Some(message);
            }
            self.failed += 1;
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let left = u32::try_from(self.left()).expect("a batch of messages is small");
        let lost = self.failed + left;
        self.lost.inc_by(lost.into());
        if let Some(held) = &mut self.held {
            held.handle(self.all - lost);
        }
    }
}

trait Late {
    fn is_late_since(&self, since: Instant) -> bool;
}

impl Late for Content {
    /// Most messages have no headers, and no clock is read for them.
    fn is_late_since(&self, since: Instant) -> bool {
        self.headers.is_some() && self.is_late(since.elapsed())
    }
}

/// What a message was charged when it came. Headers that said more than this version knows were charged more: that is
/// settled with the rest of the batch.
fn charge_of(message: &Content) -> u32 {
    let headers = message.headers.as_deref().map_or(0, |said| headers::bytes(said) + pelago_wire::tell::LENGTH_BYTES);
    let bytes = u32::try_from(message.payload.len() + headers).expect("a message fits a frame");
    frame::charge_of(Form::OneWay { number: 0 }, bytes)
}
