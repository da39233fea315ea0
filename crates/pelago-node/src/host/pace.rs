//! Code of agents that takes long, and code that does not.
//!
//! A node has few threads for its links and its agents, and an agent that computes, or waits without `await`, keeps one
//! of them from all others. So while agents of a kind have not shown that they are quick, the rest of the thread's work
//! goes to another thread before their code runs, which costs some microseconds; code that is known to be quick runs
//! where it is.

use std::{
    future::poll_fn,
    pin::pin,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use tokio::runtime::{Handle, RuntimeFlavor};

/// How long quick code runs at most until its next `await`.
const QUICK_MAX: Duration = Duration::from_millis(1);
/// How many times in a row code has been quick that is known to be.
const TRIALS: u32 = 64;

/// How agents of one kind have behaved on this node.
#[derive(Debug)]
pub(super) struct Pace {
    /// How many times more their code must be quick.
    trials: AtomicU32,
}

impl Pace {
    /// Nothing is known of them.
    pub(super) fn new() -> Self {
        Self { trials: AtomicU32::new(TRIALS) }
    }

    /// Whether they have shown that they are quick.
    pub(super) fn is_quick(&self) -> bool {
        self.trials.load(Ordering::Relaxed) == 0
    }

    /// Runs a piece of their code.
    pub(super) fn run<T>(&self, code: impl FnOnce() -> T) -> T {
        let trials = self.trials.load(Ordering::Relaxed);
        let begun = Instant::now();
        let done = if trials > 0 && has_other_threads() { tokio::task::block_in_place(code) } else { code() };
        // A trial that is lost between two threads is made again.
        if begun.elapsed() > QUICK_MAX {
            self.trials.store(TRIALS, Ordering::Relaxed);
        } else if trials > 0 {
            self.trials.store(trials - 1, Ordering::Relaxed);
        }
        done
    }

    /// Runs their code from `await` to `await`.
    pub(super) async fn run_all<T>(&self, code: impl Future<Output = T>) -> T {
        let mut code = pin!(code);
        poll_fn(|cx| self.run(|| code.as_mut().poll(cx))).await
    }
}

fn has_other_threads() -> bool {
    Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn code_that_waits_without_await_keeps_nobody_waiting() {
        let (told, hears) = mpsc::channel();
        let (begins, begun) = mpsc::channel();
        let waiting = tokio::spawn(async move {
            let code = async move {
                begins.send(()).expect("the other task lives");
                hears.recv_timeout(Duration::from_mins(1))
            };
            Pace::new().run_all(code).await
        });
        // On the one worker: it has its turn while the other waits, or after that has given up.
        let telling = tokio::spawn(async move {
            while begun.try_recv().is_err() {
                tokio::task::yield_now().await;
            }
            told.send(())
        });
        assert_eq!(waiting.await.expect("does not panic"), Ok(()));
        telling.await.expect("does not panic").expect("the other task lives");
    }

    #[test]
    fn code_is_known_to_be_quick_until_it_is_not() {
        let pace = Pace::new();
        let is_known = |pace: &Pace| pace.trials.load(Ordering::Relaxed) == 0;
        let slow = Instant::now() + 2 * QUICK_MAX;
        pace.run(|| while Instant::now() < slow {});
        assert_eq!(pace.trials.load(Ordering::Relaxed), TRIALS);
        // What else runs on the machine may make a trial slow.
        let give_up = Instant::now() + Duration::from_mins(1);
        while !is_known(&pace) && Instant::now() < give_up {
            pace.run(|| ());
        }
        assert!(is_known(&pace));
        let slow = Instant::now() + 2 * QUICK_MAX;
        pace.run(|| while Instant::now() < slow {});
        assert!(!is_known(&pace));
    }
}
