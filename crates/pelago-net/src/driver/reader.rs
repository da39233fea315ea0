//! Reads a link: bytes into frames, frames to the machine and to whoever they are for.

use std::sync::Arc;

use bytes::BytesMut;
use pelago_core::{
    id::MeshId,
    link::{Control, Flaw, Input, Lane, LinkId, PerLane, RequestId},
    time::Time,
};
use pelago_wire::frame::{Cutter, Form, Frame};
use tokio::{io::AsyncReadExt, net::tcp::ReadHalf};

use crate::{
    deliver::{Ask, Credit, Deliver, Incoming},
    handle::{Handle, RequestError},
    links::Links,
    outbox::{After, Outbox, State},
};

/// What is read at once from a busy link, and from an idle one.
const READ_BYTES_MAX: usize = 256 << 10;
const READ_BYTES_MIN: usize = 1 << 10;

/// The most frames of one batch: beyond it, a batch leaves the caches of the processor.
const BATCH_FRAMES_MAX: usize = 1_024;

/// The reading end. All it holds survives a dropped future.
pub(super) struct Reader {
    links: Links,
    id: LinkId,
    /// The mesh that this end says it belongs to.
    mesh: Option<MeshId>,
    outbox: Arc<Outbox>,
    cutter: Cutter,
    received: BytesMut,
    read_bytes: usize,
    frames: Vec<Frame>,
    batches: PerLane<Batch>,
    called_off: Vec<(Lane, RequestId)>,
    deliver: Option<Box<dyn Deliver>>,
}

/// What arrived in a lane.
#[derive(Default)]
struct Batch {
    incoming: Vec<Incoming>,
    bytes: u32,
}

impl Reader {
    pub(super) fn new(links: Links, outbox: Arc<Outbox>, mesh: Option<MeshId>) -> Self {
        Self {
            id: links.next_id(),
            mesh,
            links,
            outbox,
            cutter: Cutter::new(),
            received: BytesMut::new(),
            read_bytes: READ_BYTES_MIN,
            frames: Vec::new(),
            batches: PerLane::default(),
            called_off: Vec::new(),
            deliver: None,
        }
    }

    pub(super) fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    /// The link, once it is up.
    pub(super) fn handle(&self) -> Option<Handle> {
        self.deliver.as_ref().map(|_| Handle::new(self.outbox.clone()))
    }

    /// Reads until the link is up, or its connection has ended.
    pub(super) async fn until_up(&mut self, mut from: ReadHalf<'_>) {
        while self.deliver.is_none() && self.read(&mut from).await {
            self.take_greeting();
        }
    }

