//! Signals that follow agents' connections from node to node.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use pelago_core::{
    connection::{Branch, Connection, Cut, Outcome},
    id::{Address, Name, SignalId},
};
use pelago_node::{
    Agent, Config, Fault, Handle, Kind, Node, Turn,
    handle::{Error, SignalOptions, Trace},
    keyed, pool,
};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::{
    several::{member, stop_all, until_whole},
    world::{config, poll, stop},
};

/// Replies what it is given, and does what that says to the agent of its name.
#[derive(Default, Serialize, Deserialize)]
struct Relay;

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Wish {
    Fail,
    Panic,
    Stop,
    /// Take so many milliseconds, under this name.
    Sleep(u64, String),
}

type Wishes = BTreeMap<String, Wish>;

/// Which sleeps began, and which were dropped before their end.
static SLEEPS: Mutex<(Vec<String>, Vec<String>)> = Mutex::new((Vec::new(), Vec::new()));

struct Sleep(String);

impl Drop for Sleep {
    fn drop(&mut self) {
        SLEEPS.lock().unwrap_or_else(PoisonError::into_inner).1.push(std::mem::take(&mut self.0));
    }
}

fn began(name: &str) -> usize {
    SLEEPS.lock().unwrap_or_else(PoisonError::into_inner).0.iter().filter(|began| *began == name).count()
}

fn dropped(name: &str) -> bool {
    SLEEPS.lock().unwrap_or_else(PoisonError::into_inner).1.iter().any(|dropped| dropped == name)
}

impl Agent for Relay {
    type Input = Option<Wishes>;
    type Output = Option<Wishes>;

    async fn handle(&mut self, wishes: Option<Wishes>, turn: &mut Turn) -> Result<Option<Wishes>, Fault> {
        match wishes.as_ref().and_then(|wishes| wishes.get(turn.agent().name.as_str()).cloned()) {
            Some(Wish::Fail) => return Err(Fault::new("it was told to")),
            Some(Wish::Panic) => panic!("it was told to"),
            Some(Wish::Stop) => turn.stop_signal(),
            Some(Wish::Sleep(ms, name)) => {
                SLEEPS.lock().unwrap_or_else(PoisonError::into_inner).0.push(name.clone());
                let asleep = Sleep(name);
                tokio::time::sleep(Duration::from_millis(ms)).await;
                std::mem::forget(asleep);
            }
            None => {}
        }
        Ok(wishes)
    }
}

/// Replies what it sees of the signal.
#[derive(Default, Serialize, Deserialize)]
struct Witness;

impl Agent for Witness {
    type Input = Option<Wishes>;
    type Output = Vec<String>;

    async fn handle(&mut self, _any: Option<Wishes>, turn: &mut Turn) -> Result<Vec<String>, Fault> {
        let signal = turn.signal().ok_or_else(|| Fault::new("it was asked"))?;
        let nodes: Vec<&str> = signal.nodes().map(Name::as_str).collect();
        let parent = signal.parent().map(ToString::to_string).unwrap_or_default();
        Ok(vec![signal.id.to_string(), signal.from.clone(), signal.hop().to_string(), parent, nodes.join(" ")])
    }
}

/// Counts signals, durably.
#[derive(Default, Serialize, Deserialize)]
struct Census {
    signals: u64,
}

impl Agent for Census {
    type Input = Option<Wishes>;
    type Output = u64;

