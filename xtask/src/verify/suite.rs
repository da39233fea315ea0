//! Runs the tests, shows their output as it comes, and reads the counts out of it.
//!
//! With cargo-nextest if it is there: a process a test, and a hanging test is ended. Else with `cargo test`, which
//! needs nothing and counts the same. Documentation tests are run by `cargo test` in both cases.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use crate::Error;
use crate::cargo::{Cargo, cannot_start};
use crate::counts::Counts;

pub(super) fn run(cargo: &Cargo) -> Result<Counts, Error> {
    if !cargo.has("nextest") {
        return counted(cargo.command("test", &["--workspace", "--locked", "--no-fail-fast"]), &Output::Standard);
    }
    let mut counts = counted(cargo.command("nextest", &["run", "--workspace", "--locked"]), &Output::Errors)?;
    counts +=
        counted(cargo.command("test", &["--workspace", "--locked", "--no-fail-fast", "--doc"]), &Output::Standard)?;
    Ok(counts)
}

/// The stream on which a test runner writes its results.
enum Output {
    Standard,
    Errors,
}

/// Runs the command and adds up the summaries it prints. A run that fails, or says nothing, counts a failure at least.
fn counted(mut command: Command, output: &Output) -> Result<Counts, Error> {
    match output {
        Output::Standard => command.stdout(Stdio::piped()),
        Output::Errors => command.stderr(Stdio::piped()),
    };
    let mut child = command.spawn().map_err(|cause| cannot_start(&command, cause))?;
    let summaries = match output {
        Output::Standard => child.stdout.take().map(show_and_read),
        Output::Errors => child.stderr.take().map(show_and_read),
    };
    let status = child.wait().map_err(|cause| cannot_start(&command, cause))?;
    Ok(judge(summaries.flatten(), status.success()))
}

fn judge(summaries: Option<Counts>, succeeded: bool) -> Counts {
    let mut counts = summaries.unwrap_or_default();
    if counts.failed == 0 && (!succeeded || summaries.is_none()) {
        counts.failed = 1;
    }
    counts
}

/// Prints every line and returns the sum of the summaries; None if there was none.
fn show_and_read(stream: impl Read) -> Option<Counts> {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    let mut sum: Option<Counts> = None;
    while stream.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
        let text = String::from_utf8_lossy(&line);
        print!("{text}");
        if let Some(counts) = of_nextest(&text).or_else(|| of_cargo_test(&text)) {
            *sum.get_or_insert_default() += counts;
        }
        line.clear();
    }
    sum
}

/// `Summary [ 0.3s] 5 tests run: 3 passed (1 slow), 1 failed, 1 timed out, 2 skipped`.
fn of_nextest(line: &str) -> Option<Counts> {
    let summary = line.trim_start().strip_prefix("Summary [")?;
    let (_, parts) = summary.split_once(" run: ")?;
    Some(sum_of_parts(&without_brackets(parts), ','))
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.1s`.
fn of_cargo_test(line: &str) -> Option<Counts> {
    let summary = line.strip_prefix("test result: ")?;
    let (_, parts) = summary.split_once(". ")?;
    Some(sum_of_parts(parts, ';'))
}

fn sum_of_parts(parts: &str, separator: char) -> Counts {
    let mut counts = Counts::default();
    for part in parts.split(separator) {
        let (number, what) = part.trim().split_once(' ').unwrap_or_default();
        let number = number.parse().unwrap_or(0);
        match what.trim() {
            "passed" => counts.passed += number,
            "failed" | "exec failed" | "timed out" => counts.failed += number,
            "skipped" | "ignored" => counts.skipped += number,
            _ => {}
        }
    }
    counts
}

/// Details in brackets repeat what the numbers before them say.
fn without_brackets(text: &str) -> String {
    let mut depth = 0usize;
    let mut kept = String::new();
    for character in text.chars() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ if depth == 0 => kept.push(character),
            _ => {}
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(passed: usize, failed: usize, skipped: usize) -> Counts {
        Counts { passed, failed, skipped }
    }

    #[test]
    fn the_summary_of_nextest_is_read() {
        let line = "     Summary [   1.2s] 9/10 tests run: 4 passed (1 slow, 1 flaky), 1 failed, 1 exec failed, \
                    3 timed out, 2 skipped\n";
        assert_eq!(of_nextest(line), Some(counts(4, 5, 2)));
        assert_eq!(of_nextest("     Summary [   0.01s] 1 test run: 1 passed, 0 skipped"), Some(counts(1, 0, 0)));
        assert_eq!(of_nextest("        PASS [   0.01s] xtask counts::tests::a_passed_test"), None);
    }

    #[test]
    fn the_summaries_of_cargo_test_are_added_up() {
        let output = "test a ... ok\n\
            test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 9 filtered out; finished in 0.00s\n\
            test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
        assert_eq!(show_and_read(output.as_bytes()), Some(counts(4, 2, 1)));
    }

    #[test]
    fn a_run_that_fails_or_says_nothing_counts_a_failure() {
        assert_eq!(judge(Some(counts(3, 0, 0)), true), counts(3, 0, 0));
        assert_eq!(judge(Some(counts(3, 0, 0)), false), counts(3, 1, 0));
        assert_eq!(judge(Some(counts(3, 2, 0)), false), counts(3, 2, 0));
        assert_eq!(judge(None, true), counts(0, 1, 0));
    }
}
