//! What the caller's side and the log's thread share: the index, the queue, the counters.
//!
//! One lock guards index and queue together, so that their orders agree. It is held for lines, never over a system call
//! or a callback.

use super::Error;
use super::index::{Index, Placed};
use super::operation::Operation;
use super::segment::Segment;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

type OnRoom = Box<dyn FnOnce() + Send>;

pub(super) struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    counters: Arc<Counters>,
    unflushed_bytes_max: usize,
}

struct State {
    index: Index,
    queue: Vec<Operation>,
    /// Bytes of the queue, and of what the log's thread took from it and has not finished.
    unflushed_bytes: usize,
    taken_bytes: usize,
    room_waiters: Vec<OnRoom>,
    closing: bool,
    stopped: Option<Error>,
}

/// What the log's thread does next.
pub(super) enum Next {
    Write(Vec<Operation>),
    Mark,
    End,
}

impl Shared {
    pub(super) fn new(index: Index, unflushed_bytes_max: usize) -> Self {
        let state = State {
            index,
            queue: Vec::new(),
            unflushed_bytes: 0,
            taken_bytes: 0,
            room_waiters: Vec::new(),
            closing: false,
            stopped: None,
        };
        Self { state: Mutex::new(state), wake: Condvar::new(), counters: Arc::default(), unflushed_bytes_max }
    }

    /// Applies an operation to the index and queues what `apply` returns, or does neither.
    pub(super) fn submit(
        &self,
        apply: impl FnOnce(&mut Index) -> Result<Option<Operation>, Error>,
    ) -> Result<(), Error> {
        let mut state = self.running()?;
        if state.unflushed_bytes >= self.unflushed_bytes_max {
            let (waiting_bytes, max_bytes) = (state.unflushed_bytes, self.unflushed_bytes_max);
            return Err(Error::Busy { waiting_bytes, max_bytes });
        }
        if let Some(operation) = apply(&mut state.index)? {
            state.unflushed_bytes += operation.bytes();
            state.queue.push(operation);
            drop(state);
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Lets a reader look at the index of a running log.
    pub(super) fn read<T>(&self, look: impl FnOnce(&Index) -> T) -> Result<T, Error> {
        Ok(look(&self.running()?.index))
    }

    pub(super) fn has_room(&self) -> bool {
        self.has_room_in(&self.state())
    }

    pub(super) fn on_room(&self, callback: OnRoom) {
        let mut state = self.state();
        if self.has_room_in(&state) {
            drop(state);
            callback();
        } else {
            state.room_waiters.push(callback);
        }
    }

    pub(super) fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    pub(super) fn close(&self) {
        self.state().closing = true;
        self.wake.notify_one();
    }

    pub(super) fn stopped(&self) -> Option<Error> {
        self.state().stopped.clone()
    }

    /// Blocks until there is something to do. With `mark_after` a mark is due after that time.
    pub(super) fn next(&self, mark_after: Option<Duration>) -> Next {
        let idle = |state: &mut State| state.queue.is_empty() && !state.closing;
        let waited = match mark_after {
            None => self.wake.wait_while(self.state(), idle).map_err(drop),
            Some(time) => self.wake.wait_timeout_while(self.state(), time, idle).map(|(state, _)| state).map_err(drop),
        };
        let mut state = waited.expect(UNPOISONED);
        if !state.queue.is_empty() {
            state.taken_bytes = state.unflushed_bytes;
            return Next::Write(mem::take(&mut state.queue));
        }
        if state.closing { Next::End } else { Next::Mark }
    }

    /// Publishes where entries were written, after their flush.
    pub(super) fn publish(&self, segment: &Arc<Segment>, placed: &[Placed]) {
        self.state().index.publish(segment, placed);
    }

    /// Gives back the room of what [`Self::next`] handed out.
    pub(super) fn settle(&self) {
        let mut state = self.state();
        state.unflushed_bytes -= mem::take(&mut state.taken_bytes);
        if self.has_room_in(&state) {
            let waiters = mem::take(&mut state.room_waiters);
            drop(state);
            waiters.into_iter().for_each(|waiter| waiter());
        }
    }

    /// Refuses everything from now on, and what is still queued.
    pub(super) fn stop(&self, error: &Error) {
        let mut state = self.state();
        state.stopped = Some(error.clone());
        let queue = mem::take(&mut state.queue);
        let waiters = mem::take(&mut state.room_waiters);
        drop(state);
        queue.into_iter().for_each(|operation| operation.fail(error));
        waiters.into_iter().for_each(|waiter| waiter());
    }

    fn running(&self) -> Result<MutexGuard<'_, State>, Error> {
        let state = self.state();
        match &state.stopped {
            Some(error) => Err(error.clone()),
            None => Ok(state),
        }
    }

    /// A stopped log has room for anything: it answers with its error.
    fn has_room_in(&self, state: &State) -> bool {
        state.unflushed_bytes < self.unflushed_bytes_max || state.stopped.is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(UNPOISONED)
    }
}

const UNPOISONED: &str = "nothing panics while it holds the log's state";

/// Counts of what the log has done since it was opened.
#[derive(Debug, Default)]
pub struct Counters {
    flushes: AtomicU64,
    marks: AtomicU64,
    records: AtomicU64,
    bytes: AtomicU64,
}

impl Counters {
    /// Flushes that made operations durable. It rises before the callbacks that it allows.
    pub fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Relaxed)
    }

    /// Marks written when idle or closing, each with a flush of its own that acknowledges nothing.
    pub fn marks(&self) -> u64 {
        self.marks.load(Ordering::Relaxed)
    }

    /// Records made durable, marks excluded.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// Bytes of these records on disk.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn count_flush(&self, records: u64, bytes: u64) {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn count_mark(&self) {
        self.marks.fetch_add(1, Ordering::Relaxed);
    }
}