    /// Reads until the connection has ended.
    pub(super) async fn run(&mut self, mut from: ReadHalf<'_>) {
        // The first frames may have come with the greeting.
        self.take_all();
        while self.read(&mut from).await {
            self.take_all();
            if self.read_bytes == READ_BYTES_MAX {
                // The writer is part of the same loop, and a busy reader would keep it from returning credit.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Reads once; `false` at the end of the connection, which the machine learns.
    async fn read(&mut self, from: &mut ReadHalf<'_>) -> bool {
        let wanted = self.read_bytes.max(self.cutter.missing(&self.received));
        self.received.reserve(wanted);
        match from.read_buf(&mut self.received).await {
            Ok(bytes) if bytes > 0 => {
                self.links.count_received(bytes);
                self.adapt(bytes);
                true
            }
            Ok(_) | Err(_) => {
                self.outbox.handle(Input::Lost);
                false
            }
        }
    }

    /// A busy link reads much at once, an idle one holds little memory.
    fn adapt(&mut self, bytes: usize) {
        if bytes >= self.read_bytes {
            self.read_bytes = (self.read_bytes * 4).min(READ_BYTES_MAX);
        } else if bytes < self.read_bytes / 8 {
            self.read_bytes = (self.read_bytes / 2).max(READ_BYTES_MIN);
        }
    }

    /// Takes frames one by one until the link is up: each may be the last, or change what the next may be.
    fn take_greeting(&mut self) {
        while self.deliver.is_none() {
            match self.cutter.cut(&mut self.received) {
                Ok(Some(Frame::Control(control))) => {
                    let after = self.outbox.handle(input_of(control));
                    self.judge(after);
                }
                Ok(Some(Frame::Data { .. } | Frame::NoReply { .. })) => {
                    return drop(self.outbox.handle(Input::Broken(Flaw::Unexpected)));
                }
                Ok(None) => return,
                Err(flaw) => return drop(self.outbox.handle(Input::Broken(flaw))),
            }
        }
    }

    fn judge(&mut self, after: After) {
        let Some(terms) = after.judge else { return };
        let verdict = self.links.judge(&terms, self.id);
        let after = self.outbox.handle(Input::Judged(verdict));
        if let Some(terms) = after.up {
            self.cutter.greeted();
            self.outbox.agreed(*terms);
            self.deliver = Some(self.links.up(self.id, &Handle::new(self.outbox.clone()), self.mesh));
        }
    }

    /// Takes all frames that are there as a whole.
    fn take_all(&mut self) {
        loop {
            let flaw = self.cut_batch();
            let is_full = self.frames.len() == BATCH_FRAMES_MAX;
            self.take_batch(flaw);
            if !is_full {
                return;
            }
        }
    }

    /// Cuts up to a batch of frames. A flaw counts after the frames before it.
    fn cut_batch(&mut self) -> Option<Flaw> {
        while self.frames.len() < BATCH_FRAMES_MAX {
            match self.cutter.cut(&mut self.received) {
                Ok(Some(frame)) => self.frames.push(frame),
                Ok(None) => return None,
                Err(flaw) => return Some(flaw),
            }
        }
        None
    }

    fn take_batch(&mut self, flaw: Option<Flaw>) {
        let now = self.outbox.now();
        let mut frames = std::mem::take(&mut self.frames);
        let outbox = self.outbox.clone();
        outbox.with(|state, after| {
            state.link().heard(now);
            let taken = frames.drain(..).try_for_each(|frame| self.take(state, now, frame, after));
            if let Some(flaw) = taken.err().or(flaw) {
                state.handle(now, Input::Broken(flaw), after);
            }
            state.check_unsent(now, after);
        });
        self.frames = frames;
        self.hand_out();
    }

    fn take(&mut self, state: &mut State, now: Time, frame: Frame, after: &mut After) -> Result<(), Flaw> {
        match frame {
            Frame::Data { lane, form, kind, payload, bytes } => {
                state.link().received(lane, bytes)?;
                let (number, ask) = match form {
                    Form::Reply(id) => {
                        state.consumed(lane, bytes);
                        return state.replied(lane, id, Ok(payload), after);
                    }
                    Form::Request { id, wait } => {
                        state.link().asked(lane, id)?;
                        (0, Some(Ask::new(self.outbox.clone(), lane, id, wait)))
                    }
                    Form::OneWay { number } => (number, None),
                };
                let batch = &mut self.batches[lane];
                batch.bytes += bytes;
                batch.incoming.push(Incoming { kind, number, payload, charged: bytes, ask });
                Ok(())
            }
            Frame::NoReply { lane, request, why } => {
                state.replied(lane, request, Err(RequestError::NoReply(why)), after)
            }
            Frame::Control(Control::Settled { lane, settled }) => state.settled(lane, settled, after),
            Frame::Control(Control::Cancel { lane, request }) => {
                if state.link().called_off(lane, request)? {
                    self.called_off.push((lane, request));
                }
                Ok(())
            }
            Frame::Control(control) => {
                state.handle(now, input_of(control), after);
                Ok(())
            }
        }
    }

    /// Gives out what was taken, the most urgent lane first.
    fn hand_out(&mut self) {
        let Some(deliver) = &mut self.deliver else { return };
        for lane in Lane::ALL {
            let batch = &mut self.batches[lane];
            if !batch.incoming.is_empty() {
                let credit = Credit::new(self.outbox.clone(), lane, std::mem::take(&mut batch.bytes));
                deliver.deliver(lane, &mut batch.incoming, credit);
                batch.incoming.clear();
            }
        }
        for (lane, request) in self.called_off.drain(..) {
            deliver.called_off(lane, request);
        }
    }
}

impl Drop for Reader {
    /// Without a reader there is no link: also when its loop was dropped.
    fn drop(&mut self) {
        self.outbox.handle(Input::Lost);
        self.links.leave(self.id);
    }
}

/// What a frame of the link itself tells the machine.
fn input_of(control: Control) -> Input {
    match control {
        Control::Hello(hello) => Input::Hello(*hello),
        Control::Refuse(refusal) => Input::Refused(refusal),
        Control::Ping(number) => Input::Ping(number),
        Control::Pong(number) => Input::Pong(number),
        Control::Credit { lane, bytes } => Input::Credit { lane, bytes },
        Control::Goodbye(why) => Input::Goodbye(why),
        // Nothing can be called off, or was told, before the link is up.
        Control::Cancel { .. } | Control::Settled { .. } => Input::Broken(Flaw::Unexpected),
    }
}
