//! Tells the simulator which bug is compiled into it, so that its replay command can say so.

use std::{env, io, io::Write as _};

fn main() -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "cargo::rerun-if-changed=build.rs")?;
    if let Ok(bug) = env::var("CARGO_CFG_PLANTED") {
        writeln!(out, "cargo::rustc-env=PELAGO_PLANTED={bug}")?;
    }
    Ok(())
}
