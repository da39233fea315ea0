//! The real binary, as people and programs use it: a node, and commands that ask it.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

#[test]
fn a_newcomer_can_talk_to_agents() {
    let home = Home::new();
    let node = home.start();
    assert_eq!(node.text(["agent", "ask", "counter:a", "5"]), "5\n");
    assert_eq!(node.text(["agent", "ask", "counter:a"]), "6\n");
    assert_eq!(node.text(["agent", "ask", "counter:a", "-2"]), "4\n");
    assert_eq!(node.text(["agent", "state", "counter:a"]), "{\"count\":4}\n");

    let listed = node.text(["agent", "ls", "--name", "counter"]);
    let rows: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["AGENT", "STATE", "NODE", "EPOCH", "TURNS"]);
    assert_eq!((rows.len(), rows[1][0], rows[1][4]), (2, "counter:a", "3"), "{listed}");

    let said = node.run(["agent", "ask", "echo", "good day"]);
    assert_eq!(text(&said.stdout), "\"good day\"\n");
    assert!(text(&said.stderr).contains("JSON string"), "{}", text(&said.stderr));
    assert_eq!(node.text_given(["agent", "ask", "echo", "-"], "{\"a\": 1.0}\n"), "{\"a\": 1.0}\n");
    let broken = node.run(["task", "run", "echo", "{\"text\":"]);
    assert!(text(&broken.stderr).contains("at line 1 column 8"), "{}", text(&broken.stderr));
    assert_eq!(node.text(["task", "run", "echo", "{\"text\":", "--text", "--wait"]), "\"{\\\"text\\\":\"\n");
}

#[test]
fn a_message_is_handled_once_and_a_key_counts_once() {
    let home = Home::new();
    let node = home.start();
    node.text(["agent", "send", "counter:m", "5", "--key", "m1"]);
    let again = node.run(["agent", "send", "counter:m", "5", "--key", "m1"]);
    assert!(text(&again.stderr).contains("none was sent"), "{}", text(&again.stderr));
    node.until(["agent", "state", "counter:m"], "{\"count\":5}\n");

    for _ in 0..2 {
        assert_eq!(node.text(["agent", "ask", "counter:q", "7", "--key", "q1"]), "7\n");
    }
    let first = node.text(["task", "run", "counter:t", "1", "--key", "t1"]);
    assert_eq!(node.text(["task", "run", "counter:t", "1", "--key", "t1"]), first);
    assert_eq!(node.text(["task", "wait", first.trim()]), "1\n");
}

#[test]
fn a_task_is_followed_from_its_id_to_its_result() {
    let home = Home::new();
    let node = home.start();
    let id = node.text(["task", "run", "sleeper", "40"]);
    let id = id.trim();
    assert_eq!(node.text(["task", "wait", id, "--timeout", "20s"]), "40\n");

    let shown = node.text(["task", "show", id]);
    for fact in ["agent      sleeper (pool)\n", "state      done\n", "input      40\n", "result     40\n"] {
        assert!(shown.contains(fact), "{fact:?} is missing in\n{shown}");
    }
    let listed = node.text(["task", "ls", "--state", "done"]);
    assert!(listed.lines().any(|line| line.starts_with(id)), "{listed}");

    let events = node.text(["task", "events", id]);
    assert_eq!(node.text(["task", "events", id, "--follow"]), events);
    let happened: Vec<&str> = events.lines().filter_map(|line| line.split_whitespace().nth(4)).collect();
    assert_eq!(happened, ["queued", "running", "progress", "progress", "progress", "progress", "done"]);
    assert_eq!(node.text(["task", "events", id, "--after", "6"]).lines().count(), 1);

    for command in ["show", "wait", "events"] {
        assert_eq!(node.text(["task", command, &id[..20]]), node.text(["task", command, id]), "{command}");
    }
    let other = node.text(["task", "run", "echo", "1"]);
    let ambiguous = node.run(["task", "show", &id[..1]]);
    let told = text(&ambiguous.stderr);
    assert_eq!(code(&ambiguous), 2, "{told}");
    for line in [format!("{id}  sleeper, done"), format!("{}  echo, ", other.trim())] {
        assert!(told.contains(&line), "{line} is not in {told}");
    }
}

