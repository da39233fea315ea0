//! The nodes of the demo: processes of this very program, which nobody outlives.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant, SystemTime},
};

use futures_util::future::try_join_all;
use pelago_api::client::Client;

use super::problem;
use crate::{
    builtin::crew::Errand,
    child::{self, Child},
    cmd::settle,
    output::Error,
};

/// The nodes that run, and are killed when this is dropped: nobody needs what they hold after that.
pub(super) struct Nodes {
    folder: PathBuf,
    errand: Errand,
    /// How many were ever started: no name is given twice.
    started: usize,
    nodes: Vec<Node>,
}

struct Node {
    name: String,
    child: Child,
    url: String,
    mesh: String,
}

/// When a node was killed, by two clocks: one to measure with, and the one that the log's times go by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Killed {
    at: Instant,
    pub(super) wall: SystemTime,
}

impl Killed {
    pub(super) fn ago(self) -> Duration {
        self.at.elapsed()
    }

    /// So many milliseconds after 1970.
    #[cfg(test)]
    pub(super) fn at(wall_ms: u64) -> Self {
        Self { at: Instant::now(), wall: SystemTime::UNIX_EPOCH + Duration::from_millis(wall_ms) }
    }
}

impl Nodes {
    /// Starts a mesh of `count` nodes with data in `folder`, and waits until it can do without one of them.
    pub(super) async fn start(folder: &Path, errand: Errand, count: usize) -> Result<Self, Error> {
        let mut nodes = Self { folder: folder.to_owned(), errand, started: 0, nodes: Vec::new() };
        nodes.add(1).await?;
        nodes.add(count - 1).await?;
        settle::until_one_can_be_lost(&nodes.client(), count)
            .await
            .map_err(|standing| problem::unsettled(&standing))?;
        Ok(nodes)
    }

    /// Starts `count` further nodes. They join those that run; the first of all founds the mesh.
    pub(super) async fn add(&mut self, count: usize) -> Result<(), Error> {
        let numbers = self.started + 1..=self.started + count;
        self.started += count;
        let added = try_join_all(numbers.map(|number| self.start_one(format!("node-{number}")))).await?;
        self.nodes.extend(added);
        Ok(())
    }

    async fn start_one(&self, name: String) -> Result<Node, Error> {
        let directory = self.folder.join(&name);
        fs::create_dir_all(&directory).map_err(|cause| problem::system("make a node's folder", &cause))?;
        let log = directory.join("log");
        let failed = |error: child::Error| problem::node_ended(&format!("{name} {error}"), &child::last_words(&log));
        let mut child = Child::start(&log, |command| self.tell(command, &name, &directory)).map_err(failed)?;
        let ready = child.ready().await.map_err(failed)?;
        let mesh = ready.mesh.ok_or_else(|| problem::node_ended(&format!("{name} takes no links"), ""))?;
        Ok(Node { name, child, url: format!("http://{}", ready.http), mesh })
    }

    /// What makes a process the node that it shall be.
    fn tell(&self, command: &mut Command, name: &str, directory: &Path) {
        // What configures nodes of the user is not for this one; only what it logs may be asked for.
        let settings = env::vars_os().map(|(name, _)| name);
        for name in settings.filter(|name| name.as_encoded_bytes().starts_with(b"PELAGO_") && name != "PELAGO_LOG") {
            command.env_remove(name);
        }
        self.errand.tell(command);
        command.args(["--name", name, "--port", "0", "--mesh-addr", "127.0.0.1:0", "--log-level", "warn"]);
        command.arg("--data-dir").arg(directory.join("data")).current_dir(directory);
        if self.nodes.is_empty() {
            command.arg("--found");
        }
        for node in &self.nodes {
            command.args(["--join", &node.mesh]);
        }
    }

    pub(super) fn errand(&self) -> &Errand {
        &self.errand
    }

    /// How many readings are held at the gate once no reader can begin another.
    pub(super) fn held(&self, files: usize) -> usize {
        self.errand.held(files, self.nodes.len())
    }

    /// The name of the one that was started last.
    pub(super) fn newest(&self) -> &str {
        self.nodes.last().map_or("", |node| &node.name)
    }

    /// A client of whichever of them answers.
    pub(super) fn client(&self) -> Client {
        Client::of(self.nodes.iter().map(|node| node.url.as_str()))
    }

    /// Kills one with SIGKILL, now. It is no longer one of them.
    pub(super) fn kill(&mut self, name: &str) -> Killed {
        let at = self.nodes.iter().position(|node| node.name == name).expect("whoever holds something is one of ours");
        let mut node = self.nodes.remove(at);
        let killed = Killed { at: Instant::now(), wall: SystemTime::now() };
        node.child.kill();
        killed
    }

    /// Tells why one ended, if one has and nobody killed it.
    pub(super) fn ended_by_itself(&mut self) -> Option<Error> {
        self.nodes.iter_mut().find_map(|node| {
            let how = child::how(node.child.has_ended()?);
            let what = format!("{} ended by itself ({how})", node.name);
            Some(problem::node_ended(&what, &node.child.last_words()))
        })
    }
}
