//! An agent that is told what is new, by whoever never waits.

use std::{
    collections::VecDeque,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use pelago_core::message::Content;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::{Error, Mesh, Recipient};

/// The most bytes that wait.
const WAITING_BYTES_MAX: usize = 4 << 20;

/// An agent, or as `#topic` a topic, that is told what is new. Whoever tells never waits: what there is no room for waits
/// here, and its oldest gives way to what comes. Dropped, it takes what waits with it; see [`Self::flushed`].
#[derive(Debug)]
pub struct Latest {
    shared: Arc<Shared>,
    _telling: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Shared {
    waiting_max: usize,
    /// The lock is held for a few lines, and nothing is awaited under it.
    waiting: Mutex<Waiting>,
    arrived: Notify,
    /// Nothing waits, and nothing is being told.
    idle: Notify,
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<Content>,
    bytes: usize,
    is_telling: bool,
}

impl Latest {
    pub(super) async fn begin(mesh: &Mesh, to: &str, waiting_max: NonZeroUsize) -> Result<Self, Error> {
        let recipient = mesh.recipient(to).await?;
        let shared = Arc::new(Shared {
            waiting_max: waiting_max.get(),
            waiting: Mutex::default(),
            arrived: Notify::new(),
            idle: Notify::new(),
            lost: AtomicU64::new(0),
        });
        let _telling = AbortOnDropHandle::new(tokio::spawn(go_on(recipient, Arc::clone(&shared))));
        Ok(Self { shared, _telling })
    }

    /// Tells it something as soon as there is room. Returns at once.
    pub fn tell(&self, message: impl Into<Content>) {
        let message = message.into();
        let mut waiting = self.shared.lock();
        waiting.bytes += message.payload.len();
        waiting.messages.push_back(message);
        let mut gone = 0;
        while waiting.messages.len() > self.shared.waiting_max
            || waiting.bytes > WAITING_BYTES_MAX && waiting.messages.len() > 1
        {
            gone += u64::from(waiting.take().is_some());
        }
        drop(waiting);
        self.shared.lost.fetch_add(gone, Ordering::Relaxed);
        self.shared.arrived.notify_one();
    }

    /// How many messages gave way to later ones, or could not be told at all. What became of the others,
    /// [`Mesh::account`] says.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Waits until all that waits is on its way.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn flushed(&self) {
        loop {
            let idle = self.shared.idle.notified();
            if self.shared.lock().is_idle() {
                return;
            }
            idle.await;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics under the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn take(&mut self) -> Option<Content> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.payload.len();
        Some(message)
    }

    fn is_idle(&self) -> bool {
        self.messages.is_empty() && !self.is_telling
    }
}

/// Tells what waits, the oldest first, until it is dropped.
async fn go_on(mut recipient: Recipient, shared: Arc<Shared>) {
    loop {
        let next = {
            let mut waiting = shared.lock();
            let next = waiting.take();
            waiting.is_telling = next.is_some();
            next
        };
        let Some(Content { headers, payload }) = next else {
            shared.idle.notify_waiters();
            shared.arrived.notified().await;
            continue;
        };
        let told = match headers {
            Some(headers) => recipient.tell_with(&headers, payload).await,
            None => recipient.tell(payload).await,
        };
        if told.is_err() {
            // There was no room, or no link, for five seconds: what is newer matters more.
            shared.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}