#[test]
fn a_task_that_fails_is_tried_again_and_a_dead_one_can_be_revived_or_dismissed() {
    let home = Home::new();
    let node = home.start();
    assert_eq!(node.text(["task", "run", "flaky", "1", "--wait=30s"]), "{\"attempts\":2}\n");

    let dead = node.run(["task", "run", "flaky", "1", "--attempts", "1", "--wait=30s"]);
    assert_eq!((code(&dead), text(&dead.stdout)), (1, ""));
    assert!(text(&dead.stderr).contains("error[PLG-3004]: task "), "{}", text(&dead.stderr));
    let status = node.text(["status"]);
    assert!(status.starts_with("PROBLEM  1 task is dead\n"), "{status}");
    assert!(status.contains("; while it is away, nothing can be written\n"), "{status}");

    let list = node.json(["task", "ls", "--state", "dead"]);
    let id = list["items"][0]["id"].as_str().expect("the dead task has an id");
    // One document each: the task as it stands, and why the command failed.
    let shown = node.run(["task", "wait", id, "-o", "json"]);
    let [task, problem] =
        [&shown.stdout, &shown.stderr].map(|one| serde_json::from_slice::<Value>(one).expect("one document"));
    assert_eq!((code(&shown), &task["kind"], &task["state"]), (1, &json!("Task"), &json!("dead")));
    assert_eq!((&problem["kind"], &problem["code"]), (&json!("Problem"), &json!("PLG-3004")));

    assert_eq!(node.text(["task", "retry", id, "--wait=30s"]), "{\"attempts\":2}\n");
    let hopeless = node.text(["task", "run", "sleeper", "\"long\""]);
    let hopeless = hopeless.trim();
    assert_eq!(code(&node.run(["task", "wait", hopeless])), 1);
    assert!(node.text(["status"]).starts_with("PROBLEM  1 task is dead\n"));
    assert_eq!(node.text(["task", "cancel", hopeless]), "cancelled\n");
    let status = node.text(["status"]);
    assert!(!status.contains("PROBLEM"), "{status}");

    let id = node.text(["task", "run", "sleeper", "1", "--delay", "1h"]);
    assert_eq!(node.text(["task", "cancel", id.trim(), "--reason", "not needed"]), "cancelled\n");
    let cancelled = node.run(["task", "wait", id.trim()]);
    assert_eq!(code(&cancelled), 1);
    assert!(text(&cancelled.stderr).contains("was cancelled: not needed"), "{}", text(&cancelled.stderr));
}

#[test]
fn a_message_that_fails_too_often_is_told_of_until_it_is_dismissed() {
    let home = Home::new();
    let node = home.start();
    let none = node.run(["agent", "dead"]);
    assert_eq!((text(&none.stdout), text(&none.stderr)), ("", "no message failed too often\n"));
    node.text(["agent", "send", "counter:a", "\"five\""]);
    node.until_line(["agent", "dead", "counter:a"], |line| line.starts_with("counter:a  client "));
    let list = node.json(["agent", "dead"]);
    let [dead] = list["items"].as_array().expect("a list").as_slice() else { panic!("{list}") };
    assert_eq!((&list["kind"], &dead["message"]), (&json!("DeadMessageList"), &json!("five")));
    assert!(dead["reason"].as_str().is_some_and(|reason| reason.contains("does not fit")), "{dead}");
    let status = node.text(["status"]);
    assert!(status.starts_with("PROBLEM  1 message failed too often"), "{status}");
    let log = home.log();
    let warned =
        log.lines().find(|line| line.contains("a message failed too often")).unwrap_or_else(|| panic!("{log}"));
    assert!(warned.contains("WARN") && warned.contains("counter:a") && warned.contains("does not fit"), "{warned}");

    assert_eq!(node.text(["agent", "dismiss", "counter:a"]), "1 dead message of counter:a is forgotten\n");
    assert_eq!(node.text(["agent", "dismiss", "counter:a"]), "counter:a has no dead messages\n");
    let status = node.text(["status"]);
    assert!(!status.contains("PROBLEM"), "{status}");
}

