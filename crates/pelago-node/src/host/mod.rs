//! Kinds of agents: what a node can run, behind one face.
//!
//! A [`Kind`] is a name, a placement and a behaviour. The rest of the node sees only [`Living`] agents: something with
//! memory that runs turns and can say what its state is.

mod native;
mod pace;
mod signal;

use std::{collections::BTreeMap, fmt, num::NonZeroU32, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use pelago_core::{
    connection::Connection,
    id::Name,
    record::{Offer, Placement},
};

use crate::{agents::Told, sessions::SessionRule};
pub use native::{Agent, Fault, Input, PRIORITY_MAX, Raw, TaskRequest, Turn, keyed, pool, resident};
pub(crate) use native::{Counts, Effects, Services};
pub(crate) use signal::{seal, unseal};

/// How many tasks of one keyed kind a node runs at a time, unless configured.
const KEYED_TASKS_MAX: NonZeroU32 = NonZeroU32::new(1_024).expect("not zero");
/// How many turns of one pool a node runs at a time, unless configured.
const POOL_TURNS_MAX: NonZeroU32 = NonZeroU32::new(8).expect("not zero");

/// Something a node can host.
#[derive(Clone)]
pub struct Kind {
    pub(crate) name: Name,
    pub(crate) placement: Placement,
    pub(crate) tasks_max: NonZeroU32,
    pub(crate) turn_max: Option<Duration>,
    pub(crate) only_on: Vec<Affinity>,
    pub(crate) layer: Option<Name>,
    pub(crate) connections: Vec<Connection>,
    pub(crate) session: SessionRule,
    pub(crate) behaviour: Arc<dyn Behaviour>,
}

/// What makes a node fit for an agent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Affinity {
    /// The node of this name.
    Node(Name),
    /// A node with this label.
    Label {
        /// The label.
        label: Name,
        /// The value it has.
        value: String,
    },
}

impl Kind {
    pub(crate) fn new(name: &str, placement: Placement, behaviour: Arc<dyn Behaviour>) -> Self {
        let name =
            Name::new(name).unwrap_or_else(|invalid| panic!("an agent was declared under a bad name: {invalid}"));
        let tasks_max = match placement {
            Placement::Keyed => KEYED_TASKS_MAX,
            Placement::Pool => POOL_TURNS_MAX,
            Placement::Resident => NonZeroU32::MIN,
        };
        Self {
            name,
            placement,
            tasks_max,
            turn_max: None,
            only_on: Vec::new(),
            layer: None,
            connections: Vec::new(),
            session: SessionRule::default(),
            behaviour,
        }
    }

    /// The name under which it is reached.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Whether it is a pool of stateless copies.
    #[must_use]
    pub fn is_pool(&self) -> bool {
        self.placement == Placement::Pool
    }

    /// Whether it is one agent for each key, with durable state.
    #[must_use]
    pub fn is_keyed(&self) -> bool {
        self.placement == Placement::Keyed
    }

    /// The same behaviour under another name.
    #[must_use]
    pub fn named(self, name: Name) -> Self {
        Self { name, ..self }
    }

    /// Bounds how many of its tasks (for a pool: turns) run on one node at a time.
    #[must_use]
    pub fn at_most(self, tasks_max: NonZeroU32) -> Self {
        Self { tasks_max, ..self }
    }

    /// Bounds how long one of its turns may take, unless it is part of a task, which has its own limit.
    #[must_use]
    pub fn turns_within(self, turn_max: Duration) -> Self {
        Self { turn_max: Some(turn_max), ..self }
    }

    /// Keeps sessions with it by this rule.
    #[must_use]
    pub fn with_sessions(self, session: SessionRule) -> Self {
        Self { session, ..self }
    }

    /// Hosts it only on nodes that match any of `only_on`; on every node if there is none.
    #[must_use]
    pub fn only_on(self, only_on: Vec<Affinity>) -> Self {
        Self { only_on, ..self }
    }

    /// Puts it in a layer: a note for people.
    #[must_use]
    pub fn in_layer(self, layer: Option<Name>) -> Self {
        Self { layer, ..self }
    }

    /// Lets signals that it handles go on along these connections.
    #[must_use]
    pub fn connected(self, connections: Vec<Connection>) -> Self {
        Self { connections, ..self }
    }

    /// Whether a node of this name and with these labels hosts it.
    pub(crate) fn fits(&self, node: &Name, labels: &BTreeMap<String, String>) -> bool {
        let matches = |affinity: &Affinity| match affinity {
            Affinity::Node(name) => name == node,
            Affinity::Label { label, value } => labels.get(label.as_str()) == Some(value),
        };
        self.only_on.is_empty() || self.only_on.iter().any(matches)
    }

    pub(crate) fn offer(&self) -> Offer {
        let Self { placement, tasks_max, layer, connections, .. } = self;
        Offer {
            placement: *placement,
            tasks_max: tasks_max.get(),
            layer: layer.clone(),
            connections: connections.clone(),
        }
    }
}

impl fmt::Display for Affinity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => name.fmt(f),
            Self::Label { label, value } => write!(f, "{label}={value}"),
        }
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kind")
            .field("name", &self.name)
            .field("placement", &self.placement)
            .field("tasks_max", &self.tasks_max)
            .field("turn_max", &self.turn_max)
            .field("only_on", &self.only_on)
            .field("layer", &self.layer)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

/// Makes agents.
pub(crate) trait Behaviour: Send + Sync {
    /// An agent with this state, or with the state of a new agent.
    ///
    /// # Errors
    /// When the state cannot be read: the record is bad, and the agent with it.
    fn hydrate(&self, state: Option<&[u8]>) -> Result<Box<dyn Living>, Fault>;

    /// Whether its code has shown that it keeps no thread for long.
    fn is_quick(&self) -> bool;
}

/// One agent in memory.
pub(crate) trait Living: Send {
    /// Runs one turn.
    fn run<'a>(&'a mut self, payload: Bytes, turn: &'a mut Turn) -> BoxFuture<'a, Result<Bytes, Fault>>;

    /// Runs a turn for each message of `told`, in order, each on a new agent if `anew`, until that took long enough for
    /// others to have their turn. What those that fail wanted to send is taken back; what they did to the agent's memory
    /// is not. A panic leaves the messages after it in `told`.
    fn run_some<'a>(&'a mut self, told: &'a mut Told, anew: bool, turn: &'a mut Turn) -> BoxFuture<'a, ()>;

    /// Its state, as the store keeps it.
    ///
    /// # Errors
    /// When the state cannot be written down.
    fn state(&self) -> Result<Bytes, Fault>;
}
