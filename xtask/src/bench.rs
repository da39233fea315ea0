//! `cargo xtask bench`: builds what is measured, and measures it by `bench/run.py`, with `--peers` beside the programs in
//! `bench/peers`. What cannot be built is left out, and said to be. Alone of all commands but `fix` it writes into the
//! checkout: the table of `bench/README.md`, and raw lines in `bench/results`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::Error;
use crate::cargo::{Cargo, cannot_start};

const PEERS: &str = "bench/peers";

pub(crate) fn run(cargo: &Cargo, arguments: &[&str]) -> Result<bool, Error> {
    if !cargo.succeeds("build", &["--release", "--locked"])? {
        return Ok(false);
    }
    let built = cargo.metadata()?.target_directory;
    let with_peers = arguments.contains(&"--peers");
    // One folder for all of them, outside of that of the workspace, which has other features.
    let built_peers = built.join("peers");
    if with_peers {
        build_peers(cargo, &built_peers)?;
    }
    let mut measure = Command::new("python3");
    measure.current_dir(cargo.root()).arg("bench/run.py");
    measure.arg(format!("--shown=cargo xtask bench {}", arguments.join(" ")).trim_end());
    measure.arg("--pelago").arg(built.join("release/pelago"));
    for program in ["etcd-load", "tonic-load", "tcp-load"] {
        measure.arg(format!("--{program}")).arg(built_peers.join("release").join(program));
    }
    let status = measure.args(arguments).status().map_err(|cause| cannot_start(&measure, cause))?;
    Ok(status.success())
}

/// Builds every program for comparison. One that cannot be built is none of ours: the others go on without it.
fn build_peers(cargo: &Cargo, into: &Path) -> Result<(), Error> {
    for folder in folders(&cargo.root().join(PEERS))? {
        let mut build = cargo.command("build", &["--release", "--locked"]);
        // Theirs may need the system's.
        build.current_dir(&folder).env("CARGO_TARGET_DIR", into);
        match env::var_os("PROTOC") {
            Some(protoc) => build.env("PROTOC", protoc),
            None => build.env_remove("PROTOC"),
        };
        let status = build.status().map_err(|cause| cannot_start(&build, cause))?;
        if !status.success() {
            eprintln!("left out: {} cannot be built", folder.display());
        }
    }
    Ok(())
}

/// The folders with a program in Rust, by their names.
fn folders(within: &Path) -> Result<Vec<PathBuf>, Error> {
    let read = |cause| Error::Read { path: within.display().to_string(), cause };
    let entries = fs::read_dir(within).map_err(read)?;
    let mut folders: Vec<PathBuf> =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>().map_err(read)?;
    folders.retain(|folder| folder.join("Cargo.toml").exists());
    folders.sort();
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_in_rust_are_found() {
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(PEERS);
        let folders = folders(&peers).expect("they can be listed");
        let names: Vec<_> = folders.iter().filter_map(|folder| folder.file_name()?.to_str()).collect();
        assert_eq!(names, ["etcd", "tcp", "tonic"]);
    }
}
