//! How long a candidate takes to answer, estimated from what it answered lately.

use std::time::Duration;

use crate::time::Time;

/// Each answer moves the estimate by this part of the difference, as TCP's estimate of a round trip: 1/8.
const SHIFT: u32 = 3;
/// An answer counts as no more than so many times the estimate: one large request does not make its candidate slow.
const SAMPLE_MAX: u32 = 3;
/// Of a candidate that is not heard the estimate halves each time this passes, so that one that was slow is tried again;
/// of one that is slower than that, each time that it could have answered so often.
const HALF_LIFE: Duration = Duration::from_secs(1);
const ANSWERS_PER_HALF_LIFE: u64 = 8;
/// A wait of so many times the estimate is for an answer that does not come.
const MUCH_LONGER: u64 = 8;
/// How long a candidate that failed counts as the slowest, if it does not answer before. Failing fast is not quick.
const FAILED_FOR: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Latency {
    /// 0 until it was heard.
    micros: u32,
    at: Time,
    failed_until: Time,
}

impl Latency {
    /// The estimate in microseconds; 0 of one that nobody has tried, or not for long.
    pub(super) fn at(&self, now: Time) -> u32 {
        if self.failed_until > now {
            return u32::MAX;
        }
        let age = now.as_micros().saturating_sub(self.at.as_micros());
        // Most are young, and a division takes longer than all the rest.
        if age < HALF_LIFE.as_micros() as u64 { self.micros } else { self.faded(age) }
    }

    pub(super) fn answered(&mut self, now: Time, took: Duration) {
        self.failed_until = Time::ZERO;
        let known = self.at(now);
        let moved = match known {
            0 => micros(took),
            _ => known - (known >> SHIFT) + (micros(took).min(known.saturating_mul(SAMPLE_MAX)) >> SHIFT),
        };
        (self.micros, self.at) = (moved.max(1), now);
    }

    /// It is asked: if that is to see whether it is quicker by now, once is enough until it has answered.
    pub(super) fn asked(&mut self, now: Time) {
        self.at = now;
    }

    pub(super) fn failed(&mut self, now: Time) {
        self.failed_until = now + FAILED_FOR;
    }

    /// It answered that it cannot be done. One of which no more is known is no quick one.
    pub(super) fn refused(&mut self, now: Time) {
        if self.micros == 0 {
            self.failed(now);
        }
    }

    /// It takes at least so long: nobody waited any longer.
    pub(super) fn given_up(&mut self, now: Time, waited: Duration) {
        if micros(waited) > self.at(now) {
            (self.micros, self.at) = (micros(waited), now);
        }
    }

    /// Whether an answer is far longer in coming than any of late.
    pub(super) fn is_much_longer(&self, now: Time, waited: Duration) -> bool {
        u64::from(micros(waited)) > MUCH_LONGER * u64::from(self.at(now))
    }

    fn faded(&self, age: u64) -> u32 {
        let half_life = (u64::from(self.micros) * ANSWERS_PER_HALF_LIFE).max(HALF_LIFE.as_micros() as u64);
        let halvings = u32::try_from(age / half_life).unwrap_or(u32::MAX);
        self.micros.checked_shr(halvings).unwrap_or(0)
    }
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX).max(1)
}
