//! The nodes of a local mesh as they run: children of this process.

use std::{
    ffi::OsString,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use futures_util::future::try_join_all;
use pelago_api::client::Client;
use serde::Serialize;

use super::{
    super::settle::LOSING_NODES_MIN,
    folder::{Folder, Place},
    problem,
};
use crate::{
    child::{self, Child},
    output::Error,
};

/// How long they may take to stop: a node lets turns end for 20 s unless it is told otherwise.
const STOP_MAX: Duration = Duration::from_secs(30);
/// How long those may take that are left when most have stopped. They wait in vain to put their agents away: there is
/// no majority any more that could take note of it.
const MINORITY_MAX: Duration = Duration::from_secs(1);
/// How often it is looked who has stopped.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The nodes that run, and are killed when this is dropped.
pub(super) struct Nodes<'f> {
    folder: &'f Folder,
    /// How many there are when all run.
    size: usize,
    running: Vec<Node>,
}

pub(super) struct Node {
    child: Child,
    pub(super) shown: Shown,
}

/// A node as it is told to programs.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Shown {
    pub(super) name: String,
    /// The URL for clients.
    pub(super) http: String,
    /// The address for links.
    pub(super) mesh: String,
    pub(super) pid: u32,
    /// The data directory.
    dir: String,
    pub(super) log: String,
    /// The command that starts it alone.
    pub(super) command: String,
}

/// A node that ended, and was not told to by this process.
pub(super) struct Lost {
    /// Which, and how.
    pub(super) what: String,
    /// Whether its log cannot say why.
    pub(super) is_killed: bool,
    pub(super) log: std::path::PathBuf,
    /// The command that starts it again.
    pub(super) again: String,
}

impl<'f> Nodes<'f> {
    /// None yet.
    pub(super) fn new(folder: &'f Folder) -> Self {
        Self { folder, size: 0, running: Vec::new() }
    }

    /// Starts a node at each of `places`, and waits until all are ready. Those that the mesh has removed are left out.
    pub(super) async fn start(&mut self, places: &[Place]) -> Result<(), Error> {
        // The first founds the mesh, and the others need it for that. Later all start at once: the nodes of a mesh are
        // ready when most of them are there.
        let is_new = !places.iter().any(|place| self.folder.has_mesh(&place.name));
        let (founder, others) = places.split_at(usize::from(is_new));
        for place in founder {
            let founder = self.start_one(place, places, true).await?;
            self.running.extend(founder);
        }
        let starting = others.iter().map(|place| self.start_one(place, places, false));
        let started = try_join_all(starting).await?;
        self.running.extend(started.into_iter().flatten());
        self.size = self.running.len();
        if self.size == 0 { Err(problem::all_removed(self.folder.path())) } else { Ok(()) }
    }

    /// None if the mesh has removed the node.
    async fn start_one(&self, place: &Place, all: &[Place], found: bool) -> Result<Option<Node>, Error> {
        let (data, log) = (self.folder.data(&place.name), self.folder.log(&place.name));
        let failed =
            |error: child::Error| problem::not_started(&format!("{} {error}", place.name), &child::last_words(&log));
        let settings = |command: &mut Command| {
            command.args(flags(place, &data));
            if found {
                command.arg("--found")
            } else {
                command.args(join(place, all))
            };
        };
        let mut child = Child::start(&log, settings).map_err(failed)?;
        let ready = match child.ready().await {
            Err(child::Error::Removed) => return Ok(None),
            ready => ready.map_err(failed)?,
        };
        let shown = Shown {
            name: place.name.clone(),
            http: format!("http://{}", ready.http),
            mesh: ready.mesh.unwrap_or_else(|| mesh_address(place)),
            pid: child.id(),
            dir: data.display().to_string(),
            log: log.display().to_string(),
            command: alone(place, &std::path::absolute(&data).unwrap_or(data), all),
        };
        Ok(Some(Node { child, shown }))
    }

    pub(super) fn running(&self) -> &[Node] {
        &self.running
    }

    pub(super) fn is_running(&self, name: &str) -> bool {
        self.running.iter().any(|node| node.shown.name == name)
    }

    /// A client of whichever of them answers.
    pub(super) fn client(&self) -> Client {
        Client::of(self.running.iter().map(|node| node.shown.http.as_str()))
    }

    /// Those that ended since this was asked last.
    pub(super) fn lost(&mut self) -> Vec<Lost> {
        let mut lost = Vec::new();
        self.running.retain_mut(|node| {
            let Some(status) = node.child.has_ended() else { return true };
            let (name, how, is_killed) = (&node.shown.name, child::how(status), child::is_killed(status));
            let what = match is_killed {
                true => format!("{name} was ended by {how}"),
                false => format!("{name} ended by itself ({how})"),
            };
            lost.push(Lost { what, is_killed, log: self.folder.log(name), again: node.shown.command.clone() });
            false
        });
        lost
    }

    /// Lets them stop in good order. Those for whom that takes too long are killed when this is dropped.
    pub(super) async fn stop(&mut self) {
        for node in &self.running {
            node.child.ask_to_stop();
        }
        let mut until = Instant::now() + STOP_MAX;
        while !self.running.is_empty() && Instant::now() < until {
            tokio::time::sleep(LOOK_EVERY).await;
            self.running.retain_mut(|node| node.child.has_ended().is_none());
            if self.size >= LOSING_NODES_MIN && self.running.len() <= self.size / 2 {
                until = until.min(Instant::now() + MINORITY_MAX);
            }
        }
    }
}

/// What makes `pelago serve` this node.
fn flags(place: &Place, data: &Path) -> Vec<OsString> {
    let (http, mesh) = (place.http.to_string(), mesh_address(place));
    let words = ["--name", &place.name, "--port", &http, "--mesh-addr", &mesh, "--data-dir"];
    words.into_iter().map(OsString::from).chain([data.into()]).collect()
}

/// Where it finds the others.
fn join(place: &Place, all: &[Place]) -> Vec<OsString> {
    let others = all.iter().filter(|other| other.name != place.name);
    others.flat_map(|other| ["--join".into(), mesh_address(other).into()]).collect()
}

/// The command line that starts a node alone, as a shell reads it.
fn alone(place: &Place, data: &Path, all: &[Place]) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:".contains(c);
    let quoted = |word: OsString| match word.to_string_lossy() {
        plain if plain.chars().all(is_plain) => plain.into_owned(),
        other => format!("'{}'", other.replace('\'', r"'\''")),
    };
    let words = flags(place, data).into_iter().chain(join(place, all)).map(quoted);
    format!("pelago serve {}", words.collect::<Vec<_>>().join(" "))
}

fn mesh_address(place: &Place) -> String {
    format!("127.0.0.1:{}", place.mesh)
}
