//! The words for the states of the node's types, the same in documents, queries and flags.
//!
//! Each module here serves `#[serde(with = …)]`, and has `as_str` and `parse` for everything else.

use pelago_core::{
    membership::State,
    record::{NodeState, Phase, Placement, TaskState},
};

macro_rules! words {
    ($(#[$doc:meta])* $module:ident: $type:ident { $($variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        pub mod $module {
            use serde::{Deserialize, Deserializer, Serializer, de::Error};

            use super::$type;

            /// All words, in the order of a life.
            pub const ALL: &[&str] = &[$($word),*];

            /// The word for it.
            #[must_use]
            pub const fn as_str(value: $type) -> &'static str {
                match value {
                    $($type::$variant => $word,)*
                }
            }

            /// What the word stands for; `None` if it is none of [`ALL`].
            #[must_use]
            pub fn parse(word: &str) -> Option<$type> {
                match word {
                    $($word => Some($type::$variant),)*
                    _ => None,
                }
            }

            pub(crate) fn serialize<S: Serializer>(value: &$type, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(as_str(*value))
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                let word = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                parse(&word).ok_or_else(|| D::Error::unknown_variant(&word, ALL))
            }
        }
    };
}

words! {
    /// Where a task stands.
    task_state: TaskState {
        Queued = "queued", Running = "running", Done = "done", Dead = "dead", Cancelled = "cancelled",
    }
}

words! {
    /// How an agent is placed.
    placement: Placement { Resident = "resident", Pool = "pool", Keyed = "keyed" }
}

words! {
    /// Whether somebody holds an agent.
    phase: Phase { Free = "free", Active = "active" }
}

words! {
    /// Whether a node takes part.
    node_state: NodeState { Up = "up", Expired = "expired", Left = "left" }
}

words! {
    /// How gossip sees a node.
    seen: State {
        Joining = "joining", Up = "up", Suspect = "suspect", Draining = "draining", Left = "left", Down = "down",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_survives_its_text() {
        for word in task_state::ALL {
            assert_eq!(task_state::parse(word).map(task_state::as_str), Some(*word));
        }
        assert_eq!(task_state::parse("Done"), None);
    }
}