#[test]
fn an_address_that_leads_to_no_node_says_what_to_try() {
    let home = Home::new();
    let node = home.start();
    let address = node.url.strip_prefix("http://").expect("it has a scheme").to_owned();
    assert_eq!(node.text(["agent", "ask", "counter:a", "1", "--url", &address]), "1\n");
    let tls = node.run(["status", "--url", &format!("https://{address}")]);
    assert_eq!(code(&tls), 2, "{}", text(&tls.stderr));
    assert!(text(&tls.stderr).contains(&format!("try http://{address}")), "{}", text(&tls.stderr));
    let nodes = node.json(["node", "ls"]);
    let mesh = nodes["items"][0]["mesh_address"].as_str().expect("a node has links");
    let links = node.run(["status", "--url", mesh]);
    assert_eq!(code(&links), 6, "{}", text(&links.stderr));
    let said = format!("{mesh} is the mesh address of a node, and this is asked over HTTP");
    assert!(text(&links.stderr).contains(&said), "{}", text(&links.stderr));
    for command in [&["tail", "news"][..], &["bench", "ask"]] {
        let links = node.run(command.iter().chain(&["--url", &address]));
        assert_eq!(code(&links), 6, "{}", text(&links.stderr));
        let told = text(&links.stderr);
        assert!(told.contains(&format!("{address} is the HTTP address of ")), "{told}");
        assert!(told.contains(&format!("--url {mesh}, or let it be asked for by --url http://{address}")), "{told}");
    }
}

#[test]
fn a_line_that_cannot_be_read_names_the_help_of_its_command() {
    for (words, said) in [
        (&["task", "run", "echo", "hi", "--wait", "5s"][..], &["--wait=5s", "try:  pelago task run --help"][..]),
        (&["task", "run", "echo", "--priority", "99"], &["0..=9", "try:  pelago task run --help"]),
        (&["-o", "text", "agent", "asks"], &["'ask'", "try:  pelago agent --help"]),
        (&["task"], &["a command is missing", "try:  pelago task --help"]),
        (&["serve", "--label", "west"], &["key=value", "try:  pelago serve --help"]),
        (&["tusk"], &["task", "try:  pelago --help"]),
    ] {
        let shown = pelago(words).output().expect("the binary runs");
        let told = text(&shown.stderr);
        assert_eq!(code(&shown), 2, "{words:?}: {told}");
        assert!(said.iter().all(|part| told.contains(part)), "{words:?}: {told}");
    }
}

#[test]
fn whom_to_talk_to_and_how_is_told() {
    let home = Home::new();
    let node = home.start();
    let told = node.text(["help", "agents"]);
    assert!(told.contains("agent    counter:KEY\ntakes    an integer to add; 1 if nothing is said\n"), "{told}");
    let told = node.json(["help", "agents"]);
    assert_eq!(told["kind"], "BuiltinAgents");
    for about in told["items"].as_array().expect("a list") {
        let example = about["example"].as_str().expect("an agent has an example");
        let words = example.strip_prefix("pelago ").expect("it is one of ours");
        let words = words.split('\'').enumerate().flat_map(|(n, part)| match n % 2 {
            0 => part.split_whitespace().collect(),
            _ => vec![part],
        });
        std::fs::write(home.path().join("README.md"), "# Wolves\nThe wolf runs.\n").expect("the folder is ours");
        node.text(words);
    }
}

