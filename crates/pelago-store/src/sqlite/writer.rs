//! The thread that applies, and when what it applied is committed.
//!
//! Applying is SQLite's work and blocks, so it has a thread of its own; whoever waits is called back on it.
//!
//! A commit makes nothing durable, which is the log's part, but costs as much as many items. So what is applied is
//! committed now and then, and at once for whoever reads: see `Uncommitted`. A process that ends in between applies
//! it once more, from the log.

use std::{
    io,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    checkpoint::Checkpoint,
    error::Error,
    machine::{Applies, Entry, Machine},
};

/// Batches that may wait for the thread. One is applied while the next is collected; more would only be memory.
const BATCHES_MAX: usize = 4;
/// How long what was applied waits for its commit when nobody reads. Long enough for many batches, and short for a
/// person who looks into the file.
const COMMIT_AFTER: Duration = Duration::from_millis(50);

/// Called on the writer's thread once the batch is applied, or once it is known that it is not. While it runs, nothing
/// more is applied.
pub type Done = Box<dyn FnOnce(Result<Applies, Error>) + Send>;

struct Request {
    entries: Vec<Entry>,
    done: Done,
}

/// The thread `pelago-apply`, which applies entries to a [`Machine`].
#[derive(Debug)]
pub struct Writer {
    requests: SyncSender<Request>,
    thread: JoinHandle<()>,
    uncommitted: Uncommitted,
}

/// What a [`Writer`] has applied and not committed yet. Cheap to clone; every call blocks, and may come from any thread
/// but the writer's.
#[derive(Debug, Clone)]
pub(super) struct Uncommitted {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Held while a batch is applied, and while all that was applied is committed or checkpointed. A panic of the
    /// rules leaves half a batch behind, and with that lock nobody will commit it.
    held: Mutex<Held>,
    /// Whether there is anything to commit, or never will be: what was applied and answered was rolled back then, and
    /// nobody may read on as if it had not been.
    some: AtomicBool,
}

#[derive(Debug)]
struct Held {
    /// `None` once the writer has ended.
    machine: Option<Machine>,
    /// Whether a batch or a commit failed: nothing is applied any more.
    poisoned: bool,
    /// Why a commit failed, for whoever gives the next batch.
    failure: Option<Error>,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(machine: Machine) -> io::Result<Self> {
        let (requests, receiver) = sync_channel(BATCHES_MAX);
        let held = Mutex::new(Held { machine: Some(machine), poisoned: false, failure: None });
        let uncommitted = Uncommitted { shared: Arc::new(Shared { held, some: AtomicBool::new(false) }) };
        let applying = uncommitted.clone();
        let thread = thread::Builder::new().name("pelago-apply".into()).spawn(move || applying.run(&receiver))?;
        Ok(Self { requests, thread, uncommitted })
    }

    /// Applies a batch after those given before it. Waits while [`BATCHES_MAX`] batches do.
    ///
    /// After a batch that failed every later one is answered with [`Error::Poisoned`]: the log has no gaps, so what
    /// follows it must not be applied either. So it is after a commit that failed, of which the first batch is told why.
    pub fn apply(&self, entries: Vec<Entry>, done: Done) {
        if let Err(refused) = self.requests.send(Request { entries, done }) {
            (refused.0.done)(Err(Error::Stopped));
        }
    }

    /// What it has applied and not committed yet.
    pub(super) fn uncommitted(&self) -> Uncommitted {
        self.uncommitted.clone()
    }

    /// Applies what is waiting, commits it, ends the thread and closes the database. What could not be committed is in
    /// the log.
    ///
    /// # Panics
    /// When the thread did.
    pub fn close(self) {
        drop(self.requests);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    }
}

impl Uncommitted {
    /// Commits it. Whoever reads afterwards sees all that was applied before the call.
    ///
    /// # Errors
    /// [`Error::Poisoned`] when it cannot be committed, and never will be here: the log has it. [`Error::Stopped`].
    pub(super) fn commit(&self) -> Result<(), Error> {
        match self.shared.some.load(Ordering::Acquire) {
            true => self.commit_held(&mut *self.held()?),
            false => Ok(()),
        }
    }

    /// Commits it and makes the database at `path` durable, as [`checkpoint()`](super::checkpoint()) does.
    ///
    /// # Errors
    /// As for [`Self::commit`] and [`checkpoint()`](super::checkpoint()).
    pub(super) fn checkpoint(&self, path: &Path) -> Result<u64, Error> {
        self.commit()?;
        let checkpoint = Checkpoint::begin(path)?;
        // SQLite keeps writers out too, but would hardly ever find the moment between two transactions.
        let mut held = self.held()?;
        self.commit_held(&mut held)?;
        checkpoint.end()
    }

    fn run(&self, requests: &Receiver<Request>) {
        let mut due: Option<Instant> = None;
        loop {
            let request = match due {
                Some(due) => requests.recv_timeout(due.saturating_duration_since(Instant::now())),
                None => requests.recv().map_err(RecvTimeoutError::from),
            };
            match request {
                Ok(Request { entries, done }) => {
                    done(self.apply(&entries));
                    due.get_or_insert_with(|| Instant::now() + COMMIT_AFTER);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if due.is_some_and(|due| due <= Instant::now()) {
                // Whoever gives the next batch is told.
                let _poisoned = self.commit();
                due = None;
            }
        }
        let _poisoned = self.commit();
        if let Ok(mut held) = self.held() {
            held.machine = None;
        }
    }

    fn apply(&self, entries: &[Entry]) -> Result<Applies, Error> {
        let mut held = self.held()?;
        if held.poisoned {
            return Err(held.failure.take().unwrap_or(Error::Poisoned));
        }
        let machine = held.machine.as_mut().ok_or(Error::Stopped)?;
        let applies = machine.apply_uncommitted(entries);
        held.poisoned = applies.is_err();
        self.shared.some.store(true, Ordering::Release);
        applies
    }

    fn commit_held(&self, held: &mut Held) -> Result<(), Error> {
        if held.poisoned {
            return Err(Error::Poisoned);
        }
        match held.machine.as_mut().map_or(Ok(()), Machine::commit) {
            Ok(()) => {
                self.shared.some.store(false, Ordering::Release);
                Ok(())
            }
            Err(failure) => {
                (held.poisoned, held.failure) = (true, Some(failure));
                Err(Error::Poisoned)
            }
        }
    }

    fn held(&self) -> Result<MutexGuard<'_, Held>, Error> {
        self.shared.held.lock().map_err(|_panicked| Error::Stopped)
    }
}
