//! Where signals go on, and what becomes of their trees.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;

use super::*;
use crate::{
    agent::Failure,
    id::{AgentId, Name, SignalId},
};

#[test]
fn a_signal_goes_to_all_next_agents_with_its_path() {
    let mesh = Mesh::of(&["main > one two", "one > three"]);
    let tree = mesh.run("main", 16, BRANCHES_MAX);
    assert_eq!(shown(&tree), "main(one(three) two)");
    let first = signal(16, 10);
    assert_eq!((first.hop(), first.parent()), (1, None));
    let onward = first.goes_on(hop("main"), &mesh.from("main"), &Text("any"));
    let second = onward.next[0].signal.as_ref().expect("it goes on");
    assert_eq!((second.hop(), second.parent().map(ToString::to_string)), (2, Some("main".into())));
    assert_eq!(second.nodes().map(Name::as_str).collect::<Vec<_>>(), ["at-main"]);
    assert_eq!(second.id, first.id);
}

#[test]
fn a_cycle_is_cut_on_the_branch_that_closes_it_and_nowhere_else() {
    let mesh = Mesh::of(&["a > b c", "b > a c", "c > c"]);
    assert_eq!(shown(&mesh.run("a", 16, BRANCHES_MAX)), "a(b(a!cycle c(c!cycle)) c(c!cycle))");
    assert!(mesh.run("a", 16, BRANCHES_MAX).is_whole());
}

#[test]
fn an_agent_of_another_node_is_another_agent() {
    let here = Hop { agent: to("here").agent, node: name("n1") };
    for (address, is_cut) in [("here", true), ("n1/here", true), ("n2/here", false), ("there", false)] {
        let connection = Connection { to: to(address), only: None };
        let onward = signal(16, 10).goes_on(here.clone(), [&connection], &Text(""));
        assert_eq!(onward.next[0].signal == Err(Cut::Cycle), is_cut, "{address}");
    }
}

#[test]
fn the_hop_limit_ends_a_path() {
    let mesh = Mesh::of(&["a > b", "b > c", "c > d"]);
    assert_eq!(shown(&mesh.run("a", 2, BRANCHES_MAX)), "a(b(c!hop_limit))");
    assert_eq!(shown(&mesh.run("a", 1, BRANCHES_MAX)), "a(b!hop_limit)");
    let tree = mesh.run("a", 4, BRANCHES_MAX);
    assert_eq!((shown(&tree).as_str(), tree.is_whole()), ("a(b(c(d)))", true));
    assert!(!mesh.run("a", 3, BRANCHES_MAX).is_whole());
}

