//! When to dial again.

use std::time::Duration;

use crate::time::Time;

/// The pauses of a [`Dialer`].
#[derive(Debug, Clone, Copy)]
pub struct Pauses {
    /// The longest pause after the first failure.
    pub first: Duration,
    /// The longest pause of all.
    pub max: Duration,
    /// How long a link must last until the pauses begin anew. Without it, a link that ends as soon as it is up would be
    /// dialled without a pause.
    pub stable_after: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { first: Duration::from_millis(100), max: Duration::from_secs(5), stable_after: Duration::from_secs(10) }
    }
}

/// Chooses the pause before the next dial: doubled at each failure, and spread so that nodes that lost the same link
/// together do not dial together.
#[derive(Debug)]
pub struct Dialer {
    pauses: Pauses,
    failures: u32,
    up_since: Option<Time>,
}

impl Dialer {
    /// A dialer that has not failed yet.
    #[must_use]
    pub fn new(pauses: Pauses) -> Self {
        Self { pauses, failures: 0, up_since: None }
    }

    /// The link is up.
    pub fn up(&mut self, now: Time) {
        self.up_since = Some(now);
    }

    /// The dial failed, or the link ended. Returns how long to pause: between half of the present pause and all of it,
    /// as `jitter`, any number, says.
    pub fn down(&mut self, now: Time, jitter: u32) -> Duration {
        if self.up_since.take().is_some_and(|since| now - since >= self.pauses.stable_after) {
            self.failures = 0;
        }
        let doubled = self.pauses.first.saturating_mul(1 << self.failures.min(20));
        self.failures = self.failures.saturating_add(1);
        let half = doubled.min(self.pauses.max) / 2;
        half + half.mul_f64(f64::from(jitter) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSES: Pauses = Pauses {
        first: Duration::from_millis(100),
        max: Duration::from_millis(800),
        stable_after: Duration::from_secs(10),
    };

    fn millis(dialer: &mut Dialer, now: Time, jitter: u32) -> u128 {
        dialer.down(now, jitter).as_millis()
    }

    #[test]
    fn pauses_double_up_to_their_most_and_are_spread_over_a_half() {
        let mut dialer = Dialer::new(PAUSES);
        let longest: Vec<_> = (0..6).map(|_| millis(&mut dialer, Time::ZERO, u32::MAX)).collect();
        assert_eq!(longest, [100, 200, 400, 800, 800, 800]);
        assert_eq!(millis(&mut dialer, Time::ZERO, 0), 400);
        assert_eq!(millis(&mut dialer, Time::ZERO, u32::MAX / 2), 600);
    }

    #[test]
    fn only_a_link_that_lasted_begins_the_pauses_anew() {
        let mut dialer = Dialer::new(PAUSES);
        let up = Time::ZERO + Duration::from_secs(1);
        dialer.down(Time::ZERO, 0);
        dialer.up(up);
        assert_eq!(millis(&mut dialer, up + Duration::from_secs(9), u32::MAX), 200);
        dialer.up(up);
        assert_eq!(millis(&mut dialer, up + Duration::from_secs(10), u32::MAX), 100);
    }

    #[test]
    fn a_dialer_never_overflows() {
        let mut dialer = Dialer::new(PAUSES);
        dialer.failures = u32::MAX;
        assert_eq!(millis(&mut dialer, Time::ZERO, u32::MAX), 800);
    }
}
