//! `pelago node …`

use pelago_api::{
    client::Client,
    model::{Node, NodeList, words},
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
}

const LS_EXAMPLES: &str = "\
Examples:
  pelago node ls
  pelago node ls -o json | jq -r '.items[].name'";

pub(super) async fn run(command: NodeCommand, client: &Client, output: Output) -> Result<Exit, Error> {
    match command {
        NodeCommand::Ls => {
            let status = client.status().await?;
            let answers = format!("{} answers; {}", status.node, status::can_lose(&status));
            output.document(&NodeList::from(status), text)?;
            output.note(&answers);
            Ok(Exit::Done)
        }
    }
}

fn text(list: &NodeList) -> String {
    columns(["NODE", "STATE", "ROLE", "LINK", "HTTP", "MESH", "LABELS", "AGENTS"], list.items.iter().map(row))
}

fn row(node: &Node) -> [String; 8] {
    let labels: Vec<String> = node.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let agents: Vec<&str> = node.offers.keys().map(String::as_str).collect();
    [
        node.name.clone(),
        words::node_state::as_str(node.state).to_owned(),
        role(node).to_owned(),
        if node.linked { "up" } else { "down" }.to_owned(),
        node.http_address.clone().unwrap_or_default(),
        node.mesh_address.clone(),
        labels.join(","),
        agents.join(","),
    ]
}

/// What a node does in consensus.
fn role(node: &Node) -> &'static str {
    match (node.leader, node.voter) {
        (true, _) => "leader",
        (false, true) => "voter",
        (false, false) => "observer",
    }
}
