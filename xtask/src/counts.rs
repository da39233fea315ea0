//! How many checks and tests passed, failed and were skipped, and how that is said at the end.

use std::fmt;
use std::ops::AddAssign;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

impl Counts {
    /// One check with its outcome.
    pub(crate) fn of_check(passed: bool) -> Self {
        Self { passed: usize::from(passed), failed: usize::from(!passed), skipped: 0 }
    }

    /// A step that others rest on, like a build: it counts only when it fails.
    pub(crate) fn of_ground(sound: bool) -> Self {
        Self { failed: usize::from(!sound), ..Self::default() }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// `3 passed, 0 failed`, and `, 1 skipped` if there are any. Scripts read this line: its form is fixed.
impl fmt::Display for Counts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(out, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipped_tests_are_named_only_when_there_are_any() {
        let mut counts = Counts::of_check(true);
        assert_eq!(counts.to_string(), "1 passed, 0 failed");
        counts += Counts { passed: 2, failed: 1, skipped: 4 };
        assert_eq!(counts.to_string(), "3 passed, 1 failed, 4 skipped");
    }
}
