//! `[tasks]`

use std::{num::NonZeroU32, time::Duration};

use super::super::{section::Section, value};

/// The longest time a task may be told to wait or to work: a day.
const MILLIS_MAX: u64 = 86_400_000;

/// What a task gets when its request says nothing. The choice is written into the task: changing it here changes only
/// tasks to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskDefaults {
    /// How many attempts a task has before it is dead. The loss of a node counts as one.
    pub attempts_max: NonZeroU32,
    /// How long one attempt may take. Longer than the slowest attempt that is right; an attempt lost with its node is
    /// noticed sooner.
    pub attempt_max: Duration,
    /// The pause after the first failure; doubles with each further one.
    pub backoff: Duration,
    /// The longest pause; at least `backoff`.
    pub backoff_max: Duration,
}

impl Default for TaskDefaults {
    fn default() -> Self {
        Self {
            attempts_max: NonZeroU32::new(5).expect("it is not 0"),
            attempt_max: Duration::from_secs(60),
            backoff: Duration::from_millis(500),
            backoff_max: Duration::from_secs(60),
        }
    }
}

impl TaskDefaults {
    pub(in super::super) fn read(section: &mut Section<'_>) -> Self {
        let default = Self::default();
        let tasks = Self {
            attempts_max: section.get("attempts_max", value::count(1_000), default.attempts_max),
            attempt_max: section.get("attempt_ms_max", value::millis(1..=MILLIS_MAX), default.attempt_max),
            backoff: section.get("backoff_ms", value::millis(1..=MILLIS_MAX), default.backoff),
            backoff_max: section.get("backoff_ms_max", value::millis(1..=MILLIS_MAX), default.backoff_max),
        };
        if tasks.backoff > tasks.backoff_max {
            let (first, longest) = (tasks.backoff.as_millis(), tasks.backoff_max.as_millis());
            section.contradiction(
                ["backoff_ms", "backoff_ms_max"],
                &format!("({first}) is greater than tasks.backoff_ms_max ({longest})"),
            );
        }
        tasks
    }
}
