//! Who waits for a task: for its end, or for its next event.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Mutex, MutexGuard, PoisonError},
};

use pelago_core::id::TaskId;
use tokio::{sync::oneshot, time::Instant};

/// Waiting requests.
#[derive(Debug, Default)]
pub(crate) struct TaskWaiters {
    /// Those who wait for the end of a task.
    pub(crate) ended: Waiters,
    /// Those who wait for its next event.
    pub(crate) told: Waiters,
}

/// Waiting requests by task. A short-lived lock: nothing is awaited under it.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Mutex<HashMap<TaskId, Vec<oneshot::Sender<()>>>>);

impl TaskWaiters {
    /// Wakes everybody: what happened to their tasks is in the rows.
    pub(crate) fn wake_all(&self) {
        self.ended.wake_all();
        self.told.wake_all();
    }
}

/// Waits for one thing to happen to a task. Forgotten when it is dropped.
#[derive(Debug)]
pub(crate) struct Change<'w> {
    waiters: &'w Waiters,
    task: TaskId,
    woken: oneshot::Receiver<()>,
}

impl Change<'_> {
    /// Resolves with whether it happened before `deadline`.
    pub(crate) async fn before(mut self, deadline: Instant) -> bool {
        tokio::time::timeout_at(deadline, &mut self.woken).await.is_ok()
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.woken.close();
        self.waiters.forget_closed(self.task);
    }
}

impl Waiters {
    /// Begins to wait. Begin first, then read the task: nothing is missed.
    pub(crate) fn next(&self, task: TaskId) -> Change<'_> {
        let (wake, woken) = oneshot::channel();
        self.lock().entry(task).or_default().push(wake);
        Change { waiters: self, task, woken }
    }

    /// Wakes whoever waits for the task.
    pub(crate) fn wake(&self, task: TaskId) {
        for waiter in self.lock().remove(&task).into_iter().flatten() {
            // It may have timed out meanwhile.
            let _gone = waiter.send(());
        }
    }

    fn wake_all(&self) {
        for waiter in std::mem::take(&mut *self.lock()).into_values().flatten() {
            // It may have timed out meanwhile.
            let _gone = waiter.send(());
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

    fn lock(&self) -> MutexGuard<'_, HashMap<TaskId, Vec<oneshot::Sender<()>>>> {
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
        let waiters = Waiters::default();
        let soon = Instant::now() + Duration::from_secs(5);
        let (first, second) = (waiters.next(TaskId(1)), waiters.next(TaskId(1)));
        let other = waiters.next(TaskId(2));
        waiters.wake(TaskId(1));
        assert!(first.before(soon).await && second.before(soon).await);
        assert!(!other.before(Instant::now()).await);
    }

    #[test]
    fn those_who_gave_up_are_forgotten() {
        let waiters = Waiters::default();
        let present = waiters.next(TaskId(1));
        drop(waiters.next(TaskId(1)));
        assert_eq!(waiters.lock()[&TaskId(1)].len(), 1);
        drop(present);
        assert!(waiters.lock().is_empty());
    }
}
