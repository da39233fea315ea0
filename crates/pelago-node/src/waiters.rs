//! Who waits for a task: for its end, or for its next event.
//!
//! Whoever is woken is told what was committed, if that is enough for it to answer without reading the rows.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use pelago_core::{
    id::TaskId,
    record::{Task, TaskState},
};
use tokio::{sync::oneshot, time::Instant};

/// Waiting requests.
#[derive(Debug, Default)]
pub(crate) struct TaskWaiters {
    /// Those who wait for the end of a task. `None`: it is in the rows.
    pub(crate) ended: Waiters<Option<End>>,
    /// Those who wait for its next event.
    pub(crate) told: Waiters<()>,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    Done(Bytes),
    Dead(String),
    Cancelled(String),
}

impl End {
    /// `None` if the task goes on.
    pub(crate) fn of(task: &Task, result: Option<&Bytes>) -> Option<Self> {
        let reason = || task.reason.clone().unwrap_or_default();
        match task.state {
            TaskState::Queued | TaskState::Running => None,
            TaskState::Done => Some(Self::Done(result.cloned().unwrap_or_default())),
            TaskState::Dead => Some(Self::Dead(reason())),
            TaskState::Cancelled => Some(Self::Cancelled(reason())),
        }
    }
}

/// Waiting requests by task. A short-lived lock: nothing is awaited under it.
#[derive(Debug)]
pub(crate) struct Waiters<T>(Mutex<HashMap<TaskId, Vec<oneshot::Sender<T>>>>);

impl<T> Default for Waiters<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl TaskWaiters {
    /// Wakes everybody: what happened to their tasks is in the rows.
    pub(crate) fn wake_all(&self) {
        self.ended.wake_all(&None);
        self.told.wake_all(&());
    }
}

/// Waits for one thing to happen to a task. Forgotten when it is dropped.
#[derive(Debug)]
pub(crate) struct Change<'w, T> {
    waiters: &'w Waiters<T>,
    task: TaskId,
    woken: oneshot::Receiver<T>,
}

impl<T> Change<'_, T> {
    /// Resolves with what happened, if it did before `deadline`.
    pub(crate) async fn before(mut self, deadline: Instant) -> Option<T> {
        tokio::time::timeout_at(deadline, &mut self.woken).await.ok()?.ok()
    }
}

impl<T> Drop for Change<'_, T> {
    fn drop(&mut self) {
        self.woken.close();
        self.waiters.forget_closed(self.task);
    }
}

impl<T> Waiters<T> {
    /// Begins to wait. Begin first, then read the task: nothing is missed.
    pub(crate) fn next(&self, task: TaskId) -> Change<'_, T> {
        let (wake, woken) = oneshot::channel();
        self.lock().entry(task).or_default().push(wake);
        Change { waiters: self, task, woken }
    }

    /// Wakes whoever waits for the task, and tells them.
    pub(crate) fn wake(&self, task: TaskId, what: &T)
    where
        T: Clone,
    {
        for waiter in self.lock().remove(&task).into_iter().flatten() {
            // It may have timed out meanwhile.
            let _gone = waiter.send(what.clone());
        }
    }

    fn wake_all(&self, what: &T)
    where
        T: Clone,
    {
        for waiter in std::mem::take(&mut *self.lock()).into_values().flatten() {
            // It may have timed out meanwhile.
            let _gone = waiter.send(what.clone());
        }
    }

    fn forget_closed(&self, task: TaskId) {
        let mut waiting = self.lock();
        if let Entry::Occupied(mut of_task) = waiting.entry(task) {
            of_task.get_mut().retain(|waiter| !waiter.is_closed());
            if of_task.get().is_empty() {
                of_task.remove();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TaskId, Vec<oneshot::Sender<T>>>> {
        // Every change under the lock is a single call, so a panic leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn everyone_who_waits_for_a_task_is_woken_once_it_changes() {
        let waiters = Waiters::<u8>::default();
        let soon = Instant::now() + Duration::from_secs(5);
        let (first, second) = (waiters.next(TaskId(1)), waiters.next(TaskId(1)));
        let other = waiters.next(TaskId(2));
        waiters.wake(TaskId(1), &7);
        assert_eq!((first.before(soon).await, second.before(soon).await), (Some(7), Some(7)));
        assert_eq!(other.before(Instant::now()).await, None);
    }

    #[test]
    fn those_who_gave_up_are_forgotten() {
        let waiters = Waiters::<u8>::default();
        let present = waiters.next(TaskId(1));
        drop(waiters.next(TaskId(1)));
        assert_eq!(waiters.lock()[&TaskId(1)].len(), 1);
        drop(present);
        assert!(waiters.lock().is_empty());
    }
}
