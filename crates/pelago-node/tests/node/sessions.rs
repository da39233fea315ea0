//! Sessions: each on one node, with its whole history, one message at a time.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use pelago_core::{
    id::{Name, TaskId},
    record::TaskState,
    route::{Prefer, Strategy},
};
use pelago_node::{
    Agent, Balancing, Config, Fault, InSession, Kind, Node, Rule, TaskRequest, Turn, WhenBusy,
    handle::{AskOptions, Error, SessionFilter},
    keyed, pool, resident,
};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::{
    several::{member, stop_all, until_whole},
    world::{self, kinds, poll, stop},
};

/// Says what it has heard before in the session, and how many turns its memory has had.
#[derive(Default, Serialize, Deserialize)]
struct Talk {
    turns: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Say {
    This(String),
    /// And think that long about it.
    After(u64, String),
    /// And send this counter a message.
    Telling(String, String),
    /// Too much for one turn.
    Much,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Heard {
    seen: u64,
    before: Vec<String>,
    turns: u64,
}

impl Agent for Talk {
    type Input = Say;
    type Output = (Heard, String);

    async fn handle(&mut self, say: Say, turn: &mut Turn) -> Result<(Heard, String), Fault> {
        self.turns += 1;
        let mut much = String::new();
        match say {
            Say::This(_) => {}
            Say::After(ms, said) => {
                BEGUN.lock().expect("nobody panics with it").insert((turn.agent().to_string(), said));
                tokio::time::sleep(Duration::from_millis(ms)).await;
            }
            Say::Telling(to, _) => turn.send(&to, &1)?,
            Say::Much => much = "x".repeat(70_000),
        }
        let seen = turn.session().map_or(0, |session| session.seen);
        let before = turn.history(1_000).await?.iter().map(|entry| text(&entry.said)).collect();
        Ok((Heard { seen, before, turns: self.turns }, much))
    }
}

/// Who has begun to think about what.
static BEGUN: Mutex<BTreeSet<(String, String)>> = Mutex::new(BTreeSet::new());
/// How long a task may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Talks to it in each placement.
const TALKS: [&str; 3] = ["talk", "talk-here", "talk-to:k"];

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_on_one_node_and_each_turn_knows_what_was_said_before() {
    let (_homes, nodes) = three().await;
    for to in TALKS {
        let mut before = Vec::new();
        for (n, node) in nodes.iter().cycle().take(7).enumerate() {
            let said = format!("message {n}");
            let heard = say(node, to, "s", &said).await.expect("it answers");
            assert_eq!((heard.seen, &heard.before), (n as u64, &before), "{to}");
            before.push(said);
        }
        assert_eq!(places(&nodes[0], to, "s").await.len(), 1, "{to}");
        let alone = ask(&nodes[1], to, &Say::This("hello".into()), None).await.expect("it answers");
        assert_eq!((alone.seen, alone.before.len()), (0, 0), "it is of no session");
    }
    let mut all = BTreeSet::new();
    for n in 0..24 {
        say(&nodes[0], "talk", &format!("s{n}"), "hello").await.expect("it answers");
        all.extend(places(&nodes[1], "talk", &format!("s{n}")).await);
    }
    assert_eq!(all.len(), 3, "all sessions are on {all:?}");
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_stays_where_it_is_when_a_node_joins_and_moves_with_its_history_when_its_node_goes() {
    let (homes, mut nodes) = three().await;
    let sessions: Vec<String> = (0..12).map(|n| format!("s{n}")).collect();
    for session in &sessions {
        say(&nodes[0], "talk", session, "one").await.expect("it answers");
        say(&nodes[0], "talk-here", session, "one").await.expect("it answers");
    }
    let late = tempfile::tempdir().expect("a temporary directory can be made");
    nodes.push(Node::start(member(late.path(), 3, nodes.first()), talks()).await.expect("it starts"));
    for node in &nodes {
        // Three of them vote.
        poll(async || {
            node.handle().status().await.is_ok_and(|status| status.linked.len() == 3 && status.nodes.len() == 4)
        })
        .await;
    }
    for session in &sessions {
        for to in ["talk", "talk-here"] {
            say(&nodes[3], to, session, "two").await.expect("it answers");
            assert_eq!(places(&nodes[0], to, session).await.len(), 1, "{to}, {session}");
        }
    }
    stop(nodes.remove(2)).await;
    for session in &sessions {
        for to in ["talk", "talk-here"] {
            let heard = say(&nodes[0], to, session, "three").await.expect("another node answers");
            assert_eq!((heard.seen, heard.before), (2, vec!["one".into(), "two".into()]), "{to}, {session}");
        }
    }
    stop_all(nodes).await;
    drop(homes);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_at_once_are_handled_one_after_the_other_and_none_is_lost() {
    let (_homes, nodes) = three().await;
    for to in TALKS {
        let asked = (0..12).map(|n| {
            let node = &nodes[n % 3];
            async move { say(node, to, "s", &format!("message {n}")).await.expect("it answers") }
        });
        let mut seen: Vec<u64> = join_all(asked).await.iter().map(|heard| heard.seen).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..12).collect::<Vec<_>>(), "{to}");
    }
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_that_both_believe_to_have_a_session_never_mix_it_up() {
    let (_homes, nodes) = three().await;
    let asked = (0..3).map(|n| {
        let node = &nodes[n];
        async move {
            let to = format!("n{n}/talk");
            let mut seen = Vec::new();
            while seen.len() < 8 {
                match say(node, &to, "s", &format!("{} of {n}", seen.len())).await {
                    Ok(heard) => {
                        assert_eq!(heard.before.len() as u64, heard.seen);
                        seen.push(heard.seen);
                    }
                    // Others overtook it too often.
                    Err(Error::SessionBusy) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            seen
        }
    });
    let mut seen: Vec<u64> = join_all(asked).await.concat();
    seen.sort_unstable();
    assert_eq!(seen, (0..24).collect::<Vec<_>>(), "each turn saw all before it, and no two the same");
    assert_eq!(places(&nodes[0], "talk", "s").await.len(), 3);
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_must_not_wait_is_refused_and_one_that_interrupts_takes_the_place() {
    let (_homes, nodes) = three().await;
    for to in TALKS {
        say(&nodes[0], to, "s", "one").await.expect("it answers");
        let slow = Say::After(60_000, "slow".into());
        let asking = ask(&nodes[0], to, &slow, Some(InSession::named(name("s"))));
        let meanwhile = async {
            // Refused once the slow one is there.
            let reject = |text: &str| {
                let (node, say) = (&nodes[1], Say::This(text.to_owned()));
                let within = InSession { busy: Some(WhenBusy::Reject), ..InSession::named(name("s")) };
                async move { ask(node, to, &say, Some(within)).await }
            };
            let mut taken = 0;
            loop {
                match reject("at once").await {
                    Ok(_) => taken += 1,
                    Err(error) => break assert_eq!(error, Error::SessionBusy, "{to}"),
                }
            }
            let within = InSession { busy: Some(WhenBusy::Interrupt), ..InSession::named(name("s")) };
            let heard = ask(&nodes[2], to, &Say::This("instead".into()), Some(within)).await.expect("it answers");
            assert_eq!(heard.seen, 1 + taken, "{to}: nothing is kept of the slow one");
            assert!(!heard.before.contains(&"slow".to_owned()), "{to}: {:?}", heard.before);
            if to == "talk-to:k" {
                assert_eq!(heard.turns, 2 + taken, "nor what it did to the agent's state");
            }
        };
        let (interrupted, ()) = tokio::join!(asking, meanwhile);
        assert_eq!(interrupted, Err(Error::Interrupted), "{to}");
    }
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_nobody_uses_ends_and_so_does_one_that_is_ended() {
    let (_homes, nodes) = three().await;
    let brief = |text: &str| {
        let within = InSession { ttl: Some(Duration::from_secs(1)), ..InSession::named(name("brief")) };
        let (node, say) = (&nodes[0], Say::This(text.to_owned()));
        async move { ask(node, "talk", &say, Some(within)).await }
    };
    assert_eq!(brief("one").await.expect("it answers").seen, 0);
    assert_eq!(brief("two").await.expect("it answers").seen, 1);
    say(&nodes[0], "talk", "long", "one").await.expect("it answers");
    let handle = nodes[1].handle();
    poll(async || matches!(handle.session("talk", &name("brief"), 0, 9).await, Err(Error::UnknownSession(_)))).await;
    assert_eq!(brief("anew").await.expect("it answers").before, Vec::<String>::new());
    handle.end_session("talk", &name("brief")).await.expect("there is one");
    let again = handle.end_session("talk", &name("brief")).await;
    assert!(matches!(again, Err(Error::UnknownSession(_))), "{again:?}");
    let list = |agent: Option<&str>| {
        let filter = SessionFilter { agent: agent.map(str::to_owned), limit: 10, cursor: None };
        async move { handle.sessions(filter).await.expect("they are listed").items }
    };
    let listed = list(None).await;
    assert_eq!(listed.iter().map(|detail| detail.session.id.name.as_str()).collect::<Vec<_>>(), ["long"]);
    assert_eq!((list(Some("talk")).await.len(), list(Some("talk-here")).await.len()), (1, 0));
    let bad = InSession { ttl: Some(Duration::from_millis(999)), ..InSession::named(name("s")) };
    let refused = ask(&nodes[0], "talk", &Say::This("one".into()), Some(bad)).await;
    assert!(matches!(refused, Err(Error::BadOption(_))), "{refused:?}");
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_turn_of_a_session_sends_leaves_once_and_what_is_too_large_has_no_effect() {
    let (_homes, nodes) = three().await;
    for (n, to) in (1_u64..).zip(TALKS) {
        let say = Say::Telling("counter:told".into(), "one".into());
        ask(&nodes[0], to, &say, Some(InSession::named(name("s")))).await.expect("it answers");
        let refused = ask(&nodes[0], to, &Say::Much, Some(InSession::named(name("s")))).await;
        assert!(matches!(refused, Err(Error::TooLarge(_))), "{to}: {refused:?}");
        let (session, entries) = nodes[1].handle().session(to, &name("s"), 0, 9).await.expect("it began");
        assert_eq!((session.session.entries, entries.len()), (1, 1), "{to}");
        let told = || world::ask(nodes[2].handle(), "counter:told", "0");
        poll(async || told().await == Ok(format!("{n}"))).await;
    }
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_with_an_affinity_go_to_one_node_whatever_the_strategy() {
    let rule = Rule { strategy: Strategy::RoundRobin, prefer: Prefer::None };
    let (_homes, nodes) = three_with(Balancing { rule, ..Balancing::default() }).await;
    let mut all = BTreeSet::new();
    for key in 0..12 {
        let mut places = BTreeSet::new();
        for node in &nodes {
            let affinity = Some(format!("key {key}"));
            let options = AskOptions { affinity, ..AskOptions::from(Duration::from_secs(10)) };
            let place = node.handle().ask("where", Bytes::from_static(b"1"), options).await.expect("it answers");
            places.insert(text_of(&place));
        }
        assert_eq!(places.len(), 1, "key {key}: {places:?}");
        all.extend(places);
    }
    assert_eq!(all.len(), 3, "all keys are on {all:?}");
    let both = AskOptions {
        affinity: Some("a".into()),
        session: Some(InSession::named(name("s"))),
        ..AskOptions::from(Duration::from_secs(10))
    };
    let refused = nodes[0].handle().ask("where", Bytes::from_static(b"1"), both).await;
    assert!(matches!(refused, Err(Error::BadOption(_))), "{refused:?}");
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_of_a_session_run_where_it_is_with_its_history_and_go_on_elsewhere_when_its_node_goes() {
    let (_homes, mut nodes) = three().await;
    let sessions: Vec<String> = (0..6).map(|n| format!("s{n}")).collect();
    for to in TALKS {
        for (n, session) in sessions.iter().enumerate() {
            say(&nodes[0], to, session, "one").await.expect("it answers");
            let heard = work(&nodes[n % 3], to, session, "two").await;
            assert_eq!((heard.seen, heard.before), (1, vec!["one".into()]), "{to}");
            let heard = say(&nodes[1], to, session, "three").await.expect("it answers");
            assert_eq!(
                (heard.seen, heard.before),
                (2, vec!["one".into(), "two".into()]),
                "{to}: the task is part of it"
            );
            assert_eq!(places(&nodes[1], to, session).await.len(), 1, "{to}, {session}");
        }
        let begun = format!("begun by a task with {to}");
        let begun = begun.replace([' ', ':'], "-");
        assert_eq!(work(&nodes[2], to, &begun, "one").await.seen, 0);
        assert_eq!(say(&nodes[0], to, &begun, "two").await.expect("it answers").before, ["one"]);
        assert_eq!(places(&nodes[1], to, &begun).await.len(), 1, "{to}, {begun}");
    }
    stop(nodes.remove(2)).await;
    for to in TALKS {
        for session in &sessions {
            let heard = work(&nodes[0], to, session, "four").await;
            assert_eq!((heard.seen, heard.before), (3, ["one", "two", "three"].map(String::from).to_vec()), "{to}");
        }
    }
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_and_questions_of_a_session_at_once_are_handled_one_after_the_other() {
    let (_homes, nodes) = three().await;
    for to in TALKS {
        let worked = (0..40).map(|n| {
            let node = &nodes[n % 3];
            async move { work(node, to, "s", &format!("task {n}")).await }
        });
        let asked = (0..12).map(|n| {
            let node = &nodes[n % 3];
            async move { say(node, to, "s", &format!("question {n}")).await.expect("it answers") }
        });
        let (worked, asked) = tokio::join!(join_all(worked), join_all(asked));
        let all = || worked.iter().chain(&asked);
        let mut seen: Vec<u64> = all().map(|heard| heard.seen).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..52).collect::<Vec<_>>(), "{to}");
        assert!(all().all(|heard| heard.before.len() as u64 == heard.seen), "{to}");
    }
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_a_question_interrupts_is_done_next_and_its_attempt_does_not_count() {
    let (_homes, nodes) = three().await;
    for to in TALKS {
        let slow = Say::After(1_000, "slow".into());
        let once = TaskRequest { attempts_max: Some(1), ..of_session("s") };
        let task = enqueue(&nodes[0], to, &slow, once).await.expect("it is taken");
        let handle = nodes[1].handle();
        let is_running = || async { handle.task(task, None).await.is_ok_and(|it| it.task.state == TaskState::Running) };
        poll(is_running).await;
        let next = enqueue(&nodes[0], to, &Say::This("next".into()), of_session("s")).await.expect("it is taken");
        let within = InSession { busy: Some(WhenBusy::Interrupt), ..InSession::named(name("s")) };
        let heard = ask(&nodes[2], to, &Say::This("first".into()), Some(within)).await.expect("it answers");
        assert_eq!(heard.seen, 0, "{to}: nothing is kept of what it interrupted");
        assert_eq!(result(&nodes[0], task).await.before, ["first"], "{to}");
        assert_eq!(result(&nodes[0], next).await.before, ["first", "slow"], "{to}: it keeps its place in the queue");
    }
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_who_is_in_a_session_notices_that_a_node_stops() {
    let (_homes, mut nodes) = three().await;
    let stopping = Arc::new(AtomicBool::new(true));
    let talking = |n: usize| {
        let (handle, stopping) = (nodes[n % 2].handle().clone(), Arc::clone(&stopping));
        tokio::spawn(async move {
            for asked in 0_u32.. {
                // A new session each time, or that of before.
                let session = name(&format!("s{n}-{}", asked / 2));
                let to = TALKS[asked as usize / 2 % 2];
                let options = AskOptions { session: Some(InSession::named(session)), ..AskOptions::from(PATIENCE) };
                let said = serde_json::to_vec(&Say::This("hello".into())).expect("it is JSON");
                let reply =
                    handle.ask(to, Bytes::from(said), options).await.unwrap_or_else(|error| panic!("{to}: {error}"));
                let (heard, _much): (Heard, String) = serde_json::from_slice(&reply).expect("it is what it says");
                assert_eq!(heard.seen, u64::from(asked % 2), "{to}: its history has it");
                if !stopping.load(Ordering::Acquire) {
                    return;
                }
            }
        })
    };
    let talking: Vec<_> = (0..8).map(talking).collect();
    stop(nodes.remove(2)).await;
    stopping.store(false, Ordering::Release);
    for talking in talking {
        talking.await.expect("all are answered");
    }
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_waits_for_a_question_of_its_session_for_longer_than_it_may_take_is_done_all_the_same() {
    let (_homes, nodes) = three().await;
    for to in TALKS {
        let handle = nodes[1].handle().clone();
        let slow = Bytes::from(serde_json::to_vec(&Say::After(2_500, "long".into())).expect("it is JSON"));
        let options = AskOptions { session: Some(InSession::named(name("s"))), ..AskOptions::from(PATIENCE) };
        let asking = tokio::spawn(async move { handle.ask(to, slow, options).await });
        let begun = || BEGUN.lock().expect("nobody panics with it").contains(&(to.to_owned(), "long".to_owned()));
        poll(async || begun()).await;
        let once = TaskRequest { attempts_max: Some(1), attempt_max: Some(Duration::from_secs(1)), ..of_session("s") };
        let task = enqueue(&nodes[0], to, &Say::This("short".into()), once).await.expect("it is taken");
        assert_eq!(result(&nodes[2], task).await.before, ["long"], "{to}");
        asking.await.expect("it does not panic").expect("it answers");
    }
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_task_cannot_be_of_a_session_is_refused() {
    let (_homes, nodes) = three().await;
    let hello = Say::This("hello".into());
    let busy = |busy| Some(InSession { busy: Some(busy), ..InSession::named(name("s")) });
    for bad in [
        TaskRequest { affinity: Some("a".into()), ..of_session("s") },
        TaskRequest { session: busy(WhenBusy::Reject), ..TaskRequest::default() },
        TaskRequest { session: busy(WhenBusy::Interrupt), ..TaskRequest::default() },
        TaskRequest { affinity: Some(String::new()), ..TaskRequest::default() },
    ] {
        let refused = enqueue(&nodes[0], "talk", &hello, bad).await;
        assert!(matches!(refused, Err(Error::BadOption(_))), "{refused:?}");
    }
    let refused = enqueue(&nodes[0], "talk", &Say::This("x".repeat(66_000)), of_session("s")).await;
    assert!(matches!(refused, Err(Error::TooLarge(_))), "{refused:?}");
    let key = |session| TaskRequest { idempotency_key: Some("k".into()), ..of_session(session) };
    let first = enqueue(&nodes[0], "talk", &hello, key("s")).await.expect("it is taken");
    assert_eq!(enqueue(&nodes[1], "talk", &hello, key("s")).await, Ok(first));
    let other = enqueue(&nodes[1], "talk", &hello, key("t")).await;
    assert!(matches!(other, Err(Error::Conflict { .. })), "{other:?}: another session is another request");
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_with_an_affinity_go_where_questions_with_it_go() {
    let (_homes, nodes) = three().await;
    let mut all = BTreeSet::new();
    for key in 0..12 {
        let affinity = || Some(format!("key {key}"));
        let options = AskOptions { affinity: affinity(), ..AskOptions::from(Duration::from_secs(10)) };
        let asked = nodes[0].handle().ask("where", Bytes::from_static(b"1"), options).await.expect("it answers");
        for node in &nodes {
            let request = TaskRequest { affinity: affinity(), ..TaskRequest::default() };
            let task =
                node.handle().enqueue("where", Bytes::from_static(b"1"), request).await.expect("it is taken").task;
            let worked = node.handle().task(task, Some(PATIENCE)).await.expect("it is there").result;
            assert_eq!(worked, Some(asked.clone()), "key {key}");
        }
        all.extend([asked]);
    }
    assert_eq!(all.len(), 3, "all keys are on {all:?}");
    stop_all(nodes).await;
}

/// Says which of the nodes it is on.
#[derive(Default, Serialize, Deserialize)]
struct Where<const N: u64>;

impl<const N: u64> Agent for Where<N> {
    type Input = serde_json::Value;
    type Output = u64;

    async fn handle(&mut self, _any: serde_json::Value, _turn: &mut Turn) -> Result<u64, Fault> {
        Ok(N)
    }
}

async fn say(node: &Node, to: &str, session: &str, said: &str) -> Result<Heard, Error> {
    ask(node, to, &Say::This(said.to_owned()), Some(InSession::named(name(session)))).await
}

async fn ask(node: &Node, to: &str, say: &Say, session: Option<InSession>) -> Result<Heard, Error> {
    let options = AskOptions { session, ..AskOptions::from(Duration::from_secs(10)) };
    let said = serde_json::to_vec(say).expect("it is JSON");
    let reply = node.handle().ask(to, Bytes::from(said), options).await?;
    let (heard, _much): (Heard, String) = serde_json::from_slice(&reply).expect("it is what it says");
    Ok(heard)
}

fn of_session(session: &str) -> TaskRequest {
    TaskRequest { session: Some(InSession::named(name(session))), ..TaskRequest::default() }
}

async fn enqueue(node: &Node, to: &str, say: &Say, request: TaskRequest) -> Result<TaskId, Error> {
    let input = Bytes::from(serde_json::to_vec(say).expect("it is JSON"));
    Ok(node.handle().enqueue(to, input, request).await?.task)
}

/// What became of a task that says something in a session.
async fn work(node: &Node, to: &str, session: &str, said: &str) -> Heard {
    let task = enqueue(node, to, &Say::This(said.to_owned()), of_session(session)).await.expect("it is taken");
    result(node, task).await
}

async fn result(node: &Node, task: TaskId) -> Heard {
    let detail = node.handle().task(task, Some(PATIENCE)).await.expect("it is there");
    let result = detail.result.unwrap_or_else(|| panic!("it is not done: {:?}", detail.task));
    assert_eq!(detail.task.attempt, 1, "no attempt was in vain");
    let (heard, _much): (Heard, String) = serde_json::from_slice(&result).expect("it is what it says");
    heard
}

/// The nodes on which turns of a session ran.
async fn places(node: &Node, agent: &str, session: &str) -> BTreeSet<u64> {
    let (_, entries) = node.handle().session(agent, &name(session), 0, 1_000).await.expect("it began");
    entries.iter().map(|entry| entry.node.0).collect()
}

async fn three() -> (Vec<TempDir>, Vec<Node>) {
    three_with(Balancing::default()).await
}

async fn three_with(balancing: Balancing) -> (Vec<TempDir>, Vec<Node>) {
    let homes: Vec<_> = (0..3).map(|_| tempfile::tempdir().expect("a temporary directory can be made")).collect();
    let mut nodes: Vec<Node> = Vec::new();
    for (n, home) in homes.iter().enumerate() {
        let config = Config { balancing: balancing.clone(), ..member(home.path(), n, nodes.first()) };
        let mut hosted = talks();
        hosted.push(match n {
            0 => pool::<Where<0>>("where"),
            1 => pool::<Where<1>>("where"),
            _ => pool::<Where<2>>("where"),
        });
        nodes.push(Node::start(config, hosted).await.expect("it starts"));
    }
    until_whole(&nodes).await;
    (homes, nodes)
}

fn talks() -> Vec<Kind> {
    let talks = [pool::<Talk>("talk"), resident::<Talk>("talk-here"), keyed::<Talk>("talk-to")];
    kinds().into_iter().chain(talks).collect()
}

/// What was said.
fn text(said: &[u8]) -> String {
    match serde_json::from_slice(said).expect("it was said as JSON") {
        Say::This(text) | Say::After(_, text) | Say::Telling(_, text) => text,
        Say::Much => String::new(),
    }
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a short name is valid")
}
