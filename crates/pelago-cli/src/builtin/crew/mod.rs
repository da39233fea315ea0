//! The crew of `pelago demo`: agents that read a folder of text files together and write one report.
//!
//! ```text
//!                  task: Assign                 message: Take
//!   the command ────────────────► librarian ───────────────────► section:1 … section:n
//!                                   │   ▲                           │  ▲
//!                                   │   └──── message: Complete ────┘  │
//!          task a file, with a key  ▼                                  │
//!                              file-reader ────── message: Outcome ────┘
//!
//!   then, once all sections are complete:   librarian ── ask: Terms ──► section
//!                                           librarian ── message: Weights ──► section, which writes its page
//! ```
//!
//! Each step is one commit, so a node may be killed between any two. A turn of the librarian hands out a section's work
//! with all its tasks or not at all; a reading leaves with its task's result or not at all; a section takes an outcome
//! in as it takes the message out of its inbox. Only the question for terms may be asked twice, and it changes nothing.
//! Nobody whom the librarian asks ever asks it, so no two of them can wait for each other.

mod errand;
mod file_reader;
mod gate;
pub(crate) mod librarian;
pub(crate) mod section;

use pelago::Kind;

pub(crate) use errand::Errand;
pub(crate) use file_reader::{FILE_READER, idempotency_key};

/// The crew, on a node that a demo started. Elsewhere nobody: no other node shall read files for whoever asks it.
pub(super) fn kinds() -> Vec<Kind> {
    match Errand::of_process() {
        Some(errand) => vec![librarian::kind(), section::kind(), file_reader::kind(&errand)],
        None => Vec::new(),
    }
}
