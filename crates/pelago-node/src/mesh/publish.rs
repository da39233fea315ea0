//! Telling all who subscribe to a topic: each node gives a message to its own subscribers.

use std::time::Duration;

use bytes::Bytes;
use pelago_core::{
    id::{Destination, Name},
    link::{Lane, Role},
};
use pelago_net::Recipient;

use super::{encoded::Encoded, router::Router};
use crate::agents::Told;

impl Router {
    /// Publishes messages on all nodes that there is a link with, whatever the log says of them. One without room for a
    /// message misses it.
    pub(super) fn publish(&self, topic: &Name, told: Told) {
        let name = Bytes::from(Destination::Topic(topic.clone()).to_string());
        let links = self.links.all().into_iter().filter(|link| link.terms().other.role == Role::Main);
        let mut others: Vec<Recipient> = links.map(|link| link.recipient(Lane::Bulk, name.clone())).collect();
        for message in told {
            let encoded = Encoded::new(&message, Duration::ZERO);
            for other in &mut others {
                if other.try_tell(encoded.message()).is_err() {
                    self.topics.missed();
                }
            }
            self.topics.publish(topic, &message);
        }
    }

    /// Publishes on this node what came from another.
    pub(crate) fn publish_here(&self, topic: &Name, told: Told) {
        told.for_each(|message| self.topics.publish(topic, &message));
    }
}
