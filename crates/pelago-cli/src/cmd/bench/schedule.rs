//! When what is measured at a fixed rate is due.
//!
//! An open loop: whatever takes long delays nothing of what is due after it, and latency counts from the moment at which
//! something was due. A loop that waits for each answer leaves out just the requests that would have waited longest
//! (Gil Tene calls that coordinated omission).

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::time::sleep_until;

use super::latency::record_times;

/// Timers are a millisecond late; what is due sooner than this is waited for by looking at the clock again and again.
const SPIN_MAX: Duration = Duration::from_millis(2);

/// How many of what was never sent are told apart.
const UNSENT_APART_MAX: u64 = 100_000;

/// So many a second, from a moment on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    begun: Instant,
    rate: u32,
}

impl Schedule {
    pub(super) fn new(begun: Instant, rate: u32) -> Self {
        Self { begun, rate }
    }

    /// When number `n` is due, the first being 0.
    pub(super) fn due(&self, n: u64) -> Instant {
        let nanos = u128::from(n) * 1_000_000_000 / u128::from(self.rate);
        self.begun + Duration::from_nanos(u64::try_from(nanos).expect("a run is shorter than centuries"))
    }

    /// How many are due before `end`.
    pub(super) fn before(&self, end: Instant) -> u64 {
        let nanos = end.saturating_duration_since(self.begun).as_nanos();
        let count = (nanos * u128::from(self.rate)).div_ceil(1_000_000_000);
        u64::try_from(count).expect("a run is shorter than centuries")
    }

    /// Records of all from number `first` on that were due before `end`, and were not sent by then, how long they had
    /// waited. Says how many these are.
    pub(super) fn record_unsent(&self, first: u64, end: Instant, latencies: &mut Histogram<u64>) -> u64 {
        let count = self.before(end).saturating_sub(first);
        let step = count.div_ceil(UNSENT_APART_MAX).max(1);
        let mut n = 0;
        while n < count {
            let times = step.min(count - n);
            record_times(latencies, end.saturating_duration_since(self.due(first + n)), times);
            n += times;
        }
        count
    }

    /// Waits until about the time of number `n`, or gives way to everything else once.
    pub(super) async fn wait_for(&self, n: u64) {
        let sleeps = self.due(n).saturating_duration_since(Instant::now()).saturating_sub(SPIN_MAX);
        if sleeps.is_zero() {
            tokio::task::yield_now().await;
        } else {
            sleep_until((Instant::now() + sleeps).into()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::latency::Latencies, *};

    #[test]
    fn what_is_due_before_an_end_is_counted_as_it_is_due() {
        let begun = Instant::now();
        for rate in [1, 3, 7_000, 1_000_000, 999_999_937] {
            let schedule = Schedule::new(begun, rate);
            for millis in [1, 999, 1_000, 10_000] {
                let end = begun + Duration::from_millis(millis);
                let count = schedule.before(end);
                assert!(schedule.due(count) >= end, "{rate} {millis}");
                assert!(count == 0 || schedule.due(count - 1) < end, "{rate} {millis}");
            }
        }
    }

    #[test]
    fn what_was_never_sent_counts_with_how_long_it_had_waited() {
        let begun = Instant::now();
        let schedule = Schedule::new(begun, 1_000_000);
        let mut latencies = Latencies::empty();
        let unsent = schedule.record_unsent(1_000_000, begun + Duration::from_secs(3), &mut latencies);
        assert_eq!((unsent, latencies.len()), (2_000_000, 2_000_000));
        let median = Duration::from_nanos(latencies.value_at_quantile(0.5)).as_millis();
        assert!((990..=1_010).contains(&median), "{median} ms");
        assert_eq!(schedule.record_unsent(3_000_000, begun + Duration::from_secs(3), &mut latencies), 0);
    }
}
