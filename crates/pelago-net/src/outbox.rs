//! What both directions of a link share: its machine, and the frames that wait to be written.
//!
//! Senders encode straight into a buffer a lane; the writer swaps the buffers and writes them whole, so that neither a
//! system call nor a wake falls on each message. The lock is held for a few lines at a time, never across `.await`.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use bytes::{Bytes, BytesMut};
use pelago_core::{
    link::{
        Account, Control, Effect, Ended, Flaw, Input, Lane, Link, Names, NoReply, Number, PerLane, RequestId, Settled,
        Terms, Unanswered, feature,
    },
    time::Time,
};
use pelago_wire::{
    frame::{self, Form},
    tell::{Message, kind as tell},
};
use tokio::{
    sync::{Notify, oneshot, watch},
    time::Instant,
};

use crate::{
    handle::{RequestError, SendError},
    tickets::{Tickets, Waiter},
};

/// The most bytes that wait in a lane for the writer. Twice what is read at once, so that replies to a batch find room
/// while the batch is delivered.
const UNSENT_BYTES_MAX: usize = 512 << 10;

/// The most bytes that wait in a lane, with what is not charged: answers to an end that asks on and reads nothing. More
/// than one that reads can make them, with the largest frame and a word about each of its requests.
const STUCK_BYTES_MAX: usize = 4 << 20;

/// A buffer larger than this is given back once it is hardly used: an idle link stays small.
const KEPT_BYTES_MAX: usize = 4 << 10;

/// What both directions of a link share.
#[derive(Debug)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    started: Instant,
    /// There is something to write.
    pub(crate) unsent: Notify,
    /// A deadline is earlier than the timer believes.
    pub(crate) sooner: Notify,
    rooms: PerLane<Rooms>,
    terms: OnceLock<Terms>,
    ended: watch::Sender<Option<Ended>>,
    /// What names of this end were told and have not settled, in bytes.
    pub(crate) held: AtomicU64,
}

/// Those who wait to send in a lane. Requests wait apart: the first of them may wait for replies, which must not wait
/// for it.
#[derive(Debug, Default)]
struct Rooms {
    requests: Room,
    others: Room,
}

/// What waits for room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Queue {
    Requests,
    /// Replies wait with the others. Unlike these they are sent after a goodbye too.
    Replies,
    Others,
}

/// Those who wait, first come first served.
#[derive(Debug, Default)]
struct Room {
    waiting: AtomicU32,
    turn: tokio::sync::Mutex<()>,
    freed: Notify,
}

#[derive(Debug)]
pub(crate) struct State {
    link: Link,
    lanes: PerLane<BytesMut>,
    names: PerLane<Names>,
    /// Those who wait for a name's window, by its number.
    closed: PerLane<BTreeMap<u64, Vec<oneshot::Sender<()>>>>,
    tickets: Tickets,
    effects: Vec<Effect>,
    armed: Option<Time>,
    /// Whether the other end takes large payloads in chunks.
    has_chunks: bool,
}

/// What is left to do when the lock is released.
#[derive(Debug, Default)]
pub(crate) struct After {
    /// Ask the table of links.
    pub(crate) judge: Option<Box<Terms>>,
    /// The link is up.
    pub(crate) up: Option<Box<Terms>>,
    ends: Vec<(Waiter, Result<Bytes, RequestError>)>,
    freed: PerLane<bool>,
    opened: Vec<oneshot::Sender<()>>,
    down: Option<Ended>,
    sooner: bool,
    unsent: bool,
}

impl Outbox {
    pub(crate) fn new(started: Instant, link: impl FnOnce(Time, &mut Vec<Effect>) -> Link) -> Arc<Self> {
        let mut effects = Vec::new();
        let link = link(since(started), &mut effects);
        let mut lanes = PerLane::<BytesMut>::default();
        lanes[Lane::Control].extend_from_slice(&frame::PREFACE);
        let (names, closed, tickets) = Default::default();
        let mut state = State { link, lanes, names, closed, tickets, effects, armed: None, has_chunks: false };
        state.carry_out(&mut After::default());
        Arc::new(Self {
            state: Mutex::new(state),
            started,
            unsent: Notify::new(),
            sooner: Notify::new(),
            rooms: PerLane::default(),
            terms: OnceLock::new(),
            ended: watch::Sender::new(None),
            held: AtomicU64::new(0),
        })
    }

