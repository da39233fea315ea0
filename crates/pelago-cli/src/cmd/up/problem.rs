//! What can go wrong with a local mesh.

use std::{io, path::Path};

use pelago_api::problem::Problem;

use super::nodes::Lost;
use crate::{output::Error, problem::problem};

/// True of every `pelago up` that fails: it ends the nodes that it started.
const NONE_LEFT: &str = "no node that this command started was left running";

/// The folder has more nodes than were asked for.
pub(super) fn too_few(wanted: usize, names: &[&str]) -> Error {
    let detail = format!("the folder has {} nodes, not {wanted}: {}", names.len(), names.join(", "));
    let hint = "a mesh needs all of its nodes that may vote: leave the number out; a smaller mesh needs another folder: \
                --dir DIR";
    problem("PLG-3020", 400, "the folder has more nodes", detail, hint).into()
}

/// Another `pelago up` runs there.
pub(super) fn in_use(folder: &Path) -> Error {
    let detail = format!("another `pelago up` runs in {}", folder.display());
    let hint = "ask its nodes, or stop it; a second mesh needs a folder of its own: --dir DIR";
    problem("PLG-3021", 409, "the folder is in use", detail, hint).with_next("pelago status").into()
}

/// A node was started otherwise, as by the command that [`node_lost`] tells.
pub(super) fn runs_already(name: &str, data: &Path) -> Error {
    let detail = format!("{name} runs already, started by another command: {} is in use", data.display());
    let hint = "stop it first, by Ctrl-C where it was started; `pelago up` starts it with the others";
    problem("PLG-3025", 409, "a node runs already", detail, hint).with_next("pelago up").into()
}

/// The folder does not say which nodes it has.
pub(super) fn unreadable(file: &Path, cause: &serde_json::Error) -> Error {
    let detail = format!("{} cannot be read: {cause}", file.display());
    let hint = "remove that file: the nodes keep what they hold, and only their ports are forgotten";
    problem("PLG-3022", 500, "the mesh did not start", detail, hint).into()
}

/// The system refused something.
pub(super) fn system(what: &str, cause: &io::Error) -> Error {
    problem("PLG-3022", 500, "the mesh did not start", format!("failed to {what}: {cause}"), NONE_LEFT).into()
}

/// The user named a port that is not to be had.
pub(super) fn port_in_use(port: u16) -> Error {
    let detail = format!("port {port} is in use");
    problem("PLG-3026", 409, "the port is in use", detail, "choose another one, or 0 for any free one").into()
}

/// No port is left to listen on.
pub(super) fn no_port(from: u16) -> Error {
    let detail = format!("from port {from} on there are not enough that are free");
    problem("PLG-3022", 500, "the mesh did not start", detail, "try --port 0 --mesh-port 0").into()
}

/// A node did not start. `log` is the last it said.
pub(super) fn not_started(what: &str, log: &str) -> Error {
    problem("PLG-3022", 500, "the mesh did not start", said(what, log), NONE_LEFT).into()
}

/// No node is left of the mesh.
pub(super) fn all_removed(folder: &Path) -> Error {
    let detail = format!("all nodes in {} were removed from their mesh", folder.display());
    problem("PLG-3022", 500, "the mesh did not start", detail, "take another folder for a new mesh: --dir DIR").into()
}

/// A node ended; others go on.
pub(super) fn node_lost(lost: &Lost) -> Problem {
    let why = match lost.is_killed {
        true => String::new(),
        false => format!("; {} says why", lost.log.display()),
    };
    let hint = format!("the others go on while they are a majority{why}. Started alone, it is not stopped with them");
    problem("PLG-3023", 500, "a node has ended", lost.what.clone(), &hint).with_next(&lost.again)
}

/// All nodes have ended. `log` is the last that was said.
pub(super) fn all_lost(what: &str, log: &str) -> Error {
    let detail = said(&format!("{what}, and it was the last node"), log);
    problem("PLG-3024", 500, "all nodes have ended", detail, "what they hold is kept").with_next("pelago up").into()
}

fn said(what: &str, log: &str) -> String {
    let log = if log.is_empty() { "nothing" } else { log };
    format!("{what}; its log ends:\n{log}")
}
