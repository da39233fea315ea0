//! The report of `pelago demo`: what is said about a folder of text files, and how many hands write it together.
//!
//! Pure functions of their input: the same files give the same report, byte for byte, in whatever order the parts
//! arrive. [`files`] alone touches the disk. This module knows no agent, node or store; the crew that calls it does.
//!
//! ```text
//!  files::list ──► split ──► Assignment (a section: at most SECTION_FILES_MAX paths)
//!                               │  one reader task a file
//!                               ▼
//!                   files::study ──► Outcome ──► Section::collect     (a section agent's state)
//!                                                    │ Section::terms
//!                                                    ▼
//!                                 Vocabulary::add, once all are in    (the librarian's memory, never its state)
//!                                    │ weights_for            │ summary
//!                                    ▼                        ▼
//!                       Section::page ──► Page             Summary ──► Report::assemble ──► render
//! ```
//!
//! Every record that is stored or sent (`Assignment`, `Outcome`, `Section`, `SectionTerms`, `Weights`, `Page`,
//! `Summary`) stays below [`RECORD_BYTES_MAX`] as JSON, whatever the files hold. Only the vocabulary of all sections
//! together can grow beyond that; it is a sum that can be made again from the sections at any time, so it stays in
//! memory. `single` makes the same report without any of this, and `compare` tells the two apart.

pub(crate) mod compare;
pub(crate) mod files;
mod form;
mod outline;
pub(crate) mod page;
pub(crate) mod reading;
pub(crate) mod render;
mod scores;
mod sentences;
pub(crate) mod single;
pub(crate) mod summary;
mod words;

/// Most bytes of one stored or sent record as JSON. A state, a result and a batch of the mesh are each bounded to
/// 512 KiB; the rest is room for the envelope around the record.
pub(crate) const RECORD_BYTES_MAX: usize = 448 * 1024;
