//! Identities: numbers that are never reused, and names that cannot be wrong once parsed.
//!
//! Node ids, incarnations and fencing tokens come from the index of the log entry that made them. Boot, turn and task
//! ids are 128 bits chosen by the caller before proposing, so that a proposal sent twice is recognised.

use std::{fmt, str::FromStr, sync::Arc};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

macro_rules! wide {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u128);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                if text.len() != 32 || text.bytes().any(|b| !b.is_ascii_hexdigit()) {
                    return Err(Invalid::new(text, "an id is 32 hexadecimal digits"));
                }
                u128::from_str_radix(text, 16)
                    .map(Self)
                    .map_err(|_| Invalid::new(text, "an id is 32 hexadecimal digits"))
            }
        }
    };
}

number! {
    /// A node, for ever: the index of the log entry that admitted it. 0 is a node not admitted yet.
    NodeId
}
number! {
    /// One registered run of a node: the index of the log entry that registered it.
    Incarnation
}
number! {
    /// The number of an agent's ownership. Every durable write carries it and the store refuses old ones.
    Epoch
}
number! {
    /// How many turns of an agent have been committed.
    Version
}
wide! {
    /// A mesh: its founder's random choice, kept by every data directory and every segment of the log.
    MeshId
}
wide! {
    /// A data directory: a random choice made when it was created.
    DirectoryId
}
wide! {
    /// One run of a process.
    BootId
}
wide! {
    /// A signal: the node that took it leads (32 bits), a random choice follows.
    SignalId
}
wide! {
    /// One turn, or a run of turns committed together.
    TurnId
}
wide! {
    /// A task. Ids made later compare greater (a millisecond clock leads), so that the store appends them.
    TaskId
}

impl SignalId {
    /// The id of a signal that `node` takes.
    #[must_use]
    pub fn new(node: NodeId, random: u128) -> Self {
        Self(u128::from(node.0) << 96 | random >> 32)
    }

    /// The node that took it, as far as 32 bits tell: ids of nodes are log indexes of a young mesh.
    #[must_use]
    pub fn is_of(self, node: NodeId) -> bool {
        Self::new(node, 0).0 >> 96 == self.0 >> 96
    }
}

/// The fencing token of one attempt at a task: where in the log it was assigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FencingToken {
    /// Index of the log entry.
    pub index: u64,
    /// Position of the item within the entry.
    pub item: u32,
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.item)
    }
}

/// The run of a node that holds an agent or an attempt at a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder {
    /// The node.
    pub node: NodeId,
    /// Its run.
    pub incarnation: Incarnation,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} (incarnation {})", self.node, self.incarnation)
    }
}

/// Text that is not a valid name, key, id or address. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not valid: {why}")]
pub struct Invalid {
    /// What was given.
    pub text: String,
    /// The rule it breaks.
    pub why: &'static str,
}

impl Invalid {
    pub(crate) fn new(text: &str, why: &'static str) -> Self {
        Self { text: text.chars().take(80).collect(), why }
    }
}

/// The name of a node, a namespace or an agent: 1 to 128 letters, digits, `.`, `_`, `-`; may be dotted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// The longest name, in bytes.
    pub const BYTES_MAX: usize = 128;

    /// Checks `text`.
    ///
    /// # Errors
    /// [`Invalid`] names the rule that `text` breaks.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() || text.len() > Self::BYTES_MAX {
            return Err(Invalid::new(text, "a name has 1 to 128 bytes"));
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
            return Err(Invalid::new(text, "a name has only letters, digits, '.', '_' and '-'"));
        }
        if text.split('.').any(str::is_empty) {
            return Err(Invalid::new(text, "a dotted name has no empty part"));
        }
        Ok(Self(text.into()))
    }

    /// The namespace of everything that names none.
    #[must_use]
    pub fn default_namespace() -> Self {
        Self("default".into())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::new(text)
    }
}

/// What tells one agent of a keyed kind from the others: 1 to 256 bytes, no control characters, no `@`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// The longest key, in bytes.
    pub const BYTES_MAX: usize = 256;

    /// Checks `text`.
    ///
    /// # Errors
    /// [`Invalid`] names the rule that `text` breaks.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() || text.len() > Self::BYTES_MAX {
            return Err(Invalid::new(text, "a key has 1 to 256 bytes"));
        }
        if text.chars().any(char::is_control) {
            return Err(Invalid::new(text, "a key has no control characters"));
        }
        if text.contains('@') {
            return Err(Invalid::new(text, "'@' in an address names another mesh, so a key has none"));
        }
        Ok(Self(text.into()))
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What tells one timer of an agent from the others: 1 to 128 bytes, no control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerName(Arc<str>);

impl TimerName {
    /// The longest name, in bytes.
    pub const BYTES_MAX: usize = 128;

