//! Random ids. Chosen before proposing, since every voter must apply the same.

use pelago_core::{id::TaskId, time::LogTime};

/// 128 random bits, unpredictable and the operating system's at root; a task needs one, so they come without a system
/// call each.
pub(crate) fn random() -> u128 {
    rand::random()
}

/// 64 random bits, for a choice that nobody has to foresee.
pub(crate) fn bits() -> u64 {
    rand::random()
}

/// A new task's id: 48 bits of time, then 80 random ones, so that tasks made later sort later.
pub(crate) fn task(now: LogTime) -> TaskId {
    TaskId((u128::from(now.as_millis()) << 80) | (random() >> 48))
}

/// `millis` and up to half as much again, so that what failed together does not come back together.
pub(crate) fn jittered(millis: u64) -> u64 {
    let half = millis / 2 + 1;
    millis.saturating_add(u64::try_from(random() % u128::from(half)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_tasks_have_greater_ids() {
        assert!(task(LogTime::from_millis(1_000)) < task(LogTime::from_millis(1_001)));
        assert_ne!(task(LogTime::ZERO), task(LogTime::ZERO));
    }

    #[test]
    fn jitter_adds_at_most_half() {
        assert!((0..1_000).all(|_| (100..=150).contains(&jittered(100))));
        assert_eq!(jittered(0), 0);
    }
}
