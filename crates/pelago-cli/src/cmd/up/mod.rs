//! `pelago up`: a mesh of several nodes on this machine, that remembers.
//!
//! Reads top to bottom: open the folder, choose ports, start the nodes, say where they are, and watch over them until a
//! signal comes or the last of them is gone. It starts processes and nothing else: all that a mesh is, the nodes are.

mod folder;
mod nodes;
mod ports;
mod problem;

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    time::Duration,
};

use pelago_api::model::Document;
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::settle;
use crate::{
    child,
    command_line::DEFAULT_URL,
    exit::Exit,
    output::{Error, Output, columns},
};
use folder::{Folder, Place};
use nodes::{Lost, Nodes, Shown};
use ports::{Shifted, Unavailable, Wishes};

pub(crate) const EXAMPLES: &str = "\
Examples:
  pelago up                             # three nodes, with what they held the last time
  pelago up 5                           # two more
  pelago up 1 --dir /tmp/alone --port 0 --mesh-port 0 -o json";

/// Where a mesh is kept unless told.
const HERE: &str = ".pelago";
/// How many nodes a new mesh has unless told: enough to lose one.
const NODES: usize = 3;
/// Nodes are ready sooner, as a rule.
const SLOW: Duration = Duration::from_secs(5);
/// More are no use on one machine.
const NODES_MAX: i64 = 32;

#[derive(Debug, clap::Args)]
pub(crate) struct UpArgs {
    /// How many nodes; more than the folder has adds some [default: those of the folder, else 3]
    #[arg(value_name = "N", value_parser = clap::value_parser!(u16).range(1..=NODES_MAX))]
    nodes: Option<u16>,
    /// The folder that the nodes keep their data in
    #[arg(long, value_name = "DIR", default_value = HERE)]
    dir: PathBuf,
    /// HTTP port of the first node, the others have the next ones; 0 for any [default: those of last time, else 8080]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// The same for links between nodes [default: those of last time, else 50051]
    #[arg(long, value_name = "PORT")]
    mesh_port: Option<u16>,
}

/// What programs are told once all nodes are ready.
#[derive(Serialize)]
struct Up<'n> {
    dir: String,
    nodes: Vec<&'n Shown>,
}

impl Document for Up<'_> {
    const KIND: &'static str = "Up";
}

pub(crate) async fn run(args: UpArgs, output: Output) -> Result<Exit, Error> {
    let unable = |cause| problem::system("listen to signals", &cause);
    let mut signals = Signals::new().map_err(unable)?;
    // Before the first child, so that the end of none is missed.
    let mut child_ended = signal(SignalKind::child()).map_err(unable)?;
    let folder = Folder::open(&args.dir)?;
    // Before ports are chosen: those of a node that runs are in use, and it shall keep them.
    if let Some(Place { name, .. }) = folder.remembered().iter().find(|place| folder.is_running(&place.name)) {
        return Err(problem::runs_already(name, &folder.data(name)));
    }
    let places = choose(&args, folder.remembered(), output)?;
    let mut nodes = Nodes::new(&folder);
    let is_up = tokio::select! {
        // First, so that somebody who has lost patience is not kept waiting by what is ready too.
        biased;
        () = signals.stop() => false,
        started = start(&mut nodes, &places, output) => started.map(|()| true)?,
        never = tell_if_slow(&folder, output) => match never {},
    };
    if is_up {
        let (places, removed): (Vec<_>, Vec<_>) = places.into_iter().partition(|place| nodes.is_running(&place.name));
        for Place { name, .. } in removed {
            let data = folder.data(&name);
            output.note(&format!("{name} was removed from the mesh: its folder {} can be deleted", data.display()));
        }
        // What did not start is not kept: it would fail again.
        folder.remember(&places)?;
        tell(&folder, &nodes, output)?;
        watch_over(&mut nodes, &mut child_ended, &mut signals, output).await?;
    }
    output.note(&stopping(nodes.running().len()));
    tokio::select! {
        biased;
        () = signals.stop() => Ok(Exit::Interrupted),
        () = nodes.stop() => Ok(Exit::Done),
    }
}

