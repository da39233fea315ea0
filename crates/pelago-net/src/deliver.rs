//! What arrives, and whom it is given to.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use pelago_core::link::{Lane, NoReply, RequestId};
use pelago_wire::frame::Form;

use crate::{
    handle::SendError,
    outbox::{Attempt, Outbox, Queue},
    window::Window,
};

/// Takes what arrives over one link. It is dropped when the link has ended.
pub trait Deliver: Send + 'static {
    /// Takes all of `batch`, which arrived in `lane` in this order.
    ///
    /// It runs on the reading loop and must not block: what has to wait goes elsewhere, and `credit` with it. Until
    /// `credit` is dropped, these bytes count against what the other end may send in this lane, and that is all that
    /// bounds what a slow receiver holds.
    fn deliver(&mut self, lane: Lane, batch: &mut Vec<Incoming>, credit: Credit);

    /// The other end does not want the reply to a request any more. It was delivered before this call.
    fn called_off(&mut self, lane: Lane, request: RequestId);
}

/// A frame that arrived.
#[derive(Debug)]
pub struct Incoming {
    /// What it is about, as its sender chose.
    pub kind: u16,
    /// Whom it is for, if it came one way: the number of a name that the other end has bound in this lane, or 0.
    pub number: u64,
    /// The payload: a slice of what was read at once. Whoever keeps a small one for long should copy it.
    pub payload: Bytes,
    /// What it was charged, in bytes.
    pub charged: u32,
    /// How to answer it, if it is a request.
    pub ask: Option<Ask>,
}

/// The right, and the duty, to answer a request. Dropped without an answer, it tells the other end so.
#[derive(Debug)]
pub struct Ask {
    outbox: Option<Arc<Outbox>>,
    lane: Lane,
    id: RequestId,
    wait: Duration,
}

impl Ask {
    pub(crate) fn new(outbox: Arc<Outbox>, lane: Lane, id: RequestId, wait: Duration) -> Self {
        Self { outbox: Some(outbox), lane, id, wait }
    }

    /// The request, as [`Deliver::called_off`] names it.
    #[must_use]
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// How long the other end waited for the reply when it sent the request.
    #[must_use]
    pub fn wait(&self) -> Duration {
        self.wait
    }

    /// Answers, once there is credit and room for it. A request that was called off takes its answer silently.
    ///
    /// # Errors
    /// [`SendError::TooLarge`], or [`SendError::Down`] if the link ended: nobody waits for the reply any more.
    ///
    /// # Cancel safety
    /// Dropped before it is done, the request counts as given up, and the other end is told.
    pub async fn reply(self, payload: &[u8]) -> Result<(), SendError> {
        check(payload)?;
        let outbox = self.outbox.clone().expect("an ask has its outbox until it is answered");
        let result =
            outbox.when_there_is_room((self.lane, Queue::Replies), |attempt| self.attempt(attempt, payload)).await;
        self.forget();
        result
    }

    /// Answers at once.
    ///
    /// # Errors
    /// The ask itself, if there is no credit or room for the moment, or the payload is too large.
    pub fn try_reply(self, payload: &[u8]) -> Result<(), Self> {
        let outbox = self.outbox.clone().expect("an ask has its outbox until it is answered");
        if check(payload).is_err() {
            return Err(self);
        }
        match outbox.try_now((self.lane, Queue::Replies), |attempt| self.attempt(attempt, payload)) {
            Ok(()) | Err(SendError::Down) => {
                self.forget();
                Ok(())
            }
            Err(SendError::Busy | SendError::TooLarge { .. }) => Err(self),
        }
    }

    /// Says that there will be no reply, and why.
    pub fn refuse(mut self, why: NoReply) {
        self.end(why);
    }

    fn attempt(&self, attempt: &mut Attempt<'_>, payload: &[u8]) -> Option<()> {
        attempt.put_reply(self.lane, self.id, payload)
    }

    fn forget(mut self) {
        self.outbox = None;
    }

    fn end(&mut self, why: NoReply) {
        if let Some(outbox) = self.outbox.take() {
            outbox.put_no_reply(self.lane, self.id, why);
        }
    }
}

impl Drop for Ask {
    fn drop(&mut self) {
        self.end(NoReply::Dropped);
    }
}

fn check(payload: &[u8]) -> Result<(), SendError> {
    SendError::check(Form::Reply(RequestId(0)), payload.len())
}

/// Bytes that arrived and are not consumed yet: dropping it lets the other end send as many again.
#[derive(Debug)]
pub struct Credit {
    outbox: Arc<Outbox>,
    lane: Lane,
    bytes: u32,
}

impl Credit {
    pub(crate) fn new(outbox: Arc<Outbox>, lane: Lane, bytes: u32) -> Self {
        Self { outbox, lane, bytes }
    }

    /// The window of a name that the other end has just bound to `number` in this lane, which `before` names had.
    #[must_use]
    pub fn window(&self, number: u64, before: u32) -> Arc<Window> {
        Arc::new(Window::new(Arc::clone(&self.outbox), self.lane, number, before))
    }

    /// How many bytes.
    #[must_use]
    pub fn bytes(&self) -> u32 {
        self.bytes
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        self.outbox.consumed(self.lane, self.bytes);
    }
}
