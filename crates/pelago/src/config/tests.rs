//! What a user sees: which source wins, and what is said about each mistake.

use std::{collections::BTreeSet, ffi::OsString, fs, num::NonZeroU32};

use pelago_core::route::{Prefer, Strategy};
use tempfile::TempDir;

use super::{
    section::Report,
    tree::{Node, Value},
    *,
};

const EXAMPLE: &str = include_str!("../../../../pelago.example.toml");

#[test]
fn nothing_said_gives_the_defaults() {
    let config = load("", &[], &[]).expect("defaults are right");
    assert_eq!(config.server, ServerConfig::default());
    assert_eq!(config.mesh, MeshConfig::default());
    assert_eq!(config.tasks, TaskDefaults::default());
    assert_eq!(config.server.listen_addr().to_string(), "127.0.0.1:8080");
    assert!(config.store.dir.is_absolute() && config.store.dir.ends_with(".pelago/node"), "{:?}", config.store.dir);
}

#[test]
fn flags_win_over_the_environment_which_wins_over_the_file() {
    let file = "[server]\nport = 1\n[mesh]\nname = \"a\"\n[tasks]\nattempts_max = 1\n[mesh.labels]\nzone = \"f\"\nrack = \"f\"";
    let env = [("PELAGO_SERVER__PORT", "2"), ("PELAGO_MESH__NAME", "b"), ("PELAGO_MESH__LABELS__ZONE", "e")];
    let config = load(file, &env, &[("--port", "server.port", "3")]).expect("all is right");
    assert_eq!(config.server.port, 3);
    assert_eq!(config.mesh.name.as_str(), "b");
    assert_eq!(config.tasks.attempts_max.get(), 1);
    let labels: Vec<_> = config.mesh.labels.iter().map(|(label, value)| format!("{label}={value}")).collect();
    assert_eq!(labels, ["rack=f", "zone=e"]);
}

#[test]
fn the_file_is_the_flags_else_the_variables_else_the_one_that_lies_there() {
    let dir = TempDir::new().expect("a temporary directory");
    for name in ["pelago", "variable", "flag"] {
        fs::write(dir.path().join(format!("{name}.toml")), format!("mesh.name = {name:?}")).expect("a small file");
    }
    let name = |file: Option<&str>, env: &[(&str, &str)]| {
        let sources = sources(dir.path(), file, env, &[]);
        Config::load(sources).expect("each file is right").mesh.name.as_str().to_owned()
    };
    assert_eq!(name(Some("flag.toml"), &[("PELAGO_CONFIG", "variable.toml")]), "flag");
    assert_eq!(name(None, &[("PELAGO_CONFIG", "variable.toml")]), "variable");
    assert_eq!(name(None, &[("PELAGO_CONFIG", "")]), "pelago");
    assert_eq!(name(None, &[]), "pelago");
}

#[test]
fn a_named_file_must_be_there() {
    let dir = TempDir::new().expect("a temporary directory");
    let problems = Config::load(sources(dir.path(), None, &[("PELAGO_CONFIG", "none.toml")], &[]))
        .expect_err("there is no such file");
    let only = only(&problems);
    assert_eq!(only.code, Code::Unreadable);
    assert_eq!(only.at.to_string(), "environment PELAGO_CONFIG");
    assert!(only.message.contains("none.toml"), "{}", only.message);
}

#[test]
fn a_variable_nests_and_splits_lists() {
    let env = [
        ("PELAGO_MESH__LISTEN_ADDR", "[::1]:7000"),
        ("PELAGO_MESH__PEERS", "127.0.0.1:1, node-2:2"),
        ("PELAGO_MESH__FOUND", "true"),
        ("PELAGO_AGENTS__CODER__NODE_AFFINITY", "n1,gpu=yes"),
        ("PELAGO_AGENTS__CODER__CONCURRENCY", "3"),
        // Not settings: another program's, and what Kubernetes says about a service called pelago-server.
        ("OTHER_SERVER__PORT", "x"),
        ("PELAGO_SERVER_PORT", "tcp://10.0.0.1:8080"),
    ];
    let config = load("", &env, &[]).expect("all is right");
    assert_eq!(config.mesh.listen_addr.to_string(), "[::1]:7000");
    assert_eq!(addresses(&config), ["127.0.0.1:1", "node-2:2"]);
    assert!(config.mesh.found);
    let (name, coder) = config.agents.first_key_value().expect("an agent was declared");
    assert_eq!(
        (name.as_str(), coder.kind.as_str(), coder.concurrency.map(NonZeroU32::get)),
        ("coder", "coder", Some(3))
    );
    let affinity: Vec<_> = coder.node_affinity.iter().map(ToString::to_string).collect();
    assert_eq!(affinity, ["n1", "gpu=yes"]);
}

