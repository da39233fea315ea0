//! The agents that every `pelago` binary brings along: small enough to read, useful enough to try things out.
//!
//! They are registered through the call that a program of yours uses, [`pelago::serve`], and have no other rights.
//! `counter` is the one to read first.

mod append;
pub(crate) mod caller;
mod chat;
mod counter;
pub(crate) mod crew;
mod echo;
mod flaky;
mod reader;
mod reminder;
mod sleeper;
mod tally;

use pelago::Kind;
use pelago_api::model::Document;
use serde::Serialize;

use crate::output::facts;

/// All of them but the demo's crew, which only its nodes have.
const ALL: [(About, fn() -> Kind); 10] = [
    (append::ABOUT, append::kind),
    (caller::ABOUT, caller::kind),
    (chat::ABOUT, chat::kind),
    (counter::ABOUT, counter::kind),
    (echo::ABOUT, echo::kind),
    (flaky::ABOUT, flaky::kind),
    (reader::ABOUT, reader::kind),
    (reminder::ABOUT, reminder::kind),
    (sleeper::ABOUT, sleeper::kind),
    (tally::ABOUT, tally::kind),
];

/// What whoever wants to talk to an agent has to know.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct About {
    /// `NAME`, or `NAME:KEY` if it has keys.
    agent: &'static str,
    takes: &'static str,
    replies: &'static str,
    /// A command to try.
    example: &'static str,
}

/// What `pelago help agents` shows.
#[derive(Serialize)]
pub(crate) struct Builtins {
    items: [About; ALL.len()],
}

impl Document for Builtins {
    const KIND: &'static str = "BuiltinAgents";
}

impl Builtins {
    pub(crate) fn all() -> Self {
        Self { items: ALL.map(|(about, _)| about) }
    }

    /// A paragraph an agent.
    pub(crate) fn text(&self) -> String {
        let about = |about: &About| {
            let About { agent, takes, replies, example } = about;
            facts(
                [("agent", agent), ("takes", takes), ("replies", replies), ("try", example)]
                    .map(|(name, value)| (name, (*value).to_owned())),
            )
        };
        self.items.iter().map(about).collect::<Vec<_>>().join("\n")
    }

    #[cfg(test)]
    pub(crate) fn examples(&self) -> impl Iterator<Item = &'static str> {
        self.items.iter().map(|about| about.example)
    }
}

/// The kinds of every node, and of a demo's the crew.
pub(crate) fn kinds() -> Vec<Kind> {
    ALL.map(|(_, kind)| kind()).into_iter().chain(crew::kinds()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_agent_tells_what_it_takes_and_replies() {
        let told = Builtins::all();
        let names = told.items.iter().map(|about| about.agent.split(':').next().unwrap_or(about.agent).to_owned());
        let hosted: Vec<String> = kinds().iter().map(|kind| kind.name().to_string()).collect();
        assert_eq!(names.collect::<Vec<_>>(), hosted);
        assert!(told.text().contains("takes    how many attempts of its task fail\n"), "{}", told.text());
    }
}
