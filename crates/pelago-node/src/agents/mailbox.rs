//! A mailbox: bounded, emptied by one loop, the most urgent first.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use pelago_core::message::Priority;
use tokio::sync::{Notify, Semaphore};

use super::waiting::{Place, Waiting};

/// Something that has a place in a mailbox by how urgent it is.
pub(super) trait Deliverable {
    fn priority(&self) -> Priority;
}

/// Where deliveries go. Clones are the same mailbox.
#[derive(Debug)]
pub(super) struct Mailbox<T>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    /// The lock is held for a few lines, and nothing is awaited under it.
    waiting: Mutex<Waiting<T>>,
    places: Semaphore,
    places_max: usize,
    arrived: Notify,
    is_closed: AtomicBool,
}

/// Why something was not put into a mailbox, with it.
#[derive(Debug)]
pub(super) enum NotPut<T> {
    Full(T),
    Closed(T),
}

impl<T> NotPut<T> {
    pub(super) fn into_inner(self) -> T {
        match self {
            Self::Full(what) | Self::Closed(what) => what,
        }
    }
}

/// The place of something that was taken out.
#[derive(Debug)]
pub(super) struct Taken<T> {
    mailbox: Option<Mailbox<T>>,
    place: Place,
}

impl<T> Taken<T> {
    /// Puts back what is left of it, where it was.
    pub(super) fn put_back(mut self, what: T) {
        if let Some(mailbox) = self.mailbox.take() {
            mailbox.lock().put_back(self.place, what);
        }
    }
}

impl<T> Drop for Taken<T> {
    fn drop(&mut self) {
        if let Some(mailbox) = &self.mailbox {
            mailbox.0.places.add_permits(1);
        }
    }
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Deliverable> Mailbox<T> {
    pub(super) fn new(places_max: usize) -> Self {
        Self(Arc::new(Shared {
            waiting: Mutex::default(),
            places: Semaphore::new(places_max),
            places_max,
            arrived: Notify::new(),
            is_closed: AtomicBool::new(false),
        }))
    }

    /// Puts something in at once.
    ///
    /// # Errors
    /// What was to be put in, if there is no place or nobody takes it out any more.
    pub(super) fn try_put(&self, what: T) -> Result<(), NotPut<T>> {
        match self.0.places.try_acquire() {
            Ok(place) => {
                place.forget();
                self.put_at_place(what)
            }
            Err(_) if self.is_closed() => Err(NotPut::Closed(what)),
            Err(_) => Err(NotPut::Full(what)),
        }
    }

    /// Puts something in once there is a place.
    ///
    /// # Errors
    /// What was to be put in, if nobody takes it out any more.
    ///
    /// # Cancel safety
    /// Dropped before it is done, it was not put in.
    pub(super) async fn put(&self, what: T) -> Result<(), NotPut<T>> {
        match self.0.places.acquire().await {
            Ok(place) => {
                place.forget();
                self.put_at_place(what)
            }
            Err(_closed) => Err(NotPut::Closed(what)),
        }
    }

    fn put_at_place(&self, what: T) -> Result<(), NotPut<T>> {
        let mut waiting = self.lock();
        if self.is_closed() {
            return Err(NotPut::Closed(what));
        }
        waiting.push(what.priority(), what);
        drop(waiting);
        self.0.arrived.notify_one();
        Ok(())
    }

    /// Waits until something was put in since the last time.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(super) async fn arrived(&self) {
        self.0.arrived.notified().await;
    }

    /// Takes out what comes first, if `is_wanted` says so. Its place is free once [`Taken`] is dropped.
    pub(super) fn take_if(&self, is_wanted: impl FnOnce(&T) -> bool) -> Option<(Taken<T>, T)> {
        let mut waiting = self.lock();
        if !waiting.first().is_some_and(is_wanted) {
            return None;
        }
        let (place, what) = waiting.pop()?;
        Some((Taken { mailbox: Some(self.clone()), place }, what))
    }

    /// How many things wait.
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.0.places_max
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.is_closed.load(Ordering::Acquire)
    }

    /// Takes nothing more, and gives out what waits.
    pub(super) fn close(&self) -> impl Iterator<Item = T> + use<T> {
        let mut waiting = self.lock();
        self.0.is_closed.store(true, Ordering::Release);
        self.0.places.close();
        std::mem::take(&mut *waiting).into_rest()
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T> Mailbox<T> {
    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        // Nothing panics under the lock.
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    struct Letter(u32, char);

    impl Deliverable for Letter {
        fn priority(&self) -> Priority {
            Priority::new(self.0).expect("valid")
        }
    }

    fn take(mailbox: &Mailbox<Letter>) -> Option<char> {
        mailbox.take_if(|_| true).map(|(_taken, Letter(_, what))| what)
    }

    #[tokio::test]
    async fn a_full_mailbox_takes_more_once_something_is_done_and_the_most_urgent_is_first() {
        let mailbox = Mailbox::new(2);
        assert!(mailbox.try_put(Letter(4, 'a')).is_ok() && mailbox.try_put(Letter(0, 'b')).is_ok());
        assert!(mailbox.is_full() && matches!(mailbox.try_put(Letter(0, 'c')), Err(NotPut::Full(Letter(0, 'c')))));
        let mut waits = Box::pin(mailbox.put(Letter(4, 'd')));
        assert!((&mut waits).now_or_never().is_none());

        assert!(mailbox.take_if(|Letter(priority, _)| *priority > 0).is_none(), "what comes first is not wanted");
        let (taken, b) = mailbox.take_if(|_| true).expect("two wait");
        assert!((&mut waits).now_or_never().is_none(), "its place is free once it is done");
        taken.put_back(b);
        assert!((&mut waits).now_or_never().is_none());
        assert_eq!(take(&mailbox), Some('b'));
        assert!(waits.await.is_ok());
        assert_eq!((take(&mailbox), take(&mailbox), take(&mailbox)), (Some('a'), Some('d'), None));
    }

    #[tokio::test]
    async fn a_closed_mailbox_gives_out_what_waits_and_turns_all_others_away() {
        let mailbox = Mailbox::new(1);
        assert!(mailbox.try_put(Letter(4, 'a')).is_ok());
        let other = mailbox.clone();
        let mut waits = Box::pin(other.put(Letter(4, 'b')));
        assert!((&mut waits).now_or_never().is_none());
        assert_eq!(mailbox.close().map(|Letter(_, what)| what).collect::<String>(), "a");
        assert!(matches!(waits.await, Err(NotPut::Closed(Letter(_, 'b')))));
        assert!(matches!(mailbox.try_put(Letter(4, 'c')), Err(NotPut::Closed(_))));
    }
}
