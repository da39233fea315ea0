//! What is published.

use pelago_node::handle;
use serde::{Deserialize, Serialize};

use super::Payload;

/// A message of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The topic.
    pub topic: String,
    /// What it says.
    pub message: Payload,
    /// How many messages before it this subscriber missed, since it was slow.
    pub missed: u64,
}

impl From<handle::Published> for Published {
    fn from(published: handle::Published) -> Self {
        let handle::Published { topic, payload, missed } = published;
        Self { topic: topic.to_string(), message: payload.into(), missed }
    }
}