    pub(crate) fn now(&self) -> Time {
        since(self.started)
    }

    pub(crate) fn instant(&self, at: Time) -> Instant {
        self.started + (at - Time::ZERO)
    }

    /// What the ends agreed on. Known to whoever has a handle, since a handle exists only once the link is up.
    pub(crate) fn terms(&self) -> &Terms {
        self.terms.get().expect("a handle is given out when the terms are known")
    }

    /// Whether both ends know a feature.
    pub(crate) fn has_terms_with(&self, feature: u64) -> bool {
        self.terms.get().is_some_and(|terms| terms.features & feature != 0)
    }

    pub(crate) fn agreed(&self, terms: Terms) {
        self.lock().has_chunks = terms.features & feature::CHUNKS != 0;
        self.terms.set(terms).expect("a link comes up once");
    }

    pub(crate) fn ended(&self) -> watch::Receiver<Option<Ended>> {
        self.ended.subscribe()
    }

    /// Tells the machine something.
    pub(crate) fn handle(&self, input: Input) -> After {
        let now = self.now();
        self.with(|state, after| {
            state.link.handle(now, input, &mut state.effects);
            state.carry_out(after);
        })
    }

    /// Works on the state, and does afterwards what must not be done under the lock.
    pub(crate) fn with(&self, work: impl FnOnce(&mut State, &mut After)) -> After {
        let mut after = After::default();
        let mut state = self.lock();
        let had_unsent = state.has_unsent();
        work(&mut state, &mut after);
        state.part(&mut after);
        after.unsent |= !had_unsent && state.has_unsent();
        after.sooner = state.is_sooner();
        drop(state);
        self.follow_up(&mut after);
        after
    }

