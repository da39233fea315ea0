//! `pelago demo`: real agents read real files, lose their node in the middle, and nothing else.
//!
//! Reads top to bottom: list the files, start a node, hand out the work, kill the node after a third of the results,
//! start it again on the same data, wait for the end, and look for anything lost, doubled or different: in the store,
//! and by doing the same work once more in one plain loop.

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
use crew::Crew;
use findings::Findings;
pub(crate) use node::end_with_the_demo;
use node::{Killed, Node};
use progress::Progress;

const WHAT_IT_DOES: &str = "\
This version's demo runs on one node: it kills that node with SIGKILL and starts it again on the same data.
The demo on three nodes comes with links between nodes.";

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
    /// Where the report goes [default: a new file in the temporary directory]
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
    let errand = Errand::new(&listing.root, listing.files.len(), dropped);
    // Dropped before the folder: no node writes into what is being removed.
    let mut node = Node::start(&folder.path().join("node-1"), errand).await?;
    let mut progress = Progress::new(listing.files.len() as u64, output);
    match act(&mut node, listing, &mut progress).await {
        Ok(played) => {
            node.stop().await;
            Ok(played)
        }
        Err(error) => Err(node.ended_by_itself().unwrap_or(error)),
    }
}

async fn act(node: &mut Node, listing: &Listing, progress: &mut Progress) -> Result<(Report, Findings), Error> {
    let assignments = split(listing);
    let mut crew = Crew::new(node.client(), listing, &assignments);
    crew.hand_out(&assignments).await?;

    let victim = crew.until_a_third_is_done(node.errand().pace, progress).await?;
    assert_eq!(victim.node, node.name(), "there is no other");
    let killed = node.kill();
    progress.say(&format!("killed {victim}"));
    node.start_again().await?;
    progress.say(&format!("{} is back after {} ms", victim.node, killed.ago().as_millis()));

    crew.reach(node.client());
    let report = crew.until_the_report_is_written(listing, progress).await?;
    let store = findings::read_store(node.client()).await?;
    let expected = single::report_of_listing(listing);
    let findings = Findings::of(listing, &report, &expected, &store, (victim, killed));
    Ok((report, findings))
}
