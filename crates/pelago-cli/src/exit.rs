//! The codes that the program ends with. Scripts depend on them: a code keeps its meaning.

use std::{fmt::Write as _, process::ExitCode};

use pelago_api::{model::Document, problem::Problem};
use serde::Serialize;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Done,
    Failed,
    Usage,
    NotFound,
    NotAllowed,
    Conflict,
    Unreachable,
    TimedOut,
    Interrupted,
}

const ALL: [Exit; 9] = [
    Exit::Done,
    Exit::Failed,
    Exit::Usage,
    Exit::NotFound,
    Exit::NotAllowed,
    Exit::Conflict,
    Exit::Unreachable,
    Exit::TimedOut,
    Exit::Interrupted,
];

impl Exit {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::NotAllowed => 4,
            Self::Conflict => 5,
            Self::Unreachable => 6,
            Self::TimedOut => 7,
            Self::Interrupted => 130,
        }
    }

    const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed: the request, the agent or the task",
            Self::Usage => {
                "usage: the command line, an address or an input is not valid, or the agent refuses the input"
            }
            Self::NotFound => "not found: no such agent, task or node",
            Self::NotAllowed => "not allowed",
            Self::Conflict => "conflict: it does not fit the state, or the key was used for something else",
            Self::Unreachable => "unreachable: no node there, it is stopping, or the mesh has no majority",
            Self::TimedOut => "timed out: it may still take effect",
            Self::Interrupted => "interrupted",
        }
    }

    /// The code for a problem. By its HTTP status, so that problems of later versions have one too.
    pub(crate) const fn of(problem: &Problem) -> Self {
        match problem.status {
            400 | 413 | 415 | 422 => Self::Usage,
            401 | 403 => Self::NotAllowed,
            404 => Self::NotFound,
            409 | 412 => Self::Conflict,
            502 | 503 => Self::Unreachable,
            408 | 504 => Self::TimedOut,
            _ => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// All codes, as a document.
#[derive(Serialize)]
pub(crate) struct ExitCodes {
    items: Vec<Meaning>,
}

#[derive(Serialize)]
struct Meaning {
    code: u8,
    meaning: &'static str,
}

impl Document for ExitCodes {
    const KIND: &'static str = "ExitCodes";
}

impl ExitCodes {
    pub(crate) fn all() -> Self {
        let items = ALL.into_iter().map(|exit| Meaning { code: exit.code(), meaning: exit.meaning() });
        Self { items: items.collect() }
    }

    /// A line a code.
    pub(crate) fn text(&self) -> String {
        self.items.iter().fold(String::new(), |mut text, item| {
            // Writing to a string cannot fail.
            let _written = writeln!(text, "{:>5}  {}", item.code, item.meaning);
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use pelago_api::problem::Code;

    use super::*;

    #[test]
    fn a_problem_ends_with_the_code_of_its_kind() {
        let exit = |code| Exit::of(&Problem::new(code, "detail", "hint"));
        for (code, expected) in [
            (Code::AgentFailed, Exit::Failed),
            (Code::AgentRefused, Exit::Usage),
            (Code::Busy, Exit::Failed),
            (Code::BadAddress, Exit::Usage),
            (Code::UnknownAgent, Exit::NotFound),
            (Code::ForeignHost, Exit::NotAllowed),
            (Code::Conflict, Exit::Conflict),
            (Code::WrongState, Exit::Conflict),
            (Code::Unreachable, Exit::Unreachable),
            (Code::NoQuorum, Exit::Unreachable),
            (Code::Timeout, Exit::TimedOut),
        ] {
            assert_eq!(exit(code), expected, "{code:?}");
        }
    }
}
