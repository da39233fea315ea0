//! The agents that every `pelago` binary brings along: small enough to read, useful enough to try things out.
//!
//! They are registered through the call that a program of yours uses, [`pelago::serve`], and have no other rights.
//! `counter` is the one to read first.

mod append;
mod counter;
pub(crate) mod crew;
mod echo;
mod flaky;
mod reader;
mod reminder;
mod sleeper;

use pelago::Kind;

/// All of them.
pub(crate) fn kinds() -> Vec<Kind> {
    let mut kinds = vec![
        append::kind(),
        counter::kind(),
        echo::kind(),
        flaky::kind(),
        reader::kind(),
        reminder::kind(),
        sleeper::kind(),
    ];
    kinds.extend(crew::kinds());
    kinds
}
