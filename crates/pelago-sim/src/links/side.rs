//! One end of one connection: what `net` keeps around a `core::link`, without a loop.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use pelago_core::{
    link::{
        Bound, Control, Ended, Flaw, Input, Lane, Link, Names, NoReply, PerLane, RequestId, Settled, Ticket,
        WINDOW_BYTES,
    },
    time::Time,
};
use pelago_wire::{
    frame::{self, Cutter, Form, Frame, PREFACE},
    tell::kind,
};

/// Tells go in this lane.
const TELLS: Lane = Lane::Bulk;
/// The most bytes that wait in a lane for the writer, as in `net::outbox`.
const UNSENT_BYTES_MAX: usize = 512 << 10;

pub(super) struct Side {
    pub(super) link: Link,
    pub(super) ended: Option<Ended>,
    pub(super) names: Names,
    /// What each number of the other end stands for.
    windows: Bound<Window>,
    lanes: PerLane<BytesMut>,
    /// What the writer has taken and not written.
    writing: BytesMut,
    cutter: Cutter,
    is_greeted: bool,
    received: BytesMut,
    /// Which ask each ticket is.
    pub(super) tickets: BTreeMap<Ticket, u64>,
    /// What was told each name, and what of it was settled, in bytes.
    pub(super) told: BTreeMap<u64, (u64, u64)>,
    /// What was consumed here a lane, and what of it was returned.
    pub(super) consumed: PerLane<u64>,
    pub(super) returned: PerLane<u64>,
}

/// What a name of this end was told over the link and has not settled, as in `net::window`.
#[derive(Debug, Clone, Copy)]
struct Window {
    name: u64,
    held: u32,
    settled: Settled,
}

/// A message that an agent has yet to handle.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) name: u64,
    /// Its place in the order of what the name was told.
    pub(super) serial: u64,
    number: u64,
    before: u32,
    bytes: u32,
}

/// A question that is yet to be answered.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) lane: Lane,
    pub(super) id: RequestId,
    /// Which ask it is.
    pub(super) ask: u64,
}

/// What a frame brought that is not the link's own affair.
#[derive(Debug)]
pub(super) enum Arrived {
    /// For the machine.
    Input(Input),
    Told(Message),
    Asked(Question),
    /// The reply to the ask of the ticket: what it says, or that there is none.
    Replied(Ticket, Option<u64>),
    /// The name may be told more, or nothing but the link has changed.
    Nothing,
}

impl Side {
    pub(super) fn new(link: Link) -> Self {
        let mut lanes = PerLane::<BytesMut>::default();
        lanes[Lane::Control].extend_from_slice(&PREFACE);
        Self {
            link,
            ended: None,
            names: Names::default(),
            windows: Bound::default(),
            lanes,
            writing: BytesMut::new(),
            cutter: Cutter::new(),
            is_greeted: false,
            received: BytesMut::new(),
            tickets: BTreeMap::new(),
            told: BTreeMap::new(),
            consumed: PerLane::all(0),
            returned: PerLane::all(0),
        }
    }

    /// The link is up.
    pub(super) fn greeted(&mut self) {
        self.cutter.greeted();
        self.is_greeted = true;
    }

    pub(super) fn put_control(&mut self, control: &Control) {
        let lane = match control {
            Control::Cancel { lane, .. } => *lane,
            Control::Goodbye(_) => Lane::Bulk,
            Control::Hello(_)
            | Control::Refuse(_)
            | Control::Ping(_)
            | Control::Pong(_)
            | Control::Credit { .. }
            | Control::Settled { .. } => Lane::Control,
        };
        frame::put_control(&mut self.lanes[lane], control);
    }

    /// Tells a name something, after the name itself if it has no number. `false` if there is no room.
    pub(super) fn tell(&mut self, name: u64, serial: u64, padding: usize) -> bool {
        let text = name.to_le_bytes();
        let number = match self.names.find(&text) {
            Some(number) => number,
            None => {
                let form = Form::OneWay { number: self.names.next() };
                if !self.put(TELLS, form, kind::BIND, &text) {
                    return false;
                }
                self.names.bind(&text)
            }
        };
        let sent = self.names.number(number).expect("it was just found");
        let payload = payload(serial, padding);
        let form = Form::OneWay { number: sent };
        if !self.names.is_open(number) || !self.put(TELLS, form, kind::TELL, &payload) {
            return false;
        }
        let bytes = frame::charge_of(form, len(&payload));
        self.names.told(number, bytes);
        self.told.entry(sent).or_default().0 += u64::from(bytes);
        true
    }

