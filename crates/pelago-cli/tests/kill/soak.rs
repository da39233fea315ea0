//! So much that anything left behind by each message would show.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use super::{
    mesh::{Mesh, PATIENCE},
    say,
};

/// The test runs if this is set: it takes minutes. Its value is how many millions of messages are told.
const SLOW: &str = "PELAGO_TEST_SOAK_MILLIONS";
/// How many messages are told between two looks.
const ROUND: u64 = 250_000;
/// Who asks meanwhile.
const ASKERS: usize = 8;
/// What memory may grow by from a tenth of it to the end, in KiB.
const GROWN_KIB_MAX: u64 = 8 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn millions_of_messages_and_questions_leave_memory_as_it_was() {
    let Some(millions) = std::env::var(SLOW).ok() else {
        return say(&format!("skipped: {SLOW} is not set, and it takes minutes"));
    };
    let messages = 1_000_000 * millions.parse::<u64>().unwrap_or_else(|_| panic!("{SLOW} is a number of millions"));
    let mesh = Mesh::start(1).await;
    let node = &mesh.nodes[0];
    let client = pelago::Mesh::connect(&node.mesh_address()).await.expect("the node is there");
    let mut tally = client.recipient("tally").await.expect("it is there");
    let stop = Arc::new(AtomicBool::new(false));
    let askers: Vec<_> = (0..ASKERS)
        .map(|_| {
            let (client, stop) = (client.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut asked = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    client.ask("echo", "1", PATIENCE).await.expect("it answers");
                    asked += 1;
                }
                asked
            })
        })
        .collect();
    let begun = Instant::now();
    let mut seen = Vec::new();
    for told in (0..messages).step_by(usize::try_from(ROUND).expect("small")) {
        for _ in 0..ROUND.min(messages - told) {
            tally.tell(b"0123456789abcdef").await.expect("there is room");
        }
        seen.push(node.memory_kib());
    }
    stop.store(true, Ordering::Relaxed);
    let mut asked = 0;
    for asker in askers {
        asked += asker.await.expect("it does not panic");
    }
    let deadline = Instant::now() + PATIENCE;
    while client.account().under_way() > 0 {
        assert!(Instant::now() < deadline, "the last ones are not handled: {:?}", client.account());
        tokio::task::yield_now().await;
    }
    let took = begun.elapsed();
    let account = client.account();
    assert_eq!((account.sent, account.handled, account.lost), (messages, messages, 0));
    let at = |tenths: usize| seen[(seen.len() - 1) * tenths / 10];
    say(&format!(
        "{messages} messages told and {asked} questions asked in {} s; memory after a tenth {} KiB, half {} KiB, all {} KiB",
        took.as_secs(),
        at(1),
        at(5),
        at(10)
    ));
    let grown = at(10).saturating_sub(at(1));
    assert!(grown < GROWN_KIB_MAX, "it has grown by {grown} KiB");
}
