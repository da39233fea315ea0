//! What a message says about itself, on its way to another node.

use std::time::Duration;

use bytes::Bytes;
use pelago_core::message::{Content, Headers};
use pelago_wire::{
    headers,
    tell::{Message, Nth},
};

/// A message that goes on.
pub(super) struct Encoded<'c> {
    headers: Bytes,
    content: &'c Content,
}

impl<'c> Encoded<'c> {
    /// A message that has been here so long.
    pub(super) fn new(content: &'c Content, here: Duration) -> Self {
        let headers = content.headers.as_deref().map_or_else(Bytes::new, |said| match said.within {
            Some(within) => headers::encode(&Headers { within: Some(within.saturating_sub(here)), ..said.clone() }),
            None => headers::encode(said),
        });
        Self { headers, content }
    }

    /// As it is told.
    pub(super) fn message(&self) -> Message<'_> {
        Message { nth: None, headers: &self.headers, payload: &self.content.payload }
    }

    /// As it is told to a node as one of a topic's messages.
    pub(super) fn numbered(&self, nth: Nth) -> Message<'_> {
        Message { nth: Some(nth), ..self.message() }
    }
}
