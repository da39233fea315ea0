//! Commands that ask a node.

use pelago_api::client::Client;

use super::{agent, node, status, task};
use crate::{
    exit::Exit,
    output::{Error, Output},
};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Request {
    /// Show how the mesh stands, problems first
    #[command(after_long_help = status::EXAMPLES)]
    Status,
    /// Look at nodes, and remove those that are gone
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Talk to agents
    #[command(subcommand)]
    Agent(agent::AgentCommand),
    /// Enqueue durable work and follow it
    #[command(subcommand)]
    Task(task::TaskCommand),
}

pub(crate) async fn run(request: Request, urls: &[String], output: Output) -> Result<Exit, Error> {
    let client = client_of(urls);
    match request {
        Request::Status => status::run(&client, output).await,
        Request::Node(command) => node::run(command, &client, output).await,
        Request::Agent(command) => agent::run(command, &client, output).await,
        Request::Task(command) => task::run(command, &client, output).await,
    }
}

/// A client of whichever of the nodes answers. An address without a scheme is one of HTTP.
pub(super) fn client_of(urls: &[String]) -> Client {
    let urls: Vec<_> =
        urls.iter().map(|url| if url.contains("://") { url.clone() } else { format!("http://{url}") }).collect();
    Client::of(urls.iter().map(String::as_str))
}