    /// Encodes a frame as soon as there is credit and room, after those who came before.
    pub(crate) async fn when_there_is_room<T>(
        &self,
        (lane, queue): (Lane, Queue),
        mut attempt: impl FnMut(&mut Attempt<'_>) -> Option<T>,
    ) -> Result<T, SendError> {
        match self.try_now((lane, queue), &mut attempt) {
            Err(SendError::Busy) => {}
            done => return done,
        }
        let room = self.rooms[lane].of(queue);
        let _waiting = Waiting::begin(&room.waiting);
        let _turn = room.turn.lock().await;
        loop {
            match self.attempt(queue, &mut attempt) {
                Err(SendError::Busy) => room.freed.notified().await,
                done => return done,
            }
        }
    }

    /// Encodes a frame, unless others wait or there is no credit or room.
    pub(crate) fn try_now<T>(
        &self,
        (lane, queue): (Lane, Queue),
        attempt: impl FnMut(&mut Attempt<'_>) -> Option<T>,
    ) -> Result<T, SendError> {
        let is_free = self.rooms[lane].of(queue).waiting.load(Ordering::SeqCst) == 0;
        if is_free { self.attempt(queue, attempt) } else { Err(SendError::Busy) }
    }

    fn attempt<T>(&self, queue: Queue, mut attempt: impl FnMut(&mut Attempt<'_>) -> Option<T>) -> Result<T, SendError> {
        let mut state = self.lock();
        let is_up = state.link.is_up();
        if !(is_up || queue == Queue::Replies && state.link.may_answer()) {
            return Err(SendError::Down);
        }
        let had_unsent = state.has_unsent();
        let done = attempt(&mut Attempt { state: &mut state });
        let is_first = !had_unsent && state.has_unsent();
        let is_sooner = state.is_sooner();
        drop(state);
        if !is_up {
            // It may have been the last reply.
            drop(self.with(|_, _| {}));
        }
        if is_first {
            self.unsent.notify_one();
        }
        if is_sooner {
            self.sooner.notify_one();
        }
        done.ok_or(SendError::Busy)
    }

    /// Says that a request gets no reply, unless it has ended.
    pub(crate) fn put_no_reply(&self, lane: Lane, id: RequestId, why: NoReply) {
        self.with(|state, _| {
            if state.link.answer(lane, id) && state.link.may_answer() {
                frame::put_no_reply(&mut state.lanes[lane], lane, id, why);
            }
        });
    }

    /// Whoever waited for the reply to a request has gone.
    pub(crate) fn cancel(&self, lane: Lane, id: RequestId) {
        self.with(|state, after| {
            if let Some((ticket, control)) = state.link.cancel(lane, id) {
                drop(state.tickets.take(ticket));
                state.put_control(&control);
                after.freed[lane] = true;
            }
        });
    }

    /// Bytes that arrived were consumed.
    pub(crate) fn consumed(&self, lane: Lane, bytes: u32) {
        self.with(|state, _| {
            if let Some(control) = state.link.consumed(lane, bytes) {
                state.put_control(&control);
            }
        });
    }

    /// Says what became of messages to a name of this end.
    pub(crate) fn settled(&self, lane: Lane, settled: Settled) {
        self.with(|state, _| {
            if state.link.may_answer() {
                state.put_control(&Control::Settled { lane, settled });
            }
        });
    }

    /// What became of all that was told over the link.
    pub(crate) fn account(&self) -> Account {
        let state = self.lock();
        state.names.0.iter().map(Names::account).fold(Account::default(), |sum, lane| sum + lane)
    }

    /// Swaps what waits with `empty` buffers. `false` if nothing waits.
    pub(crate) fn swap(&self, empty: &mut PerLane<BytesMut>) -> bool {
        let mut state = self.lock();
        if !state.has_unsent() {
            return false;
        }
        std::mem::swap(&mut state.lanes, empty);
        drop(state);
        self.free(|lane| !empty[lane].is_empty());
        true
    }

    /// Swaps what waits in lanes more urgent than `lane` with `empty` buffers.
    pub(crate) fn swap_before(&self, lane: Lane, empty: &mut PerLane<BytesMut>) {
        let mut state = self.lock();
        let mut is_freed = PerLane::all(false);
        for urgent in Lane::ALL.into_iter().filter(|urgent| *urgent < lane) {
            if empty[urgent].is_empty() && !state.lanes[urgent].is_empty() {
                std::mem::swap(&mut state.lanes[urgent], &mut empty[urgent]);
                is_freed[urgent] = true;
            }
        }
        drop(state);
        self.free(|lane| is_freed[lane]);
    }

    /// Gives up on what took too long.
    pub(crate) fn expire(&self) {
        let now = self.now();
        self.with(|state, after| {
            state.link.expire(now, &mut state.effects);
            state.carry_out(after);
        });
    }

    /// The time of the timer: when to call [`Self::expire`].
    pub(crate) fn arm(&self) -> Option<Instant> {
        let mut state = self.lock();
        state.armed = state.link.deadline();
        let armed = state.armed;
        drop(state);
        armed.map(|at| self.instant(at))
    }

    fn follow_up(&self, after: &mut After) {
        for (waiter, end) in after.ends.drain(..) {
            // Whoever waited may have gone in this moment.
            let _ = waiter.send(end);
        }
        for opened in after.opened.drain(..) {
            // So may whoever waited for room.
            let _ = opened.send(());
        }
        if after.unsent {
            self.unsent.notify_one();
        }
        if after.sooner {
            self.sooner.notify_one();
        }
        if let Some(ended) = after.down.take() {
            self.ended.send_replace(Some(ended));
        }
        self.free(|lane| after.freed[lane]);
    }

    fn free(&self, is_freed: impl Fn(Lane) -> bool) {
        for lane in Lane::ALL.into_iter().filter(|&lane| is_freed(lane)) {
            let Rooms { requests, others } = &self.rooms[lane];
            for room in [others, requests] {
                if room.waiting.load(Ordering::SeqCst) > 0 {
                    room.freed.notify_one();
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock ends the loop that panicked; the others find the link as it was.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rooms {
    fn of(&self, queue: Queue) -> &Room {
        match queue {
            Queue::Requests => &self.requests,
            Queue::Replies | Queue::Others => &self.others,
        }
    }
}

impl State {
    /// The machine, for what happens with each frame.
    pub(crate) fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    /// Tells the machine something, within a batch.
    pub(crate) fn handle(&mut self, now: Time, input: Input, after: &mut After) {
        self.link.handle(now, input, &mut self.effects);
        self.carry_out(after);
    }

    /// Ends the link if the other end lets too much wait here.
    pub(crate) fn check_unsent(&mut self, now: Time, after: &mut After) {
        if self.lanes.0.iter().any(|lane| lane.len() > STUCK_BYTES_MAX) {
            self.handle(now, Input::Stuck, after);
        }
    }

    /// A reply came, or word that there will be none.
    pub(crate) fn replied(
        &mut self,
        lane: Lane,
        id: RequestId,
        end: Result<Bytes, RequestError>,
        after: &mut After,
    ) -> Result<(), Flaw> {
        if let Some(ticket) = self.link.replied(lane, id)? {
            after.ends.push((self.tickets.take(ticket), end));
            after.freed[lane] = true;
        }
        Ok(())
    }

    /// The other end says what became of messages to a name.
    pub(crate) fn settled(&mut self, lane: Lane, settled: Settled, after: &mut After) -> Result<(), Flaw> {
        if self.names[lane].settled(settled)? {
            after.opened.extend(self.closed[lane].remove(&settled.number).into_iter().flatten());
        }
        Ok(())
    }

    /// What arrived was consumed by being given to whoever waited.
    pub(crate) fn consumed(&mut self, lane: Lane, bytes: u32) {
        if let Some(control) = self.link.consumed(lane, bytes) {
            self.put_control(&control);
        }
    }

    fn carry_out(&mut self, after: &mut After) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Send(control) => self.put_control(&control),
                Effect::Judge(terms) => after.judge = Some(terms),
                Effect::Up(terms) => after.up = Some(terms),
                Effect::Credited(lane) => after.freed[lane] = true,
                Effect::Unanswered { ticket, why } => {
                    let error = match why {
                        Unanswered::Deadline => RequestError::Deadline,
                        Unanswered::Refused => SendError::Down.into(),
                        Unanswered::LinkDown => RequestError::Unknown,
                    };
                    after.ends.push((self.tickets.take(ticket), Err(error)));
                    after.freed = PerLane::all(true);
                }
                Effect::Closing => self.turn_away(after),
                Effect::Down(ended) => {
                    after.down = Some(ended);
                    self.turn_away(after);
                }
            }
        }
        self.effects = effects;
    }

    /// Ends the link if nothing is left of it but its connection.
    fn part(&mut self, after: &mut After) {
        self.link.part(&mut self.effects);
        if !self.effects.is_empty() {
            self.carry_out(after);
        }
    }

    /// Whoever waits for room waits in vain, and finds out.
    fn turn_away(&mut self, after: &mut After) {
        after.freed = PerLane::all(true);
        let closed = self.closed.0.iter_mut().map(std::mem::take);
        after.opened.extend(closed.flat_map(BTreeMap::into_values).flatten());
    }

    fn put_control(&mut self, control: &Control) {
        let lane = match control {
            // After the request, or it would call off what has not arrived.
            Control::Cancel { lane, .. } => *lane,
            // After everything.
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

    fn has_unsent(&self) -> bool {
        self.lanes.0.iter().any(|lane| !lane.is_empty())
    }

    /// Whether the timer sleeps too long.
    fn is_sooner(&self) -> bool {
        self.armed.is_some_and(|armed| self.link.deadline().is_some_and(|deadline| deadline < armed))
    }
}

/// One try at encoding a frame, under the lock.
pub(crate) struct Attempt<'a> {
    state: &'a mut State,
}

impl Attempt<'_> {
    pub(crate) fn put_one_way(&mut self, lane: Lane, kind: u16, number: u64, payload: &[u8]) -> Option<()> {
        let form = Form::OneWay { number };
        self.charge(lane, frame::charge_of(form, len(payload)))?;
        self.put_data(lane, form, kind, payload);
        Some(())
    }

    /// Encodes a message to a name, after the name itself if it has no number yet. `number` is the one it had last.
    pub(crate) fn put_told(
        &mut self,
        lane: Lane,
        name: &[u8],
        number: &mut Option<Number>,
        message: Message<'_>,
    ) -> Option<Told> {
        let names = &self.state.names[lane];
        let place = number.and_then(|known| Some((known, names.number(known)?)));
        let (known, sent) = match place {
            Some(place) => place,
            None => self.place(lane, name)?,
        };
        *number = Some(known);
        let form = Form::OneWay { number: sent };
        let bytes = frame::charge_of(form, u32::try_from(message.bytes()).expect("it was checked before"));
        if !self.state.names[lane].is_open(known) {
            return Some(Told::Closed(known));
        }
        self.charge(lane, bytes)?;
        self.state.names[lane].told(known, bytes);
        self.put_told_message(lane, form, message);
        Some(Told::Sent)
    }

    /// A name's number, here and as the other end knows it.
    fn place(&mut self, lane: Lane, name: &[u8]) -> Option<(Number, u64)> {
        let known = match self.state.names[lane].find(name) {
            Some(known) => known,
            None => self.bind(lane, name)?,
        };
        Some((known, self.state.names[lane].number(known)?))
    }

    fn bind(&mut self, lane: Lane, name: &[u8]) -> Option<Number> {
        let next = self.state.names[lane].next();
        self.put_one_way(lane, tell::BIND, next, name)?;
        // Whoever waited for the name that had the number looks for its new one.
        self.state.closed[lane].remove(&next);
        Some(self.state.names[lane].bind(name))
    }

    /// Where it is heard that a name may be told more, or that its number is another's.
    pub(crate) fn opening(&mut self, lane: Lane, number: Number) -> oneshot::Receiver<()> {
        let (opened, opening) = oneshot::channel();
        if let Some(sent) = self.state.names[lane].number(number) {
            let waiting = self.state.closed[lane].entry(sent).or_default();
            if waiting.len() == waiting.capacity() {
                waiting.retain(|gone| !gone.is_closed());
            }
            waiting.push(opened);
        }
        opening
    }

    /// Takes the waiter only when it succeeds.
    pub(crate) fn put_request(
        &mut self,
        lane: Lane,
        kind: u16,
        payload: &[u8],
        (now, deadline): (Time, Time),
        waiter: &mut Option<Waiter>,
    ) -> Option<RequestId> {
        let id = self.state.link.next_request(lane)?;
        let form = Form::Request { id, wait: deadline - now };
        self.charge(lane, frame::charge_of(form, len(payload)))?;
        let ticket = self.state.tickets.add(waiter.take()?);
        self.state.link.ask(lane, ticket, deadline);
        self.put_data(lane, form, kind, payload);
        Some(id)
    }

    /// A request that was called off takes its reply silently.
    pub(crate) fn put_reply(&mut self, lane: Lane, id: RequestId, payload: &[u8]) -> Option<()> {
        if !self.state.link.is_open(lane, id) {
            return Some(());
        }
        let form = Form::Reply(id);
        let bytes = frame::charge_of(form, len(payload));
        (self.has_room(lane) && self.state.link.charge_reply(lane, bytes)).then_some(())?;
        self.state.link.answer(lane, id);
        self.put_data(lane, form, 0, payload);
        Some(())
    }

    fn put_data(&mut self, lane: Lane, form: Form, kind: u16, payload: &[u8]) {
        let buffer = &mut self.state.lanes[lane];
        match self.state.has_chunks {
            true => frame::put_chunked(buffer, lane, form, kind, payload),
            false => frame::put_data(buffer, lane, form, kind, payload),
        }
    }

    fn put_told_message(&mut self, lane: Lane, form: Form, message: Message<'_>) {
        match form {
            Form::OneWay { number } if message.bytes() <= frame::CHUNK_BYTES || !self.state.has_chunks => {
                frame::put_told(&mut self.state.lanes[lane], lane, number, message);
            }
            Form::OneWay { .. } | Form::Request { .. } | Form::Reply(_) => {
                let mut whole = BytesMut::with_capacity(message.bytes());
                message.put(&mut whole);
                self.put_data(lane, form, message.kind(), &whole);
            }
        }
    }

    fn charge(&mut self, lane: Lane, bytes: u32) -> Option<()> {
        (self.has_room(lane) && self.state.link.charge(lane, bytes)).then_some(())
    }

    fn has_room(&self, lane: Lane) -> bool {
        self.state.lanes[lane].len() < UNSENT_BYTES_MAX
    }
}

/// What became of a message to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// It is on its way.
    Sent,
    /// The name has its window full.
    Closed(Number),
}

fn len(payload: &[u8]) -> u32 {
    u32::try_from(payload.len()).expect("the size of a payload is checked before it is sent")
}

/// Counts one who waits, until it is dropped.
struct Waiting<'a>(&'a AtomicU32);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Empties a written buffer for its next use.
pub(crate) fn clear(buffer: &mut BytesMut) {
    let is_hardly_used = buffer.capacity() > KEPT_BYTES_MAX && buffer.len() < buffer.capacity() / 8;
    if is_hardly_used { *buffer = BytesMut::new() } else { buffer.clear() }
}

fn since(started: Instant) -> Time {
    Time::ZERO + started.elapsed()
}
