//! Nodes that stop in order: what they had, or were just given, is done elsewhere or later, and no attempt is lost.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use pelago_core::{id::TaskId, record::TaskState};
use pelago_node::{Config, Handle, Node, TaskRequest, handle::Error};

use crate::{
    several::{member, stop_all, three, until_whole},
    world::{config, kinds, open_gate, poll, start, stop, witnessed},
};

/// More than there is room for at a time, so that whatever room there is is filled at once.
const TASKS: usize = 120;
const WAIT: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_stop_again_and_again_cost_no_task_its_only_attempt() {
    let (homes, nodes) = three().await;
    let mut nodes: VecDeque<(usize, Node)> = nodes.into_iter().enumerate().collect();
    let mut tasks = Vec::new();
    // Whoever leads is among them.
    for _ in 0..6 {
        for (_, node) in &nodes {
            tasks.extend(give(node.handle(), TASKS / 3).await);
        }
        let (n, leaving) = nodes.pop_front().expect("there are three");
        stop(leaving).await;
        let config = member(homes[n].path(), n, nodes.front().map(|(_, node)| node));
        nodes.push_back((n, Node::start(config, kinds()).await.expect("it starts again")));
        until_whole(nodes.iter().map(|(_, node)| node)).await;
    }
    all_done(nodes[0].1.handle(), &tasks).await;
    stop_all(nodes.into_iter().map(|(_, node)| node).collect()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_alone_that_stops_costs_no_task_its_only_attempt() {
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let node = start(home.path()).await;
        tasks.extend(give(node.handle(), TASKS).await);
        stop(node).await;
    }
    let node = start(home.path()).await;
    all_done(node.handle(), &tasks).await;
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_does_not_end_in_time_is_handed_back() {
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let hasty = Config { drain_max: Duration::from_millis(50), ..config(home.path()) };
    let node = Node::start(hasty.clone(), kinds()).await.expect("it starts");
    let request = TaskRequest { attempts_max: Some(1), ..TaskRequest::default() };
    let task = node.handle().enqueue("sleeper", Bytes::from_static(b"9000"), request).await.expect("taken").task;
    let running = async || node.handle().task(task, None).await.expect("it is known").task.state;
    poll(async || running().await == TaskState::Running).await;
    stop(node).await;
    let node = Node::start(hasty, kinds()).await.expect("it starts");
    let again = async || node.handle().task(task, None).await.expect("it is known").task;
    poll(async || again().await.state == TaskState::Running).await;
    assert_eq!(again().await.attempt, 1);
    stop(node).await;
}

/// Enqueues tasks that have one attempt each. Where nobody leads for a while, as clients do: again, with the same key.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_to_a_pool_is_answered_by_a_node_that_stops_meanwhile() {
    let (_homes, mut nodes) = three().await;
    let leaving = nodes.remove(1);
    let (from, to) = (nodes[0].handle().clone(), format!("{}/witness-pool", leaving.handle().name()));
    let asked = tokio::spawn(async move { from.ask(&to, Bytes::from_static(b"hold"), WAIT.into()).await });
    poll(async || !witnessed("witness-pool").is_empty()).await;
    let mut stopping = Box::pin(stop(leaving));
    let stopped = tokio::time::timeout(Duration::from_millis(200), &mut stopping).await;
    assert!(stopped.is_err(), "its turn had not ended");
    open_gate(1);
    stopping.await;
    assert_eq!(asked.await.expect("it does not panic"), Ok(Bytes::from_static(b"null")));
    stop_all(nodes).await;
}

async fn give(handle: &Handle, n: usize) -> Vec<TaskId> {
    let mut tasks = Vec::new();
    for _ in 0..n {
        let key = Some(format!("{:x}", rand::random::<u64>()));
        let request = TaskRequest { attempts_max: Some(1), idempotency_key: key, ..TaskRequest::default() };
        poll(async || match handle.enqueue("sleeper", Bytes::from_static(b"20"), request.clone()).await {
            Ok(enqueued) => {
                tasks.push(enqueued.task);
                true
            }
            Err(Error::NoQuorum) => false,
            Err(error) => panic!("it is not taken: {error}"),
        })
        .await;
    }
    tasks
}

async fn all_done(handle: &Handle, tasks: &[TaskId]) {
    for task in tasks {
        let ended = handle.task(*task, Some(Duration::from_secs(20))).await.expect("it is known").task;
        // A node that the machine held up for longer than its lease was given up, and did not stop.
        let is_given_up = ended.state == TaskState::Dead && ended.reason.as_deref() == Some("its node was lost");
        assert!(ended.state == TaskState::Done || is_given_up, "{ended:?}");
    }
}
