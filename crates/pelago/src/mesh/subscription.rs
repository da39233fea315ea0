//! Topics that are heard.

use pelago_core::link::Lane;
use pelago_net::Handle;
use pelago_node::handle::Published;
use pelago_wire::{
    client::{self as wire, answer::Answer},
    tell,
};
use tokio::sync::mpsc;

use super::{Error, Mesh, TELL_MAX};

/// The messages of all topics that meet a pattern, published on any node. It ends when it is dropped.
#[derive(Debug)]
pub struct Subscription {
    mesh: Mesh,
    to: String,
    number: u64,
    messages: mpsc::Receiver<Published>,
    /// The link that they come over.
    link: Option<Handle>,
}

impl Subscription {
    pub(super) async fn begin(mesh: &Mesh, to: &str) -> Result<Self, Error> {
        let (number, messages) = mesh.shared.arrivals.subscribe();
        let mut subscription = Self { mesh: mesh.clone(), to: to.to_owned(), number, messages, link: None };
        subscription.subscribe().await?;
        Ok(subscription)
    }

    /// The next message.
    ///
    /// # Errors
    /// [`Error::Parted`] at once when the link was lost, after all that came over it: what is published until the next
    /// call subscribes anew is missed, and not counted. Else [`Error`] says why that fails, and the next call tries
    /// again.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Published, Error> {
        loop {
            let Some(link) = &self.link else {
                self.subscribe().await?;
                continue;
            };
            tokio::select! {
                biased;
                // The sender is kept until this is dropped.
                Some(published) = self.messages.recv() => return Ok(published),
                _ended = link.ended() => {
                    self.link = None;
                    return Err(Error::Parted { address: self.mesh.shared.address.clone() });
                }
            }
        }
    }

    async fn subscribe(&mut self) -> Result<(), Error> {
        let subscribe = wire::Subscribe { to: self.to.clone(), number: self.number };
        let (answer, link) = self.mesh.request_over(wire::kind::SUBSCRIBE, &wire::encode(&subscribe), TELL_MAX).await?;
        let Answer::Subscribed(wire::Subscribed {}) = answer else { return Err(Error::BadAnswer) };
        self.link = Some(link);
        Ok(())
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.mesh.shared.arrivals.unsubscribe(self.number);
        if let Some(link) = &self.link {
            // Without room for it, the next message that comes says it again.
            let _said_later = link.try_send(Lane::Requests, tell::kind::UNSUBSCRIBE, self.number, &[]);
        }
    }
}
