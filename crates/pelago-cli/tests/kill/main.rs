//! Real processes that are killed, stopped and started again, while clients write.
//!
//! What was acknowledged must be there afterwards, once. Every test says what it did on stderr, with its seed.

use std::io::{self, Write as _};

mod gossip;
mod mesh;
mod register;
mod tells;
mod tests;

/// Tells whoever reads the test's output.
fn say(text: &str) {
    // Without stderr there is nobody to tell.
    let _unheard = writeln!(io::stderr(), "{text}");
}
