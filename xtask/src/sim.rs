//! `cargo xtask sim`: runs the simulator with the arguments given, and, with `--planted NAME`, with that bug compiled
//! into the production sources by `cfg(planted = "NAME")`, to show that the simulator finds it.

use crate::Error;
use crate::cargo::{Cargo, cannot_start};
use crate::repository::Repository;

pub(crate) fn run(cargo: &Cargo, arguments: &[&str]) -> Result<bool, Error> {
    let (planted, simulator) = split(arguments)?;
    let mut command = cargo.command("run", &["--quiet", "--locked", "--package=pelago-sim", "--example=sim", "--"]);
    command.args(simulator);
    if let Some(name) = planted {
        check_name(&name, &planted_bugs(&Repository::read(cargo)?))?;
        command.env("RUSTFLAGS", flags_with(&name, std::env::var("RUSTFLAGS").ok()));
        // Its own directory: other flags would rebuild every crate of the ordinary one, and again on the way back.
        command.env("CARGO_TARGET_DIR", cargo.metadata()?.target_directory.join("planted"));
    }
    let status = command.status().map_err(|cause| cannot_start(&command, cause))?;
    Ok(status.success())
}

/// Takes `--planted NAME` or `--planted=NAME` out of the arguments; the rest is the simulator's.
fn split(arguments: &[&str]) -> Result<(Option<String>, Vec<String>), Error> {
    let mut planted = None;
    let mut rest = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(&argument) = arguments.next() {
        if argument == "--planted" {
            let name = arguments.next().ok_or_else(|| Error::Usage("`--planted` needs a name".to_owned()))?;
            planted = Some((*name).to_owned());
        } else if let Some(name) = argument.strip_prefix("--planted=") {
            planted = Some(name.to_owned());
        } else {
            rest.push(argument.to_owned());
        }
    }
    Ok((planted, rest))
}

/// A misspelt name would compile in nothing, and the simulator would rightly find nothing.
fn check_name(name: &str, known: &[String]) -> Result<(), Error> {
    if known.iter().any(|bug| bug == name) {
        return Ok(());
    }
    Err(Error::Usage(format!("no bug `{name}` is planted; there are: {}", known.join(", "))))
}

/// The names of all bugs planted in the sources, sorted.
fn planted_bugs(repository: &Repository) -> Vec<String> {
    let mut names: Vec<String> = repository
        .rust_files_under("crates/")
        .flat_map(|file| file.text.split("planted = \"").skip(1))
        .filter_map(|rest| rest.split('"').next())
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    names
}

fn flags_with(name: &str, flags: Option<String>) -> String {
    let cfg = format!("--cfg planted=\"{name}\"");
    flags.map_or_else(|| cfg.clone(), |flags| format!("{flags} {cfg}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planted_bug_is_taken_out_of_the_arguments() {
        let (planted, rest) =
            split(&["--seeds", "10", "--planted", "early_ack", "--workload=tasks"]).expect("it is valid");
        assert_eq!(planted.as_deref(), Some("early_ack"));
        assert_eq!(rest, ["--seeds", "10", "--workload=tasks"]);
        assert!(split(&["--planted"]).is_err());
    }

    #[test]
    fn a_misspelt_bug_is_refused() {
        let source = "if cfg!(planted = \"early_ack\") { return; }";
        let known = planted_bugs(&Repository::of(&[("crates/pelago-core/src/lib.rs", source)]));
        assert!(check_name("early_ack", &known).is_ok());
        assert!(check_name("early_ak", &known).is_err());
    }

    #[test]
    fn a_planted_bug_keeps_the_flags_of_the_environment() {
        assert_eq!(flags_with("x", None), "--cfg planted=\"x\"");
        assert_eq!(flags_with("x", Some("-g".to_owned())), "-g --cfg planted=\"x\"");
    }
}
