//! Agents as the store has them, and what became of a message to one.

use pelago_core::{
    id::{AgentId, Holder},
    record::{self, MessageId, Phase},
};
use pelago_node::handle::AgentDetail;
use serde::{Deserialize, Serialize};

use super::{Payload, Timestamp, words};

/// A keyed agent as it stands. Lists leave `state` and `timers` out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Its address.
    pub agent: String,
    /// Its name, which also names its behaviour.
    pub name: String,
    /// Its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Whether somebody holds it.
    #[serde(with = "words::phase")]
    pub phase: Phase,
    /// Its present or last holder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The run of that node.
    pub incarnation: u64,
    /// Number of its ownership.
    pub epoch: u64,
    /// Turns committed.
    pub version: u64,
    /// The log entry that created it.
    pub generation: u64,
    /// The last commit.
    pub last_turn: String,
    /// Hash over the history of its commits.
    pub chain: String,
    /// Its state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Payload>,
    /// Its timers, in the order of their names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub timers: Vec<Timer>,
}

/// A timer that an agent has set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// Its name.
    pub name: String,
    /// When it fires.
    pub due: Timestamp,
    /// Why it could not be handled, if its turn failed too often; it does not fire any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

impl From<record::Timer> for Timer {
    fn from(timer: record::Timer) -> Self {
        let record::Timer { agent: _, name, set: _, due, buried } = timer;
        Self { name: name.to_string(), due: due.into(), failed: buried }
    }
}

impl From<AgentDetail> for Agent {
    fn from(detail: AgentDetail) -> Self {
        let AgentDetail { agent, node, state, timers } = detail;
        let record::Agent { id, generation, epoch, phase, holder, version, last_turn, chain } = agent;
        let Holder { node: _, incarnation } = holder;
        let address = id.to_string();
        // Documents name no namespace until there is more than one.
        let AgentId { namespace: _, name, key } = id;
        Self {
            agent: address,
            name: name.as_str().to_owned(),
            key: key.map(|key| key.as_str().to_owned()),
            phase,
            node: node.map(|name| name.as_str().to_owned()),
            incarnation: incarnation.0,
            epoch: epoch.0,
            version: version.0,
            generation,
            last_turn: last_turn.to_string(),
            chain: chain.to_string(),
            state: state.map(Payload::from),
            timers: timers.into_iter().map(Timer::from).collect(),
        }
    }
}

/// Agents, in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentList {
    /// The agents.
    pub items: Vec<Agent>,
    /// The `cursor` of the next part; none at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A message that its agent failed at too often. It is kept, and tried no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadMessage {
    /// The address of the agent that it was for.
    pub to: String,
    /// Who sent it: `agent ADDRESS`, `task ID`, or `client` and the number of the message.
    pub from: String,
    /// When it was sent.
    pub sent: Timestamp,
    /// Why the last try failed.
    pub reason: String,
    /// What it says.
    pub message: Payload,
}

impl From<record::Message> for DeadMessage {
    fn from(row: record::Message) -> Self {
        let record::Message { to, id, payload, sent, buried } = row;
        let MessageId { sender, generation: _, seq: _ } = id;
        Self {
            to: to.to_string(),
            from: sender.to_string(),
            sent: sent.into(),
            reason: buried.unwrap_or_default(),
            message: payload.into(),
        }
    }
}

/// Dead messages, in the order of the agents they were for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadMessageList {
    /// The messages.
    pub items: Vec<DeadMessage>,
    /// The `cursor` of the next part; none at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What became of the dead messages of one agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dismissed {
    /// The agent's address, as it was given.
    pub agent: String,
    /// How many messages were forgotten.
    pub messages: u64,
}

/// A message is on its way to an agent. It has its effect once or, if a node or a link is lost, not at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The agent's address, as it was given.
    pub to: String,
}

/// Whom a broadcast reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// The pattern, as it was given.
    pub to: String,
    /// How many nodes told their agents.
    pub nodes: u32,
    /// How many agents were told.
    pub agents: u64,
    /// Nodes that host such agents and did not say that they told them: some may have been told.
    pub missed: Vec<String>,
}

/// A message is durable and will be handled once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendReceipt {
    /// The agent's address, as it was given.
    pub to: String,
    /// Whether an earlier request with the same idempotency key sent it.
    pub existing: bool,
}
