//! `chat` says how many messages of a session it has heard, and what the first was.
//!
//! A pool without any memory of its own: what it knows of a conversation is the session's history, wherever it runs.

use pelago::{Agent, Fault, Kind, Turn};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::About;

#[derive(Default, Serialize, Deserialize)]
struct Chat;

pub(super) const ABOUT: About = About {
    agent: "chat",
    takes: "anything, within a session or without",
    replies: "{\"heard\": how many messages of the session, \"first\": the first that is kept}",
    example: "pelago agent ask chat hello --session s1",
};

/// More than a session keeps.
const ALL: usize = usize::MAX;

pub(super) fn kind() -> Kind {
    pelago::pool::<Chat>("chat")
}

#[derive(Serialize)]
struct Heard {
    heard: u64,
    first: Box<RawValue>,
}

impl Agent for Chat {
    type Input = Box<RawValue>;
    type Output = Heard;

    async fn handle(&mut self, input: Box<RawValue>, turn: &mut Turn) -> Result<Heard, Fault> {
        let before = turn.session().map_or(0, |session| session.seen);
        let first = match turn.history(ALL).await?.first() {
            Some(entry) => serde_json::from_slice(&entry.said)?,
            None => input,
        };
        Ok(Heard { heard: before + 1, first })
    }
}
