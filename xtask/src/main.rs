//! The commands of a developer: `cargo xtask verify | fix | tidy | sim | bench`.
//!
//! Is: everything that builds, checks and replays this workspace, on any machine with a Rust toolchain.
//! Is not: part of the product. No crate depends on it, and it knows the crates only by their paths and names.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a developer tool: its output is its product")]

mod bench;
mod cargo;
mod counts;
mod fix;
mod repository;
mod rust_text;
mod sim;
mod tidy;
mod verify;

use std::process::ExitCode;

use cargo::Cargo;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  verify   check everything: format, lints, tidy, build, tests; prints `N passed, N failed` at the end
  fix      format the sources and apply the lints that can be applied by machine
  tidy     check the rules of the house: arrows, words, leftovers, absences, loop map, promises
  sim      run the simulator: [--seeds N] [--seed S] [--workload W] [--planted NAME]
  bench    measure, with --peers beside other systems; writes bench/README.md and bench/results: [--peers] [--rounds N]
           [--seconds N] [--only GROUP,…] [--no-keep]";

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot read {path}")]
    Read {
        path: String,
        #[source]
        cause: std::io::Error,
    },
    #[error("cannot start `{command}`")]
    Start {
        command: String,
        #[source]
        cause: std::io::Error,
    },
    #[error("`cargo metadata` failed: {0}")]
    Metadata(String),
    #[error("{0}")]
    Usage(String),
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {}", describe(&error));
            ExitCode::from(2)
        }
    }
}

/// Runs one command. `Ok(false)` means that it ran and found something wrong.
fn run(arguments: &[String]) -> Result<bool, Error> {
    let cargo = Cargo::of_this_workspace();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["verify"] => Ok(verify::run(&cargo)),
        ["fix"] => fix::run(&cargo),
        ["tidy"] => tidy::run(&cargo),
        ["sim", rest @ ..] => sim::run(&cargo, rest),
        ["bench", rest @ ..] => bench::run(&cargo, rest),
        [] | ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(true)
        }
        [unknown, ..] => Err(Error::Usage(format!("`{unknown}` is not understood\n{USAGE}"))),
    }
}

/// The error with its causes on one line.
fn describe(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        line = format!("{line}: {inner}");
        cause = inner.source();
    }
    line
}
