//! What is killed, and what must hold.

use std::time::{Duration, Instant};

use pelago_api::{
    client::{Client, Error},
    model::NewTask,
};
use pelago_core::{id::TaskId, record::TaskState};
use rustix::process::Signal;

use super::{
    mesh::{Mesh, PATIENCE},
    register::Writers,
    say,
};

/// How long a node may write before it is killed, at most.
const UNTIL_KILLED_MAX_MS: u64 = 400;

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_write_is_lost_when_each_node_is_killed_in_turn() {
    let seed = 20_261_121;
    let mut mesh = Mesh::start(3).await;
    let writers = Writers::start(&mesh.clients(), "append:r", 3);
    for number in 0..3 {
        writers.acknowledge(20).await;
        tokio::time::sleep(Duration::from_millis(pick(seed, number, UNTIL_KILLED_MAX_MS))).await;
        let victim = usize::try_from(number).expect("small");
        mesh.kill(victim);
        // The two that are left go on, as soon as one of them leads and the killed one has been given up.
        writers.acknowledge(100).await;
        mesh.start_again(&[victim]);
        mesh.until_whole().await;
    }
    let checked = writers.check(&mesh.nodes[0].client()).await;
    say(&format!("seed {seed}: {checked} acknowledged writes are there"));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_leads_soon_after_the_leader_is_killed() {
    let mut mesh = Mesh::start(3).await;
    let writers = Writers::start(&mesh.clients(), "append:r", 3);
    writers.acknowledge(50).await;
    let leader = mesh.leader().await;
    let other = &mesh.nodes[(leader + 1) % 3];
    let (changes, term) = ("pelago_consensus_leader_changes_total", "pelago_consensus_term");
    let before = (other.metric(changes).await, other.metric(term).await);
    mesh.kill(leader);
    let killed = Instant::now();
    let next = mesh.leader().await;
    assert_ne!(next, leader);
    let other = &mesh.nodes[(leader + 1) % 3];
    assert!(other.metric(changes).await > before.0 && other.metric(term).await > before.1, "{before:?}");
    assert_eq!(mesh.nodes[next].metric("pelago_consensus_is_leader").await, 1);
    writers.acknowledge(50).await;
    say(&format!(
        "n{next} leads, and 50 more writes are acknowledged {} ms after the kill",
        killed.elapsed().as_millis()
    ));
    let checked = writers.check(&mesh.nodes[next].client()).await;
    assert!(checked >= 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_task_is_refused_while_the_leader_is_killed() {
    let mut mesh = Mesh::start(3).await;
    let leader = mesh.leader().await;
    let other = (leader + 1) % 3;
    let client = mesh.nodes[other].client();
    // Many at a time, and without keys: whoever asks could not try again.
    let asking: Vec<_> = (0..8).map(|_| tokio::spawn(enqueue_until(client.clone(), Duration::from_secs(3)))).collect();
    mesh.nodes[other].until("tasks come in", |status| status.tasks.values().sum::<u64>() > 20).await;
    mesh.kill(leader);
    let mut taken = 0;
    let mut longest = Duration::ZERO;
    for asked in asking {
        let (tasks, gap) = asked.await.expect("no task is refused");
        (taken, longest) = (taken + tasks, longest.max(gap));
    }
    let totals = client.status().await.expect("a survivor answers").tasks;
    assert_eq!(totals.values().sum::<u64>(), taken, "each was taken once");
    say(&format!("{taken} tasks were taken, one of them only after {} ms", longest.as_millis()));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_killed_at_once_come_back_with_everything() {
    for n in [1, 3] {
        let mut mesh = Mesh::start(n).await;
        let writers = Writers::start(&mesh.clients(), "append:r", 2);
        writers.acknowledge(60).await;
        (0..n).for_each(|number| mesh.kill(number));
        mesh.start_again(&(0..n).collect::<Vec<_>>());
        mesh.until_whole().await;
        writers.acknowledge(20).await;
        let checked = writers.check(&mesh.nodes[n - 1].client()).await;
        say(&format!("mesh of {n}: {checked} acknowledged writes are there"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_task_has_its_effect_once_although_nodes_are_killed() {
    let seed = 7;
    let mut mesh = Mesh::start(3).await;
    let clients = mesh.clients();
    let mut tasks = Vec::new();
    for number in 0..150_usize {
        if number % 50 == 25 {
            let victim = usize::try_from(pick(seed, number as u64, 3)).expect("small");
            mesh.kill(victim);
            tasks.push(enqueue(&clients, number).await);
            mesh.start_again(&[victim]);
        } else {
            tasks.push(enqueue(&clients, number).await);
        }
    }
    mesh.until_whole().await;
    for task in tasks {
        until_done(&clients[0], task).await;
    }
    for counter in 0..5 {
        let state = clients[1].agent(&format!("counter:t{counter}")).await.expect("it has a state");
        let state: serde_json::Value = serde_json::from_str(state.state.expect("with it").json()).expect("JSON");
        assert_eq!(state["count"], 30, "counter:t{counter}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_of_a_node_that_is_back_before_it_was_missed_are_done() {
    let mut mesh = Mesh::start(3).await;
    let leader = mesh.leader().await;
    let client = mesh.nodes[leader].client();
    let mut tasks = Vec::new();
    for _ in 0..12 {
        let input = serde_json::value::to_raw_value(&2_000).expect("JSON");
        let task = NewTask { agent: "sleeper".into(), input: Some(&input), ..NewTask::default() };
        tasks.push(client.enqueue(&task, None).await.expect("the task is taken").id);
    }
    let victim = (leader + 1) % 3;
    mesh.kill(victim);
    mesh.start_again(&[victim]);
    for task in tasks {
        until_done(&client, task).await;
    }
    // A leader that gives tasks to a run that is over fills the log with refusals.
    let status = client.status().await.expect("the leader answers");
    assert!(status.last_index < 500, "{} entries for twelve tasks", status.last_index);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_runs_when_all_nodes_are_stopped_ends_first() {
    let mut mesh = Mesh::start(3).await;
    let client = mesh.nodes[0].client();
    let input = serde_json::value::to_raw_value(&3_000).expect("JSON");
    let task = NewTask { agent: "sleeper".into(), input: Some(&input), ..NewTask::default() };
    let task = client.enqueue(&task, None).await.expect("the task is taken").id;
    let deadline = Instant::now() + PATIENCE;
    while client.task(task, None).await.expect("it is known").state != TaskState::Running {
        assert!(Instant::now() < deadline, "nobody takes it");
    }
    // Those that have nothing to do would take the majority with them.
    mesh.nodes.iter().for_each(|node| node.signal(Signal::TERM));
    for node in &mut mesh.nodes {
        while node.ended().is_none() {
            assert!(Instant::now() < deadline, "it does not stop");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(node.ended(), Some(0));
    }
    mesh.start_again(&[0, 1, 2]);
    let ended = mesh.nodes[0].client().task(task, None).await.expect("it is known");
    assert_eq!((ended.state, ended.attempt), (TaskState::Done, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn timers_of_a_killed_node_fire_exactly_once() {
    const REMINDERS: usize = 12;
    const NOTES: usize = 3;
    let mut mesh = Mesh::start(3).await;
    let clients = mesh.clients();
    let begun = Instant::now();
    let after_ms = 3_000;
    for reminder in 0..REMINDERS {
        for note in 0..NOTES {
            let remind = format!(r#"{{"note": "note {note}", "after_ms": {after_ms}}}"#);
            let to = format!("reminder:r{reminder}");
            let asked = clients[reminder % 3].ask(&to, remind, Some(Duration::from_secs(5)), None).await;
            asked.expect("the timer is set");
        }
    }
    let set = clients[0].agent("reminder:r0").await.expect("it has a row").timers;
    let set: Vec<_> = set.iter().map(|timer| (timer.name.as_str(), timer.failed.is_none())).collect();
    assert_eq!(set, [("note 0", true), ("note 1", true), ("note 2", true)]);
    let leader = mesh.leader().await;
    let victim = (leader + 1) % 3;
    assert!(begun.elapsed() < Duration::from_millis(after_ms), "the node is killed before its timers are due");
    mesh.kill(victim);
    // Nobody wakes them: only their rows are looked at.
    let client = &clients[leader];
    for reminder in 0..REMINDERS {
        until_state(client, &format!("reminder:r{reminder}"), |state| state["fired"] == NOTES).await;
    }
    assert!(begun.elapsed() >= Duration::from_millis(after_ms), "all fired after {:?}", begun.elapsed());
    say(&format!("all timers fired {} ms after they were set", begun.elapsed().as_millis()));
    mesh.start_again(&[victim]);
    mesh.until_whole().await;
    for reminder in 0..REMINDERS {
        let told = clients[victim].ask(&format!("reminder:r{reminder}"), "null", None, None).await.expect("it answers");
        let told: serde_json::Value = serde_json::from_str(told.json()).expect("JSON");
        let mut notes: Vec<_> = told["notes"].as_array().expect("a list").iter().map(|note| note.as_str()).collect();
        notes.sort_unstable();
        assert_eq!(notes, [Some("note 0"), Some("note 1"), Some("note 2")], "reminder:r{reminder}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_slept_past_its_lease_is_refused_and_joins_again() {
    let mesh = Mesh::start(3).await;
    let leader = mesh.leader().await;
    let sleeper = (leader + 1) % 3;
    let awake = mesh.nodes[leader].client();
    // Turns in flight on the sleeper all the time, so that one is caught between its beginning and its commit.
    let on_sleeper = format!("{}/append:r", mesh.nodes[sleeper].name);
    let writers = Writers::start(&[mesh.nodes[sleeper].client()], &on_sleeper, 4);
    writers.acknowledge(100).await;
    mesh.nodes[sleeper].signal(Signal::STOP);
    let name = mesh.nodes[sleeper].name.clone();
    mesh.nodes[leader]
        .until("the sleeper is given up", |status| {
            status.nodes.iter().any(|node| node.name == name && node.state == pelago_core::record::NodeState::Expired)
        })
        .await;
    // Its agents belong to others now, who write.
    for register in 0..4 {
        ask_until_answered(&awake, &format!("append:r{register}"), -1 - register).await;
    }
    mesh.nodes[sleeper].signal(Signal::CONT);
    mesh.until_whole().await;
    writers.acknowledge(20).await;
    let blocked = mesh.nodes[sleeper].metric("pelago_zombie_commit_blocked_total").await;
    assert!(blocked >= 1, "no late commit was refused");
    let log = mesh.log(&mesh.nodes[sleeper]);
    assert!(!log.contains("ERROR"), "nothing failed where it began again: {log}");
    say(&format!("{blocked} late commits were refused"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_disk_is_gone_is_removed_and_replaced_under_its_name() {
    let mut mesh = Mesh::start(3).await;
    let writers = Writers::start(&mesh.clients(), "append:r", 3);
    writers.acknowledge(30).await;
    let victim = mesh.leader().await;
    let name = mesh.nodes[victim].name.clone();
    ask_until_answered(&mesh.nodes[victim].client(), &format!("{name}/append:held"), 1).await;
    mesh.kill(victim);
    mesh.wipe(victim);
    let client = mesh.nodes[(victim + 1) % 3].client();
    let deadline = Instant::now() + PATIENCE;
    // Until the others have given it up, it counts as up.
    let removed = loop {
        match client.remove_node(&name).await {
            Ok(removed) => break removed,
            Err(error) => assert!(Instant::now() < deadline, "it is not removed: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!((removed.voters.len(), removed.can_lose), (2, 0), "{removed:?}");
    let held = client.agent("append:held").await.expect("it has a row");
    assert_eq!((held.phase, held.version), (pelago_core::record::Phase::Free, 1), "nobody has it until it is asked");
    writers.acknowledge(30).await;

    mesh.start_again(&[victim]);
    mesh.until_whole().await;
    writers.acknowledge(30).await;
    let status = client.status().await.expect("it answers");
    let again = status.nodes.iter().find(|node| node.name == name).expect("it is there");
    assert!(again.id > removed.id && again.voter, "{again:?}");
    let up = |node: &pelago_api::model::Node| node.state == pelago_core::record::NodeState::Up;
    assert!(status.nodes.len() == 3 && status.nodes.iter().all(up), "{status:?}");
    ask_until_answered(&mesh.nodes[victim].client(), &format!("{name}/append:new"), 1).await;
    let tasks = mesh.clients();
    until_done(&tasks[victim], enqueue(&tasks, victim).await).await;
    let checked = writers.check(&mesh.nodes[victim].client()).await;
    say(&format!("{checked} acknowledged writes are there, read at the node that is new"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_majority_says_so_and_keeps_nobody_waiting() {
    let mut mesh = Mesh::start(3).await;
    ask_until_answered(&mesh.nodes[0].client(), "append:r", 1).await;
    let survivor = mesh.leader().await;
    mesh.kill((survivor + 1) % 3);
    mesh.kill((survivor + 2) % 3);
    let client = mesh.nodes[survivor].client();
    let status = client.status().await.expect("it answers");
    assert!(!status.quorum && status.leader.is_none(), "{status:?}");
    // The API waits a minute for a reply, if it is asked to.
    let asked = client.ask("append:r", "2", Some(Duration::from_secs(60)), None).await;
    let Err(Error::Problem(problem)) = asked else { panic!("it was answered: {asked:?}") };
    assert_eq!(problem.code, "PLG-2026", "{problem:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_waits_for_a_majority_says_so_and_goes_on_once_there_is_one() {
    let mut mesh = Mesh::start(3).await;
    ask_until_answered(&mesh.nodes[0].client(), "append:r", 1).await;
    (0..3).for_each(|number| mesh.kill(number));
    mesh.begin(&[0]);
    let client = mesh.nodes[0].client();
    let deadline = Instant::now() + PATIENCE;
    loop {
        match client.status().await {
            Err(Error::Problem(problem)) if problem.code == "PLG-2036" => break,
            other => assert!(Instant::now() < deadline, "it does not say that it starts: {other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!client.is_ready().await.expect("it answers"));
    mesh.begin(&[1, 2]);
    mesh.ready(&[0, 1, 2]);
    mesh.until_whole().await;
    ask_until_answered(&client, "append:r", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_processes_on_copies_of_one_directory_one_stops_and_says_why() {
    let mut mesh = Mesh::start(3).await;
    let original = (mesh.leader().await + 1) % 3;
    mesh.kill(original);
    mesh.copy(original);
    mesh.start_again(&[original]);
    mesh.until_whole().await;
    let mut double = mesh.double(original);
    let deadline = Instant::now() + 2 * PATIENCE;
    let (code, log) = loop {
        if let Some(code) = mesh.nodes[original].ended() {
            break (code, mesh.log(&mesh.nodes[original]));
        }
        if let Some(code) = double.ended() {
            break (code, mesh.log(&double));
        }
        assert!(Instant::now() < deadline, "both go on: {}\n{}", mesh.log(&mesh.nodes[original]), mesh.log(&double));
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(code, 1, "{log}");
    assert!(log.contains("another process runs as this node, at 127.0.0.1:"), "{log}");
    // The other one is the node from here on, and stays in the run that it has.
    let witness = (original + 1) % 3;
    let name = mesh.nodes[original].name.clone();
    let client = mesh.nodes[witness].client();
    let run = async |client: &Client| {
        let status = client.status().await.ok()?;
        let node = status.nodes.into_iter().find(|node| node.name == name)?;
        (node.linked && node.state == pelago_core::record::NodeState::Up).then_some(node.incarnation)
    };
    let mut seen = None;
    let mut since = Instant::now();
    while seen.is_none() || since.elapsed() < Duration::from_secs(3) {
        let now = run(&client).await;
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
        assert!(Instant::now() < deadline, "it does not come to rest: {now:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    ask_until_answered(&client, &format!("{name}/append:r"), 1).await;
}

async fn enqueue(clients: &[Client], number: usize) -> TaskId {
    let key = format!("task {number}");
    let input = serde_json::value::to_raw_value(&1).expect("JSON");
    let agent = format!("counter:t{}", number % 5);
    let deadline = Instant::now() + PATIENCE;
    for client in clients.iter().cycle().skip(number) {
        let task = NewTask { agent: agent.as_str().into(), input: Some(&input), ..NewTask::default() };
        match client.enqueue(&task, Some(&key)).await {
            Ok(enqueued) => return enqueued.id,
            Err(error) => assert!(Instant::now() < deadline, "task {number} is not taken: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    unreachable!("the clients are asked in turn for ever")
}

/// Enqueues tasks for so long. Says how many, and how long the longest answer took.
async fn enqueue_until(client: Client, time: Duration) -> (u64, Duration) {
    let (begun, mut tasks, mut longest) = (Instant::now(), 0, Duration::ZERO);
    while begun.elapsed() < time {
        let asked = Instant::now();
        let task = NewTask { agent: "echo".into(), prompt: Some("x".into()), ..NewTask::default() };
        client.enqueue(&task, None).await.expect("the task is taken");
        tasks += 1;
        longest = longest.max(asked.elapsed());
    }
    (tasks, longest)
}

async fn until_done(client: &Client, task: TaskId) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let stands = client.task(task, Some(Duration::from_secs(5))).await;
        if stands.as_ref().is_ok_and(|task| task.state == TaskState::Done) {
            return;
        }
        assert!(Instant::now() < deadline, "a task is not done: {stands:?}");
    }
}

async fn until_state(client: &Client, of: &str, is_so: impl Fn(&serde_json::Value) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let agent = client.agent(of).await;
        let state = agent.as_ref().ok().and_then(|agent| serde_json::from_str(agent.state.as_ref()?.json()).ok());
        if state.as_ref().is_some_and(&is_so) {
            return;
        }
        assert!(Instant::now() < deadline, "{of} does not get there: {agent:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn ask_until_answered(client: &Client, to: &str, number: i64) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = client.ask(to, number.to_string(), Some(Duration::from_secs(5)), None).await {
        assert!(Instant::now() < deadline, "{to} does not answer: {error}");
    }
}

/// A number below `bound`, the same for the same seed and turn.
fn pick(seed: u64, turn: u64, bound: u64) -> u64 {
    let mixed = (seed ^ turn.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> 33) % bound
}
