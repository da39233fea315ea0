//! What is not there: loops outside the loop map, openraft outside `raft`, shared locks in signatures, clocks in core.

use super::Finding;
use crate::repository::{File, Repository};
use crate::rust_text::{identifiers, item_length, line_of, places_of};

/// Where loops and threads may start, as modules: the path without `.rs`.
const LOOPS_START_IN: &[&str] = &[
    "crates/pelago-node/src/loops",
    "crates/pelago-node/src/agents",
    // Dials, and answers to other nodes.
    "crates/pelago-node/src/mesh",
    // Signals that were taken here.
    "crates/pelago-node/src/signals",
    "crates/pelago-net/src/driver",
    // openraft's own, on the runtime of consensus.
    "crates/pelago-node/src/raft",
    // The thread that writes and flushes the log, and the one that writes SQLite.
    "crates/pelago-store/src/log",
    "crates/pelago-store/src/sqlite",
    // The listeners.
    "crates/pelago-api/src/http",
    "crates/pelago-api/src/line",
    // The runtimes of `pelago serve`, and of a command that is a client.
    "crates/pelago/src/serve",
    // A client's dial.
    "crates/pelago/src/mesh",
    "crates/pelago-cli/src/main",
];

const OPENRAFT_STAYS_IN: &str = "crates/pelago-node/src/raft";

/// Crates whose only time is the one they are given.
const WITHOUT_CLOCK: &[&str] = &["crates/pelago-core/", "crates/pelago-wire/"];

pub(super) fn check(repository: &Repository) -> Vec<Finding> {
    let rules = [loops_elsewhere, openraft_elsewhere, locks_in_signatures, clocks];
    let files = repository.rust_files_under("crates/");
    files.flat_map(|file| rules.iter().flat_map(move |rule| rule(file))).collect()
}

/// The lines that start a loop or a thread: calls of `spawn` with an argument. A process starts without one.
pub(super) fn spawn_lines(file: &File) -> Vec<usize> {
    let code = &file.production;
    let calls = ["spawn", "spawn_local", "spawn_on"].into_iter().flat_map(|name| {
        places_of(code, name).filter(|&at| !code[..at].trim_end().ends_with("fn")).filter(move |at| {
            let arguments = code[at + name.len()..].strip_prefix('(');
            arguments.is_some_and(|arguments| !arguments.trim_start().starts_with(')'))
        })
    });
    calls.map(|at| line_of(code, at)).collect()
}

fn loops_elsewhere(file: &File) -> Vec<Finding> {
    if LOOPS_START_IN.iter().any(|module| is_in_module(&file.path, module)) {
        return Vec::new();
    }
    let message = "a loop starts here: loops start only in the modules of the loop map";
    spawn_lines(file).into_iter().map(|line| Finding::new(&file.path, line, message)).collect()
}

fn openraft_elsewhere(file: &File) -> Vec<Finding> {
    if is_in_module(&file.path, OPENRAFT_STAYS_IN) {
        return Vec::new();
    }
    let places = places_of(&file.rust.code, "openraft").map(|at| line_of(&file.rust.code, at));
    places.map(|line| Finding::new(&file.path, line, "openraft's types stay in node/raft")).collect()
}

fn locks_in_signatures(file: &File) -> Vec<Finding> {
    let code = &file.production;
    let functions = places_of(code, "fn").map(|at| (at, header(&code[at..])));
    let aliases = places_of(code, "type").map(|at| (at, header(&code[at..])));
    // A public field or static stands on its line.
    let public = places_of(code, "pub").map(|at| (at, code[at..].lines().next().unwrap_or(&code[at..])));
    let mut lines: Vec<usize> = functions
        .chain(aliases)
        .chain(public)
        .filter(|(_, signature)| shares_a_lock(signature))
        .map(|(at, _)| line_of(code, at))
        .collect();
    lines.sort_unstable();
    lines.dedup();
    let message = "a shared lock in a signature: give the state an owner and a handle";
    lines.into_iter().map(|line| Finding::new(&file.path, line, message)).collect()
}

