//! `pelago node …`

use pelago_api::{
    client::Client,
    model::{Load, Node, NodeList, Offer, RemovedNode, words},
};

use super::status;
use crate::{
    exit::Exit,
    output::{Error, Output, columns},
};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum NodeCommand {
    /// List the nodes of the mesh
    #[command(after_long_help = LS_EXAMPLES)]
    Ls,
    /// Remove a node that is gone for good
    ///
    /// It loses its vote, which passes on to another node if one is ready, and its name is free for a new one. Tasks
    /// that are pinned to it are called off; all else it held is done by the others already. Should it come back with
    /// its old data directory, the mesh refuses it. A node that takes part is not removed: stop it first.
    #[command(after_long_help = REMOVE_EXAMPLES)]
    Remove {
        /// Its name
        name: String,
    },
}

const LS_EXAMPLES: &str = "\
Examples:
  pelago node ls
  pelago node ls -o wide     # with labels, agents and all of the load
  pelago node ls -o json | jq -r '.items[].name'";

const REMOVE_EXAMPLES: &str = "\
Examples:
  pelago node remove node-2
  pelago node remove node-2 -o json | jq -r '.voters[]'";

pub(super) async fn run(command: NodeCommand, client: &Client, output: Output) -> Result<Exit, Error> {
    match command {
        NodeCommand::Ls => {
            let status = client.status().await?;
            let answers = format!("{} answers; {}", status.node, status::can_lose(&status));
            output.document(&NodeList::from(status), if output.is_wide() { wide } else { text })?;
            output.note(&answers);
            Ok(Exit::Done)
        }
        NodeCommand::Remove { name } => {
            let removed = client.remove_node(&name).await?;
            output.document(&removed, |RemovedNode { id, name, voters, .. }| {
                format!("{name} (#{id}) is removed; voters: {}", voters.join(", "))
            })?;
            output.note("next: pelago status");
            Ok(Exit::Done)
        }
    }
}

/// What fits a terminal.
fn text(list: &NodeList) -> String {
    columns(
        ["NODE", "STATE", "SEEN", "ROLE", "LINK", "CPU", "MEM", "HTTP", "MESH", "AGENTS"],
        list.items.iter().map(row),
    )
}

fn row(node: &Node) -> [String; 10] {
    let [name, state, seen, role, link] = standing(node);
    let load = node.seen.as_ref().and_then(|seen| seen.load.as_ref());
    let used = |share: fn(&Load) -> Option<u16>| load.and_then(share).map(percent).unwrap_or_default();
    let (http, agents) = (node.http_address.clone().unwrap_or_default(), node.offers.len().to_string());
    let mesh = node.mesh_address.clone();
    [name, state, seen, role, link, used(|load| load.cpu), used(|load| load.memory), http, mesh, agents]
}

fn wide(list: &NodeList) -> String {
    columns(
        ["NODE", "STATE", "SEEN", "ROLE", "LINK", "LOAD", "HTTP", "MESH", "LABELS", "AGENTS"],
        list.items.iter().map(wide_row),
    )
}

fn wide_row(node: &Node) -> [String; 10] {
    let [name, state, seen, role, link] = standing(node);
    let labels: Vec<String> = node.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let agents: Vec<String> = node.offers.iter().map(agent).collect();
    let load = node.seen.as_ref().and_then(|seen| seen.load.as_ref()).map(load).unwrap_or_default();
    let (http, mesh) = (node.http_address.clone().unwrap_or_default(), node.mesh_address.clone());
    [name, state, seen, role, link, load, http, mesh, labels.join(","), agents.join(",")]
}

/// Its name, what the log and gossip have it as, its role, and whether there is a link with it.
fn standing(node: &Node) -> [String; 5] {
    [
        node.name.as_str(),
        words::node_state::as_str(node.state),
        node.seen.as_ref().map_or("never", |seen| words::seen::as_str(seen.state)),
        role(node),
        if node.linked { "up" } else { "down" },
    ]
    .map(str::to_owned)
}

fn percent(share: u16) -> String {
    format!("{} %", (share + 5) / 10)
}

/// How much a node has to do, as far as its system says.
fn load(load: &Load) -> String {
    let share = |name: &str, share: Option<u16>| share.map(|share| format!("{name} {}", percent(share)));
    let shares = [share("cpu", load.cpu), share("mem", load.memory), share("net", load.network)];
    let counts = [format!("{} waiting", load.queued), format!("{}/s", load.messages_per_second)];
    shares.into_iter().flatten().chain(counts).collect::<Vec<_>>().join(", ")
}

/// An agent that a node hosts, with its layer.
fn agent((name, offer): (&String, &Offer)) -> String {
    match &offer.layer {
        Some(layer) => format!("{name}({layer})"),
        None => name.clone(),
    }
}

/// What a node does in consensus.
fn role(node: &Node) -> &'static str {
    match (node.leader, node.voter) {
        (true, _) => "leader",
        (false, true) => "voter",
        (false, false) => "observer",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mesh_of_today_fits_a_terminal_of_100_columns() {
        let agents: serde_json::Map<String, serde_json::Value> =
            (0..40).map(|n| (format!("agent-{n}"), serde_json::json!({"placement": "pool", "tasks_max": 8}))).collect();
        let node = serde_json::json!({
            "id": 12, "name": "worker-12", "state": "expired", "incarnation": 1, "voter": false, "leader": false,
            "linked": false, "boot": "7", "mesh_address": "127.0.0.1:50051", "http_address": "127.0.0.1:18080",
            "labels": {"zone": "eu-west-1a"}, "offers": agents, "registered": "2026-11-22T12:00:00.000Z",
            "seen": {"state": "suspect", "for_ms": 5, "load": {"cpu": 1000, "memory": 1000, "queued": 4, "messages_per_second": 250}}
        });
        let list = NodeList { items: vec![serde_json::from_value(node).expect("a node")] };
        let (narrow, all) = (text(&list), wide(&list));
        assert!(narrow.lines().all(|line| line.chars().count() <= 100), "{narrow}");
        assert!(narrow.contains("100 %") && narrow.contains("40"), "{narrow}");
        assert!(all.contains("zone=eu-west-1a") && all.contains("agent-39") && all.contains("250/s"), "{all}");
    }

    #[test]
    fn a_load_says_what_the_system_tells_and_no_more() {
        let known = Load {
            cpu: Some(123),
            memory: Some(1_000),
            network: None,
            network_bytes_per_second: Some(9),
            queued: 4,
            messages_per_second: 250,
        };
        assert_eq!(load(&known), "cpu 12 %, mem 100 %, 4 waiting, 250/s");
        assert_eq!(load(&Load { cpu: None, memory: None, ..known }), "4 waiting, 250/s");
    }
}
