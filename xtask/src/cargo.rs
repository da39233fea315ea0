//! Runs Cargo, and the tools it starts, always in the same way: in the root of the workspace, with the committed
//! lock file, and without a system `protoc`, so that nobody comes to need one unnoticed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::Error;

pub(crate) struct Cargo {
    root: PathBuf,
    program: String,
}

/// What tidy needs of `cargo metadata`: the packages of this workspace as their manifests declare them.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    pub(crate) target_directory: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) manifest_path: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) targets: Vec<Target>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// None for an ordinary dependency, else `dev` or `build`.
    pub(crate) kind: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Target {
    pub(crate) kind: Vec<String>,
    pub(crate) src_path: PathBuf,
}

impl Cargo {
    pub(crate) fn of_this_workspace() -> Self {
        // Asked when it runs: the program may have been built for another clone that shares the target directory.
        let manifest_dir = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where xtask lies");
        let root = Path::new(&manifest_dir).parent().expect("xtask lies one directory below the root").to_path_buf();
        // Set by the Cargo that runs us: the same toolchain builds the rest.
        let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        Self { root, program }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// `cargo SUBCOMMAND ARGUMENTS`, ready to run.
    pub(crate) fn command(&self, subcommand: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(&self.root).env("PROTOC", "/nonexistent").arg(subcommand).args(arguments);
        command
    }

    /// Runs `cargo SUBCOMMAND ARGUMENTS` on our own terminal and says whether it succeeded.
    pub(crate) fn succeeds(&self, subcommand: &str, arguments: &[&str]) -> Result<bool, Error> {
        let mut command = self.command(subcommand, arguments);
        let status = command.status().map_err(|cause| cannot_start(&command, cause))?;
        Ok(status.success())
    }

    /// Says whether Cargo has this subcommand: `nextest`, `deny`, `clippy` and `fmt` are programs of their own.
    pub(crate) fn has(&self, subcommand: &str) -> bool {
        let mut command = self.command(subcommand, &["--version"]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }

    pub(crate) fn metadata(&self) -> Result<Metadata, Error> {
        let mut command = self.command("metadata", &["--format-version=1", "--no-deps", "--offline"]);
        let output = command.output().map_err(|cause| cannot_start(&command, cause))?;
        if !output.status.success() {
            return Err(Error::Metadata(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        serde_json::from_slice(&output.stdout).map_err(|cause| Error::Metadata(cause.to_string()))
    }
}

pub(crate) fn cannot_start(command: &Command, cause: std::io::Error) -> Error {
    Error::Start { command: command.get_program().to_string_lossy().into_owned(), cause }
}
