//! Signals and what became of them, and the connections that they follow.

use std::{borrow::Cow, time::Duration};

use pelago_core::{
    connection::{self, Cut, Outcome},
    id::{Name, SignalId},
};
use pelago_node::handle::{Connected, SignalOptions, Trace};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Payload, Timestamp};
use crate::{problem::Code, text};

/// A signal to be started.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSignal<'a> {
    /// Who starts it, in its own words; `client` unless said.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Cow<'a, str>>,
    /// The address of the agent that takes it first.
    #[serde(borrow)]
    pub to: Cow<'a, str>,
    /// Its content: any JSON.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub content: Option<&'a RawValue>,
    /// How long it may take, with all its branches; 30 s unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// How many hops a path may have; as the node is configured unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hops_max: Option<u32>,
}

impl NewSignal<'_> {
    /// Who starts it, and its limits.
    pub(crate) fn options(&self) -> SignalOptions {
        let unsaid = SignalOptions::default();
        SignalOptions {
            from: self.from.as_deref().map_or(unsaid.from, str::to_owned),
            timeout: self.timeout_ms.map_or(unsaid.timeout, Duration::from_millis),
            hops_max: self.hops_max,
        }
    }
}

/// A signal as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// Its id.
    #[serde(with = "text")]
    pub id: SignalId,
    /// Who started it.
    pub from: String,
    /// The address that it was for.
    pub to: String,
    /// The node that took it, and keeps what became of it.
    pub node: String,
    /// How many hops a path may have.
    pub hops_max: u32,
    /// When it was taken.
    pub started: Timestamp,
    /// Whether it has ended.
    pub ended: bool,
    /// Once it has ended: whether every agent handled it that it went to, and none was left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<bool>,
    /// Once it has ended: who handled it, where, and what came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<Branch>,
}

/// What became of a signal at one agent, and beyond it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Branch {
    /// The address of the agent.
    pub to: String,
    /// The node that handled it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// What came of it: `replied`, `failed`, `not_taken`, `breaker_open`, `timed_out`, `in_doubt`, `cycle` or
    /// `hop_limit`.
    pub outcome: Cow<'static, str>,
    /// The code of the problem, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Cow<'static, str>>,
    /// Why, if more is known than the code says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the agent replied; left out if the replies of the tree were too large together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<Payload>,
    /// Whether the agent chose not to pass it on.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stopped: bool,
    /// How long it took, in microseconds, with all that follows.
    pub took_us: u64,
    /// Where it went on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub branches: Vec<Branch>,
    /// How many connections more there are, along which it did not go since a signal has 256 branches at most.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u32,
}

impl Signal {
    pub(crate) fn of_trace(trace: Trace) -> Self {
        let Trace { id, node, from, to, hops_max, started, tree } = trace;
        Self {
            id,
            from,
            to: to.to_string(),
            node: node.to_string(),
            hops_max,
            started: started.into(),
            ended: tree.is_some(),
            whole: tree.as_ref().map(connection::Branch::is_whole),
            tree: tree.map(Branch::from),
        }
    }
}

impl From<connection::Branch> for Branch {
    fn from(branch: connection::Branch) -> Self {
        let connection::Branch { to, node, outcome, stopped, took, branches, left_out } = branch;
        let (word, code) = (outcome.word(), code_of(&outcome));
        let (reply, reason) = match outcome {
            Outcome::Replied { reply } => (reply.map(Payload::from), None),
            Outcome::Failed { reason, hopeless: _ } | Outcome::NotTaken { reason, unknown: _ } => (None, Some(reason)),
            Outcome::BreakerOpen | Outcome::TimedOut | Outcome::InDoubt | Outcome::Cut(_) => (None, None),
        };
        Self {
            to: to.to_string(),
            node: node.as_ref().map(Name::to_string),
            outcome: Cow::Borrowed(word),
            code: code.map(|code| Cow::Borrowed(code.as_str())),
            reason,
            reply,
            stopped,
            took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            branches: branches.into_iter().map(Self::from).collect(),
            left_out,
        }
    }
}

/// The problem that an outcome is, if it is one.
fn code_of(outcome: &Outcome) -> Option<Code> {
    match outcome {
        Outcome::Replied { .. } | Outcome::Cut(Cut::Cycle) => None,
        Outcome::Failed { hopeless: false, .. } => Some(Code::AgentFailed),
        Outcome::Failed { hopeless: true, .. } => Some(Code::AgentRefused),
        Outcome::NotTaken { unknown: false, .. } => Some(Code::Busy),
        Outcome::NotTaken { unknown: true, .. } => Some(Code::UnknownAgent),
        Outcome::BreakerOpen => Some(Code::BreakerOpen),
        Outcome::TimedOut => Some(Code::Timeout),
        Outcome::InDoubt => Some(Code::InDoubt),
        Outcome::Cut(Cut::HopLimit) => Some(Code::HopLimit),
    }
}

/// A connection to be added.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewConnection<'a> {
    /// The agent that it leads on from: all keys of that name.
    #[serde(borrow)]
    pub from: Cow<'a, str>,
    /// The address that it leads to.
    #[serde(borrow)]
    pub to: Cow<'a, str>,
    /// Which contents it takes: `beginning*` or `field=value`; all unless said.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub only: Option<Cow<'a, str>>,
}

/// A connection along which signals go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// The agent that it leads on from.
    pub from: String,
    /// The address that it leads to.
    pub to: String,
    /// Which contents it takes; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<String>,
    /// The node whose configuration declares it; absent if it was added while the mesh runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared_by: Option<String>,
}

impl From<Connected> for Connection {
    fn from(connected: Connected) -> Self {
        let Connected { from, connection: connection::Connection { to, only }, declared_by } = connected;
        Self {
            from: from.to_string(),
            to: to.to_string(),
            only: only.as_ref().map(ToString::to_string),
            declared_by: declared_by.as_ref().map(Name::to_string),
        }
    }
}

/// All connections, in the order of the agents that they lead on from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionList {
    /// The connections.
    pub items: Vec<Connection>,
}

/// A connection that was taken away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disconnected {
    /// The agent that it led on from.
    pub from: String,
    /// The address that it led to.
    pub to: String,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn is_false(flag: &bool) -> bool {
    !flag
}
