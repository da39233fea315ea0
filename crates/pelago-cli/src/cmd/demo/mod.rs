//! `pelago demo`: real agents read real files on three nodes, lose one of these in the middle, and nothing else.
//!
//! Reads top to bottom: list the files, start the nodes, hand out the work, kill the node that has most to lose after a
//! third of the results, let another join, wait for the end, and look for anything lost, doubled or different: in the
//! store, and by doing the same work once more in one plain loop.

mod crew;
mod findings;
mod node;
mod problem;
mod progress;
mod victim;

use std::{
    env,
    path::{Path, PathBuf},
};

use tokio::signal::unix::{SignalKind, signal};

use crate::{
    builtin::crew::Errand,
    exit::Exit,
    output::{Error, Output},
    report::{
        files::{self, Listing},
        page::Report,
        render, single,
        summary::split,
    },
};
use crew::{Crew, patiently};
use findings::Findings;
use node::{Killed, Nodes};
use progress::Progress;

/// Enough to lose one.
const NODES: usize = 3;

const WHAT_IT_DOES: &str = "\
Three nodes, each a process of its own, read your files together. The busiest is killed with SIGKILL in the middle, and
another node joins.";

pub(crate) const EXAMPLES: &str = "\
Examples:
  pelago demo                           # inside a clone of Pelago: its own text files
  pelago demo docs --report report.md
  pelago demo . -o json";

#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// A folder of text files, or one file [default: the clone of Pelago around the working directory]
    #[arg(value_name = "PATH")]
    path: Option<PathBuf>,
    /// Where the report goes: a file that is not there yet [default: a new file in the temporary directory]
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// A file whose reading is thrown away, to see that its loss is found
    #[arg(long, value_name = "PATH", env = "PELAGO_DEMO_DROP", hide = true)]
    drop: Option<String>,
}

pub(crate) async fn run(args: DemoArgs, output: Output) -> Result<Exit, Error> {
    let destination = findings::Destination::new(args.report)?;
    let listing = list(args.path.as_deref())?;
    output.note(WHAT_IT_DOES);
    let mut terminated =
        signal(SignalKind::terminate()).map_err(|cause| problem::system("listen to signals", &cause))?;
    let (report, findings) = tokio::select! {
        played = play(&listing, args.drop, output) => played?,
        _ = terminated.recv() => return Ok(Exit::Interrupted),
    };
    let path = destination.write(&render::render(&report))?;
    let findings = Findings { report: path.display().to_string(), ..findings };
    output.document(&findings, |findings| format!("{}\n{}", render::short_view(&report), findings.table()))?;
    Ok(if findings.is_whole() { Exit::Done } else { Exit::Failed })
}

/// The files to read; at least one.
fn list(path: Option<&Path>) -> Result<Listing, Error> {
    let here = env::current_dir().map_err(|cause| problem::system("find the working directory", &cause))?;
    let listing = files::list(path, &here).map_err(|error| problem::no_files(&error))?;
    if listing.files.is_empty() {
        return Err(problem::no_text(&listing));
    }
    Ok(listing)
}

/// The whole demo on nodes of its own, which are gone when it returns, as is their data.
async fn play(listing: &Listing, dropped: Option<String>, output: Output) -> Result<(Report, Findings), Error> {
    let folder = tempfile::Builder::new().prefix("pelago-demo-").tempdir();
    let folder = folder.map_err(|cause| problem::system("make a temporary folder", &cause))?;
    let errand = Errand::new(&listing.root, listing.files.len(), NODES, folder.path(), dropped);
    // Dropped before the folder: no node writes into what is being removed.
    let mut nodes = Nodes::start(folder.path(), errand, NODES).await?;
    let mut progress = Progress::new(listing.files.len() as u64, output);
    let played = act(&mut nodes, listing, &mut progress).await;
    played.map_err(|error| nodes.ended_by_itself().unwrap_or(error))
}

async fn act(nodes: &mut Nodes, listing: &Listing, progress: &mut Progress) -> Result<(Report, Findings), Error> {
    let assignments = split(listing);
    // The one client for all of it: when the node that answers it is the one that is killed, it asks the next.
    let client = nodes.client();
    let crew = Crew::new(&client, &assignments);
    crew.hand_out(&assignments).await?;

    let victim =
        crew.until_a_third_is_done(nodes.errand().gate.free, nodes.held(listing.files.len()), progress).await?;
    let killed = nodes.kill(&victim.node);
    nodes.errand().gate.open().map_err(|cause| problem::system("let the readers go on", &cause))?;
    progress.say(&format!("killed {victim}"));
    let joining = async { nodes.add(1).await.map(|()| killed.ago()) };
    let (joined, rehomed) = tokio::try_join!(joining, crew.until_rehomed(&victim, killed, progress))?;
    progress.say(&format!("{} has joined, {} ms after that", nodes.newest(), joined.as_millis()));

    let report = crew.until_the_report_is_written(listing, progress).await?;
    let store = patiently(async || findings::read_store(&client).await).await?;
    let expected = single::report_of_listing(listing);
    let findings = Findings::of(listing, &report, &expected, &store, (victim, killed, rehomed));
    Ok((report, findings))
}
