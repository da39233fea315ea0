//! What clients do in a run.

use std::{fmt, str::FromStr};

/// What clients do in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// They append numbers to registers, by asks and by messages.
    Append,
    /// They enqueue, cancel and retry tasks, which append numbers or only have a result.
    Tasks,
    /// They have registers set and cancel timers, which append numbers.
    Timers,
}

impl Workload {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Append, Self::Tasks, Self::Timers];

    fn name(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Tasks => "tasks",
            Self::Timers => "timers",
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no workload's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no workload: there are append, tasks and timers")]
pub struct NoWorkload(String);

impl FromStr for Workload {
    type Err = NoWorkload;

    fn from_str(text: &str) -> Result<Self, NoWorkload> {
        let named = Self::ALL.into_iter().find(|workload| workload.name() == text);
        named.ok_or_else(|| NoWorkload(text.to_owned()))
    }
}
