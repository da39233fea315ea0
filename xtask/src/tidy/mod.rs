//! The rules of the house that the compiler cannot enforce. One file a check; each can be shown to fail.

mod absences;
mod arrows;
mod codes;
mod leftovers;
mod loop_map;
mod outside;
mod promises;
mod sizes;
mod unsafe_code;
mod words;

use std::fmt;

use crate::Error;
use crate::cargo::Cargo;
use crate::counts::Counts;
use crate::repository::Repository;

struct Check {
    name: &'static str,
    rule: &'static str,
    find: fn(&Repository) -> Vec<Finding>,
}

const CHECKS: &[Check] = &[
    Check { name: "arrows", rule: "crates depend only downwards", find: arrows::check },
    Check { name: "words", rule: "one word for one thing", find: words::check },
    Check { name: "leftovers", rule: "nothing is left half done", find: leftovers::check },
    Check { name: "absences", rule: "what a crate must not do, it does not", find: absences::check },
    Check { name: "loop map", rule: "ARCHITECTURE.md names every loop", find: loop_map::check },
    Check { name: "unsafe code", rule: "every crate forbids it", find: unsafe_code::check },
    Check { name: "outside", rule: "nothing points out of the repository", find: outside::check },
    Check { name: "codes", rule: "every code of a problem is in the reference", find: codes::check },
    Check { name: "promises", rule: "every promise once, every kept one tested", find: promises::check },
];

/// A place that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    line: usize,
    message: String,
}

impl Finding {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// `cargo xtask tidy`.
pub(crate) fn run(cargo: &Cargo) -> Result<bool, Error> {
    let counts = inspect(cargo)?;
    println!("{counts}");
    Ok(counts.failed == 0)
}

/// Runs every check, prints what it finds, and counts the checks.
pub(crate) fn inspect(cargo: &Cargo) -> Result<Counts, Error> {
    let repository = Repository::read(cargo)?;
    let mut counts = Counts::default();
    for check in CHECKS {
        let findings = (check.find)(&repository);
        report(check, &findings);
        counts += Counts::of_check(findings.is_empty());
    }
    for note in sizes::long_files(&repository) {
        println!("note: {note}");
    }
    Ok(counts)
}

fn report(check: &Check, findings: &[Finding]) {
    if findings.is_empty() {
        println!("tidy {}: ok", check.name);
        return;
    }
    println!("tidy {}: failed ({})", check.name, check.rule);
    for finding in findings {
        println!("  {finding}");
    }
}
