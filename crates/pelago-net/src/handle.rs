//! Sending and asking over a link.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use pelago_core::link::{Account, Ended, Goodbye, Input, Lane, NoReply, Number, PAYLOAD_BYTES_MAX, RequestId, Terms};
use pelago_wire::{
    frame::{self, Form},
    tell::Message,
};
use tokio::sync::oneshot;

use crate::outbox::{Attempt, Outbox, Queue, Told};

/// A frame that nobody answers, whomever it is for.
const ONE_WAY: Form = Form::OneWay { number: 0 };

/// One link that is, or was, up. Cheap to clone; dropping it closes nothing.
#[derive(Debug, Clone)]
pub struct Handle {
    outbox: Arc<Outbox>,
}

/// Why a frame was not sent. It had no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// There is no credit or room for it now: the other end is slow. Wait, or drop it.
    #[error("the link has no room for the moment")]
    Busy,
    /// The link has ended, or is closing.
    #[error("the link is down")]
    Down,
    /// No link takes it.
    #[error("{bytes} bytes are more than a frame holds ({PAYLOAD_BYTES_MAX})")]
    TooLarge {
        /// The size of its payload.
        bytes: usize,
    },
}

impl SendError {
    pub(crate) fn check(form: Form, bytes: usize) -> Result<(), Self> {
        let overhead = (frame::charge_of(form, 0) - frame::HEADER_BYTES) as usize;
        if bytes + overhead > PAYLOAD_BYTES_MAX as usize { Err(Self::TooLarge { bytes }) } else { Ok(()) }
    }
}

/// Why a request has no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It was not sent: it had no effect.
    #[error(transparent)]
    NotSent(#[from] SendError),
    /// No reply came in time. If it was sent at all, it may have its effect, now or later.
    #[error("no reply came within the deadline")]
    Deadline,
    /// The link ended after it was sent. It may have its effect, now or later.
    #[error("the link ended before a reply came; whether the request had its effect is not known")]
    Unknown,
    /// The other end will not reply.
    #[error("no reply: {0}")]
    NoReply(NoReply),
}

impl Handle {
    pub(crate) fn new(outbox: Arc<Outbox>) -> Self {
        Self { outbox }
    }

    /// What the ends agreed on, and who the other one is.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        self.outbox.terms()
    }

    /// Sends a frame that nobody answers, with a number that means something to the layers above, as soon as there is
    /// credit and room for it. It is on its way when this
    /// returns, and arrives unless the link ends first; frames of one sender in one lane arrive in order.
    ///
    /// # Errors
    /// [`SendError::Down`] and [`SendError::TooLarge`].
    ///
    /// # Cancel safety
    /// Dropped before it is done, nothing was sent.
    pub async fn send(&self, lane: Lane, kind: u16, number: u64, payload: &[u8]) -> Result<(), SendError> {
        SendError::check(ONE_WAY, payload.len())?;
        let place = (lane, Queue::Others);
        self.outbox.when_there_is_room(place, |attempt| attempt.put_one_way(lane, kind, number, payload)).await
    }

    /// Sends a frame that nobody answers, at once or not at all.
    ///
    /// # Errors
    /// [`SendError::Busy`] too, if there is no credit or room, or others wait for it.
    pub fn try_send(&self, lane: Lane, kind: u16, number: u64, payload: &[u8]) -> Result<(), SendError> {
        SendError::check(ONE_WAY, payload.len())?;
        self.outbox.try_now((lane, Queue::Others), |attempt| attempt.put_one_way(lane, kind, number, payload))
    }

    /// Somebody at the other end whom much is to be told, in one lane.
    #[must_use]
    pub fn recipient(&self, lane: Lane, name: Bytes) -> Recipient {
        Recipient { link: self.clone(), lane, name, number: None }
    }

    /// Asks, and waits for the reply no longer than `wait`, the time to get a place in the link included.
    ///
    /// # Errors
    /// See [`RequestError`]: each variant says whether the request may have had its effect.
    ///
    /// # Cancel safety
    /// Dropped before it is done, the other end is told that nobody waits for the reply.
    pub async fn request(&self, lane: Lane, kind: u16, payload: &[u8], wait: Duration) -> Result<Bytes, RequestError> {
        let (id, reply) = self.begin(lane, kind, payload, wait).await?;
        let caller = Caller { outbox: &self.outbox, lane, id, has_ended: false };
        caller.wait(reply).await
    }

    async fn begin(&self, lane: Lane, kind: u16, payload: &[u8], wait: Duration) -> Result<Begun, RequestError> {
        let form = Form::Request { id: RequestId(0), wait };
        SendError::check(form, payload.len())?;
        let (waiter, reply) = oneshot::channel();
        let mut waiter = Some(waiter);
        let now = self.outbox.now();
        let deadline = now + wait;
        let queue = (lane, Queue::Requests);
        let mut put =
            |attempt: &mut Attempt<'_>, now| attempt.put_request(lane, kind, payload, (now, deadline), &mut waiter);
        let id = match self.outbox.try_now(queue, |attempt| put(attempt, now)) {
            Err(SendError::Busy) => {
                let turn = self.outbox.when_there_is_room(queue, |attempt| put(attempt, self.outbox.now()));
                let in_time = tokio::time::timeout_at(self.outbox.instant(deadline), turn).await;
                in_time.map_err(|_| RequestError::NotSent(SendError::Busy))??
            }
            done => done?,
        };
        Ok((id, reply))
    }

    /// What became of all that recipients were told over the link, as far as the other end has said it.
    #[must_use]
    pub fn account(&self) -> Account {
        self.outbox.account()
    }

    /// Closes the link, after all that was sent. Requests in flight may still be answered until the other end closes
    /// too, within `close_max`.
    pub fn close(&self, why: Goodbye) {
        self.outbox.handle(Input::Close(why));
    }

    /// Waits until the link has ended.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    pub async fn ended(&self) -> Ended {
        let mut ended = self.outbox.ended();
        let ended = ended.wait_for(Option::is_some).await.ok().and_then(|ended| ended.clone());
        ended.expect("a link lives as long as its handles")
    }

    /// How the link ended, if it has.
    #[must_use]
    pub fn has_ended(&self) -> Option<Ended> {
        self.outbox.ended().borrow().clone()
    }
}

