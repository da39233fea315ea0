//! Shows that the simulator can fail: with a known bug compiled into the production sources it must find it.
//!
//! Each bug is built as a package of its own, made here: so all share what does not depend on the bug, and no two tests
//! write one binary.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// Within how many seeds of each workload a bug must be found.
const SEEDS: &str = "2000";

#[test]
fn a_commit_without_epoch_check_is_found() {
    is_found("commit_without_epoch_check", "I4 (fencing)");
}

#[test]
fn a_dropped_dedupe_on_redelivery_is_found() {
    is_found("dedupe_dropped_on_redelivery", "I6 (at most once)");
}

#[test]
fn a_late_result_that_is_accepted_is_found() {
    is_found("late_result_accepted", "W4 (one result a task)");
}

#[test]
fn an_attempt_that_a_leaving_node_costs_is_found() {
    is_found("leaving_counts", "W4 (one result a task)");
}

#[test]
fn a_doubt_that_is_resolved_by_reading_is_found() {
    is_found("in_doubt_resolved_by_reading", "I6 (at most once)");
}

#[test]
fn a_timer_that_fires_early_is_found() {
    is_found("timer_fires_early", "W6 (timers)");
}

#[test]
fn an_acknowledgement_before_the_flush_is_found() {
    is_found("acknowledge_before_flush", "I3 (acknowledged is durable)");
}

#[test]
fn a_minority_that_acknowledges_is_found() {
    is_found("minority_acknowledges", "I9 (a minority acknowledges nothing)");
}

#[test]
fn a_window_that_what_is_lost_keeps_is_found() {
    is_found_over_links("lost_keeps_its_window", "L5 (nothing leaks)");
}

#[test]
fn credit_that_is_not_returned_whole_is_found() {
    is_found_over_links("credit_rounded_down", "L5 (nothing leaks)");
}

#[test]
fn an_ask_that_ends_late_and_again_is_found() {
    is_found_over_links("late_ask_ends_again", "L3 (asks end once)");
}

#[test]
fn failures_that_are_counted_though_not_in_a_row_are_found() {
    is_found_in_routing("failures_need_no_row", "R3 (breaker)");
}

#[test]
fn a_place_that_is_not_given_back_is_found() {
    is_found_in_routing("given_up_keeps_its_place", "R2 (room)");
}

#[test]
fn a_hop_too_many_is_found() {
    is_found_in_routing("one_hop_more", "R5 (hops)");
}

/// The same for links that break.
fn is_found_over_links(bug: &str, invariant: &str) {
    is_found_by("links", bug, invariant, |seed| pelago_sim::links::run(seed).violation);
}

/// The same for nodes that come and go.
fn is_found_in_routing(bug: &str, invariant: &str) {
    is_found_by("routing", bug, invariant, |seed| pelago_sim::routing::run(seed).violation);
}

fn is_found_by(example: &str, bug: &str, invariant: &str, sound: impl Fn(u64) -> Option<pelago_sim::Violation>) {
    let planted = simulate(bug, example, &[]);
    let found = text(&planted.stdout);
    assert_eq!(planted.status.code(), Some(1), "{bug} was not found: {found}{}", text(&planted.stderr));
    assert!(found.contains(&format!("{invariant} is violated")), "{bug} was found as something else: {found}");
    let seed = found.strip_prefix("seed ").and_then(|rest| rest.split_once(':')).map(|(seed, _)| seed.parse());
    let seed = seed.expect("it names the seed").expect("a seed is a number");
    assert_eq!(sound(seed), None, "seed {seed} fails without {bug}");
}

/// The seed that shows the bug passes without it, so it is the bug that was found.
fn is_found(bug: &str, invariant: &str) {
    let planted = simulate(bug, "sim", &["--seeds", SEEDS]);
    let found = String::from_utf8_lossy(&planted.stdout).into_owned();
    assert_eq!(planted.status.code(), Some(1), "{bug} was not found: {found}{}", text(&planted.stderr));
    assert!(found.contains(&format!("{invariant} is violated")), "{bug} was found as something else: {found}");

    assert!(found.contains(&format!(" --planted {bug}\n")), "the replay command leaves the bug out: {found}");
    let (seed, workload) = replayed(&found);
    let workload = workload.parse().expect("the replay command names a workload");
    let sound = pelago_sim::run(seed, workload, pelago_sim::Tracing::Off);
    assert_eq!(sound.violation, None, "seed {seed} of {workload} fails without {bug}");
}

/// The seed and the workload of the replay command.
fn replayed(found: &str) -> (u64, &str) {
    let line = found.lines().find_map(|line| line.strip_prefix("replay: ")).expect("a failure says how to replay it");
    let words: Vec<&str> = line.split(' ').collect();
    let after = |option: &str| {
        let at = words.iter().position(|word| *word == option).expect("the option is there");
        words[at + 1]
    };
    (after("--seed").parse().expect("a seed is a number"), after("--workload"))
}

/// Builds and runs an example of the simulator with `bug` in it.
fn simulate(bug: &str, example: &str, arguments: &[&str]) -> Output {
    let planted = Path::new(env!("CARGO_TARGET_TMPDIR")).join("planted");
    let manifest = package(&planted.join(bug), bug, example);
    Command::new(env!("CARGO"))
        // With a target named, build scripts and macros are built without the flags, and so only once.
        .args(["run", "--quiet", "--offline", "--target=host-tuple", "--manifest-path"])
        .arg(manifest)
        .arg("--")
        .args(arguments)
        .env("CARGO_TARGET_DIR", planted.join("target"))
        .env("RUSTFLAGS", format!("--cfg planted=\"{bug}\""))
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output()
        .expect("cargo runs")
}

/// Makes a package that is an example of the simulator and depends on the simulator alone. Its binary is named after the
/// bug, since all are built in one directory and may be at the same time.
fn package(directory: &Path, bug: &str, example: &str) -> PathBuf {
    let simulator = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the crate lies"));
    fs::create_dir_all(directory).expect("the directory can be made");
    let manifest = format!(
        "[package]\nname = {bug:?}\nedition = \"2024\"\n\n[workspace]\n\n\
         [[bin]]\nname = {bug:?}\npath = {:?}\n\n\
         [dependencies]\npelago-sim = {{ path = {simulator:?} }}\n\n\
         [profile.dev]\ndebug = false\n",
        simulator.join(format!("examples/{example}.rs")),
    );
    fs::copy(simulator.join("../../Cargo.lock"), directory.join("Cargo.lock")).expect("the lock file can be copied");
    let path = directory.join("Cargo.toml");
    fs::write(&path, manifest).expect("the manifest can be written");
    path
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
