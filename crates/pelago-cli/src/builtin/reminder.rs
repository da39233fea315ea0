//! `reminder:KEY` is told of something again later: `{"after_ms": 60000, "note": "tea"}`. It keeps what it was told of.
//!
//! Each note is a timer of that name: durable like the agent's state, fired once wherever the agent lives by then. The
//! same note set anew takes the place of the one before; without `after_ms` it is cancelled.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pelago::{Agent, Fault, Kind, Turn};
use pelago_api::model::Timestamp;
use pelago_core::time::LogTime;
use serde::{Deserialize, Serialize};

use super::About;

/// How many notes are kept; the oldest is forgotten.
const KEPT_MAX: usize = 100;

#[derive(Default, Serialize, Deserialize)]
struct Reminder {
    /// How many timers fired.
    fired: u64,
    /// Their notes, the latest last.
    notes: Vec<String>,
}

/// What to be told of; nothing asks how far it has come.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Remind {
    note: String,
    /// When, in milliseconds from now; never, if nothing is said.
    after_ms: Option<u64>,
}

/// What it replies.
#[derive(Serialize)]
struct Reminded {
    /// When the note is due that it was just told of, by this node's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    due: Option<Timestamp>,
    fired: u64,
    notes: Vec<String>,
}

pub(super) const ABOUT: About = About {
    agent: "reminder:KEY",
    takes: "{\"note\": text, \"after_ms\": when}: a timer of that name, set anew or, without after_ms, \
            cancelled; nothing to ask",
    replies: "{\"due\": when it will fire, if it was just set, \"fired\": how many so far, \"notes\": the latest 100}",
    example: "pelago agent ask reminder:a '{\"note\": \"tea\", \"after_ms\": 2000}'",
};

pub(super) fn kind() -> Kind {
    pelago::keyed::<Reminder>("reminder")
}

impl Agent for Reminder {
    type Input = Option<Remind>;
    type Output = Reminded;

    async fn handle(&mut self, remind: Option<Remind>, turn: &mut Turn) -> Result<Reminded, Fault> {
        let mut due = None;
        if let Some(note) = turn.timer() {
            self.fired += 1;
            self.notes.push(note.to_owned());
            let forgotten = self.notes.len().saturating_sub(KEPT_MAX);
            self.notes.drain(..forgotten);
        } else if let Some(Remind { note, after_ms }) = remind {
            match after_ms {
                Some(after_ms) => {
                    turn.set_timer(&note, Duration::from_millis(after_ms), &())?;
                    due = Some(in_millis(after_ms));
                }
                None => turn.cancel_timer(&note)?,
            }
        }
        Ok(Reminded { due, fired: self.fired, notes: self.notes.clone() })
    }
}

fn in_millis(after_ms: u64) -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    LogTime::from_millis(now_ms.saturating_add(after_ms)).into()
}
