//! `[agents.NAME]`

use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use pelago_core::{
    id::{Address, Name},
    record::SESSION_TTL_MS_MAX,
    route::{Prefer, Strategy},
};
use pelago_node::{Affinity, Connection, Filter, SessionRule, WhenBusy};

use super::{
    super::{
        section::{Report, Section},
        tree::{Node, Value},
        value::{self, Refusal},
    },
    balancing,
};

/// An agent that the configuration declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentConfig {
    /// The registered native agent that gives it its behaviour. The agent's own name when nothing is said.
    pub kind: Name,
    /// Nodes it may run on: those that match any entry. Empty means every node.
    pub node_affinity: Vec<Affinity>,
    /// How many turns a node runs at a time, for placement `pool` only; by default as many as its kind says. About the
    /// number of cores for work that computes, more for work that waits.
    pub concurrency: Option<NonZeroU32>,
    /// How a node is chosen for this agent, for placement `pool` only; by default as `mesh.load_balancing` says.
    pub strategy: Option<Strategy>,
    /// Which nodes are preferred, for placement `pool` only; by default those that `mesh.load_balancing` says.
    pub prefer: Option<Prefer>,
    /// How long one turn may take before it is given up, for placement `keyed` only; a minute unless its kind says
    /// otherwise. Longer than the slowest turn that is right. A task has its own limit.
    pub turn_max: Option<Duration>,
    /// The layer it belongs to, like `L4`: a note for you, which `pelago node ls -o wide` shows.
    pub layer: Option<Name>,
    /// How conversations with it are kept. `busy` says what becomes of a message while another of its session is being
    /// handled (`queue`, `reject`, `interrupt`), unless it says so itself; `ttl_ms` how long a new session is kept if
    /// nobody uses it.
    pub session: SessionRule,
    /// Where signals go on that it handles on this node: to all of them at once. Give every node that hosts the agent
    /// the same.
    pub forward_connections: Vec<Connection>,
}

impl AgentConfig {
    /// An agent called `name` of which nothing else is said.
    #[must_use]
    pub fn new(name: &Name) -> Self {
        Self {
            kind: name.clone(),
            node_affinity: Vec::new(),
            concurrency: None,
            strategy: None,
            prefer: None,
            turn_max: None,
            layer: None,
            session: SessionRule::default(),
            forward_connections: Vec::new(),
        }
    }

    fn read(section: &mut Section<'_>, name: &Name) -> Self {
        let default = Self::new(name);
        Self {
            kind: section.get("kind", value::name, default.kind),
            node_affinity: section.list("node_affinity", |report, node| report.value(&node, affinity)),
            concurrency: section.optional("concurrency", value::count(65_536)),
            strategy: section.optional("strategy", balancing::strategy),
            prefer: section.optional("prefer", balancing::prefer),
            turn_max: section.optional("turn_ms_max", value::millis(1..=86_400_000)),
            layer: section.optional("layer", value::name),
            session: section.table("session", |section| SessionRule {
                busy: section.get("busy", busy, default.session.busy),
                ttl: section.get("ttl_ms", value::millis(1_000..=SESSION_TTL_MS_MAX), default.session.ttl),
            }),
            forward_connections: section.list("forward_connections", connection),
        }
    }
}

/// Reads all declared agents, by name.
pub(in super::super) fn read_agents(root: &mut Section<'_>) -> BTreeMap<Name, AgentConfig> {
    root.entries("agents", |report, name, node| Some(report.section(node, |section| AgentConfig::read(section, name))))
}

fn busy(value: &Value) -> Result<WhenBusy, Refusal> {
    value::word(&[("queue", WhenBusy::Queue), ("reject", WhenBusy::Reject), ("interrupt", WhenBusy::Interrupt)])(value)
}

/// A connection: an address, or a table with an address and a filter.
fn connection(report: &mut Report, node: Node) -> Option<Connection> {
    if !matches!(node.value, Value::Table(_)) {
        return Some(Connection { to: report.value(&node, address)?, only: None });
    }
    report.section(node, |section| {
        let (to, only) = (section.required("to", address), section.optional("only", filter));
        Some(Connection { to: to?, only })
    })
}

fn address(value: &Value) -> Result<Address, Refusal> {
    let what = "the address of an agent";
    let text = value.as_text().ok_or_else(|| Refusal::expected(what, value))?;
    let namespace = Name::default_namespace();
    Address::parse(&namespace, text).map_err(|invalid| Refusal::expected(what, value).hint(invalid.why))
}

fn filter(value: &Value) -> Result<Filter, Refusal> {
    let what = "a filter like \"urgent*\" or \"kind=plan\"";
    let filter = value.as_text().and_then(|text| text.parse().ok());
    filter.ok_or_else(|| Refusal::expected(what, value))
}

fn affinity(value: &Value) -> Result<Affinity, Refusal> {
    let what = "the name of a node or label=value";
    let text = value.as_text().ok_or_else(|| Refusal::expected(what, value))?;
    let refused = |why: &str| Refusal::expected(what, value).hint(why);
    let named = |text| Name::new(text).map_err(|invalid| refused(invalid.why));
    match text.split_once('=') {
        None => named(text).map(Affinity::Node),
        Some((label, wanted)) => Ok(Affinity::Label {
            label: named(label)?,
            value: value::label_text(wanted).ok_or_else(|| refused("a label's value is a text of 1 to 128 bytes"))?,
        }),
    }
}