#[test]
fn a_tree_has_no_more_branches_than_it_may_whatever_is_declared() {
    // Everybody is connected with everybody: without a bound there would be 12! paths.
    let all: Vec<String> = (0..12).map(|n| format!("a{n}")).collect();
    let lines: Vec<String> = all.iter().map(|from| format!("{from} > {}", all.join(" "))).collect();
    let mesh = Mesh::of(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    for branches_max in [1, 2, 7, 13, 100, BRANCHES_MAX] {
        let tree = mesh.run("a0", HOPS_MAX, branches_max);
        assert_eq!(tree.all().count(), branches_max as usize);
        assert!(!tree.is_whole());
        for branch in tree.all().filter(|branch| branch.outcome.reply().is_some()) {
            assert_eq!(branch.branches.len() + branch.left_out as usize, all.len());
        }
    }
    // One more than it needs is none too few.
    let mesh = Mesh::of(&["a > b c", "b > d"]);
    assert_eq!(shown(&mesh.run("a", 16, 4)), "a(b(d) c)");
    assert!(mesh.run("a", 16, 4).is_whole());
    let tree = mesh.run("a", 16, 3);
    assert_eq!((shown(&tree).as_str(), tree.branches[0].left_out), ("a(b c)", 1));
}

#[test]
fn a_filter_takes_texts_that_begin_so_and_objects_with_that_field() {
    let mesh = Mesh::of(&["a > b:urgent* c:kind=plan d"]);
    let next = |content: &dyn Readable| -> Vec<String> {
        let onward = signal(16, 100).goes_on(hop("a"), &mesh.from("a"), &content);
        onward.next.iter().map(|next| next.to.to_string()).collect()
    };
    assert_eq!(next(&Text("urgent: rain")), ["b", "d"]);
    assert_eq!(next(&Text("not urgent")), ["d"]);
    assert_eq!(next(&Fields([("kind".into(), "plan".into())].into())), ["c", "d"]);
    assert_eq!(next(&Fields([("kind".into(), "plans".into())].into())), ["d"]);
    for text in ["", "*", "=x", "plain", "a\nb*", &format!("{}*", "x".repeat(256))] {
        assert_eq!(text.parse::<Filter>(), Err(NoFilter), "{text:?}");
    }
    for text in ["urgent*", "kind=plan", "kind=*", "kind="] {
        assert_eq!(text.parse::<Filter>().map(|filter| filter.to_string()), Ok(text.into()));
    }
}

#[test]
fn two_connections_to_one_agent_take_a_signal_there_once() {
    let mesh = Mesh::of(&["a > b:urgent* b b:u*"]);
    assert_eq!(shown(&mesh.run("a", 16, BRANCHES_MAX)), "a(b)");
}

/// If each were compared with all before it, this would take minutes.
#[test]
fn of_very_many_connections_the_first_are_taken_and_the_rest_are_counted() {
    let mut connections: Vec<Connection> = (0..200_000).map(|n| connection(&format!("a{n}"))).collect();
    connections.extend_from_within(..);
    let onward = signal(16, BRANCHES_MAX).goes_on(hop("main"), &connections, &Text("any"));
    assert_eq!((onward.next.len(), onward.left_out), (255, 200_000 - 255));
    let [first, .., last] = onward.next.as_slice() else { panic!("there are many") };
    assert_eq!((first.to.to_string(), last.to.to_string()), ("a0".into(), "a254".into()));
}

#[test]
fn a_tree_lets_its_largest_replies_go_until_it_fits() {
    let leaf = |bytes: usize| {
        let reply = Some(Bytes::from(vec![b'x'; bytes]));
        Branch::leaf(to("a"), Some(name("n1")), Outcome::Replied { reply }, Duration::ZERO)
    };
    let mut tree = leaf(10);
    tree.branches = vec![leaf(REPLIES_BYTES_MAX), leaf(300), leaf(REPLIES_BYTES_MAX - 5)];
    assert_eq!(tree.fit(), 310);
    let left: Vec<Option<usize>> = tree.all().map(|branch| branch.outcome.reply().map(Bytes::len)).collect();
    assert_eq!(left, [Some(10), None, Some(300), None]);
    assert!(tree.is_whole());
    let mut one = leaf(REPLIES_BYTES_MAX);
    assert_eq!(one.fit(), REPLIES_BYTES_MAX);
}

#[test]
fn a_failure_becomes_what_a_starter_can_do_about_it() {
    let word = |failure: Failure| Outcome::from(failure).word();
    assert_eq!(word(Failure::Failed("no".into())), "failed");
    assert_eq!(word(Failure::Busy), "not_taken");
    assert_eq!(word(Failure::Unknown), "in_doubt");
    let long = Outcome::from(Failure::Failed("é".repeat(REASON_BYTES_MAX)));
    assert_eq!(long, Outcome::Failed { reason: "é".repeat(REASON_BYTES_MAX / 2), hopeless: false });
}

/// Agents and what they are connected with: `a > b c:filter`.
struct Mesh(BTreeMap<String, Vec<Connection>>);

impl Mesh {
    fn of(lines: &[&str]) -> Self {
        let line = |line: &&str| {
            let (from, next) = line.split_once(" > ").expect("a line has an arrow");
            (from.to_owned(), next.split(' ').map(connection).collect())
        };
        Self(lines.iter().map(line).collect())
    }

    fn from(&self, agent: &str) -> Vec<Connection> {
        self.0.get(agent).cloned().unwrap_or_default()
    }

    fn run(&self, first: &str, hops_max: u32, branches_max: u32) -> Branch {
        self.follow(&to(first), &signal(hops_max, branches_max))
    }

    /// Each agent is on a node of its own, and replies with its name.
    fn follow(&self, at: &Address, signal: &Signal) -> Branch {
        let (text, here) = (at.agent.to_string(), hop(at.agent.name.as_str()));
        let Onward { next, left_out } = signal.goes_on(here.clone(), &self.from(&text), &Text(&text));
        let branches = next.into_iter().map(|Next { to, signal }| match signal {
            Ok(signal) => self.follow(&to, &signal),
            Err(cut) => Branch::leaf(to, None, Outcome::Cut(cut), Duration::ZERO),
        });
        let branches = branches.collect();
        let reply = Some(Bytes::from(text));
        let leaf = Branch::leaf(at.clone(), Some(here.node), Outcome::Replied { reply }, Duration::ZERO);
        Branch { branches, left_out, ..leaf }
    }
}

fn connection(text: &str) -> Connection {
    let (address, only) = match text.split_once(':') {
        Some((address, filter)) => (address, Some(filter.parse().expect("a filter"))),
        None => (text, None),
    };
    Connection { to: to(address), only }
}

fn signal(hops_max: u32, branches_max: u32) -> Signal {
    Signal { id: SignalId(7), from: "client".into(), hops_max, branches_max, path: Vec::new() }
}

fn hop(agent: &str) -> Hop {
    Hop { agent: AgentId { namespace: Name::default_namespace(), name: name(agent), key: None }, node: at(agent) }
}

fn at(agent: &str) -> Name {
    name(&format!("at-{agent}"))
}

fn to(text: &str) -> Address {
    Address::parse(&Name::default_namespace(), text).expect("valid")
}

fn name(text: &str) -> Name {
    Name::new(text).expect("valid")
}

fn shown(tree: &Branch) -> String {
    let is_cut = matches!(tree.outcome, Outcome::Cut(_));
    let what = if is_cut { format!("{}!{}", tree.to, tree.outcome.word()) } else { tree.to.to_string() };
    let next: Vec<String> = tree.branches.iter().map(shown).collect();
    if next.is_empty() { what } else { format!("{what}({})", next.join(" ")) }
}

struct Text<'a>(&'a str);

impl Readable for Text<'_> {
    fn text(&self) -> Option<&str> {
        Some(self.0)
    }

    fn field(&self, _name: &str) -> Option<String> {
        None
    }
}

struct Fields(BTreeMap<String, String>);

impl Readable for Fields {
    fn text(&self) -> Option<&str> {
        None
    }

    fn field(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }
}

impl Readable for &dyn Readable {
    fn text(&self) -> Option<&str> {
        (**self).text()
    }

    fn field(&self, name: &str) -> Option<String> {
        (**self).field(name)
    }
}
