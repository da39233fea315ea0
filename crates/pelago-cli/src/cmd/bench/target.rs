//! What is asked, and over what.

use std::time::Duration;

use pelago::{
    Mesh, TaskRequest,
    mesh::{AskOptions, Error as MeshError},
};
use pelago_api::{
    client::{Client, Error as HttpError},
    model::NewTask,
    problem::{Code, Problem},
};

use super::{BenchArgs, What};
use crate::output::Error;

/// How long one request may take.
const WAIT: Duration = Duration::from_secs(30);
/// What `echo` is given, as a JSON string.
const TEXT: &str = "\"bench\"";

/// A node, and the way to it.
pub(super) enum Target {
    Link(Mesh),
    Http(Client),
}

/// What came of a request.
pub(super) enum Answer {
    Done,
    /// The node had no room for it.
    Busy,
    /// The node that worked on it was lost.
    InDoubt,
}

impl Target {
    /// A link with the node whose mesh address, or HTTP address, is the first of `urls`. Of HTTP addresses, any that
    /// answers will do.
    pub(super) async fn link(urls: &[String], http: impl FnOnce() -> Client) -> Result<Self, Error> {
        if let Some(address) = urls.first().filter(|url| !url.contains("://")) {
            return Ok(Self::Link(Mesh::connect(address).await?));
        }
        let client = http();
        let node = client.status().await?.node;
        let address = client.nodes().await?.items.into_iter().find(|other| other.name == node);
        let Some(address) = address.map(|node| node.mesh_address) else {
            let detail = format!("{node} is not among the nodes of its mesh");
            return Err(Problem::new(Code::UnknownNode, detail, "name its mesh address by --url HOST:PORT").into());
        };
        Ok(Self::Link(Mesh::connect(&address).await?))
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Link(_) => "link",
            Self::Http(_) => "http",
        }
    }

    /// Asks once, for the agent with this number, and waits for the answer.
    pub(super) async fn ask(&self, args: &BenchArgs, key: u64) -> Result<Answer, Error> {
        match self {
            Self::Link(mesh) => match over_link(mesh, args, key).await {
                Ok(()) => Ok(Answer::Done),
                Err(error) if error.code() == Code::Busy => Ok(Answer::Busy),
                Err(error) if error.code() == Code::InDoubt => Ok(Answer::InDoubt),
                Err(error) => Err(error.into()),
            },
            Self::Http(client) => match over_http(client, args, key).await {
                Ok(()) => Ok(Answer::Done),
                Err(HttpError::Problem(problem)) if problem.code() == Some(Code::Busy) => Ok(Answer::Busy),
                Err(HttpError::Problem(problem)) if problem.code() == Some(Code::InDoubt) => Ok(Answer::InDoubt),
                Err(error) => Err(error.into()),
            },
        }
    }
}

async fn over_link(mesh: &Mesh, args: &BenchArgs, key: u64) -> Result<(), MeshError> {
    match args.what {
        What::Task => {
            mesh.run("echo", TEXT, TaskRequest::default(), WAIT).await?;
        }
        What::Turn => {
            mesh.ask(&counter(key), "1", AskOptions::from(WAIT)).await?;
        }
        What::Propose => {
            mesh.send(&counter(key), padded(args.bytes), None).await?;
        }
    }
    Ok(())
}

async fn over_http(client: &Client, args: &BenchArgs, key: u64) -> Result<(), HttpError> {
    match args.what {
        What::Task => {
            let new = NewTask { agent: "echo".into(), prompt: Some("bench".into()), ..NewTask::default() };
            let enqueued = client.enqueue(&new, None).await?;
            client.task(enqueued.id, Some(WAIT)).await?;
        }
        What::Turn => {
            client.ask(&counter(key), "1", None, None).await?;
        }
        What::Propose => {
            client.send(&counter(key), padded(args.bytes), None).await?;
        }
    }
    Ok(())
}

fn counter(key: u64) -> String {
    format!("counter:bench-{key}")
}

/// A number that a counter reads, and blanks.
fn padded(bytes: u32) -> String {
    format!("{:<1$}", 1, bytes as usize)
}
