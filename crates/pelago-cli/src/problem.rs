//! Problems that no node knows of: of the command line, of this process, of a task that did not end well.
//!
//! `PLG-3xxx`. Like the codes of requests, a number keeps its meaning for ever.

use std::{borrow::Cow, collections::BTreeMap, io, path::Path, time::Duration};

use pelago::config;
use pelago_api::{
    model::{Signal, Task, words},
    problem::Problem,
};
use pelago_core::record::TaskState;

/// The command line is not one of ours. `command` is the one that was meant, as far as it was understood.
pub(crate) fn usage(detail: impl Into<String>, command: &str) -> Problem {
    problem(
        "PLG-3001",
        400,
        "the command line is not valid",
        detail.into(),
        "every command has examples in its long help",
    )
    .with_next(format!("{command} --help"))
}

/// A file or stdin that was to be the input cannot be read.
pub(crate) fn unreadable_input(name: &Path, cause: &io::Error) -> Problem {
    problem(
        "PLG-3002",
        400,
        "the input cannot be read",
        format!("{} cannot be read: {cause}", name.display()),
        "an input is JSON, text, @FILE, or - for stdin; a text that begins with @ is written as JSON: '\"@text\"'",
    )
}

/// An input that begins like JSON and is none.
pub(crate) fn broken_json(cause: &serde_json::Error) -> Problem {
    problem(
        "PLG-3008",
        400,
        "the input is broken JSON",
        format!("the input begins like JSON and is not valid: {cause}"),
        "mend it, or send it as the text that it is with --text",
    )
}

/// Several tasks have an id that begins so. `meant` has a line each.
pub(crate) fn ambiguous_task(beginning: &str, meant: &str) -> Problem {
    problem(
        "PLG-3009",
        400,
        "the task id is ambiguous",
        format!("the ids of several tasks begin with {beginning}:{meant}"),
        "write more of it",
    )
}

/// stdout takes no more.
pub(crate) fn unwritable_output(cause: &io::Error) -> Problem {
    problem(
        "PLG-3003",
        500,
        "the output cannot be written",
        format!("stdout cannot be written: {cause}"),
        "whatever the command did took effect; only its answer is lost",
    )
}

/// A task that was waited for is dead or cancelled; `None` for one that is done or goes on.
pub(crate) fn ended_badly(task: &Task) -> Option<Problem> {
    let attempts = match task.attempt {
        1 => "1 attempt".to_owned(),
        many => format!("{many} attempts"),
    };
    let what = match task.state {
        TaskState::Queued | TaskState::Running | TaskState::Done => return None,
        TaskState::Dead => format!("task {} is dead after {attempts}", task.id),
        TaskState::Cancelled => format!("task {} was cancelled", task.id),
    };
    let detail = match &task.reason {
        Some(reason) => format!("{what}: {reason}"),
        None => what,
    };
    let hint =
        format!("its events tell more: pelago task events {}; if its input is at fault, give a new task", task.id);
    let problem = problem("PLG-3004", 500, "the task did not end well", detail, &hint);
    Some(problem.with_next(format!("pelago task retry {}", task.id)))
}

/// A task that was waited for goes on.
pub(crate) fn waited_out(task: &Task, waited: Duration) -> Problem {
    let state = words::task_state::as_str(task.state);
    let detail = format!("task {} is {state} after {} ms", task.id, waited.as_millis());
    problem(
        "PLG-3005",
        504,
        "the task has not ended in time",
        detail,
        "it goes on; wait longer, or look at what it does",
    )
    .with_next(format!("pelago task events {}", task.id))
}

/// A signal that was waited for did not get everywhere.
pub(crate) fn signal_partial(signal: &Signal, branches: &[String]) -> Problem {
    let detail = format!("signal {} did not get everywhere: {}", signal.id, branches.join("; "));
    problem(
        "PLG-3027",
        500,
        "the signal did not get everywhere",
        detail,
        "what the other agents did stays done; the tree says what came of each branch",
    )
}

/// A signal that was waited for goes on.
pub(crate) fn signal_goes_on(signal: &Signal) -> Problem {
    problem(
        "PLG-3028",
        504,
        "the signal has not ended in time",
        format!("signal {} goes on", signal.id),
        "wait longer for it",
    )
    .with_next(format!("pelago signal show {} --wait 30s", signal.id))
}

/// Of so many broadcasts some did not reach all: `missed` says how many each node gave no word of.
pub(crate) fn unreached(broadcasts: u64, missed: &BTreeMap<String, u64>) -> Problem {
    let nodes: Vec<_> = missed.iter().map(|(node, count)| format!("{node} of {count}")).collect();
    let detail = format!("no word from {} of {broadcasts} broadcasts", nodes.join(", "));
    let hint = "the figures tell how long the mesh waited for them; agents there may have been told, or not";
    problem("PLG-3029", 500, "not everybody was reached", detail, hint).with_next("pelago node ls")
}

/// Something in a node's configuration. Its code is its own.
pub(crate) fn of_configuration(found: &config::Problem) -> Problem {
    let (code, title) = (found.code.to_string(), "the configuration is not valid");
    Problem {
        uri: Cow::Owned(format!("urn:pelago:{code}")),
        code: Cow::Owned(code),
        title: Cow::Borrowed(title),
        status: 400,
        detail: format!("{}: {}", found.at, found.message),
        hint: found.hint.clone().unwrap_or_else(|| "pelago.example.toml has every key".to_owned()),
        next: None,
        retryable: false,
    }
}

/// What the configuration asks for is not there.
pub(crate) fn not_to_be_had(detail: String) -> Problem {
    let hint = "change the configuration, or run the program that has it";
    problem("PLG-3006", 400, "the node cannot be what it should", detail, hint)
}

/// A node did not start, or could not go on.
pub(crate) fn node_ended(detail: String, has_data: bool) -> Problem {
    let hint = match has_data {
        true => "what was acknowledged is kept; its log says more",
        false => "no node was begun here; mend that and start it again",
    };
    problem("PLG-3007", 500, "the node has ended", detail, hint)
}

/// The mesh has removed the node. Whoever started it tells by the exit code.
pub(crate) fn node_removed(detail: String) -> Problem {
    let hint = "the mesh goes on without it";
    problem("PLG-3012", 404, "the node was removed from the mesh", detail, hint).with_next("pelago node ls")
}

/// Any other; each number stands in one place.
pub(crate) fn problem(code: &'static str, status: u16, title: &'static str, detail: String, hint: &str) -> Problem {
    Problem {
        uri: Cow::Owned(format!("urn:pelago:{code}")),
        code: Cow::Borrowed(code),
        title: Cow::Borrowed(title),
        status,
        detail,
        hint: hint.to_owned(),
        next: None,
        retryable: false,
    }
}
