//! Tells the program from which commit it is built, for `pelago bench`: as `PELAGO_COMMIT` says, else as git says of
//! this very workspace. A build without git, or from a tarball within somebody else's repository, knows none.

use std::{
    env,
    io::{self, Write},
    path::Path,
    process::Command,
};

fn main() -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "cargo::rerun-if-changed=build.rs")?;
    writeln!(out, "cargo::rerun-if-env-changed=PELAGO_COMMIT")?;
    if env::var_os("PELAGO_COMMIT").is_some() || !is_of_this_workspace() {
        return Ok(());
    }
    // It has a new line with every commit and every other branch.
    if let Some(log) = git(&["rev-parse", "--path-format=absolute", "--git-path", "logs/HEAD"]) {
        writeln!(out, "cargo::rerun-if-changed={log}")?;
    }
    if let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) {
        writeln!(out, "cargo::rustc-env=PELAGO_COMMIT={commit}")?;
    }
    Ok(())
}

fn is_of_this_workspace() -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let (Some(top), Ok(root)) = (git(&["rev-parse", "--show-toplevel"]), root.canonicalize()) else { return false };
    Path::new(&top).canonicalize().is_ok_and(|top| top == root)
}

/// What git answers, if it is there and does.
fn git(words: &[&str]) -> Option<String> {
    let asked = Command::new("git").args(words).output().ok().filter(|asked| asked.status.success())?;
    Some(String::from_utf8(asked.stdout).ok()?.trim().to_owned()).filter(|answer| !answer.is_empty())
}