/// An item up to its body.
fn header(item: &str) -> &str {
    let item = &item[..item_length(item)];
    item.split('{').next().unwrap_or(item)
}

/// `Arc<Mutex<…>>` or `Arc<RwLock<…>>`, by whatever path.
fn shares_a_lock(signature: &str) -> bool {
    let dense: String = signature.split_whitespace().collect();
    dense.split("Arc<").skip(1).any(|inner| {
        let path = inner.split(['<', '>', ',']).next().unwrap_or(inner);
        matches!(path.rsplit("::").next(), Some("Mutex" | "RwLock"))
    })
}

fn clocks(file: &File) -> Vec<Finding> {
    // An example may measure what the crate only does.
    let is_example = file.path.contains("/examples/");
    if is_example || !WITHOUT_CLOCK.iter().any(|place| file.path.starts_with(place)) {
        return Vec::new();
    }
    identifiers(&file.rust.code)
        .filter(|(_, word)| matches!(*word, "Instant" | "SystemTime"))
        .map(|(line, word)| {
            Finding::new(&file.path, line, format!("`{word}`: this crate has no clock, it is told the time"))
        })
        .collect()
}

fn is_in_module(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [usize; 0] = [];

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&Repository::of(&[(path, text)])).into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_loop_starts_only_in_the_loop_map() {
        let text = "fn a() {\n tokio::spawn(b());\n set.spawn(\n async {});\n thread::spawn(|| ());\n}";
        assert_eq!(lines("crates/pelago-node/src/mover.rs", text), [2, 3, 5]);
        assert_eq!(lines("crates/pelago-node/src/loops.rs", text), NONE);
        assert_eq!(lines("crates/pelago-node/src/loops/mod.rs", text), NONE);
        assert_eq!(lines("crates/pelago-node/src/loopsided.rs", text), [2, 3, 5]);
    }

    #[test]
    fn processes_definitions_tests_and_comments_start_no_loop() {
        let text = "// tokio::spawn(a)\nfn spawn(a: u8) { Command::new(\"a\").spawn(); }\n\
                    #[cfg(test)]\nmod tests { fn b() { tokio::spawn(c()); } }";
        assert_eq!(lines("crates/pelago-cli/src/demo.rs", text), NONE);
        assert_eq!(lines("crates/pelago-cli/tests/demo.rs", "fn a() { tokio::spawn(b()); }"), NONE);
    }

    #[test]
    fn openraft_stays_in_its_module() {
        let text = "use openraft::Raft;";
        assert_eq!(lines("crates/pelago-node/src/raft/network.rs", text), NONE);
        assert_eq!(lines("crates/pelago-node/src/status.rs", text), [1]);
    }

    #[test]
    fn a_shared_lock_in_a_signature_is_found() {
        let path = "crates/pelago-node/src/a.rs";
        assert_eq!(lines(path, "fn a(\n b: Arc<std::sync::Mutex<u8>>,\n) {}"), [1]);
        assert_eq!(lines(path, "fn a() -> Vec<Arc<RwLock<u8>>> {}"), [1]);
        assert_eq!(lines(path, "struct A {\n pub(crate) b: Arc<Mutex<u8>>,\n}"), [2]);
        assert_eq!(lines(path, "type A = Arc<Mutex<u8>>;"), [1]);
    }

    #[test]
    fn a_private_lock_is_nobodys_business() {
        let path = "crates/pelago-node/src/a.rs";
        assert_eq!(lines(path, "struct A { b: Arc<Mutex<u8>> }"), NONE);
        assert_eq!(lines(path, "fn a() { let b: Arc<Mutex<u8>> = c(); }"), NONE);
        assert_eq!(lines(path, "fn a(b: Arc<MutexFree>, c: [Mutex<u8>; 2]) {}"), NONE);
    }

    #[test]
    fn core_and_wire_have_no_clock() {
        let text = "fn a() { std::time::Instant::now(); }";
        assert_eq!(lines("crates/pelago-core/src/a.rs", text), [1]);
        assert_eq!(lines("crates/pelago-wire/src/a.rs", text), [1]);
        assert_eq!(lines("crates/pelago-node/src/a.rs", text), NONE);
    }
}
