//! `cargo xtask verify`: the one command that says whether this checkout is sound.
//!
//! Runs every step even after one failed, so that one run shows everything; only the tests need a build that works.
//! Never writes into the checkout: everything goes into Cargo's target directory.

mod requirements;
mod suite;

use std::time::{Duration, Instant};

use crate::cargo::Cargo;
use crate::counts::Counts;
use crate::{Error, describe, tidy};

/// Runs all steps, prints the counts, and says whether nothing failed.
pub(crate) fn run(cargo: &Cargo) -> bool {
    let mut report = Report::default();
    report.step("requirements", || Ok(Counts::of_ground(requirements::meet())));
    report.step("format", || format(cargo));
    report.step("lints", || lints(cargo));
    report.step("tidy", || tidy::inspect(cargo));
    if cargo.has("deny") {
        report.step("dependencies", || dependencies(cargo));
    } else {
        println!("\n== dependencies: not checked, cargo-deny is not installed (`cargo install cargo-deny --locked`)");
    }
    let built = report.step("build", || build(cargo));
    if built {
        report.step("tests", || suite::run(cargo));
    }
    report.finish(is_strict(std::env::var("CI").ok().as_deref()))
}

fn format(cargo: &Cargo) -> Result<Counts, Error> {
    if !cargo.has("fmt") {
        return Ok(missing_component("rustfmt"));
    }
    let formatted = cargo.succeeds("fmt", &["--all", "--", "--check", "--files-with-diff"])?;
    if !formatted {
        println!("these files are not formatted; `cargo xtask fix` formats them");
    }
    Ok(Counts::of_check(formatted))
}

/// The lints are denied by name in Cargo.toml, so that a new compiler with new warnings breaks nobody's build.
fn lints(cargo: &Cargo) -> Result<Counts, Error> {
    if !cargo.has("clippy") {
        return Ok(missing_component("clippy"));
    }
    Ok(Counts::of_check(cargo.succeeds("clippy", &["--workspace", "--all-targets", "--locked"])?))
}

/// Licences, bans and sources. The advisories change overnight and need the network: `cargo deny check` is for them.
fn dependencies(cargo: &Cargo) -> Result<Counts, Error> {
    let arguments = ["--locked", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"];
    Ok(Counts::of_check(cargo.succeeds("deny", &arguments)?))
}

fn build(cargo: &Cargo) -> Result<Counts, Error> {
    Ok(Counts::of_ground(cargo.succeeds("test", &["--workspace", "--locked", "--no-run"])?))
}

fn missing_component(name: &str) -> Counts {
    println!("{name} is missing; get it with `rustup component add {name}`");
    Counts::of_check(false)
}

/// On a build machine a skipped test is a test that silently stopped protecting anything.
fn is_strict(ci: Option<&str>) -> bool {
    ci == Some("true")
}

/// What the steps did, as they go.
#[derive(Default)]
struct Report {
    counts: Counts,
    steps: Vec<(&'static str, Counts, Duration)>,
}

impl Report {
    /// Runs one step, prints how it ended, and says whether nothing failed in it.
    fn step(&mut self, name: &'static str, work: impl FnOnce() -> Result<Counts, Error>) -> bool {
        println!("\n== {name}");
        let began = Instant::now();
        let counts = work().unwrap_or_else(|error| {
            println!("error: {}", describe(&error));
            Counts::of_check(false)
        });
        let took = began.elapsed();
        println!("== {name}: {} in {:.1} s", verdict(counts), took.as_secs_f64());
        self.counts += counts;
        self.steps.push((name, counts, took));
        counts.failed == 0
    }

    /// Prints where the time went, then the counts alone on the last line.
    fn finish(self, strict: bool) -> bool {
        println!();
        for (name, counts, took) in &self.steps {
            println!("{name:<14}{:>7.1} s  {}", took.as_secs_f64(), verdict(*counts));
        }
        let sound = is_sound(self.counts, strict);
        if !sound && self.counts.failed == 0 {
            println!("CI=true: a skipped test counts as a failure");
        }
        println!("{}", self.counts);
        sound
    }
}

fn is_sound(counts: Counts, strict: bool) -> bool {
    counts.failed == 0 && !(strict && counts.skipped > 0)
}

/// A step without counts of its own is just done.
fn verdict(counts: Counts) -> String {
    if counts == Counts::default() { "done".to_owned() } else { counts.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_spoils_the_whole_and_the_next_still_runs() {
        let mut report = Report::default();
        assert!(!report.step("first", || Err(Error::Usage("broken".to_owned()))));
        assert!(report.step("second", || Ok(Counts::of_check(true))));
        assert_eq!(report.counts, Counts { passed: 1, failed: 1, skipped: 0 });
        assert!(!report.finish(false));
    }

    #[test]
    fn a_skipped_test_fails_on_a_build_machine_only() {
        let counts = Counts { passed: 3, failed: 0, skipped: 1 };
        assert!(is_sound(counts, is_strict(None)));
        assert!(!is_sound(counts, is_strict(Some("true"))));
    }

    #[test]
    fn a_build_counts_only_when_it_fails() {
        assert_eq!(Counts::of_ground(true), Counts::default());
        assert_eq!(Counts::of_ground(false).failed, 1);
    }
}
