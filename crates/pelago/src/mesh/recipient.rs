//! An agent that is told much.

use bytes::Bytes;
use pelago_core::{link::Lane, message::Headers};
use pelago_net::SendError;
use pelago_wire::{headers, tell::Message};
use tokio::time::{Instant, timeout_at};

use super::{Error, Mesh, TELL_MAX};

/// An agent, as whoever tells it things knows it. Its name goes over each link once; a clone tells on its own.
#[derive(Debug, Clone)]
pub struct Recipient {
    mesh: Mesh,
    name: Bytes,
    /// Over the link that there was last.
    there: Option<pelago_net::Recipient>,
}

impl Recipient {
    pub(super) fn new(mesh: Mesh, to: &str) -> Self {
        Self { mesh, name: Bytes::copy_from_slice(to.as_bytes()), there: None }
    }

    /// Tells the agent something: a message that nobody answers, with at most one effect. It is on its way when this
    /// returns, which waits for room: an agent that is slow slows whoever tells it things. What becomes of
    /// all that was told, [`Mesh::account`] says.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::TooLarge`], and [`Error::Busy`] if there was no room for five seconds. It has
    /// no effect then.
    ///
    /// # Cancel safety
    /// Dropped before it is done, nothing was told.
    pub async fn tell(&mut self, payload: impl AsRef<[u8]>) -> Result<(), Error> {
        self.put((&payload).into()).await
    }

    /// Tells the agent something that says more about itself.
    ///
    /// # Errors
    /// Like [`Self::tell`].
    ///
    /// # Cancel safety
    /// Dropped before it is done, nothing was told.
    pub async fn tell_with(&mut self, headers: &Headers, payload: impl AsRef<[u8]>) -> Result<(), Error> {
        self.put(Message { headers: &headers::encode(headers), ..(&payload).into() }).await
    }

    /// Tells the agent something at once, or not at all.
    ///
    /// # Errors
    /// [`Error::Busy`] if there is no room for the moment; [`Error::Unreachable`] if there is no link; and
    /// [`Error::TooLarge`]. It has no effect then.
    pub fn try_tell(&mut self, payload: impl AsRef<[u8]>) -> Result<(), Error> {
        let there = match &mut self.there {
            Some(there) if there.link().has_ended().is_none() => there,
            gone => {
                let link = self.mesh.link_now().ok_or_else(|| self.mesh.unreachable())?;
                gone.insert(link.recipient(Lane::Bulk, self.name.clone()))
            }
        };
        match there.try_tell(&payload) {
            Ok(()) => Ok(()),
            Err(SendError::TooLarge { bytes }) => Err(Error::TooLarge { bytes }),
            Err(SendError::Busy) => Err(Error::Busy),
            Err(SendError::Down) => Err(self.mesh.unreachable()),
        }
    }

    async fn put(&mut self, message: Message<'_>) -> Result<(), Error> {
        if let Some(there) = &mut self.there {
            match there.try_tell(message) {
                Ok(()) => return Ok(()),
                Err(SendError::TooLarge { bytes }) => return Err(Error::TooLarge { bytes }),
                Err(SendError::Busy | SendError::Down) => {}
            }
        }
        self.wait(message).await
    }

    async fn wait(&mut self, message: Message<'_>) -> Result<(), Error> {
        let deadline = Instant::now() + TELL_MAX;
        loop {
            let there = match &mut self.there {
                Some(there) if there.link().has_ended().is_none() => there,
                gone => {
                    let link = self.mesh.link(deadline).await?;
                    gone.insert(link.recipient(Lane::Bulk, self.name.clone()))
                }
            };
            return match timeout_at(deadline, there.tell(message)).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(SendError::Down)) => continue,
                Ok(Err(SendError::TooLarge { bytes })) => Err(Error::TooLarge { bytes }),
                Ok(Err(SendError::Busy)) | Err(_) => Err(Error::Busy),
            };
        }
    }
}
