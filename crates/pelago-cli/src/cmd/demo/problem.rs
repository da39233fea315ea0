//! What can go wrong with a demo, apart from what it looks for.

use std::{error, io, path::Path};

use crate::{
    output::Error,
    problem::problem,
    report::files::{self, Listing, Skipped},
};

/// There is nothing to read, or nobody said what.
pub(super) fn no_files(error: &files::Error) -> Error {
    let hint = "PATH is a folder of text files, or one file";
    usage("the files cannot be listed", chain(error), hint)
}

/// How many skipped files are named where there is no report to name them.
const SKIPPED_SHOWN: usize = 20;

/// There is no file, or none that can be read as text.
pub(super) fn no_text(listing: &Listing) -> Error {
    let Listing { title, skipped, .. } = listing;
    let mut detail = match skipped.len() {
        0 => format!("{title} holds no file"),
        1 => format!("there is no text to read in {title}, one file is skipped:"),
        many => format!("there is no text to read in {title}, {many} files are skipped:"),
    };
    let shown = skipped.iter().take(SKIPPED_SHOWN);
    detail.extend(shown.map(|Skipped { path, reason }| format!("\n  {}: {reason}", path.escape_debug())));
    if let Some(more @ 1..) = skipped.len().checked_sub(SKIPPED_SHOWN) {
        detail.push_str(&format!("\n  and {more} more"));
    }
    usage("there is nothing to read", detail, "name a folder of text files")
}

/// The report has nowhere to go.
pub(super) fn no_place(detail: String) -> Error {
    usage("the report cannot be written", detail, "name a file in a folder that is there")
}

/// There is a file where the report should go.
pub(super) fn in_the_way(path: &Path) -> Error {
    let detail = format!("{} is there already, and nothing is overwritten", path.display());
    usage("the report cannot be written", detail, "name a file that is not there yet, or remove this one")
}

/// The system refused something that a demo needs.
pub(super) fn system(what: &str, cause: &io::Error) -> Error {
    failed(&format!("failed to {what}: {cause}"), "nothing was left behind that runs")
}

/// A node did not start, or ended by itself. `log` is the last it said.
pub(super) fn node_ended(what: &str, log: &str) -> Error {
    let said = if log.is_empty() { "nothing" } else { log };
    failed(&format!("{what}; it said: {said}"), "PELAGO_LOG=debug makes a node say more")
}

/// The nodes are ready, and the mesh is not.
pub(super) fn unsettled(standing: &str) -> Error {
    let detail = format!("the mesh cannot do without any of its nodes yet: {standing}");
    failed(&detail, "PELAGO_LOG=debug makes a node say more")
}

/// All the work was done before a node could be killed, although the readings were held for it.
pub(super) fn nothing_to_lose() -> Error {
    let detail = "all files were read before a node could be killed in the middle: the machine is too busy";
    failed(detail, "try again when it has less to do")
}

/// The mesh has work and does none.
pub(super) fn stalled(seconds: u64) -> Error {
    failed(
        &format!("nothing was done for {seconds} s although there is work"),
        "PELAGO_LOG=debug makes a node say more",
    )
}

/// All work has ended, and there is no summary.
pub(super) fn no_summary() -> Error {
    failed("all work has ended, and the librarian has no summary", "PELAGO_LOG=debug makes a node say more")
}

/// Something answered what the crew does not answer.
pub(super) fn bad_reply(who: &str, cause: &serde_json::Error) -> Error {
    failed(&format!("the reply of {who} cannot be read: {cause}"), "is every process of the same version?")
}

fn usage(title: &'static str, detail: String, hint: &str) -> Error {
    problem("PLG-3010", 400, title, detail, hint).with_next("pelago demo docs").into()
}

fn failed(detail: &str, hint: &str) -> Error {
    problem("PLG-3011", 500, "the demo could not be played", detail.to_owned(), hint).into()
}

fn chain(error: &dyn error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", chain(cause)),
        None => error.to_string(),
    }
}
