//! `reader` reads one text file and tells its size, outline, terms and key sentences.
//!
//! It reads what the process of the node may read, on the machine of whichever node gets the work.

use std::path::{Path, PathBuf};

use pelago::{Agent, Fault, Kind, Turn};
use serde::{Deserialize, Serialize};

use super::About;
use crate::report::{
    files::{self, Outcome},
    reading::Reading,
};

#[derive(Default, Serialize, Deserialize)]
struct Reader;

pub(super) const ABOUT: About = About {
    agent: "reader",
    takes: "{\"path\": FILE}, a text file where a node runs",
    replies: "its size, outline, terms and key sentences",
    example: "pelago agent ask reader '{\"path\": \"README.md\"}'",
};

pub(super) fn kind() -> Kind {
    pelago::pool::<Reader>("reader")
}

/// Which file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    /// A relative one starts from the working directory of the node.
    path: PathBuf,
}

impl Agent for Reader {
    type Input = Request;
    type Output = Reading;

    async fn handle(&mut self, request: Request, _turn: &mut Turn) -> Result<Reading, Fault> {
        // A large file takes a while, and other agents share this thread.
        tokio::task::spawn_blocking(move || read(&request.path)).await?
    }
}

fn read(path: &Path) -> Result<Reading, Fault> {
    let whole = path.canonicalize().map_err(|error| Fault::hopeless(format!("{}: {error}", path.display())))?;
    let (Some(folder), Some(name)) = (whole.parent(), whole.file_name().and_then(|name| name.to_str())) else {
        return Err(Fault::hopeless(format!("{} is no file with a name in UTF-8", path.display())));
    };
    match files::study(folder, name) {
        Outcome::Read(reading) => Ok(Reading { path: path.display().to_string(), ..reading }),
        Outcome::Skipped(skipped) => Err(Fault::hopeless(format!("{}: {}", path.display(), skipped.reason))),
    }
}