    /// Checks `text`.
    ///
    /// # Errors
    /// [`Invalid`] names the rule that `text` breaks.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() || text.len() > Self::BYTES_MAX {
            return Err(Invalid::new(text, "a timer's name has 1 to 128 bytes"));
        }
        if text.chars().any(char::is_control) {
            return Err(Invalid::new(text, "a timer's name has no control characters"));
        }
        Ok(Self(text.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TimerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One agent in the mesh: `name` or `name:key`, within a namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentId {
    /// The namespace.
    pub namespace: Name,
    /// The agent's name, which also names its behaviour.
    pub name: Name,
    /// The key of a keyed agent.
    pub key: Option<Key>,
}

impl AgentId {
    /// The agent of this name that has no key.
    #[must_use]
    pub fn unkeyed(name: Name) -> Self {
        Self { namespace: Name::default_namespace(), name, key: None }
    }

    /// The key as text, empty for an agent without one.
    #[must_use]
    pub fn key_str(&self) -> &str {
        self.key.as_ref().map_or("", Key::as_str)
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{}:{key}", self.name),
            None => self.name.fmt(f),
        }
    }
}

/// A conversation with an agent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId {
    /// The agent.
    pub agent: AgentId,
    /// What tells it from other conversations with that agent: whoever begins it chooses.
    pub name: Name,
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.name, self.agent)
    }
}

/// Where a message goes: `name`, `name:key`, or `node/name[:key]` to pin it to a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The node it is pinned to.
    pub node: Option<Name>,
    /// The agent.
    pub agent: AgentId,
}

impl Address {
    /// Parses an address within `namespace`.
    ///
    /// # Errors
    /// [`Invalid`] names the rule that `text` breaks.
    pub fn parse(namespace: &Name, text: &str) -> Result<Self, Invalid> {
        if text.contains('@') {
            return Err(Invalid::new(text, "'@' names another mesh, and this mesh is not federated"));
        }
        // A key may hold '/', so only a '/' before the first ':' ends a node's name.
        let (node, rest) = match text.find(['/', ':']) {
            Some(at) if text.as_bytes()[at] == b'/' => (Some(Name::new(&text[..at])?), &text[at + 1..]),
            Some(_) | None => (None, text),
        };
        let (name, key) = match rest.split_once(':') {
            Some((name, key)) => (Name::new(name)?, Some(Key::new(key)?)),
            None => (Name::new(rest)?, None),
        };
        Ok(Self { node, agent: AgentId { namespace: namespace.clone(), name, key } })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.node {
            Some(node) => write!(f, "{node}/{}", self.agent),
            None => self.agent.fmt(f),
        }
    }
}

/// Whom something is told: an agent, or, as `#topic`, all who subscribe to a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// The agent with this address.
    Agent(Address),
    /// Those who subscribe to this topic at that moment.
    Topic(Name),
}

impl Destination {
    /// What a topic begins with.
    pub const TOPIC: char = '#';

    /// Parses a topic, or an address within `namespace`.
    ///
    /// # Errors
    /// [`Invalid`] names the rule that `text` breaks.
    pub fn parse(namespace: &Name, text: &str) -> Result<Self, Invalid> {
        match text.strip_prefix(Self::TOPIC) {
            Some(topic) => Ok(Self::Topic(Name::new(topic)?)),
            None => Ok(Self::Agent(Address::parse(namespace, text)?)),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(address) => address.fmt(f),
            Self::Topic(topic) => write!(f, "{}{topic}", Self::TOPIC),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_with_a_number_sign_is_a_topic() {
        let parse = |text| Destination::parse(&Name::default_namespace(), text).map(|to| to.to_string());
        for text in ["#orders.eu", "cart:a", "n1/cart:#a"] {
            assert_eq!(parse(text).as_deref(), Ok(text));
        }
        for text in ["#", "##a", "#a:b", "#a.", "#n/a", ""] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    fn parse(text: &str) -> Result<String, &'static str> {
        Address::parse(&Name::default_namespace(), text)
            .map(|a| {
                format!(
                    "{:?} {} {:?}",
                    a.node.as_ref().map(Name::as_str),
                    a.agent.name,
                    a.agent.key.as_ref().map(Key::as_str)
                )
            })
            .map_err(|e| e.why)
    }

    #[test]
    fn an_address_has_a_node_a_name_and_a_key() {
        assert_eq!(parse("cart"), Ok("None cart None".into()));
        assert_eq!(parse("prod.ml.training"), Ok("None prod.ml.training None".into()));
        assert_eq!(parse("cart:alice"), Ok("None cart Some(\"alice\")".into()));
        assert_eq!(parse("n1/cart:alice"), Ok("Some(\"n1\") cart Some(\"alice\")".into()));
        assert_eq!(parse("section:src/a:b"), Ok("None section Some(\"src/a:b\")".into()));
    }

    #[test]
    fn a_bad_address_names_the_rule_it_breaks() {
        for text in ["", "a b", "a..b", ".a", "n/", "cart:", "cart:a\nb", "a/b/c", "cart:a@b", &"x".repeat(129)] {
            assert!(parse(text).is_err(), "{text:?} passed");
        }
    }

    #[test]
    fn an_id_survives_its_text() {
        let id = TaskId(0x0123_4567_89ab_cdef);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("12".parse::<TaskId>().is_err());
        assert!("+0000000000000000000000000000012".parse::<TaskId>().is_err());
    }
}
