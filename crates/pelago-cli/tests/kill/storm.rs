//! Clients that are cut off all at once and come back, again and again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use pelago::mesh::Error;
use tokio::time::timeout;

use super::{
    mesh::{Mesh, PATIENCE},
    proxy::Proxy,
    say,
};

const CLIENTS: usize = 200;
const STORM: Duration = Duration::from_secs(4);
/// How long all are let live.
const LIVES: Duration = Duration::from_millis(300);
/// How long one question may wait for a link, and its reply.
const WAIT: Duration = Duration::from_secs(5);
/// What a node may grow by with a first storm, which wakes an agent for each client, and with a second one, in KiB.
const FIRST_KIB_MAX: u64 = 160 << 10;
const GROWN_KIB_MAX: u64 = 48 << 10;

#[derive(Default)]
struct Counts {
    answered: AtomicU64,
    cut: AtomicU64,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_clients_that_are_cut_off_leaves_nothing_behind() {
    let mesh = Mesh::start(1).await;
    let node = &mesh.nodes[0];
    let proxy = Proxy::start(node.mesh_address()).await;
    let steady = pelago::Mesh::connect(&node.mesh_address()).await.expect("the node is there");
    steady.ask("echo", "1", PATIENCE).await.expect("it answers");
    let before = (node.descriptors(), node.memory_kib());

    // The first one shows what a crowd costs; what a second one adds would be added by every further one.
    let first = storm(&proxy, &steady).await;
    say(&format!("{first}; {} KiB, {} before", node.memory_kib(), before.1));
    let after_first = node.memory_kib();
    assert!(after_first - before.1 < FIRST_KIB_MAX, "a storm costs {} KiB", after_first - before.1);
    let second = storm(&proxy, &steady).await;
    drop(proxy);

    let deadline = Instant::now() + PATIENCE;
    while node.descriptors() > before.0 {
        assert!(Instant::now() < deadline, "{} descriptors, {} before", node.descriptors(), before.0);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Threads that blocked for it end within seconds, and give back what they had.
    let grown = || node.memory_kib().saturating_sub(after_first);
    while grown() >= GROWN_KIB_MAX && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let grown = grown();
    say(&format!("{second}; grown by {grown} KiB, no descriptor left"));
    assert!(grown < GROWN_KIB_MAX, "it has grown from {after_first} KiB by {grown} KiB");
}

/// Clients ask through the proxy, which cuts all of them off again and again, while one asks beside it. Says how it was.
async fn storm(proxy: &Proxy, steady: &pelago::Mesh) -> String {
    let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(Counts::default()));
    let address = proxy.address.to_string();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| tokio::spawn(ask_on(address.clone(), n, Arc::clone(&stop), Arc::clone(&counts))))
        .collect();
    let begun = Instant::now();
    let (mut slowest, mut cuts) = (Duration::ZERO, 0);
    while begun.elapsed() < STORM {
        let round = Instant::now();
        while round.elapsed() < LIVES {
            let asked = Instant::now();
            steady.ask("echo", "1", PATIENCE).await.expect("the node goes on answering");
            slowest = slowest.max(asked.elapsed());
        }
        proxy.cut();
        cuts += 1;
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        // Each question ends by itself, in its time.
        timeout(2 * WAIT, client).await.expect("every question ends").expect("none ends otherwise");
    }
    let (answered, cut) = (counts.answered.load(Ordering::Relaxed), counts.cut.load(Ordering::Relaxed));
    assert!(answered > CLIENTS as u64 && cut > CLIENTS as u64, "{answered} answered, {cut} cut off");
    assert!(slowest < Duration::from_secs(2), "somebody waited for {slowest:?}");
    format!(
        "{CLIENTS} clients cut off {cuts} times: {answered} answers, {cut} questions cut off; others waited {} ms at most",
        slowest.as_millis()
    )
}

/// Asks one after the other, with a link of its own that is lost all the time.
async fn ask_on(address: String, n: usize, stop: Arc<AtomicBool>, counts: Arc<Counts>) {
    let (pool, keyed) = ("echo".to_owned(), format!("counter:storm-{n}"));
    let mut mesh = None;
    for turn in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let client = match mesh.take() {
            Some(client) => client,
            None => match pelago::Mesh::connect(&address).await {
                Ok(client) => client,
                Err(error) => {
                    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
                    continue;
                }
            },
        };
        let to = if turn.is_multiple_of(8) { &keyed } else { &pool };
        match client.ask(to, "1", WAIT).await {
            Ok(_) => counts.answered.fetch_add(1, Ordering::Relaxed),
            Err(Error::Unknown | Error::Unreachable { .. } | Error::Busy | Error::Timeout { .. }) => {
                counts.cut.fetch_add(1, Ordering::Relaxed)
            }
            Err(error) => panic!("{error}"),
        };
        // Some begin anew by themselves.
        if !turn.is_multiple_of(5) {
            mesh = Some(client);
        }
    }
}
