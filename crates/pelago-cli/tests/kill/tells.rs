//! What is told is accounted for, though the node that it is told to is killed.

use std::time::Duration;

use pelago::mesh::{Account, Error, Recipient};

use super::{
    mesh::{Mesh, PATIENCE},
    say,
};

#[tokio::test(flavor = "multi_thread")]
async fn of_a_million_messages_each_is_handled_or_reported_lost_though_the_node_is_killed() {
    let mut mesh = Mesh::start(1).await;
    let client = pelago::Mesh::connect(&mesh.nodes[0].mesh_address()).await.expect("the node is there");
    let tally = client.recipient("tally").await.expect("it is there");
    let telling = tokio::spawn(tell(tally, 1_000_000));
    until(|| client.account().handled > 200_000).await;
    mesh.kill(0);
    until(|| client.account().lost > 0).await;
    let killed = client.account();
    mesh.start_again(&[0]);
    let told = telling.await.expect("it does not panic");
    until(|| client.account().under_way() == 0).await;

    let account = client.account();
    assert_eq!(account, Account { sent: told, handled: told - killed.lost, lost: killed.lost });
    // The agent lives and dies with its node.
    assert_eq!(counted(&client).await, account.handled - killed.handled);
    say(&format!("{account:?} of a million"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_keyed_agent_is_said_to_have_handled_is_there_after_its_node_was_killed() {
    let mut mesh = Mesh::start(1).await;
    let client = pelago::Mesh::connect(&mesh.nodes[0].mesh_address()).await.expect("the node is there");
    let counter = client.recipient("counter:told").await.expect("it is there");
    let telling = tokio::spawn(tell(counter, 20_000));
    until(|| client.account().handled > 2_000).await;
    mesh.kill(0);
    mesh.start_again(&[0]);
    let told = telling.await.expect("it does not panic");
    until(|| client.account().under_way() == 0).await;

    let Account { sent, handled, lost } = client.account();
    let count = client.ask("counter:told", "0", PATIENCE).await.expect("it answers");
    let count = std::str::from_utf8(&count).ok().and_then(|text| text.parse::<u64>().ok()).expect("a number");
    assert!(sent == told && (handled..=handled + lost).contains(&count), "{count}: {:?}", client.account());
    say(&format!("{count} counted; {sent} told, {handled} handled, {lost} reported lost"));
}

/// Tells so many messages, again when there was no link or no room, and says how many went.
async fn tell(mut recipient: Recipient, messages: u64) -> u64 {
    for _ in 0..messages {
        while let Err(error) = recipient.tell(b"1").await {
            assert!(matches!(error, Error::Unreachable { .. } | Error::Busy), "{error}");
        }
    }
    messages
}

async fn counted(client: &pelago::Mesh) -> u64 {
    let reply = client.ask("tally", "null", PATIENCE).await.expect("it answers");
    let reply: serde_json::Value = serde_json::from_slice(&reply).expect("replies are JSON");
    reply["messages"].as_u64().expect("a number")
}

async fn until(mut is_so: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is_so() {
        assert!(tokio::time::Instant::now() < deadline, "it did not come true in time");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
