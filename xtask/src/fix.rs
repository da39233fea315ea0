//! `cargo xtask fix`: the only command here that writes into the checkout.

use crate::Error;
use crate::cargo::Cargo;

/// Applies what clippy can apply by itself, then formats everything, its changes included.
pub(crate) fn run(cargo: &Cargo) -> Result<bool, Error> {
    let applied =
        cargo.succeeds("clippy", &["--workspace", "--all-targets", "--fix", "--allow-dirty", "--allow-staged"])?;
    let formatted = cargo.succeeds("fmt", &["--all"])?;
    Ok(applied && formatted)
}