#[test]
fn an_agent_is_balanced_as_its_section_says_and_else_as_all() {
    let file = "[mesh.load_balancing]\nstrategy = \"weighted\"\nprefer = \"zone\"\n[[mesh.load_balancing.weights]]\n\
                node_id = \"n2\"\nweight = 3\n[agents.coder]\nstrategy = \"round-robin\"";
    let config = load(file, &[("PELAGO_AGENTS__CODER__PREFER", "none")], &[]).expect("all is right");
    let all = &config.mesh.load_balancing;
    assert_eq!((all.strategy, all.prefer), (Strategy::Weighted, Prefer::Zone));
    let weights: Vec<_> = all.weights.iter().map(|(node, weight)| (node.as_str(), weight.get())).collect();
    assert_eq!(weights, [("n2", 3)]);
    let (_, coder) = config.agents.first_key_value().expect("an agent was declared");
    assert_eq!((coder.strategy, coder.prefer), (Some(Strategy::RoundRobin), Some(Prefer::None)));
}

#[test]
fn a_share_of_traces_that_go_nowhere_is_refused() {
    let problems = load("[telemetry]\nsample_percent = 10\n", &[], &[]).expect_err("nothing is recorded");
    assert!(problems.to_string().contains("telemetry.sample_percent has no effect"), "{problems}");
    let endpoint = "otlp_endpoint = \"http://localhost:4318\"\n";
    load(&format!("[telemetry]\nsample_percent = 10\n{endpoint}"), &[], &[]).expect("they go there");
}

#[test]
fn weights_that_no_strategy_uses_are_refused() {
    let weights = "[[mesh.load_balancing.weights]]\nnode_id = \"n2\"\nweight = 3\n";
    let problems = load(weights, &[], &[]).expect_err("nothing weighs nodes");
    assert_eq!((only(&problems).code, only(&problems).at.to_string()), (Code::Contradiction, "pelago.toml:1:1".into()));
    assert!(problems.to_string().contains("mesh.load_balancing.weights have no effect"), "{problems}");
    for weighted in ["[mesh.load_balancing]\nstrategy = \"weighted\"\n", "[agents.coder]\nstrategy = \"weighted\"\n"] {
        load(&format!("{weighted}{weights}"), &[], &[]).expect("they are used");
    }
}

