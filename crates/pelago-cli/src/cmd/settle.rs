//! A mesh that was just started: nodes are ready one by one, and voters are chosen among them a moment later.

use std::time::{Duration, Instant};

use pelago_api::{
    client::{Client, Error},
    model::Status,
};
use pelago_core::record::NodeState;

/// How long that may take.
const SETTLE_MAX: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Fewer nodes than this have a majority only while all of them are there.
pub(super) const LOSING_NODES_MIN: usize = 3;

/// Waits until `nodes` nodes take part and, if they are enough, one of them may be lost. Else tells how they stand.
pub(super) async fn until_one_can_be_lost(client: &Client, nodes: usize) -> Result<(), String> {
    let until = Instant::now() + SETTLE_MAX;
    loop {
        let status = client.status().await;
        if status.as_ref().is_ok_and(|status| is_settled(status, nodes)) {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(standing(status));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn is_settled(status: &Status, nodes: usize) -> bool {
    status.leader.is_some() && up(status) >= nodes && (nodes < LOSING_NODES_MIN || status.can_lose > 0)
}

fn up(status: &Status) -> usize {
    status.nodes.iter().filter(|node| node.state == NodeState::Up).count()
}

fn standing(status: Result<Status, Error>) -> String {
    match status {
        Ok(status) => {
            let Status { voters, can_lose, .. } = &status;
            let up = up(&status);
            format!("{up} nodes are up, {} can be lost, these vote: {}", can_lose, voters.join(", "))
        }
        Err(error) => error.to_string(),
    }
}
