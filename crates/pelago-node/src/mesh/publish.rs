//! Telling all who subscribe to a topic: each node gives a message to its own subscribers.

use std::time::Duration;

use bytes::Bytes;
use pelago_core::{
    id::{Destination, Name},
    link::{Lane, Role},
    message::Content,
};
use pelago_net::Recipient;

use super::{encoded::Encoded, router::Router};
use crate::agents::Told;

impl Router {
    /// Publishes messages on all nodes that there is a link with, whatever the log says of them. One without room for a
    /// message misses it.
    pub(super) async fn publish(&self, topic: &Name, told: Told) {
        let mut others = self.others(topic);
        for message in told {
            self.pass_on(&mut others, &message);
            self.give(topic, &message).await;
        }
    }

    /// Publishes messages at once, if few hear of them here.
    ///
    /// # Errors
    /// What was to be published.
    pub(super) fn try_publish(&self, topic: &Name, told: Told) -> Result<(), Told> {
        if !self.topics.is_quick(topic) {
            return Err(told);
        }
        let mut others = self.others(topic);
        for message in told {
            self.pass_on(&mut others, &message);
            self.topics.publish(topic, &message);
        }
        Ok(())
    }

    /// Publishes on this node what came from another.
    pub(crate) async fn publish_here(&self, topic: &Name, told: Told) {
        for message in told {
            self.give(topic, &message).await;
        }
    }

    /// Publishes on this node at once what came from another, if few hear of it.
    ///
    /// # Errors
    /// What was to be published.
    pub(crate) fn try_publish_here(&self, topic: &Name, told: Told) -> Result<(), Told> {
        if !self.topics.is_quick(topic) {
            return Err(told);
        }
        told.for_each(|message| self.topics.publish(topic, &message));
        Ok(())
    }

    fn others(&self, topic: &Name) -> Vec<Recipient> {
        let name = Bytes::from(Destination::Topic(topic.clone()).to_string());
        let links = self.links.all().into_iter().filter(|link| link.terms().other.role == Role::Main);
        links.map(|link| link.recipient(Lane::Bulk, name.clone())).collect()
    }

    fn pass_on(&self, others: &mut [Recipient], message: &Content) {
        let encoded = Encoded::new(message, Duration::ZERO);
        for other in others {
            if other.try_tell(encoded.message()).is_err() {
                self.topics.missed();
            }
        }
    }

    /// Gives a message to those who subscribe here, and then way to others if these are many.
    async fn give(&self, topic: &Name, message: &Content) {
        self.topics.publish(topic, message);
        if !self.topics.is_quick(topic) {
            tokio::task::yield_now().await;
        }
    }
}