#[test]
fn every_mistake_in_balancing_is_reported_where_it_is() {
    let file = "[mesh.load_balancing]\nstrategy = \"roundrobin\"\nprefer = \"near\"\n[[mesh.load_balancing.weights]]\n\
                node_id = \"n2\"\nweight = 0\n[[mesh.load_balancing.weights]]\nweight = 2\n[agents.a]\nstrategy = 1";
    let problems = load(file, &[], &[]).expect_err("all of it is wrong");
    let lines: Vec<_> = problems.iter().map(|problem| problem.at.to_string()).collect();
    assert_eq!(lines.len(), 5, "{problems}");
    let text = problems.to_string();
    for part in [
        "mesh.load_balancing.strategy must be one of round-robin, weighted, least-connections, least-loaded, latency, \
         adaptive, consistent-hash, found \"roundrobin\"",
        "mesh.load_balancing.prefer must be one of node, zone, region, none",
        "mesh.load_balancing.weights[0].weight must be a whole number from 1 to 1000, found 0",
        "mesh.load_balancing.weights[1].node_id is missing",
        "agents.a.strategy must be one of",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn an_empty_variable_empties_a_list_and_is_no_number() {
    let file = "mesh.peers = [\"a:1\"]";
    let config = load(file, &[("PELAGO_MESH__PEERS", "")], &[]).expect("no peers are right");
    assert_eq!(config.mesh.peers, []);
    let problems = load(file, &[("PELAGO_SERVER__PORT", "")], &[]).expect_err("a port has digits");
    assert_eq!(only(&problems).message, "server.port must be a whole number from 0 to 65535, found \"\"");
}

#[test]
fn a_flag_given_twice_makes_a_list() {
    let flags = [("--join", "mesh.peers", "a:1"), ("--join", "mesh.peers", "b:2")];
    let config = load("mesh.peers = [\"c:3\"]", &[], &flags).expect("all is right");
    assert_eq!(addresses(&config), ["a:1", "b:2"]);
}

#[test]
fn peers_are_addresses_or_tables() {
    let tables =
        "[[mesh.peers]]\nid = \"n2\"\naddress = \"n2:1\"\nrole = \"worker\"\n[[mesh.peers]]\naddress = \"n3:1\"";
    let config = load(tables, &[], &[]).expect("tables are right");
    let ids: Vec<_> = config.mesh.peers.iter().map(|known| known.id.as_ref().map(Name::as_str)).collect();
    assert_eq!(ids, [Some("n2"), None]);
    assert_eq!(addresses(&config), ["n2:1", "n3:1"]);
    assert_eq!(addresses(&load("[mesh]\npeers = [\"n2:1\"]", &[], &[]).expect("a list is right")), ["n2:1"]);
}

#[test]
fn both_forms_of_peers_in_one_file_are_refused() {
    let file = "[mesh]\npeers = [\"a:1\"]\n\n[[mesh.peers]]\naddress = \"b:1\"\n[server]\nport = -1\n";
    let problems = load(file, &[], &[]).expect_err("peers are written twice");
    assert_eq!(
        problems.to_string(),
        "\
error[PLG-1007]: peers is written twice
  at:   pelago.toml:4:8
  hint: write either peers = [\"host:port\", …] or [[mesh.peers]] tables, not both
error[PLG-1002]: server.port must be a whole number from 0 to 65535, found -1
  at:   pelago.toml:7:8"
    );
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_places() {
    let file = r#"
[server]
host = "0.0.0.0"
enabled = "true"

[mesh]
listen_adr = "127.0.0.1:1"
node_id = "a b"
role = "coordinator"
peers = ["a:1", "b", 3, { id = "c" }]

[mesh.labels]
zone = 3

[tasks]
attempts_max = 0
backoff_ms = 100_000

[loging]
level = "info"

[agents.coder]
model = "m"
concurency = 2

[[mesh.discovery]]
"#;
    let env = [
        ("PELAGO_LOGGING__LEVEL", "loud"),
        ("PELAGO_MESH__LISTEN_ADDRES", "x"),
        ("PELAGO_SHUTDOWN__DRAIN_MS_MAX__X", "1"),
        ("PELAGO_MESH__TLS__ENABLED", "true"),
        ("PELAGO_SEVER__PORT", "1"),
    ];
    let flags = [("--mesh-addr", "mesh.listen_addr", "10.0.0.1:50051"), ("--port", "server.port", "http")];
    let problems = load(file, &env, &flags).expect_err("nearly all is wrong");
    assert_eq!(
        problems.to_string(),
        r#"error[PLG-1004]: server.host may not be 0.0.0.0: a listener beyond loopback needs TLS and authentication, which are not there yet
  at:   pelago.toml:3:8
  hint: use 127.0.0.1, ::1 or localhost, and reach it from elsewhere by `ssh -L`
error[PLG-1002]: server.enabled must be true or false, found "true"
  at:   pelago.toml:4:11
  hint: write it without quotes
error[PLG-1001]: unknown key mesh.listen_adr
  at:   pelago.toml:7:1
  hint: did you mean mesh.listen_addr?
error[PLG-1002]: mesh.node_id must be a name, found "a b"
  at:   pelago.toml:8:11
  hint: a name has only letters, digits, '.', '_' and '-'
error[PLG-1003]: mesh.role is not supported yet
  at:   pelago.toml:9:1
  hint: remove it; every node runs agents and answers requests
error[PLG-1002]: mesh.peers[1] must be HOST:PORT (a host, a colon and a port; an IPv6 host in brackets), found "b"
  at:   pelago.toml:10:17
  hint: write it like 127.0.0.1:50051 or [::1]:50051
error[PLG-1002]: mesh.peers[2] must be HOST:PORT, found 3
  at:   pelago.toml:10:22
  hint: write it like 127.0.0.1:50051 or [::1]:50051
error[PLG-1008]: mesh.peers[3].address is missing
  at:   pelago.toml:10:25
error[PLG-1002]: mesh.labels.zone must be a text of 1 to 128 bytes without control characters, found 3
  at:   pelago.toml:13:8
  hint: write it in quotes
error[PLG-1002]: tasks.attempts_max must be a whole number from 1 to 1000, found 0
  at:   pelago.toml:16:16
error[PLG-1007]: tasks.backoff_ms (100000) is greater than tasks.backoff_ms_max (60000)
  at:   pelago.toml:17:14
error[PLG-1001]: unknown key loging
  at:   pelago.toml:19:2
  hint: did you mean logging?
error[PLG-1003]: agents.coder.model is not supported yet
  at:   pelago.toml:23:1
  hint: declare an agent of a built-in kind
error[PLG-1001]: unknown key agents.coder.concurency
  at:   pelago.toml:24:1
  hint: did you mean agents.coder.concurrency?
error[PLG-1002]: mesh.discovery must be a table, found a list
  at:   pelago.toml:26:1
  hint: its keys are set one by one, like mesh.discovery.NAME
error[PLG-1002]: logging.level must be one of error, warn, info, debug, trace, found "loud"
  at:   environment PELAGO_LOGGING__LEVEL
error[PLG-1001]: unknown key mesh.listen_addres
  at:   environment PELAGO_MESH__LISTEN_ADDRES
  hint: did you mean PELAGO_MESH__LISTEN_ADDR?
error[PLG-1003]: mesh.tls.enabled is not supported yet
  at:   environment PELAGO_MESH__TLS__ENABLED
  hint: remove it; until then every listener stays on loopback
error[PLG-1001]: unknown key sever.port
  at:   environment PELAGO_SEVER__PORT
  hint: did you mean PELAGO_SERVER__PORT?
error[PLG-1002]: shutdown.drain_ms_max must be a whole number from 0 to 3600000, found a table
  at:   environment PELAGO_SHUTDOWN__DRAIN_MS_MAX__X
error[PLG-1004]: mesh.listen_addr may not be 10.0.0.1:50051: a listener beyond loopback needs TLS and authentication, which are not there yet
  at:   flag --mesh-addr
  hint: use 127.0.0.1:50051; until then all nodes of a mesh run on one machine
error[PLG-1002]: server.port must be a whole number from 0 to 65535, found "http"
  at:   flag --port"#
    );
}

#[test]
fn connections_are_addresses_or_tables_with_a_filter() {
    let file = r#"
[agents.main]
kind = "echo"
layer = "L4"
forward_connections = ["one", { to = "n1/two:k", only = "kind=plan" }, { to = "three", only = "urgent*" }]
[signals]
hops_max = 4
"#;
    let config = load(file, &[], &[]).expect("all is right");
    let (_, main) = config.agents.first_key_value().expect("an agent was declared");
    let shown =
        main.forward_connections.iter().map(|one| (one.to.to_string(), one.only.as_ref().map(ToString::to_string)));
    let only = |text: &str| Some(text.to_owned());
    let expected = [("one", None), ("n1/two:k", only("kind=plan")), ("three", only("urgent*"))];
    assert_eq!(shown.collect::<Vec<_>>(), expected.map(|(to, only)| (to.to_owned(), only)));
    assert_eq!((main.layer.as_ref().map(Name::as_str), config.signals.hops_max), (Some("L4"), 4));

    let file = r#"
[signals]
hops_max = 65
hop_max = 3
[agents.main]
forward_connections = ["a b", { only = "plan" }, 3]
foward_connections = []
"#;
    let problems = load(file, &[], &[]).expect_err("all of it is wrong");
    assert_eq!(
        problems.to_string(),
        "\
error[PLG-1002]: signals.hops_max must be a whole number from 1 to 64, found 65
  at:   pelago.toml:3:12
error[PLG-1001]: unknown key signals.hop_max
  at:   pelago.toml:4:1
  hint: did you mean signals.hops_max?
error[PLG-1002]: agents.main.forward_connections[0] must be the address of an agent, found \"a b\"
  at:   pelago.toml:6:24
  hint: a name has only letters, digits, '.', '_' and '-'
error[PLG-1008]: agents.main.forward_connections[1].to is missing
  at:   pelago.toml:6:31
error[PLG-1002]: agents.main.forward_connections[1].only must be a filter like \"urgent*\" or \"kind=plan\", found \"plan\"
  at:   pelago.toml:6:40
error[PLG-1002]: agents.main.forward_connections[2] must be the address of an agent, found 3
  at:   pelago.toml:6:50
error[PLG-1001]: unknown key agents.main.foward_connections
  at:   pelago.toml:7:1
  hint: did you mean agents.main.forward_connections?"
    );
}

#[test]
fn a_file_that_is_not_toml_is_reported_alone() {
    let problems =
        load("[server]\nport =\n[mesh\nx", &[("PELAGO_SERVER__PORT", "x")], &[]).expect_err("it is not TOML");
    let places: Vec<_> = problems.iter().map(|problem| (problem.code, problem.at.to_string())).collect();
    assert_eq!(places[0], (Code::Syntax, "pelago.toml:2:7".to_owned()));
    assert!(places.iter().all(|(code, _)| *code == Code::Syntax), "{places:?}");
}

#[test]
fn columns_count_characters() {
    let problems = load("mesh = { \"ähm\" = 1 }", &[], &[]).expect_err("no such key");
    assert_eq!(only(&problems).at.to_string(), "pelago.toml:1:10");
    let problems = load("mesh = { labels = { \"ä\" = \"x\" }, found = 1 }", &[], &[]).expect_err("two are wrong");
    let places: Vec<_> = problems.iter().map(|problem| problem.at.to_string()).collect();
    assert_eq!(places, ["pelago.toml:1:21", "pelago.toml:1:42"]);
}

#[test]
fn no_listener_leaves_loopback_by_any_source() {
    let file = "[server]\nhost = \"::\"\n[mesh]\nlisten_addr = \"192.168.1.10:50051\"";
    let by_file = load(file, &[], &[]).expect_err("both are open");
    let env = [("PELAGO_SERVER__HOST", "0.0.0.0"), ("PELAGO_MESH__LISTEN_ADDR", "[::]:50051")];
    let by_env = load("", &env, &[]).expect_err("both are open");
    let flags = [("--host", "server.host", "10.0.0.1"), ("--mesh-addr", "mesh.listen_addr", "10.0.0.1:1")];
    let by_flag = load("", &[], &flags).expect_err("both are open");
    for problems in [by_file, by_env, by_flag] {
        let codes: Vec<_> = problems.iter().map(|problem| problem.code).collect();
        assert_eq!(codes, [Code::NotLoopback, Code::NotLoopback], "{problems}");
    }
}

#[test]
fn the_hint_for_a_listener_is_about_that_listener() {
    let file = "[mesh]\nlisten_addr = \"10.0.0.1:50051\"\n[mesh.json]\nlisten = \"0.0.0.0:9900\"\n";
    let problems = load(file, &[], &[]).expect_err("both are open");
    let hints: Vec<_> = problems.iter().filter_map(|problem| problem.hint.as_deref()).collect();
    assert!(hints[0].contains("127.0.0.1:50051") && hints[1].contains("127.0.0.1:9900"), "{problems}");
}

#[cfg(unix)]
#[test]
fn a_variable_of_another_program_may_be_anything() {
    use std::os::unix::ffi::OsStringExt;
    let not_text = || OsString::from_vec(vec![0xff]);
    let dir = TempDir::new().expect("a temporary directory");
    let mut sources = sources(dir.path(), None, &[], &[]);
    sources.env = vec![("OTHER".into(), not_text()), (not_text(), not_text())];
    assert!(Config::load(sources.clone()).is_ok());
    sources.env.push(("PELAGO_MESH__NAME".into(), not_text()));
    let problems = Config::load(sources).expect_err("a name is text");
    assert_eq!(only(&problems).at.to_string(), "environment PELAGO_MESH__NAME");
}

#[test]
fn the_two_nodes_of_the_guide_load_on_loopback() {
    let first = r#"
[server]
host = "127.0.0.1"
port = 8080

[mesh]
enabled = true
node_id = "coordinator-1"
listen_addr = "127.0.0.1:50051"

[mesh.discovery]
method = "static"

[[mesh.peers]]
id = "worker-1"
address = "127.0.0.1:50052"
role = "worker"

[logging]
level = "info"
format = "json"

[agents.coder]
node_affinity = ["worker-1"]
"#;
    let second = r#"
[server]
enabled = false

[mesh]
enabled = true
node_id = "worker-1"
listen_addr = "127.0.0.1:50052"

[[mesh.peers]]
id = "coordinator-1"
address = "127.0.0.1:50051"
role = "coordinator"
"#;
    let first = load(first, &[], &[]).expect("the first node is right");
    assert_eq!(addresses(&first), ["127.0.0.1:50052"]);
    assert_eq!(first.logging.format, LogFormat::Json);
    assert!(first.store.dir.ends_with(".pelago/coordinator-1"), "{:?}", first.store.dir);
    let second = load(second, &[], &[]).expect("the second node is right");
    assert!(!second.server.enabled);
    assert_eq!(second.mesh.listen_addr.to_string(), addresses(&first)[0]);
}

#[test]
fn what_comes_later_is_refused_by_name() {
    let file = r#"
[mesh]
enabled = false
max_agents = 50
session_affinity = true

[mesh.discovery]
method = "dns"
refresh_interval = 30

[database]
url = "postgresql://brio:password@10.0.0.1:5432/brio"

[telemetry.tags]
region = "eu"
"#;
    let problems = load(file, &[], &[]).expect_err("all of it comes later");
    let lines: Vec<_> = problems.iter().map(|problem| (problem.code, problem.at.to_string())).collect();
    let expected = [3, 4, 5, 8, 9, 11, 14].map(|line| {
        let column = match line {
            3 => 11,
            8 => 10,
            11 => 2,
            14 => 12,
            _ => 1,
        };
        (Code::NotSupported, format!("pelago.toml:{line}:{column}"))
    });
    assert_eq!(lines, expected, "{problems}");
    assert!(problems.iter().all(|problem| problem.hint.is_some()), "{problems}");
    assert!(!problems.to_string().contains("password"), "a secret is not repeated");
}

#[test]
fn the_example_says_the_defaults() {
    let dir = TempDir::new().expect("a temporary directory");
    let defaults = Config::load(sources(dir.path(), None, &[], &[])).expect("defaults are right");
    fs::write(dir.path().join("pelago.toml"), EXAMPLE).expect("a small file");
    let example = Config::load(sources(dir.path(), None, &[], &[])).expect("the example is right");
    assert_eq!(example, defaults);
    let (name, coder) = ("coder".parse().expect("a name"), example_in_full());
    let coder = coder.agents.get(&name).expect("it is declared in the example");
    assert_eq!(coder.turn_max, Some(pelago_core::agent::Config::default().turn_max));
}

#[test]
fn the_example_shows_every_key() {
    let mut report = Report::default();
    let example = file::parse("pelago.example.toml".as_ref(), &uncommented(), &mut report).expect("it is TOML");
    let mut shown = BTreeSet::new();
    example.values().for_each(|node| collect(node, &mut shown));
    report.root(example, Config::read);
    let hidden: Vec<_> = report.known().difference(&shown).collect();
    assert!(hidden.is_empty(), "the example does not show {hidden:?}");
    assert!(shown.contains("mesh.peers[0].role"), "lists are looked into");
}

/// The example with everything in it that stands behind `#` or `##`.
fn uncommented() -> String {
    let line = |line: &'static str| match line.strip_prefix("## ") {
        Some(setting) => setting,
        None => line.strip_prefix('#').filter(|rest| !rest.starts_with([' ', '#'])).unwrap_or(line),
    };
    let lines: Vec<_> = EXAMPLE.lines().map(line).filter(|line| *line != "peers = []").collect();
    lines.join("\n")
}

fn example_in_full() -> Config {
    load(&uncommented(), &[], &[]).expect("what the example proposes is right")
}

fn collect(node: &Node, paths: &mut BTreeSet<String>) {
    paths.insert(node.path.clone());
    match &node.value {
        Value::Table(table) => table.values().for_each(|node| collect(node, paths)),
        Value::List(items) => items.iter().for_each(|node| collect(node, paths)),
        Value::Boolean(_) | Value::Integer(_) | Value::Text(_) | Value::Written(_) | Value::Other(_) => {}
    }
}

fn addresses(config: &Config) -> Vec<String> {
    config.mesh.peers.iter().map(|known| known.address.to_string()).collect()
}

fn only(problems: &Problems) -> &Problem {
    assert_eq!(problems.iter().count(), 1, "{problems}");
    problems.iter().next().expect("there is one")
}

/// Loads `file` as the `pelago.toml` of an empty directory.
fn load(file: &str, env: &[(&str, &str)], flags: &[(&str, &str, &str)]) -> Result<Config, Problems> {
    let dir = TempDir::new().expect("a temporary directory");
    fs::write(dir.path().join("pelago.toml"), file).expect("a small file");
    Config::load(sources(dir.path(), None, env, flags))
}

fn sources(cwd: &std::path::Path, file: Option<&str>, env: &[(&str, &str)], flags: &[(&str, &str, &str)]) -> Sources {
    let flag = |(name, key, value): &(&str, &str, &str)| Flag {
        name: (*name).to_owned(),
        key: (*key).to_owned(),
        value: (*value).to_owned(),
    };
    Sources {
        file: file.map(PathBuf::from),
        env: env.iter().map(|(name, value)| (name.into(), value.into())).collect(),
        flags: flags.iter().map(flag).collect(),
        cwd: cwd.to_owned(),
    }
}