/// Where the nodes are to listen.
fn choose(args: &UpArgs, last_time: &[Place], output: Output) -> Result<Vec<Place>, Error> {
    let count = match (args.nodes, last_time.len()) {
        (Some(count), _) => count.into(),
        (None, 0) => NODES,
        (None, count) => count,
    };
    if count < last_time.len() {
        let names: Vec<&str> = last_time.iter().map(|place| place.name.as_str()).collect();
        return Err(problem::too_few(count, &names));
    }
    let wishes = Wishes { http: args.port, mesh: args.mesh_port };
    let unavailable = |why| match why {
        Unavailable::Wished(port) => problem::port_in_use(port),
        Unavailable::Past(port) => problem::no_port(port),
    };
    let (places, shifted) = ports::choose(last_time, count, wishes, ports::is_free).map_err(unavailable)?;
    for Shifted { node, wanted, taken } in shifted {
        output.note(&format!("port {wanted} is in use, so {} listens on {taken}", places[node].name));
    }
    Ok(places)
}

/// Where the nodes are of the mesh that is kept in this folder, if there is one.
pub(crate) fn urls() -> Vec<String> {
    folder::urls(Path::new(HERE))
}

async fn start(nodes: &mut Nodes<'_>, places: &[Place], output: Output) -> Result<(), Error> {
    nodes.start(places).await?;
    if let Err(standing) = settle::until_one_can_be_lost(&nodes.client(), nodes.running().len()).await {
        output.note(&format!("the mesh is not as it should be yet: {standing}"));
    }
    Ok(())
}

/// Says once that it takes long.
async fn tell_if_slow(folder: &Folder, output: Output) -> Infallible {
    tokio::time::sleep(SLOW).await;
    output.note(&format!("the nodes are not ready yet; what they wait for is in {}", folder.logs().display()));
    std::future::pending().await
}

fn tell(folder: &Folder, nodes: &Nodes<'_>, output: Output) -> Result<(), Error> {
    let shown: Vec<&Shown> = nodes.running().iter().map(|node| &node.shown).collect();
    let up = Up { dir: folder.path().display().to_string(), nodes: shown };
    output.document(&up, |up| columns(["NODE", "HTTP", "MESH", "LOG"], up.nodes.iter().map(|node| row(node))))?;
    let url = match up.nodes.first() {
        Some(first) if first.http != DEFAULT_URL => format!(" --url {}", first.http),
        Some(_) | None => String::new(),
    };
    output.note(&format!(
        "next: pelago status{url}\n      pelago agent send counter:a 1{url}\n      pelago agent state counter:a{url}"
    ));
    output.note(&format!("Ctrl-C stops the nodes. What they hold is kept in {} for the next `pelago up`.", up.dir));
    Ok(())
}

fn stopping(nodes: usize) -> String {
    let nodes = match nodes {
        1 => "1 node".to_owned(),
        many => format!("{many} nodes"),
    };
    format!("stopping {nodes}: turns that run end first; Ctrl-C again stops them at once")
}

fn row(node: &Shown) -> [String; 4] {
    [node.name.clone(), node.http.clone(), node.mesh.clone(), node.log.clone()]
}

/// Returns when it is time to stop. Fails when there is nothing left to stop.
async fn watch_over(
    nodes: &mut Nodes<'_>,
    child_ended: &mut Signal,
    signals: &mut Signals,
    output: Output,
) -> Result<(), Error> {
    loop {
        let lost = nodes.lost();
        let (last, others) = match lost.as_slice() {
            [others @ .., last] if nodes.running().is_empty() => (Some(last), others),
            all => (None, all),
        };
        for lost in others {
            output.problem(&problem::node_lost(lost));
        }
        if let Some(Lost { what, log, .. }) = last {
            return Err(problem::all_lost(what, &child::last_words(log)));
        }
        tokio::select! {
            biased;
            () = signals.stop() => return Ok(()),
            _ = child_ended.recv() => {}
        }
    }
}

/// The two signals that ask a process to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
