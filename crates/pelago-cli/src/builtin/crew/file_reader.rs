//! `file-reader` reads one file of the demo's folder and sends what it found to the file's section.
//!
//! A pool of tasks. Message and result are one commit, so a file whose reader dies is read again and told once.

use std::sync::LazyLock;

use pelago::{Agent, Fault, Kind, Turn};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Errand, section};
use crate::report::files;

pub(crate) const FILE_READER: &str = "file-reader";

#[derive(Default, Serialize, Deserialize)]
struct FileReader;

pub(super) fn kind(errand: &Errand) -> Kind {
    pelago::pool::<FileReader>(FILE_READER).at_most(errand.readers)
}

/// The key of the one task that reads the file at `path`.
pub(crate) fn idempotency_key(path: &str) -> String {
    format!("read {path}")
}

/// Which file, and who collects.
#[derive(Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) path: String,
    pub(super) section: u32,
}

/// Where to read: of the process, because a task could name any folder.
static ERRAND: LazyLock<Option<Errand>> = LazyLock::new(Errand::of_process);

impl Agent for FileReader {
    type Input = Request;
    type Output = ();

    async fn handle(&mut self, request: Request, turn: &mut Turn) -> Result<(), Fault> {
        let Request { path, section } = request;
        let errand = ERRAND.as_ref().ok_or_else(|| Fault::hopeless("this node was not started by a demo"))?;
        let not_before = Instant::now() + errand.pace;
        let is_dropped = errand.dropped.as_ref() == Some(&path);
        // A large file takes a while, and other agents share this thread.
        let study = move || (files::study(&errand.root, &path), errand.gate.admit());
        let (outcome, passes) = tokio::task::spawn_blocking(study).await?;
        tokio::time::sleep_until(not_before).await;
        if !passes? {
            errand.gate.pass().await;
        }
        if !is_dropped {
            turn.send(&section::address(section), &section::Order::Outcome(outcome))?;
        }
        Ok(())
    }
}