    async fn handle(&mut self, _any: Option<Wishes>, turn: &mut Turn) -> Result<u64, Fault> {
        self.signals += u64::from(turn.signal().is_some());
        Ok(self.signals)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_crosses_nodes_and_its_tree_comes_back() {
    let (_homes, nodes) = mesh(&["main > one two", "one > deep", "deep > census:a"]).await;
    for _ in 0..2 {
        let trace = run(nodes[0].handle(), "main", "{}").await;
        assert_eq!(shown(&trace), "main@n0(one@n1(deep@n2(census:a)) two@n2)");
        let tree = trace.tree.expect("it has ended");
        assert!(tree.is_whole());
        assert!(tree.all().all(|branch| branch.took <= tree.took && branch.outcome.reply().is_some()));
    }
    // From a node that hosts none of them too.
    let trace = run(nodes[1].handle(), "main", "{}").await;
    assert_eq!(shown(&trace), "main@n0(one@n1(deep@n2(census:a)) two@n2)");
    // To one, two and deep each time, and once to main; where the census is, nobody says.
    assert!(counted(&nodes, "pelago_signals_remote_total") >= 10);
    let census = nodes[0].handle().agent("census:a").await.expect("it had turns");
    assert_eq!(census.state.as_deref(), Some(&br#"{"signals":3}"#[..]));
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_tells_what_became_of_a_signal_as_long_as_the_node_that_took_it_is_there() {
    let (_homes, mut nodes) = mesh(&["main > one two"]).await;
    let [first, second, third] = [0, 1, 2].map(|n| nodes[n].handle().clone());
    let ended = run(&second, "main", "{}").await;
    for handle in [&first, &second, &third] {
        let told = handle.trace(ended.id, None).await.expect("it is known");
        assert_eq!((shown(&told), told.started, &told.node), (shown(&ended), ended.started, second.name()));
    }

    let slow = Bytes::from_static(br#"{"two": {"sleep": [500, "traced"]}}"#);
    let under_way = second.signal("main", slow, options(), None).await.expect("it is taken");
    assert_eq!(third.trace(under_way.id, None).await, Ok(under_way.clone()), "it goes on");
    let waited_for = third.trace(under_way.id, Some(Duration::from_secs(20))).await.expect("it is known");
    assert_eq!(shown(&waited_for), "main@n0(one@n1 two@n2)");

    let nobody_knows = SignalId(ended.id.0 ^ 1);
    for handle in [&first, &second] {
        assert_eq!(handle.trace(nobody_knows, None).await, Err(Error::UnknownSignal(nobody_knows)));
    }
    stop(nodes.remove(1)).await;
    let away = Error::SignalAway { id: ended.id, node: second.name().clone() };
    assert_eq!(third.trace(ended.id, None).await, Err(away));
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_sees_where_a_signal_comes_from_and_may_stop_it() {
    let (_homes, nodes) = mesh(&["main > one", "one > witness", "two > main"]).await;
    let trace = run(nodes[0].handle(), "main", "{}").await;
    let tree = trace.tree.expect("it has ended");
    let witness = tree.all().last().and_then(|branch| branch.outcome.reply()).expect("it replied");
    let seen: Vec<String> = serde_json::from_slice(witness).expect("a list");
    assert_eq!(seen, [&*trace.id.to_string(), "tester", "3", "one", "n0 n1"]);

    let trace = run(nodes[0].handle(), "main", r#"{"one": "stop"}"#).await;
    let tree = trace.tree.expect("it has ended");
    let stopped: Vec<(String, bool)> = tree.all().map(|branch| (branch.to.to_string(), branch.stopped)).collect();
    assert_eq!(stopped, [("main".into(), false), ("one".into(), true)]);
    assert!(tree.is_whole());
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_comes_of_a_branch_is_in_the_tree_and_counted() {
    let (_homes, nodes) = mesh(&["main > one two nobody", "one > deep main", "two > deep", "deep > one two"]).await;
    let here = nodes[0].handle();
    let cyclic = run(here, "main", "{}").await;
    let expected = "main@n0(one@n1(deep@n2(one!cycle two@n2(deep!cycle)) main!cycle) \
                    two@n2(deep@n2(one@n1(deep!cycle main!cycle) two!cycle)) nobody!not_taken)";
    assert_eq!(shown(&cyclic), expected);
    let tree = cyclic.tree.expect("it has ended");
    let nobody = tree.branches.last().map(|branch| branch.outcome.clone());
    assert!(matches!(nobody, Some(Outcome::NotTaken { unknown: true, .. })), "{nobody:?}");

    let options = |hops_max| SignalOptions { hops_max: Some(hops_max), ..options() };
    let limited = start(here, "main", "{}", options(2)).await.expect("it is taken");
    let expected = "main@n0(one@n1(deep!hop_limit main!cycle) two@n2(deep!hop_limit) nobody!not_taken)";
    assert_eq!(shown(&limited), expected);

    let failing = run(here, "main", r#"{"one": "fail", "two": "panic"}"#).await;
    assert_eq!(shown(&failing), "main@n0(one@n1!failed two@n2!failed nobody!not_taken)");
    let reasons = failing.tree.expect("it has ended").branches;
    assert_eq!(reasons[0].outcome, Outcome::Failed { reason: "it was told to".into(), hopeless: false });

    let quick = SignalOptions { timeout: Duration::from_millis(700), ..options(16) };
    let slow = r#"{"one": {"sleep": [20000, "slow"]}, "deep": "stop"}"#;
    let slow = start(here, "main", slow, quick).await.expect("it is taken");
    assert_eq!(shown(&slow), "main@n0(one@n1!timed_out two@n2(deep@n2) nobody!not_taken)");
    assert!(dropped("slow"), "a turn whose answer would be too late goes on");

    for (outcome, at_least) in [("hop_limit", 2), ("cycle", 6), ("failed", 2), ("timed_out", 1), ("not_taken", 4)] {
        let counted = counted(&nodes, &format!("pelago_signal_branches_total{{outcome=\"{outcome}\"}}"));
        assert!(counted >= at_least, "{counted} branches with {outcome}");
    }
    assert_eq!(counted(&nodes, "pelago_signals_total{outcome=\"partial\"}"), 4);
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_to_an_agent_that_failed_too_often_says_that_its_breaker_is_open() {
    let (_homes, nodes) = mesh(&["main > one two", "one > deep"]).await;
    let failing = || run(nodes[0].handle(), "main", r#"{"two": "fail", "deep": "fail"}"#);
    let open = "main@n0(one@n1(deep!breaker_open) two!breaker_open)";
    // Each node has its own breaker: that of `deep` is open at n1, which passes the signal on to it.
    poll(async || shown(&failing().await) == open).await;
    let tree = failing().await.tree.expect("it has ended");
    assert_eq!((tree.branches[1].outcome.clone(), tree.is_whole()), (Outcome::BreakerOpen, false));
    let first = run(nodes[0].handle(), "two", "{}").await;
    assert_eq!(shown(&first), "two!breaker_open");
    assert!(counted(&nodes, "pelago_signal_branches_total{outcome=\"breaker_open\"}") >= 3);
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_takes_the_other_host_when_its_node_is_lost() {
    let (_homes, mut nodes) = mesh(&["main > role"]).await;
    let name = |trace: &Trace| {
        let tree = trace.tree.as_ref().expect("it has ended");
        tree.branches[0].node.as_ref().map(ToString::to_string).expect("somebody handled it")
    };
    let slow = r#"{"role": {"sleep": [1500, "lost"]}}"#.to_owned();
    let handle = nodes[0].handle().clone();
    let under_way = tokio::spawn(async move { run(&handle, "main", &slow).await });
    poll(async || began("lost") == 1).await;
    let handles = |at: &usize| counted(&nodes[*at..=*at], "pelago_signals_handled") == 1;
    let at = (1..nodes.len()).find(handles).expect("it is one of the others");
    let lost = nodes.remove(at);
    let lost_name = lost.handle().name().to_string();
    stop(lost).await;
    let trace = under_way.await.expect("it does not panic");
    assert!(trace.tree.as_ref().is_some_and(Branch::is_whole), "{trace:?}");
    assert_ne!(name(&trace), lost_name);
    assert_eq!(began("lost"), 2);
    assert_ne!(name(&run(nodes[0].handle(), "main", "{}").await), lost_name);
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_starter_that_goes_away_calls_all_branches_off() {
    let (_homes, nodes) = mesh(&["main > one", "one > deep", "deep > census:off"]).await;
    let handle = nodes[0].handle().clone();
    let slow = r#"{"deep": {"sleep": [20000, "off"]}}"#;
    let under_way = tokio::spawn(async move { run(&handle, "main", slow).await });
    poll(async || began("off") == 1).await;
    under_way.abort();
    poll(async || dropped("off")).await;
    let census = nodes[0].handle().agent("census:off").await;
    assert!(matches!(census, Err(Error::NoState(_))), "{census:?}");
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_signals_at_once_all_end() {
    let (_homes, nodes) = mesh(&["main > one two", "one two > deep"]).await;
    let here = nodes[0].handle();
    let mut ids = Vec::new();
    for _ in 0..1_000 {
        let started = here.signal("main", Bytes::from_static(b"{}"), options(), None).await;
        ids.push(started.expect("there is room").id);
    }
    for id in ids {
        let trace = here.trace(id, Some(Duration::from_secs(30))).await.expect("it is known");
        assert_eq!(shown(&trace), "main@n0(one@n1(deep@n2) two@n2(deep@n2))");
    }
    assert_eq!(counted(&nodes, "pelago_signals_total{outcome=\"whole\"}"), 1_000);
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_has_no_memory_for_is_not_taken() {
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let node = Node::start(config(home.path()), relays(&["main > one"], 0)).await.expect("it starts");
    let here = node.handle().clone();
    // Each is nearly the largest that a signal may be: more than a hundred of them do not fit.
    let padding = " ".repeat(500 << 10);
    let large = Bytes::from(format!(r#"{{"main": {{"sleep": [400, "large"]}}{padding}}}"#));
    let all = (0..200).map(|_| here.signal("main", large.clone(), options(), Some(Duration::from_secs(30))));
    let ended = futures_util::future::join_all(all).await;
    let words: Vec<&str> = ended.iter().map(|ended| word(ended.as_ref().expect("it is taken"))).collect();
    let not_taken = words.iter().filter(|word| **word == "not_taken").count();
    assert!((50..150).contains(&not_taken) && words.contains(&"replied"), "{words:?}");
    assert_eq!(word(&run(&here, "main", "{}").await), "replied");
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_added_and_taken_away_at_any_node_and_outlive_all_of_them() {
    let lines = ["main > one"];
    let (homes, nodes) = mesh(&lines).await;
    let [first, second, third] = [0, 1, 2].map(|n| nodes[n].handle().clone());
    second.connect("main", "two", Some("{*".parse().expect("a filter"))).await.expect("both are there");
    second.connect("main", "two", None).await.expect("it is changed");
    third.connect("two", "census:c", None).await.expect("both are there");
    third.connect("one", "main", Some("one=x".parse().expect("a filter"))).await.expect("both are there");
    poll(async || shown(&run(&first, "main", "{}").await) == "main@n0(one@n1 two@n2(census:c))").await;
    let all: Vec<String> = first.connections().into_iter().map(listed).collect();
    assert_eq!(all, ["main > one by n0", "main > two", "one > main one=x", "two > census:c"]);

    let refused = first.connect("main", "census", None).await;
    assert!(matches!(refused, Err(Error::WrongKey(_))), "{refused:?}");
    for (from, to) in [("main", "tow"), ("mian", "two")] {
        let refused = first.connect(from, to, None).await;
        assert!(matches!(&refused, Err(Error::UnknownAgent { nearest, .. }) if !nearest.is_empty()), "{refused:?}");
    }
    assert!(matches!(first.disconnect("main", "one").await, Err(Error::WrongState(_))));
    assert!(matches!(first.disconnect("main", "three").await, Err(Error::UnknownConnection { .. })));
    second.disconnect("main", "two").await.expect("it was added");
    poll(async || shown(&run(&first, "main", "{}").await) == "main@n0(one@n1)").await;

    let addresses: Vec<_> = nodes.iter().map(Node::mesh_address).collect();
    stop_all(nodes).await;
    let again = homes.iter().zip(&addresses).enumerate().map(|(n, (home, address))| {
        let config = Config { mesh_listen: *address, ..member(home.path(), n, None) };
        Node::start(config, relays(&lines, n))
    });
    let started = futures_util::future::join_all(again).await;
    let nodes: Vec<Node> = started.into_iter().map(|node| node.expect("it starts again")).collect();
    until_whole(&nodes).await;
    assert_eq!(shown(&run(nodes[0].handle(), "two", "{}").await), "two@n2(census:c)");
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_that_makes_no_sense_is_refused_before_it_starts() {
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let node = Node::start(config(home.path()), relays(&[], 0)).await.expect("it starts");
    let refused =
        async |to: &str, options: SignalOptions| start(node.handle(), to, "{}", options).await.expect_err("refused");
    assert!(matches!(refused("mian", options()).await, Error::UnknownAgent { .. }));
    for bad in [
        SignalOptions { hops_max: Some(0), ..options() },
        SignalOptions { hops_max: Some(65), ..options() },
        SignalOptions { timeout: Duration::ZERO, ..options() },
        SignalOptions { timeout: Duration::from_secs(601), ..options() },
        SignalOptions { from: String::new(), ..options() },
    ] {
        assert!(matches!(refused("main", bad).await, Error::BadOption(_)));
    }
    stop(node).await;
}

fn options() -> SignalOptions {
    SignalOptions { from: "tester".into(), timeout: Duration::from_secs(20), hops_max: None }
}

async fn start(handle: &Handle, to: &str, content: &str, options: SignalOptions) -> Result<Trace, Error> {
    handle.signal(to, Bytes::copy_from_slice(content.as_bytes()), options, Some(Duration::from_secs(30))).await
}

async fn run(handle: &Handle, to: &str, content: &str) -> Trace {
    start(handle, to, content, options()).await.expect("it is taken")
}

/// Three nodes: n0 hosts `main`, n1 `one` and n2 `two` and `deep`, n1 and n2 `role`, and all of them the others.
async fn mesh(lines: &[&str]) -> (Vec<TempDir>, Vec<Node>) {
    let homes: Vec<_> = (0..3).map(|_| tempfile::tempdir().expect("a temporary directory can be made")).collect();
    let mut nodes = Vec::new();
    for (n, home) in homes.iter().enumerate() {
        let config = Config { drain_max: Duration::from_millis(100), ..member(home.path(), n, nodes.first()) };
        nodes.push(Node::start(config, relays(lines, n)).await.expect("it starts"));
    }
    until_whole(&nodes).await;
    (homes, nodes)
}

/// What node number `n` hosts, with these connections: `a b > c d`.
fn relays(lines: &[&str], n: usize) -> Vec<Kind> {
    let of: &[&str] = match n {
        0 => &["main"],
        1 => &["one", "role"],
        _ => &["two", "deep", "role"],
    };
    // On one node alone there is somebody else too.
    let relays = of.iter().map(|name| pool::<Relay>("relay").named(Name::new(name).expect("valid")));
    let others = [pool::<Witness>("witness"), keyed::<Census>("census")];
    let connected = |kind: Kind| {
        let is_of = |line: &&&str| {
            line.split(" > ").next().is_some_and(|from| from.split(' ').any(|of| of == kind.name().as_str()))
        };
        let to = |text: &str| Address::parse(&Name::default_namespace(), text).expect("valid");
        let next = lines.iter().filter(is_of).flat_map(|line| line.split(" > ").nth(1).unwrap_or_default().split(' '));
        let connections = next.map(|next| Connection { to: to(next), only: None }).collect();
        kind.connected(connections)
    };
    relays.chain(others).map(connected).collect()
}

/// The tree as text: who, where, and what came of it unless there was a reply. Where a keyed agent is depends.
fn shown(trace: &Trace) -> String {
    trace.tree.as_ref().map_or_else(|| "it goes on".into(), shown_branch)
}

fn shown_branch(branch: &Branch) -> String {
    let mut text = branch.to.to_string();
    if let Some(node) = branch.node.as_ref().filter(|_| branch.to.agent.key.is_none()) {
        text.push_str(&format!("@{node}"));
    }
    match &branch.outcome {
        Outcome::Replied { .. } => {}
        Outcome::Cut(Cut::Cycle | Cut::HopLimit)
        | Outcome::Failed { .. }
        | Outcome::NotTaken { .. }
        | Outcome::BreakerOpen
        | Outcome::TimedOut
        | Outcome::InDoubt => text.push_str(&format!("!{}", branch.outcome.word())),
    }
    let next: Vec<String> = branch.branches.iter().map(shown_branch).collect();
    if next.is_empty() { text } else { format!("{text}({})", next.join(" ")) }
}

fn word(trace: &Trace) -> &'static str {
    trace.tree.as_ref().map_or("goes_on", |tree| tree.outcome.word())
}

fn listed(one: pelago_node::handle::Connected) -> String {
    let only = one.connection.only.map(|only| format!(" {only}")).unwrap_or_default();
    let by = one.declared_by.map(|node| format!(" by {node}")).unwrap_or_default();
    format!("{} > {}{only}{by}", one.from, one.connection.to)
}

/// What all of them counted together; nothing if none did.
fn counted(nodes: &[Node], name: &str) -> u64 {
    let of = |node: &Node| {
        let text = node.handle().metrics().render();
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    nodes.iter().map(of).sum()
}
