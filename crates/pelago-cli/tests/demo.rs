//! `pelago demo` as a user runs it: real processes, real files, a real SIGKILL.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// How long what must come may take.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn the_demo_loses_a_node_and_nothing_else() {
    let (files, place) = (mixed_files(), folder());
    let report = place.path().join("report.md");
    let ended = demo(files.path(), place.path(), &["-o", "json", "--report", path(&report)]);
    let table = table(&ended);
    assert_eq!(ended.status.code(), Some(0), "{table:#}");
    assert_eq!(list(&table, "lost"), [""; 0]);
    assert_eq!(list(&table, "duplicated"), [""; 0]);
    assert_eq!(list(&table, "different"), [""; 0]);
    assert_eq!((number(&table, "files"), number(&table, "files_skipped")), (21, 1));
    assert_eq!(number(&table, "sections"), 2);
    assert_eq!(number(&table, "tasks"), 21 + 2);
    assert!(number(&table["killed"], "tasks") >= 1, "it held nothing: {table:#}");
    assert!(number(&table, "retries") >= 1, "no task was under way when the node was killed: {table:#}");
    assert!(number(&table, "agents_rehomed") >= 1, "no agent came back: {table:#}");
    assert!(number(&table, "failover_ms") > 0, "{table:#}");

    let report = fs::read_to_string(&report).expect("the report was written");
    for part in ["### `crlf.txt`", "### `deep/er/unicode.md`", "### `empty`", "### `text 15.md`", "- `binary`: binary"]
    {
        assert_eq!(report.matches(part).count(), 1, "{part} is not once in {report}");
    }
    fs::remove_file(place.path().join("report.md")).expect("it was written");
    assert_nothing_is_left(place.path());
}

#[test]
fn a_reading_that_is_thrown_away_is_found_and_named() {
    let (files, place) = (mixed_files(), folder());
    let mut command = command(files.path(), place.path(), &["-o", "json"]);
    let ended = command.env("PELAGO_DEMO_DROP", "deep/er/unicode.md").output().expect("the program runs");
    let table = table(&ended);
    assert_eq!(ended.status.code(), Some(1), "{table:#}");
    assert_eq!(list(&table, "lost"), ["deep/er/unicode.md"]);
    assert_eq!(list(&table, "duplicated"), [""; 0]);
}

#[test]
fn even_one_small_file_is_under_way_when_the_node_is_killed() {
    let (files, place) = (folder(), folder());
    fs::write(files.path().join("one.txt"), "The only wolf of the hill.\n").expect("a file");
    let ended = demo(files.path(), place.path(), &["-o", "json"]);
    let table = table(&ended);
    assert_eq!(ended.status.code(), Some(0), "{table:#}");
    assert_eq!((number(&table["killed"], "tasks"), number(&table, "retries")), (1, 1), "{table:#}");
}

#[test]
fn it_says_first_what_it_does_and_last_what_became_of_it() {
    let (files, place) = (folder(), folder());
    fs::write(files.path().join("one.txt"), "The only wolf of the hill.\n").expect("a file");
    let ended = demo(files.path(), place.path(), &[]);
    let (shown, said) = (text(&ended.stdout), text(&ended.stderr));
    assert_eq!(ended.status.code(), Some(0), "{shown}{said}");
    let first = said.lines().next().unwrap_or("");
    assert!(first.contains("Three nodes"), "{said}");
    assert!(said.contains("node-4 has joined"), "{said}");
    assert!(shown.starts_with("Report on "), "{shown}");
    let row = |name: &str| shown.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    assert_eq!(row("files "), Some("1 in 1 section, 0 skipped"), "{shown}");
    assert_eq!((row("lost "), row("duplicated "), row("different ")), (Some("0"), Some("0"), Some("0")), "{shown}");
    let report = row("report ").expect("its path is shown");
    assert!(fs::read_to_string(report).expect("it is there").contains("### `one.txt`"));
}

#[test]
fn what_cannot_be_read_is_refused_before_anything_starts() {
    let (empty, other) = (folder(), folder());
    let notes = other.path().join("notes.md");
    fs::write(&notes, "mine\n").expect("a file");
    let there = path(&notes);
    for (args, said) in [
        (&["demo"][..], "no PATH given"),
        (&["demo", "missing"], "missing cannot be read"),
        (&["demo", "."], "holds no file"),
        (&["demo", "/dev/null"], "neither a folder nor a file"),
        (&["demo", "/", "--report", "no/folder/report.md"], "is not there"),
        (&["demo", "/", "--report", there], "is there already"),
    ] {
        let ended = program(empty.path()).args(args).current_dir(empty.path()).output().expect("the program runs");
        let error = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(2), "{args:?}: {error}");
        assert!(error.contains(said), "{args:?}: {error}");
        assert!(ended.stdout.is_empty());
    }
    assert_nothing_is_left(empty.path());
    assert_eq!(fs::read_to_string(&notes).expect("it is there"), "mine\n");
}

