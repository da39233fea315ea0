//! Telling all who subscribe to a topic: each node gives a message to its own subscribers.

use std::time::Duration;

use bytes::Bytes;
use pelago_core::{
    id::{Destination, Name},
    link::{Lane, Role, feature},
    message::Content,
};
use pelago_net::Recipient;

use super::{encoded::Encoded, router::Router};
use crate::{agents::Told, topics::Numbers};

impl Router {
    /// Publishes messages on all nodes that there is a link with, whatever the log says of them. One without room for a
    /// message misses it.
    pub(super) async fn publish(&self, topic: &Name, told: Told) {
        let (mut others, numbers) = (self.others(topic), self.topics.numbers(topic));
        for message in told {
            self.pass_on(&mut others, &numbers, &message);
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
        let (mut others, numbers) = (self.others(topic), self.topics.numbers(topic));
        for message in told {
            self.pass_on(&mut others, &numbers, &message);
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

    /// A number that does not arrive tells the other node that the message was lost.
    fn pass_on(&self, others: &mut [Recipient], numbers: &Numbers, message: &Content) {
        let encoded = Encoded::new(message, Duration::ZERO);
        numbers.next(|nth| {
            for other in others {
                let is_numbered = other.link().terms().features & feature::NUMBERED != 0;
                let message = if is_numbered { encoded.numbered(nth) } else { encoded.message() };
                if other.try_tell(message).is_err() {
                    self.topics.missed();
                }
            }
        });
    }

    /// Gives a message to those who subscribe here, and then way to others if these are many.
    async fn give(&self, topic: &Name, message: &Content) {
        self.topics.publish(topic, message);
        if !self.topics.is_quick(topic) {
            tokio::task::yield_now().await;
        }
    }
}