    /// Whether a name that has settled all may be told as much as one that was told nothing, found by telling it.
    pub(super) fn has_whole_window(&mut self, name: u64) -> bool {
        let Some(number) = self.names.find(&name.to_le_bytes()) else { return true };
        self.names.told(number, WINDOW_BYTES - 1);
        self.names.is_open(number)
    }

    /// Asks something. `false` if there is no room.
    pub(super) fn ask(&mut self, lane: Lane, ask: u64, padding: usize, (now, deadline): (Time, Time)) -> bool {
        let Some(id) = self.link.next_request(lane) else { return false };
        if !self.put(lane, Form::Request { id, wait: deadline - now }, 1, &payload(ask, padding)) {
            return false;
        }
        let ticket = Ticket(u32::try_from(ask).expect("a run has few asks"));
        self.link.ask(lane, ticket, deadline);
        self.tickets.insert(ticket, ask);
        true
    }

    /// Answers a question, or says that there is no answer. `false` if there is no room.
    pub(super) fn answer(&mut self, question: &Question, padding: usize, is_refused: bool) -> bool {
        let Question { lane, id, ask } = *question;
        if is_refused {
            if self.link.answer(lane, id) && self.link.may_answer() {
                frame::put_no_reply(&mut self.lanes[lane], lane, id, NoReply::Dropped);
            }
            return true;
        }
        // One that was called off takes its reply silently.
        if self.link.is_open(lane, id) {
            if !self.put(lane, Form::Reply(id), 0, &payload(ask, padding)) {
                return false;
            }
            self.link.answer(lane, id);
        }
        true
    }

    /// An agent has done with a message, or lost it.
    pub(super) fn settle(&mut self, message: &Message, is_handled: bool) {
        let Message { number, before, bytes, .. } = *message;
        let Some(window) = self.windows.get_mut(number).filter(|window| window.settled.before == before) else {
            return;
        };
        window.held -= bytes;
        window.settled.bytes += bytes;
        window.settled.handled += u32::from(is_handled);
        window.settled.lost += u32::from(!is_handled);
        if window.held > 0 && window.settled.bytes < WINDOW_BYTES / 4 {
            return;
        }
        let rest = Settled { bytes: 0, handled: 0, lost: 0, ..window.settled };
        let settled = std::mem::replace(&mut window.settled, rest);
        if self.link.may_answer() {
            self.put_control(&Control::Settled { lane: TELLS, settled });
        }
    }

    /// Frames of `bytes` are let go of.
    pub(super) fn consume(&mut self, lane: Lane, bytes: u32) {
        self.consumed[lane] += u64::from(bytes);
        if let Some(control) = self.link.consumed(lane, bytes) {
            if let Control::Credit { bytes, .. } = control {
                self.returned[lane] += u64::from(bytes);
            }
            self.put_control(&control);
        }
    }

    /// The writer takes what waits, the most urgent lane first, and writes so many bytes of it.
    pub(super) fn write(&mut self, bytes: usize) -> Bytes {
        if self.writing.is_empty() {
            Lane::ALL.iter().for_each(|lane| self.writing.unsplit(self.lanes[*lane].split()));
        }
        self.writing.split_to(bytes.min(self.writing.len())).freeze()
    }

    pub(super) fn has_unwritten(&self) -> bool {
        !self.writing.is_empty() || self.lanes.0.iter().any(|lane| !lane.is_empty())
    }

    pub(super) fn receive(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
    }

    /// The next thing that arrived as a whole, and what to return of the credit for it.
    pub(super) fn next(&mut self) -> Option<(Arrived, Option<(Lane, u32)>)> {
        if self.ended.is_some() {
            return None;
        }
        let frame = match self.cutter.cut(&mut self.received) {
            Ok(frame) => frame?,
            Err(flaw) => return Some((Arrived::Input(Input::Broken(flaw)), None)),
        };
        let charged = match &frame {
            Frame::Data { lane, bytes, .. } => Some((*lane, *bytes)),
            Frame::Control(_) | Frame::NoReply { .. } => None,
        };
        match self.take(frame) {
            Ok(arrived) => Some((arrived, charged)),
            Err(flaw) => Some((Arrived::Input(Input::Broken(flaw)), None)),
        }
    }

