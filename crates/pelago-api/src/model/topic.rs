//! What is published.

use pelago_core::message::{Headers, Priority};
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
    /// How many messages before it this subscriber missed, since it was slow or they were lost between nodes.
    pub missed: u64,
    /// What the message says about itself.
    #[serde(flatten)]
    pub about: About,
}

/// The node that topics were heard at was lost, and they are heard at this one since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// The node that was lost, if its name is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The node at which the topics are heard now; the same one if it is there again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// How long nothing was heard, in milliseconds. What was published then is missed, and nobody knows how much it is.
    pub deaf_ms: u64,
}

/// What a message says about itself. What it does not say is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Its type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_type: Option<u32>,
    /// What its payload is, if it is no JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// How urgent it is: 0 the most, 9 the least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// Its trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

impl From<&Headers> for About {
    fn from(headers: &Headers) -> Self {
        let Headers { message_type, content_type, priority, within: _, trace } = headers;
        Self {
            message_type: (*message_type != 0).then_some(*message_type),
            content_type: content_type.as_ref().map(ToString::to_string),
            priority: (*priority != Priority::DEFAULT).then_some(priority.get()),
            traceparent: trace.as_ref().map(ToString::to_string),
        }
    }
}

impl From<handle::Published> for Published {
    fn from(published: handle::Published) -> Self {
        let handle::Published { topic, content, missed } = published;
        let about = About::from(content.headers());
        Self { topic: topic.to_string(), message: content.payload.into(), missed, about }
    }
}
