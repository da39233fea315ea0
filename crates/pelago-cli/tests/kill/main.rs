//! Real processes that are killed, stopped and started again, while clients write; cut off in one direction, asked for
//! more than they can do, and by clients who come and go, or read nothing.
//!
//! What was acknowledged must be there afterwards, once. Every test says what it did on stderr, with its seed.

use std::io::{self, Write as _};

mod crowd;
mod gossip;
mod mesh;
mod namespaces;
mod overload;
mod partition;
mod proxy;
mod register;
mod sessions;
mod slow;
mod soak;
mod storm;
mod tail;
mod tells;
mod tests;

/// Tells whoever reads the test's output.
fn say(text: &str) {
    // Without stderr there is nobody to tell.
    let _unheard = writeln!(io::stderr(), "{text}");
}
