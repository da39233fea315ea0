//! Who waits for a task to change.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use pelago_core::id::TaskId;
use tokio::sync::oneshot;

/// Waiting requests by task. A short-lived lock: nothing is awaited under it.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Mutex<HashMap<TaskId, Vec<oneshot::Sender<()>>>>);

impl Waiters {
    /// Resolves when the task changes next. Register first, then read the task: no change is missed.
    pub(crate) fn changed(&self, task: TaskId) -> oneshot::Receiver<()> {
        let (wake, woken) = oneshot::channel();
        let mut waiting = self.lock();
        let of_task = waiting.entry(task).or_default();
        // Those whose request timed out.
        of_task.retain(|waiter| !waiter.is_closed());
        of_task.push(wake);
        woken
    }

    /// Wakes whoever waits for the task.
    pub(crate) fn wake(&self, task: TaskId) {
        for waiter in self.lock().remove(&task).into_iter().flatten() {
            // It may have timed out meanwhile.
            let _gone = waiter.send(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TaskId, Vec<oneshot::Sender<()>>>> {
        // Every change under the lock is a single call, so a panic leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everyone_who_waits_for_a_task_is_woken_once_it_changes() {
        let waiters = Waiters::default();
        let (first, second) = (waiters.changed(TaskId(1)), waiters.changed(TaskId(1)));
        let mut other = waiters.changed(TaskId(2));
        waiters.wake(TaskId(1));
        assert_eq!((first.await, second.await), (Ok(()), Ok(())));
        assert!(other.try_recv().is_err());
    }

    #[test]
    fn those_who_gave_up_are_forgotten() {
        let waiters = Waiters::default();
        for _ in 0..100 {
            drop(waiters.changed(TaskId(1)));
        }
        let _present = waiters.changed(TaskId(1));
        assert_eq!(waiters.lock()[&TaskId(1)].len(), 1);
    }
}
