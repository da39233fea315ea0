//! What is wrong with a configuration, where it was written, and what to try.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

/// The place where a setting was written. Orders as problems are listed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A place in the file. Line and column count from 1, the column in characters.
    File {
        /// Relative to the working directory when it lies below it.
        path: PathBuf,
        /// The line.
        line: usize,
        /// The column.
        column: usize,
    },
    /// The file as a whole.
    WholeFile {
        /// The file.
        path: PathBuf,
    },
    /// A variable of the environment.
    Environment {
        /// Its name.
        variable: String,
    },
    /// A flag of the command line.
    Flag {
        /// As the user writes it.
        name: String,
    },
}

impl Origin {
    pub(super) fn environment(variable: &str) -> Self {
        Self::Environment { variable: variable.to_owned() }
    }

    pub(super) fn flag(name: &str) -> Self {
        Self::Flag { name: name.to_owned() }
    }

    /// `key` as one writes it at this place, for a hint.
    pub(super) fn spell(&self, key: &str) -> String {
        match self {
            Self::Environment { .. } => {
                format!("PELAGO_{}", key.replace('.', "__").to_uppercase())
            }
            Self::File { .. } | Self::WholeFile { .. } | Self::Flag { .. } => key.to_owned(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::WholeFile { path } => path.display().fmt(f),
            Self::Environment { variable } => write!(f, "environment {variable}"),
            Self::Flag { name } => write!(f, "flag {name}"),
        }
    }
}

/// The stable code of a kind of problem; `PLG-1xxx` are those of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// No key has this name.
    UnknownKey = 1001,
    /// The value has the wrong type, is out of range, or is not what its key needs.
    InvalidValue = 1002,
    /// The key or value is known and arrives in a later version.
    NotSupported = 1003,
    /// A listener would be reachable from other machines.
    NotLoopback = 1004,
    /// The file cannot be read.
    Unreadable = 1005,
    /// The file is not TOML.
    Syntax = 1006,
    /// Two settings contradict each other.
    Contradiction = 1007,
    /// A required key is missing.
    Missing = 1008,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PLG-{}", *self as u16)
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What kind of problem it is.
    pub code: Code,
    /// What is wrong; begins with the key.
    pub message: String,
    /// Where it was written.
    pub at: Origin,
    /// What to try.
    pub hint: Option<String>,
}

impl Problem {
    pub(super) fn unreadable(path: &Path, named_by: Option<Origin>, error: &io::Error) -> Self {
        let path = path.to_owned();
        Self {
            code: Code::Unreadable,
            message: format!("configuration file {} cannot be read: {error}", path.display()),
            at: named_by.unwrap_or(Origin::WholeFile { path }),
            hint: None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error[{}]: {}\n  at:   {}", self.code, self.message, self.at)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong, in the order of places; never empty. Displays as it is shown to the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// All of `found`, in the order of places; none if there are none.
    pub(super) fn of(mut found: Vec<Problem>) -> Option<Self> {
        found.sort_by(|a, b| a.at.cmp(&b.at));
        (!found.is_empty()).then_some(Self(found))
    }

    /// Each problem, in the order of places.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
