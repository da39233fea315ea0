//! The clocks of a process: a steady one for loops, and the one that stamps the log.
//!
//! Both count with `CLOCK_BOOTTIME`, which goes on while the machine is suspended; the clock behind
//! `std::time::Instant` stops, and a node that slept would believe in promises that ran out.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pelago_core::time::{LogTime, Time};
use rustix::time::{ClockId, clock_gettime};

/// The steady time of this process.
#[must_use]
pub fn now() -> Time {
    let at = clock_gettime(ClockId::Boottime);
    let secs = u64::try_from(at.tv_sec).expect("the machine started after its clock's zero");
    let nanos = u64::try_from(at.tv_nsec).expect("nanoseconds are positive");
    Time::from_micros(secs * 1_000_000 + nanos / 1_000)
}

/// Waits until `at`, or for ever.
pub(crate) async fn until(at: Option<Time>) {
    match at {
        Some(at) => tokio::time::sleep(at - now()).await,
        None => std::future::pending().await,
    }
}

/// The wall clock, as the log writes time. A clock before 1970 reads as 1970.
#[must_use]
pub fn wall() -> LogTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    LogTime::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Stamps the entries of one term, and never goes back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogClock {
    base: LogTime,
    since: Time,
}

impl LogClock {
    /// A clock that shows `base` now.
    pub(crate) fn starting_at(base: LogTime) -> Self {
        Self { base, since: now() }
    }

    pub(crate) fn now(&self) -> LogTime {
        let passed = now() - self.since;
        self.base.plus_millis(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX))
    }
}
