//! What a machine needs beside the Rust toolchain. On Debian as root it is installed; anywhere else the words say what
//! is missing and how to get it.

use std::path::Path;
use std::process::{Command, Stdio};

struct Requirement {
    /// The program, unless the variable names another.
    program: &'static str,
    variable: &'static str,
    purpose: &'static str,
    debian: &'static [&'static str],
    elsewhere: &'static str,
}

const REQUIREMENTS: &[Requirement] = &[Requirement {
    program: "cc",
    variable: "CC",
    purpose: "a C compiler, which builds the bundled SQLite",
    debian: &["gcc", "libc6-dev"],
    elsewhere: "macOS: `xcode-select --install`; Fedora: `dnf install gcc`; Arch: `pacman -S gcc`",
}];

/// Installs what is missing where it can, and says whether everything is there.
pub(super) fn meet() -> bool {
    let may_install = Path::new("/etc/debian_version").exists() && is_root();
    let mut met = true;
    for requirement in REQUIREMENTS.iter().filter(|requirement| !requirement.is_there()) {
        if !(may_install && install(requirement.debian) && requirement.is_there()) {
            println!("{}", requirement.advice());
            met = false;
        }
    }
    met
}

impl Requirement {
    fn is_there(&self) -> bool {
        let named = std::env::var(self.variable).unwrap_or_else(|_| self.program.to_owned());
        named.split_whitespace().next().is_some_and(is_on_the_path)
    }

    fn advice(&self) -> String {
        let debian = self.debian.join(" ");
        format!(
            "missing: `{}`, {}\n  Debian: `apt-get install {debian}`; {}",
            self.program, self.purpose, self.elsewhere
        )
    }
}

fn is_on_the_path(program: &str) -> bool {
    let directories = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&directories).any(|directory| directory.join(program).is_file())
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").stderr(Stdio::null()).output();
    output.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn install(packages: &[&str]) -> bool {
    println!("installing {}", packages.join(" "));
    apt_get(&["update", "--quiet"]) && apt_get(&[&["install", "--yes", "--no-install-recommends"], packages].concat())
}

fn apt_get(arguments: &[&str]) -> bool {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args(arguments);
    command.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABSENT: Requirement = Requirement {
        program: "no-such-program",
        variable: "PELAGO_NO_SUCH_VARIABLE",
        purpose: "nothing",
        debian: &["a", "b"],
        elsewhere: "macOS: `c`",
    };

    #[test]
    fn what_is_missing_is_said_with_the_way_to_get_it() {
        assert!(!ABSENT.is_there());
        assert_eq!(ABSENT.advice(), "missing: `no-such-program`, nothing\n  Debian: `apt-get install a b`; macOS: `c`");
    }

    #[test]
    fn a_program_is_looked_up_on_the_path() {
        assert!(is_on_the_path("cargo"));
        assert!(!is_on_the_path("no-such-program"));
    }
}