    fn take(&mut self, frame: Frame) -> Result<Arrived, Flaw> {
        let is_early = !self.is_greeted;
        match frame {
            Frame::Data { .. } | Frame::NoReply { .. } if is_early => Err(Flaw::Unexpected),
            Frame::Data { lane, form, kind, payload, bytes } => {
                self.link.received(lane, bytes)?;
                match form {
                    Form::Reply(id) => Ok(self.replied(lane, id, Some(serial(&payload)?))?),
                    Form::Request { id, .. } => {
                        self.link.asked(lane, id)?;
                        Ok(Arrived::Asked(Question { lane, id, ask: serial(&payload)? }))
                    }
                    Form::OneWay { number } if kind == kind::BIND => {
                        let name = serial(&payload)?;
                        let window = |before| Window {
                            name,
                            held: 0,
                            settled: Settled { number, before, bytes: 0, handled: 0, lost: 0 },
                        };
                        self.windows.bind(number, window)?;
                        Ok(Arrived::Nothing)
                    }
                    Form::OneWay { number } => {
                        let window = self.windows.get_mut(number).ok_or(Flaw::Unexpected)?;
                        window.held += bytes;
                        let (name, before, serial) = (window.name, window.settled.before, serial(&payload)?);
                        Ok(Arrived::Told(Message { name, serial, number, before, bytes }))
                    }
                }
            }
            Frame::NoReply { lane, request, .. } => self.replied(lane, request, None),
            Frame::Control(Control::Settled { settled, .. }) if !is_early => {
                self.names.settled(settled)?;
                self.told.entry(settled.number).or_default().1 += u64::from(settled.bytes);
                Ok(Arrived::Nothing)
            }
            Frame::Control(Control::Cancel { lane, request }) if !is_early => {
                self.link.called_off(lane, request)?;
                Ok(Arrived::Nothing)
            }
            Frame::Control(control) => Ok(Arrived::Input(match control {
                Control::Hello(hello) => Input::Hello(*hello),
                Control::Refuse(refusal) => Input::Refused(refusal),
                Control::Ping(number) => Input::Ping(number),
                Control::Pong(number) => Input::Pong(number),
                Control::Credit { lane, bytes } => Input::Credit { lane, bytes },
                Control::Goodbye(why) => Input::Goodbye(why),
                Control::Cancel { .. } | Control::Settled { .. } => Input::Broken(Flaw::Unexpected),
            })),
        }
    }

    fn replied(&mut self, lane: Lane, id: RequestId, said: Option<u64>) -> Result<Arrived, Flaw> {
        let ticket = self.link.replied(lane, id)?;
        Ok(ticket.map_or(Arrived::Nothing, |ticket| Arrived::Replied(ticket, said)))
    }

    /// Writes a frame with a payload if there is credit and room.
    fn put(&mut self, lane: Lane, form: Form, kind: u16, payload: &[u8]) -> bool {
        let has_room = self.lanes[lane].len() < UNSENT_BYTES_MAX;
        let bytes = frame::charge_of(form, len(payload));
        let is_charged = has_room
            && match form {
                Form::Reply(_) => self.link.charge_reply(lane, bytes),
                Form::Request { .. } | Form::OneWay { .. } => self.link.charge(lane, bytes),
            };
        if is_charged {
            frame::put_data(&mut self.lanes[lane], lane, form, kind, payload);
        }
        is_charged
    }
}

/// A number, and bytes that only take room.
fn payload(serial: u64, padding: usize) -> Vec<u8> {
    let mut payload = serial.to_le_bytes().to_vec();
    payload.resize(8 + padding, 0x55);
    payload
}

fn serial(payload: &[u8]) -> Result<u64, Flaw> {
    payload.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)).ok_or(Flaw::Malformed)
}

fn len(payload: &[u8]) -> u32 {
    u32::try_from(payload.len()).expect("a payload is small")
}
