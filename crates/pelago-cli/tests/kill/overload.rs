//! Ten times as much as an agent can do.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use pelago::mesh::Error;
use pelago_api::{
    client::{self, Client},
    problem::Code,
};
use tokio::task::JoinSet;

use super::{
    mesh::{Mesh, PATIENCE},
    say,
};

/// What a turn of `sleeper` takes at least, and how many a node runs at a time.
const TURN_MS: u64 = 40;
const TURNS: usize = 8;
/// How long is measured what it can do.
const ALONE: Duration = Duration::from_secs(2);
const MEASURED: Duration = Duration::from_secs(6);
/// What memory may grow by under it, in KiB.
const GROWN_KIB_MAX: u64 = 64 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn ten_times_too_much_is_refused_and_the_rest_is_done() {
    let mesh = Mesh::start(1).await;
    let node = &mesh.nodes[0];
    let client = pelago::Mesh::connect(&node.mesh_address()).await.expect("the node is there");
    let input = TURN_MS.to_string();
    let capacity = capacity(&client, &input).await;
    let before = node.memory_kib();
    let (answered, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let begun = Instant::now();
    let mut asking = JoinSet::new();
    let mut most = before;
    let mut hint = None;
    let mut asked = 0_u64;
    while begun.elapsed() < MEASURED {
        let due = (begun.elapsed().as_secs_f64() * 10.0 * capacity) as u64;
        for _ in asked..due {
            let (client, input) = (client.clone(), input.clone());
            let (answered, refused) = (Arc::clone(&answered), Arc::clone(&refused));
            asking.spawn(async move {
                match client.ask("sleeper", input, PATIENCE).await {
                    Ok(_) => answered.fetch_add(1, Ordering::Relaxed),
                    Err(Error::Busy | Error::Refused { .. }) => refused.fetch_add(1, Ordering::Relaxed),
                    Err(error) => panic!("neither an answer nor a refusal: {error}"),
                };
            });
        }
        asked = asked.max(due);
        while asking.try_join_next().is_some() {}
        most = most.max(node.memory_kib());
        if hint.is_none() && refused.load(Ordering::Relaxed) > 0 {
            hint = refusal(&node.client(), &input).await;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let goodput = answered.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
    let refused = refused.load(Ordering::Relaxed);
    let waiting = asking.len();
    asking.shutdown().await;
    say(&format!(
        "{asked} asked of {capacity:.0} a second: {goodput:.0} a second answered, {refused} refused, {waiting} waited; \
         memory {before} KiB, at most {most} KiB"
    ));
    assert!(goodput >= 0.7 * capacity, "{goodput} a second of {capacity}");
    assert!(refused > asked / 2, "{refused} of {asked} refused");
    assert!(most - before < GROWN_KIB_MAX, "{before} KiB grew to {most} KiB");
    assert_eq!(hint, Some((Some(Code::Busy), true)), "over HTTP it is refused too, to be tried again");
}

/// How many turns a second it does when as many are asked for as run at a time.
async fn capacity(client: &pelago::Mesh, input: &str) -> f64 {
    let begun = Instant::now();
    let asking = (0..TURNS).map(async |_| {
        let mut answered = 0;
        while begun.elapsed() < ALONE {
            client.ask("sleeper", input.to_owned(), PATIENCE).await.expect("it sleeps and answers");
            answered += 1;
        }
        answered
    });
    let answered: u32 = join_all(asking).await.into_iter().sum();
    f64::from(answered) / begun.elapsed().as_secs_f64()
}

/// With what a question is refused over HTTP, if it is, and whether it may be tried again.
async fn refusal(client: &Client, input: &str) -> Option<(Option<Code>, bool)> {
    match client.ask("sleeper", input.to_owned(), Some(PATIENCE), None).await {
        Err(client::Error::Problem(problem)) => Some((problem.code(), problem.retryable)),
        Ok(_) | Err(_) => None,
    }
}