#[test]
fn the_other_builtin_agents_do_what_they_say() {
    let home = Home::new();
    let node = home.start();
    std::fs::write(home.path().join("notes.md"), "# Wolves\nThe wolf runs over the hill.\n")
        .expect("the folder is ours");
    let reading = node.json(["agent", "ask", "reader", r#"{"path": "notes.md"}"#]);
    assert_eq!(reading["reply"]["path"], "notes.md");
    assert_eq!(reading["reply"]["size"], json!({ "bytes": 38, "lines": 2, "words": 8 }));
    let missing = node.run(["agent", "ask", "reader", r#"{"path": "none.md"}"#]);
    assert_eq!(code(&missing), 2);
    assert!(text(&missing.stderr).contains("none.md: No such file"), "{}", text(&missing.stderr));

    let set = node.json(["agent", "ask", "reminder:t", r#"{"note": "tea", "after_ms": 3600000}"#]);
    let due = set["reply"]["due"].as_str().expect("it says when");
    let status = node.json(["status"]);
    assert!(due > status["log_time"].as_str().expect("the log has a time"), "{due}: {status}");
    let called_off = node.json(["agent", "ask", "reminder:t", r#"{"note": "tea"}"#]);
    assert_eq!(called_off["reply"], json!({ "fired": 0, "notes": [] }));

    let mut before = String::new();
    for (number, length) in [(7, 1), (-3, 2), (7, 3)] {
        let reply = node.json(["agent", "ask", "append:r", &number.to_string()]);
        assert_eq!(reply["reply"], json!({ "length": length, "before": before }));
        before = blake3::hash(format!("{before} {number}").as_bytes()).to_hex()[..32].to_owned();
    }
}

#[test]
fn with_json_all_of_stdout_is_one_document_that_says_its_kind() {
    let home = Home::new();
    let node = home.start();
    node.text(["agent", "ask", "counter:a", "1"]);
    let id = node.text(["task", "run", "counter:a", "1", "--wait"]);
    assert_eq!(id, "2\n");
    let tasks = node.json(["task", "ls"]);
    let id = tasks["items"][0]["id"].as_str().expect("a task has an id");
    for (command, kind) in [
        (&["status"][..], "Status"),
        (&["node", "ls"], "NodeList"),
        (&["agent", "ls"], "AgentList"),
        (&["agent", "ls", "--name", "nobody"], "AgentList"),
        (&["agent", "state", "counter:a"], "Agent"),
        (&["agent", "ask", "echo", "not JSON"], "Reply"),
        (&["agent", "send", "counter:a", "1"], "SendReceipt"),
        (&["agent", "tell", "tally", "1"], "Told"),
        (&["agent", "broadcast", "**", "1"], "Reached"),
        (&["agent", "dismiss", "counter:a"], "Dismissed"),
        (&["task", "run", "counter:a", "1"], "Enqueued"),
        (&["task", "run", "counter:a", "1", "--wait"], "Task"),
        (&["task", "ls", "--all"], "TaskList"),
        (&["task", "show", id], "Task"),
        (&["task", "wait", id], "Task"),
        (&["task", "events", id], "TaskEventList"),
        (&["help", "exit-codes"], "ExitCodes"),
        (&["help", "task", "run"], "Help"),
        (&["task", "--help"], "Help"),
        (&["--version"], "Help"),
    ] {
        assert_eq!(node.json(command)["kind"], kind, "{command:?}");
    }
    let followed = node.run(["task", "events", id, "--follow", "-o", "json"]);
    for line in text(&followed.stdout).lines() {
        let event: Value = serde_json::from_str(line).expect("each line is a document");
        assert_eq!(event["kind"], "TaskEvent");
    }
}

#[test]
fn tail_shows_what_is_published_as_it_comes() {
    let home = Home::new();
    let node = home.start();
    let tail = node.command(["tail", "clock.*", "--count", "3", "-o", "json"]).stdout(Stdio::piped()).spawn();
    let mut tail = tail.expect("the binary runs");
    let mut published = 0;
    while tail.try_wait().expect("it is our child").is_none() {
        published += 1;
        node.text(["publish", "clock.tick", &published.to_string()]);
        node.text(["publish", "other", "0"]);
    }
    let shown = tail.wait_with_output().expect("it has ended");
    let heard: Vec<Value> = text(&shown.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let first = heard[0]["message"].as_u64().expect("a number");
    for (line, n) in heard.iter().zip(first..) {
        assert_eq!(line, &json!({ "kind": "Published", "topic": "clock.tick", "message": n, "missed": 0 }));
    }
    assert_eq!((heard.len(), shown.status.code()), (3, Some(0)));
}

#[test]
fn the_exit_code_and_the_problem_say_what_went_wrong() {
    let home = Home::new();
    let node = home.start();
    node.text(["task", "run", "echo", "1"]);
    node.text(["task", "run", "counter:a", "1", "--key", "k", "--wait"]);
    let tasks = node.json(["task", "ls"]);
    let done = tasks["items"][0]["id"].as_str().expect("a task has an id");
    let nobody = "0123456789abcdef0123456789abcdef";
    for (command, exit, problem) in [
        (&["agent", "ask", "sleeper", "\"long\""][..], 2, "PLG-2024"),
        (&["agent", "ask", "a b"], 2, "PLG-2001"),
        (&["agent", "ask", "."], 2, "PLG-2001"),
        (&["agent", "ask", "", "1"], 2, "PLG-2001"),
        (&["agent", "ask", "echo", "1", "--affinity", ""], 2, "PLG-3001"),
        (&["agent", "ask", "echo", "{", "--content-type", "text/plain"], 2, "PLG-2024"),
        (&["session", "show", "chat", "."], 2, "PLG-2001"),
        (&["session", "end", "..", "s1"], 2, "PLG-2001"),
        (&["node", "remove", ".."], 2, "PLG-2001"),
        (&["agent", "ask", "counter"], 2, "PLG-2008"),
        (&["agent", "ask", "counter:a", "@/no/such/file"], 2, "PLG-3002"),
        (&["agent", "ask", "echo", "[1, 2"], 2, "PLG-3008"),
        (&["agent", "send", "counter:a", "\"open"], 2, "PLG-3008"),
        (&["task", "run", "echo", "{\"text\":"], 2, "PLG-3008"),
        (&["task", "wait", "xyz"], 2, "PLG-3001"),
        (&["task", "cancel", "f"], 3, "PLG-2005"),
        (&["task", "retry", "0"], 2, "PLG-3009"),
        (&["task", "run", "counter:a", "--delay", "soon"], 2, "PLG-3001"),
        (&["tusk"], 2, "PLG-3001"),
        (&[], 2, "PLG-3001"),
        (&["agent", "ask", "conter:a", "1"], 3, "PLG-2004"),
        (&["agent", "state", "counter:nobody"], 3, "PLG-2007"),
        (&["task", "show", nobody], 3, "PLG-2005"),
        (&["task", "run", "counter:a", "2", "--key", "k"], 5, "PLG-2019"),
        (&["task", "retry", done], 5, "PLG-2020"),
        (&["status", "--url", "http://127.0.0.1:1"], 6, "PLG-2031"),
        (&["task", "run", "sleeper", "60000", "--wait=50ms"], 7, "PLG-3005"),
        (&["agent", "ask", "sleeper", "60000", "--timeout", "50ms"], 7, "PLG-2025"),
    ] {
        let shown = node.run(command);
        assert_eq!(code(&shown), exit, "{command:?}: {}", text(&shown.stderr));
        let expected = format!("error[{problem}]: ");
        assert!(text(&shown.stderr).contains(&expected), "{command:?}: {}", text(&shown.stderr));

        let shown = node.run(command.iter().copied().chain(["-o", "json"]));
        assert_eq!(code(&shown), exit, "{command:?} -o json");
        let told: Value = serde_json::from_slice(&shown.stderr)
            .unwrap_or_else(|_| panic!("{command:?}: stderr is no JSON: {}", text(&shown.stderr)));
        assert_eq!((&told["kind"], &told["code"]), (&json!("Problem"), &json!(problem)), "{command:?}");
    }
}

#[test]
fn a_command_cut_short_shows_its_help_with_or_without_variables() {
    for words in [&[][..], &["task"], &["-o", "text", "task"]] {
        for variable in [None, Some(("PELAGO_OUTPUT", "text"))] {
            let shown = pelago(words).envs(variable).output().expect("the binary runs");
            let told = text(&shown.stderr);
            assert_eq!((code(&shown), text(&shown.stdout)), (2, ""), "{words:?}: {told}");
            assert!(told.contains("Commands:\n"), "{words:?}: {told}");
            assert!(told.contains("error[PLG-3001]: a command is missing"), "{words:?}: {told}");
        }
    }
}

#[test]
fn lists_that_are_empty_or_cut_short_say_what_to_do() {
    let home = Home::new();
    let node = home.start();
    let empty = node.run(["task", "ls"]);
    assert_eq!((code(&empty), text(&empty.stdout)), (0, ""));
    assert_eq!(text(&empty.stderr), "no tasks yet; try: pelago task run counter:a 1\n");

    for key in ["a", "b", "c"] {
        node.text(["agent", "ask", &format!("counter:{key}"), "1"]);
    }
    let cut = node.run(["agent", "ls", "--limit", "2"]);
    assert_eq!(text(&cut.stdout).lines().count(), 3);
    assert!(text(&cut.stderr).contains("--all"), "{}", text(&cut.stderr));
    let first = node.json(["agent", "ls", "--limit", "2"]);
    let next = first["next"].as_str().expect("there is more");
    assert_eq!(node.json(["agent", "ls", "--cursor", next])["items"][0]["agent"], "counter:c");
    assert_eq!(node.text(["agent", "ls", "--all"]).lines().count(), 4);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let (reader, writer) = io::pipe().expect("a pipe");
    drop(reader);
    let shown = pelago(["help", "exit-codes"])
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .and_then(Child::wait_with_output)
        .expect("the binary runs");
    assert_eq!((code(&shown), text(&shown.stderr)), (0, ""));
}

#[test]
fn a_command_that_is_interrupted_ends_with_130() {
    let home = Home::new();
    let node = home.start();
    let id = node.text(["task", "run", "sleeper", "1", "--delay", "1h"]);
    let mut command = node.command(["task", "events", id.trim(), "--follow"]);
    let mut process = command.stdout(Stdio::piped()).spawn().expect("the binary runs");
    let stdout = process.stdout.take().expect("stdout is a pipe");
    let first = within_patience(move || BufReader::new(stdout).lines().next());
    assert!(matches!(first, Some(Some(Ok(_)))), "{first:?}");
    kill_process(Pid::from_child(&process), Signal::INT).expect("the process is ours");
    assert_eq!(process.wait().expect("the process is ours").code(), Some(130));
}

#[test]
fn a_node_told_to_stop_ends_with_0() {
    let home = Home::new();
    let node = home.start();
    node.text(["agent", "ask", "counter:a", "1"]);
    let ended = node.end_by(Signal::TERM);
    assert_eq!(ended.code(), Some(0), "{}", home.log());
}

#[test]
fn a_second_process_on_a_data_directory_is_refused() {
    let home = Home::new();
    let node = home.start();
    let refused = home.serve().output().expect("the binary runs");
    assert_eq!((code(&refused), text(&refused.stdout)), (1, ""));
    let told = text(&refused.stderr);
    assert!(told.contains("error") && told.contains("another process"), "{told}");
    assert!(told.contains("what was acknowledged is kept"), "{told}");
    let taken = node.url.rsplit(':').next().expect("a URL has a port");
    let new = tempfile::tempdir().expect("a temporary folder");
    let refused =
        pelago(["serve", "--found", "--port", taken]).current_dir(new.path()).output().expect("the binary runs");
    let told = text(&refused.stderr);
    assert!(code(&refused) == 1 && told.contains("failed to listen") && !told.contains("is kept"), "{told}");
    assert_eq!(node.text(["agent", "ask", "counter:a", "1"]), "1\n", "the first one is unharmed");
}

#[test]
fn a_node_that_does_not_start_says_why_as_other_commands_do() {
    let home = Home::new();
    let node = home.start();
    let refused = home.serve().args(["-o", "json"]).output().expect("the binary runs");
    let told = text(&refused.stderr).lines().last().expect("it says why");
    let problem: Value = serde_json::from_str(told).unwrap_or_else(|_| panic!("{told} is no JSON"));
    assert_eq!((code(&refused), &problem["code"]), (1, &json!("PLG-3007")), "{told}");
    drop(node);

    std::fs::write(home.path().join("pelago.toml"), "[server]\nport = -1\nhots = \"x\"\n").expect("the folder is ours");
    let refused = pelago(["serve", "-o", "json"]).current_dir(home.path()).output().expect("the binary runs");
    let told = text(&refused.stderr).lines().map(|line| serde_json::from_str::<Value>(line).expect("each is JSON"));
    let codes: Vec<Value> = told.map(|problem| problem["code"].clone()).collect();
    assert_eq!((code(&refused), codes), (2, vec![json!("PLG-1002"), json!("PLG-1001")]));
    let refused = pelago(["serve"]).current_dir(home.path()).output().expect("the binary runs");
    let told = text(&refused.stderr);
    assert!(told.starts_with("error[PLG-1002]: server.port") && told.contains("\n  at:   pelago.toml:2:8"), "{told}");
}

#[test]
fn what_has_no_effect_on_an_agent_of_its_kind_is_refused_and_all_of_it_told() {
    let home = Home::new();
    let file = "[server]\nport = 0\n[mesh]\nfound = true\n\
                [agents.counter]\nstrategy = \"latency\"\nconcurrency = 4\nturn_ms_max = 1000\n\
                [agents.echo]\nconcurrency = 4\nturn_ms_max = 1000\n[agents.tally]\nprefer = \"none\"\n";
    std::fs::write(home.path().join("pelago.toml"), file).expect("the folder is ours");
    let refused = pelago(["serve"]).current_dir(home.path()).output().expect("the binary runs");
    let told = text(&refused.stderr);
    assert!(
        code(&refused) == 2 && told.starts_with("error[PLG-3006]: [agents.counter] concurrency has no effect"),
        "{told}"
    );
    for said in [
        "[agents.counter] strategy has no effect: counter is no pool",
        "[agents.echo] turn_ms_max has no effect: echo keeps no state",
        "[agents.tally] prefer has no effect: tally is no pool",
    ] {
        assert!(told.contains(said), "{told}");
    }
    assert_eq!(told.matches("has no effect").count(), 4, "{told}");
}

#[test]
fn after_kill_9_the_counter_goes_on_and_the_tasks_are_there() {
    let home = Home::new();
    let node = home.start();
    for count in 1..=20 {
        assert_eq!(node.text(["agent", "ask", "counter:a", "1"]), format!("{count}\n"));
    }
    let done = node.text(["task", "run", "echo", "[1]", "--key", "done", "--wait"]);
    assert_eq!(done, "[1]\n");
    let waiting = node.text(["task", "run", "counter:a", "100", "--delay", "1h"]);
    let running = node.text(["task", "run", "sleeper", "1000"]);
    let is_running = |line: &str| line.contains(" running ");
    node.until_line(["task", "events", running.trim()], is_running);
    node.end_by(Signal::KILL);

    let node = home.start();
    assert_eq!(node.text(["agent", "ask", "counter:a", "1"]), "21\n");
    assert_eq!(node.text(["task", "wait", running.trim(), "--timeout", "30s"]), "1000\n");
    assert!(node.text(["task", "show", running.trim()]).contains("attempts   2 of "));
    assert!(node.text(["task", "show", waiting.trim()]).contains("state      queued\n"));
    let again = node.run(["task", "run", "echo", "[1]", "--key", "done", "--wait"]);
    assert!(text(&again.stderr).contains("an earlier request had this key"), "{}", text(&again.stderr));
}

/// How long anything may take that a node does on its own.
const PATIENCE: Duration = Duration::from_secs(30);

/// A folder of its own for a node and its data.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn serve(&self) -> Command {
        let mut command = pelago(["serve", "--found", "--name", "n1", "--port", "0", "--print-addr", "json"]);
        command.args(["--mesh-addr", "127.0.0.1:0"]);
        command.current_dir(self.path());
        command
    }

    /// Starts a node and waits until it is ready.
    fn start(&self) -> Node<'_> {
        let log = File::options().create(true).append(true).open(self.log_path());
        let mut process = self
            .serve()
            .stdout(Stdio::piped())
            .stderr(log.expect("the folder is ours"))
            .spawn()
            .expect("the binary runs");
        let stdout = process.stdout.take().expect("stdout is a pipe");
        let line = within_patience(move || BufReader::new(stdout).lines().next());
        let Some(Some(Ok(line))) = line else {
            let _ended_already = process.kill();
            panic!("the node is not ready: {}", self.log());
        };
        let addresses: Value = serde_json::from_str(&line).expect("the line is JSON");
        assert_eq!(addresses["pid"], json!(process.id()));
        let http = addresses["http"].as_str().expect("the node serves HTTP");
        Node { home: self, process: Some(process), url: format!("http://{http}") }
    }

    fn log_path(&self) -> std::path::PathBuf {
        self.path().join("log")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_else(|error| format!("no log: {error}"))
    }
}

/// A node that runs; it is killed when the test ends.
struct Node<'h> {
    home: &'h Home,
    process: Option<Child>,
    url: String,
}

impl Node<'_> {
    /// Runs a command that asks this node.
    fn run(&self, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
        self.command(words).output().expect("the binary runs")
    }

    fn command(&self, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = pelago(words);
        command.env("PELAGO_URL", &self.url).current_dir(self.home.path());
        command
    }

    /// What a command that must succeed shows.
    fn text(&self, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> String {
        self.succeeded(self.run(words))
    }

    fn text_given(&self, words: impl IntoIterator<Item = impl AsRef<OsStr>>, stdin: &str) -> String {
        let mut command = self.command(words);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("the binary runs");
        let mut pipe = process.stdin.take().expect("stdin is a pipe");
        pipe.write_all(stdin.as_bytes()).expect("the command reads stdin");
        drop(pipe);
        self.succeeded(process.wait_with_output().expect("the command ends"))
    }

    fn succeeded(&self, shown: Output) -> String {
        assert_eq!(code(&shown), 0, "{}\nlog of the node:\n{}", text(&shown.stderr), self.home.log());
        text(&shown.stdout).to_owned()
    }

    /// The one document that a command shows.
    fn json(&self, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Value {
        let mut command = self.command(words);
        let shown = command.args(["-o", "json"]).output().expect("the binary runs");
        assert_eq!(text(&shown.stderr), "", "{command:?}");
        let stdout = self.succeeded(shown);
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{command:?}: {error}: {stdout}"))
    }

    /// Repeats a command until it shows `expected`.
    fn until<const N: usize>(&self, words: [&str; N], expected: &str) {
        self.until_shown(words, |shown| shown == expected);
    }

    /// Repeats a command until one of its lines is as wanted.
    fn until_line<const N: usize>(&self, words: [&str; N], is_wanted: impl Fn(&str) -> bool) {
        self.until_shown(words, |shown| shown.lines().any(&is_wanted));
    }

    fn until_shown<const N: usize>(&self, words: [&str; N], is_wanted: impl Fn(&str) -> bool) {
        let start = std::time::Instant::now();
        loop {
            let shown = self.run(words);
            if is_wanted(text(&shown.stdout)) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{words:?} shows {shown:?}\n{}", self.home.log());
        }
    }

    /// Sends the node a signal and waits until its process has ended.
    fn end_by(mut self, signal: Signal) -> ExitStatus {
        let mut process = self.process.take().expect("it runs until then");
        let pid = Pid::from_child(&process);
        kill_process(pid, signal).expect("the process is ours");
        match within_patience(move || process.wait()) {
            Some(ended) => ended.expect("the process is ours"),
            None => {
                let _ended_already = kill_process(pid, Signal::KILL);
                panic!("the node does not stop: {}", self.home.log());
            }
        }
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ended_already = process.kill();
            let _reaped = process.wait();
        }
    }
}

/// The binary, deaf to the environment of whoever runs the tests.
fn pelago(words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pelago"));
    let ours = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PELAGO_"));
    for (name, _) in ours {
        command.env_remove(name);
    }
    command.args(words).stdin(Stdio::null());
    command
}

fn code(shown: &Output) -> i32 {
    shown.status.code().expect("it was not killed")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("it is text")
}

/// What `wait` returns; `None` if that takes too long.
fn within_patience<T: Send + 'static>(wait: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(wait()));
    receiver.recv_timeout(PATIENCE).ok()
}
