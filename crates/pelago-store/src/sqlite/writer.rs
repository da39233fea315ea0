//! The thread that applies.
//!
//! Applying is SQLite's work and blocks, so it has a thread of its own; whoever waits is called back on it.

use std::{
    io,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, JoinHandle},
};

use super::{
    error::Error,
    machine::{Applies, Entry, Machine},
};

/// Batches that may wait for the thread. One is applied while the next is collected; more would only be memory.
const BATCHES_MAX: usize = 4;

/// Called on the writer's thread once the batch is committed, or once it is known that it is not. While it runs,
/// nothing more is applied.
pub type Done = Box<dyn FnOnce(Result<Applies, Error>) + Send>;

struct Request {
    entries: Vec<Entry>,
    done: Done,
}

/// The thread `pelago-apply`, which owns a [`Machine`].
#[derive(Debug)]
pub struct Writer {
    requests: SyncSender<Request>,
    thread: JoinHandle<Machine>,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(machine: Machine) -> io::Result<Self> {
        let (requests, receiver) = sync_channel(BATCHES_MAX);
        let thread = thread::Builder::new().name("pelago-apply".into()).spawn(|| run(machine, receiver))?;
        Ok(Self { requests, thread })
    }

    /// Applies a batch after those given before it. Waits while [`BATCHES_MAX`] batches do.
    ///
    /// After a batch that failed every later one is answered with [`Error::Poisoned`]: the log has no gaps, so what
    /// follows it must not be applied either.
    pub fn apply(&self, entries: Vec<Entry>, done: Done) {
        if let Err(refused) = self.requests.send(Request { entries, done }) {
            (refused.0.done)(Err(Error::Stopped));
        }
    }

    /// Applies what is waiting, ends the thread and gives the machine back.
    ///
    /// # Panics
    /// When the thread did.
    pub fn close(self) -> Machine {
        drop(self.requests);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn run(mut machine: Machine, requests: Receiver<Request>) -> Machine {
    let mut poisoned = false;
    for Request { entries, done } in requests {
        let result = if poisoned { Err(Error::Poisoned) } else { machine.apply(&entries) };
        poisoned |= result.is_err();
        done(result);
    }
    machine
}