/// Somebody at the other end of one link, by a name that means something to the layers above. The name goes over the
/// link once; after that it is a number.
#[derive(Debug, Clone)]
pub struct Recipient {
    link: Handle,
    lane: Lane,
    name: Bytes,
    number: Option<Number>,
}

impl Recipient {
    /// The link that it is reached over.
    #[must_use]
    pub fn link(&self) -> &Handle {
        &self.link
    }

    /// Tells it something, as soon as there is credit and room for it, and it has settled enough of what it was told
    /// before. It is on its way when this returns, and arrives unless the link ends first; what is told one recipient
    /// arrives in order.
    ///
    /// # Errors
    /// [`SendError::Down`] and [`SendError::TooLarge`].
    ///
    /// # Cancel safety
    /// Dropped before it is done, nothing was told.
    pub async fn tell<'m>(&mut self, message: impl Into<Message<'m>>) -> Result<(), SendError> {
        let message = message.into();
        self.check(message)?;
        let Self { link, lane, name, number } = self;
        let (outbox, place) = (&link.outbox, (*lane, Queue::Others));
        loop {
            let put = |attempt: &mut Attempt<'_>| {
                let told = attempt.put_told(*lane, name, number, message)?;
                // In the same moment: what is settled later is heard of.
                Some(match told {
                    Told::Sent => None,
                    Told::Closed(closed) => Some(attempt.opening(*lane, closed)),
                })
            };
            let Some(opening) = outbox.when_there_is_room(place, put).await? else { return Ok(()) };
            // An error says that the name has another number, or the link has ended: the next try finds out.
            let _ = opening.await;
        }
    }

    /// Tells it something at once, or not at all.
    ///
    /// # Errors
    /// [`SendError::Busy`] too, if there is no credit or room, others wait for it, or the recipient has not settled
    /// enough of what it was told before.
    pub fn try_tell<'m>(&mut self, message: impl Into<Message<'m>>) -> Result<(), SendError> {
        let message = message.into();
        self.check(message)?;
        let Self { link, lane, name, number } = self;
        let told =
            link.outbox.try_now((*lane, Queue::Others), |attempt| attempt.put_told(*lane, name, number, message));
        match told? {
            Told::Sent => Ok(()),
            Told::Closed(_) => Err(SendError::Busy),
        }
    }

    fn check(&self, message: Message<'_>) -> Result<(), SendError> {
        SendError::check(ONE_WAY, message.bytes())?;
        SendError::check(ONE_WAY, self.name.len())
    }
}

type Begun = (RequestId, oneshot::Receiver<Result<Bytes, RequestError>>);

/// Calls its request off when it is dropped before the end.
struct Caller<'a> {
    outbox: &'a Outbox,
    lane: Lane,
    id: RequestId,
    has_ended: bool,
}

impl Caller<'_> {
    async fn wait(mut self, reply: oneshot::Receiver<Result<Bytes, RequestError>>) -> Result<Bytes, RequestError> {
        let end = reply.await;
        self.has_ended = true;
        end.expect("every request in flight is ended")
    }
}

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.outbox.cancel(self.lane, self.id);
        }
    }
}