#[test]
fn files_that_are_all_skipped_are_named_with_their_reasons() {
    let (files, place) = (folder(), folder());
    fs::write(files.path().join("picture"), "\0").expect("a file");
    std::os::unix::fs::symlink("/dev/null", files.path().join("link")).expect("a link");
    let ended = demo(files.path(), place.path(), &[]);
    let error = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(2), "{error}");
    for part in ["2 files are skipped", "link: symbolic link", "picture: binary: a NUL byte"] {
        assert!(error.contains(part), "{part} is not in {error}");
    }
    for number in 0..30 {
        fs::write(files.path().join(number.to_string()), "\0").expect("a file");
    }
    let ended = demo(files.path(), place.path(), &[]);
    assert!(text(&ended.stderr).contains("and 12 more"), "{}", text(&ended.stderr));
}

#[test]
fn a_demo_that_is_told_to_stop_leaves_nothing_behind() {
    for signal in [Signal::TERM, Signal::INT] {
        let (files, place) = (mixed_files(), folder());
        let mut demo = begun(files.path(), place.path());
        kill_process(id(&demo), signal).expect("it runs");
        assert_eq!(demo.wait().expect("it is our child").code(), Some(130));
        assert_nothing_is_left(place.path());
    }
}

#[test]
#[cfg(target_os = "linux")]
fn the_nodes_end_even_with_a_demo_that_is_killed() {
    let (files, place) = (mixed_files(), folder());
    let mut demo = begun(files.path(), place.path());
    demo.kill().expect("it runs");
    demo.wait().expect("it is our child");
    let until = Instant::now() + PATIENCE;
    while works_in(place.path()) {
        assert!(Instant::now() < until, "a node lives on");
        thread::yield_now();
    }
}

/// Files of all kinds: 21 of text in two sections, and one that is skipped.
fn mixed_files() -> TempDir {
    let files = folder();
    let write = |name: &str, bytes: &[u8]| fs::write(files.path().join(name), bytes).expect("a file");
    fs::create_dir_all(files.path().join("deep/er")).expect("a folder");
    write("binary", b"ELF\0\0");
    write("empty", b"");
    write("crlf.txt", b"# Moor\r\n\r\nThe raven meets the wolf.\r\n");
    write("invalid.txt", b"The \xff lake.\n");
    write("code.rs", b"//! A wolf.\nfn main() {}\n");
    write("deep/er/unicode.md", "# Ω\n\nDer Bär läuft über den Hügel. Élan vital.\n".as_bytes());
    for number in 0..16 {
        let text = format!("# Number {number}\n\nThe wolf runs over hill {number}. {}\n", "raven ".repeat(number));
        write(&format!("text {number}.md"), text.as_bytes());
    }
    files
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// The program, whose temporary files all go to `place`.
fn program(place: &Path) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_pelago"));
    program.env("TMPDIR", place).stdin(Stdio::null());
    program
}

fn command(files: &Path, place: &Path, args: &[&str]) -> Command {
    let mut command = program(place);
    command.arg("demo").arg(files).args(args);
    command
}

fn demo(files: &Path, place: &Path, args: &[&str]) -> Output {
    command(files, place, args).output().expect("the program runs")
}

/// A demo that has just killed a node, and has others that run.
fn begun(files: &Path, place: &Path) -> Child {
    let mut demo = command(files, place, &[]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
    let stderr = BufReader::new(demo.stderr.take().expect("stderr is piped"));
    let killing = stderr.lines().map_while(Result::ok).any(|line| line.contains("killed node-"));
    assert!(killing, "it ended too early");
    demo
}

fn id(child: &Child) -> Pid {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process has an id")
}

/// No file in the folder, and no process that works there.
fn assert_nothing_is_left(place: &Path) {
    let left: Vec<_> = fs::read_dir(place).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(!works_in(place), "a node lives on");
}

/// Whether any process has a working directory below `place`, as a demo's nodes do. Not known on other systems.
fn works_in(place: &Path) -> bool {
    let processes = fs::read_dir("/proc").into_iter().flatten().map_while(Result::ok);
    let mut directories = processes.filter_map(|process| fs::read_link(process.path().join("cwd")).ok());
    directories.any(|directory| directory.starts_with(place))
}

fn table(ended: &Output) -> Value {
    let shown = serde_json::from_slice(&ended.stdout);
    shown.unwrap_or_else(|error| panic!("{error}: {}{}", text(&ended.stdout), text(&ended.stderr)))
}

fn list<'t>(table: &'t Value, name: &str) -> Vec<&'t str> {
    let items = table[name].as_array().unwrap_or_else(|| panic!("no {name} in {table:#}"));
    items.iter().filter_map(Value::as_str).collect()
}

fn number(table: &Value, name: &str) -> u64 {
    table[name].as_u64().unwrap_or_else(|| panic!("no {name} in {table:#}"))
}

fn path(path: &Path) -> &str {
    path.to_str().expect("the path is text")
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).expect("what the program says is text")
}
