//! Commands that ask a node.

use pelago::Mesh;
use pelago_api::{
    client::Client,
    model::Status,
    problem::{Code, Problem},
};
use tokio::time::{Duration, timeout};

use super::{agent, connection, node, session, signal, status, task, topic};
use crate::{
    exit::Exit,
    output::{Error, Output},
};

/// How long the first of several nodes may take to answer at all before the next is asked.
const ANSWERS_MAX: Duration = Duration::from_secs(2);
/// How long a node may take to answer at the other kind of address, once it did not at the one that was meant.
const OTHER_MAX: Duration = Duration::from_secs(2);

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
    /// Look at and end conversations with agents
    #[command(subcommand)]
    Session(session::SessionCommand),
    /// Send signals through the mesh and see where they went
    #[command(subcommand)]
    Signal(signal::SignalCommand),
    /// Look at and change where signals go on
    #[command(subcommand)]
    Connection(connection::ConnectionCommand),
    /// Enqueue durable work and follow it
    #[command(subcommand)]
    Task(task::TaskCommand),
    /// Tell all who subscribe to a topic
    ///
    /// Like `agent tell`: nothing is stored, and nobody answers.
    #[command(after_long_help = topic::PUBLISH_EXAMPLES)]
    Publish(topic::PublishArgs),
    /// Show what is published, as it comes
    ///
    /// From now on, on any node. Whoever is too slow misses the oldest, and is told how many.
    #[command(after_long_help = topic::TAIL_EXAMPLES)]
    Tail(topic::TailArgs),
}

pub(crate) async fn run(request: Request, urls: &[String], output: Output) -> Result<Exit, Error> {
    let ended = ask(request, urls, output).await;
    if let Err(Error::Problem(problem)) = &ended
        && problem.code() == Some(Code::Unreachable)
        && let Some(address) = mesh_address_among(urls).await
    {
        let detail = format!("{address} is the mesh address of a node, and this is asked over HTTP");
        let hint = "name its HTTP address by --url http://HOST:PORT; it stands in `pelago node ls`, and in the node's log \
                    when it starts";
        return Err(Problem::new(Code::Unreachable, detail, hint).into());
    }
    ended
}

async fn ask(request: Request, urls: &[String], output: Output) -> Result<Exit, Error> {
    let client = client_of_any(urls).await;
    match request {
        Request::Status => status::run(&client, output).await,
        Request::Node(command) => node::run(command, &client, output).await,
        Request::Agent(command) => agent::run(command, &client, output).await,
        Request::Session(command) => session::run(command, &client, output).await,
        Request::Signal(command) => signal::run(command, &client, output).await,
        Request::Connection(command) => connection::run(command, &client, output).await,
        Request::Task(command) => task::run(command, &client, output).await,
        Request::Publish(args) => topic::publish(&args, &client, output).await,
        Request::Tail(args) => topic::tail(&args, urls, output).await,
    }
}

/// A client of whichever of the nodes answers soon: one that is frozen keeps nobody from the others.
async fn client_of_any(urls: &[String]) -> Client {
    let client = client_of(urls);
    client.prefer_who_answers(ANSWERS_MAX).await;
    client
}

/// A client of whichever of the nodes answers. An address without a scheme is one of HTTP.
pub(super) fn client_of(urls: &[String]) -> Client {
    let urls: Vec<_> =
        urls.iter().map(|url| if url.contains("://") { url.clone() } else { format!("http://{url}") }).collect();
    Client::of(urls.iter().map(String::as_str))
}

/// A link with the node whose mesh address, or HTTP address, is the first of `urls`. Of HTTP addresses, any that
/// answers will do.
pub(super) async fn link_of(urls: &[String]) -> Result<Mesh, Error> {
    if let Some(address) = urls.first().filter(|url| !url.contains("://")) {
        return match Mesh::connect(address).await {
            Ok(mesh) => Ok(mesh),
            Err(failed) => Err(answers_http(address).await.unwrap_or_else(|| failed.into())),
        };
    }
    let status = client_of_any(urls).await.status().await?;
    let Some(address) = mesh_address(&status) else {
        let detail = format!("{} is not among the nodes of its mesh", status.node);
        return Err(Problem::new(Code::UnknownNode, detail, "name its mesh address by --url HOST:PORT").into());
    };
    Ok(Mesh::connect(address).await?)
}

/// Where the node that answered takes links.
fn mesh_address(status: &Status) -> Option<&str> {
    status.nodes.iter().find(|node| node.name == status.node).map(|node| node.mesh_address.as_str())
}

/// What to say if a node answers over HTTP where a link was wanted.
async fn answers_http(address: &str) -> Option<Error> {
    let client = client_of(&[address.to_owned()]);
    let status = timeout(OTHER_MAX, client.status()).await.ok()?.ok()?;
    let mesh = mesh_address(&status)?;
    let detail = format!("{address} is the HTTP address of {}, and this goes over a link", status.node);
    let hint = format!("name its mesh address by --url {mesh}, or let it be asked for by --url http://{address}");
    Some(Problem::new(Code::Unreachable, detail, hint).into())
}

/// Which of `urls` is where a node takes links.
async fn mesh_address_among(urls: &[String]) -> Option<&str> {
    for url in urls {
        let address = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
        if let Ok(Ok(_link)) = timeout(OTHER_MAX, Mesh::connect(address)).await {
            return Some(address);
        }
    }
    None
}
