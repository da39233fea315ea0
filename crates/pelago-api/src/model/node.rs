//! Nodes and the mesh: who is there, and how it stands.

use std::collections::{BTreeMap, BTreeSet};

use pelago_core::{
    id::{Holder, Name},
    membership::{self, State},
    record::{self, NodeState, Placement, TaskState},
};
use pelago_node::{clock, gossip::Sight, handle};
use serde::{Deserialize, Serialize};

use super::{Timestamp, words};

/// A node that was admitted to the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its id, never reused.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Whether it takes part.
    #[serde(with = "words::node_state")]
    pub state: NodeState,
    /// Whether it leads the mesh.
    pub leader: bool,
    /// Whether it votes.
    pub voter: bool,
    /// Whether the node that answers has a link with it, or is it.
    pub linked: bool,
    /// Its present run.
    pub incarnation: u64,
    /// The process of that run.
    pub boot: String,
    /// Where other nodes reach it.
    pub mesh_address: String,
    /// Where clients reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_address: Option<String>,
    /// Zone, region, capabilities.
    pub labels: BTreeMap<String, String>,
    /// What it hosts.
    pub offers: BTreeMap<String, Offer>,
    /// When its present run registered.
    pub registered: Timestamp,
    /// How the node that answers sees it by gossip, which needs no majority; none if it has not heard of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Seen>,
}

/// A node as gossip has it: a hint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Its state.
    #[serde(with = "words::seen")]
    pub state: State,
    /// For how long it has been in it, in milliseconds.
    pub for_ms: u64,
    /// How much it has to do, as it said last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Load>,
}

/// How much a node has to do. What its system does not tell is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Processor time in use, in thousandths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u16>,
    /// Memory in use, in thousandths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u16>,
    /// Network in use, in thousandths of what its interfaces carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<u16>,
    /// Bytes a second over its interfaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_bytes_per_second: Option<u64>,
    /// Messages that wait in mailboxes of its agents.
    pub queued: u64,
    /// Messages that its agents handled a second.
    pub messages_per_second: u64,
}

impl From<&Sight> for Seen {
    fn from(sight: &Sight) -> Self {
        let for_ms = u64::try_from((clock::now() - sight.since).as_millis()).unwrap_or(u64::MAX);
        Self { state: sight.state, for_ms, load: sight.load.map(Load::from) }
    }
}

impl From<membership::Load> for Load {
    fn from(load: membership::Load) -> Self {
        let membership::Load { cpu, memory, network, network_bytes, queued, messages } = load;
        let (network_bytes_per_second, messages_per_second) = (network_bytes, messages);
        Self { cpu, memory, network, network_bytes_per_second, queued, messages_per_second }
    }
}

/// What a node offers for one agent name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// How the agent is placed.
    #[serde(with = "words::placement")]
    pub placement: Placement,
    /// How many of its tasks may run on this node at a time.
    pub tasks_max: u32,
    /// The layer that its configuration puts it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<String>,
    /// Where signals go on from it, as its configuration says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forward_connections: Vec<String>,
}

impl From<record::Offer> for Offer {
    fn from(offer: record::Offer) -> Self {
        let record::Offer { placement, tasks_max, layer, connections } = offer;
        let forward_connections = connections.iter().map(|connection| connection.to.to_string()).collect();
        Self { placement, tasks_max, layer: layer.as_ref().map(Name::to_string), forward_connections }
    }
}

impl Node {
    fn of_row(
        row: record::Node,
        leader: Option<&Name>,
        voters: &[Name],
        linked: &BTreeSet<Name>,
        seen: Option<Seen>,
    ) -> Self {
        let record::Node {
            id,
            name,
            directory: _,
            incarnation,
            boot,
            state,
            mesh_address,
            http_address,
            labels,
            offers,
            registered,
        } = row;
        Self {
            id: id.0,
            leader: leader == Some(&name),
            voter: voters.contains(&name),
            linked: linked.contains(&name),
            name: name.as_str().to_owned(),
            state,
            incarnation: incarnation.0,
            boot: boot.to_string(),
            mesh_address,
            http_address: (!http_address.is_empty()).then_some(http_address),
            labels,
            offers: offers.into_iter().map(|(name, offer)| (name.to_string(), offer.into())).collect(),
            registered: registered.into(),
            seen,
        }
    }
}

/// All nodes, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeList {
    /// The nodes.
    pub items: Vec<Node>,
}

impl From<Status> for NodeList {
    fn from(status: Status) -> Self {
        Self { items: status.nodes }
    }
}

/// A node that was removed from the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedNode {
    /// Its id, never reused.
    pub id: u64,
    /// Its name, free from here on.
    pub name: String,
    /// Names of the voters that are left.
    pub voters: Vec<String>,
    /// How many nodes the mesh can lose right now without losing its majority.
    pub can_lose: u32,
}

impl RemovedNode {
    pub(crate) fn new(row: &record::Node, left: &handle::Status) -> Self {
        Self {
            id: row.id.0,
            name: row.name.to_string(),
            voters: left.voters.iter().map(Name::to_string).collect(),
            can_lose: left.can_lose,
        }
    }
}

/// How the mesh stands, as far as one node knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The mesh's name.
    pub mesh: String,
    /// The mesh's id.
    pub mesh_id: String,
    /// The node that answers.
    pub node: String,
    /// Its id.
    pub node_id: u64,
    /// Its present run.
    pub incarnation: u64,
    /// The version of its program.
    pub version: String,
    /// Whether it is stopping.
    pub draining: bool,
    /// Whether it takes no new work because its disk is full, or nearly.
    #[serde(default)]
    pub disk_full: bool,
    /// The node that leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// Raft's term.
    pub term: u64,
    /// How often the process that answers saw another leader, or the same one in another term.
    #[serde(default)]
    pub leader_changes: u64,
    /// Whether a majority of voters answers.
    pub quorum: bool,
    /// How many nodes the mesh can lose right now without losing its majority.
    pub can_lose: u32,
    /// Names of the voters.
    pub voters: Vec<String>,
    /// Last entry of the log.
    pub last_index: u64,
    /// Last entry applied here.
    pub applied_index: u64,
    /// Time of that entry.
    pub log_time: Timestamp,
    /// Keyed agents in memory here.
    pub agents_active: u64,
    /// Tasks by state.
    pub tasks: BTreeMap<String, u64>,
    /// Undelivered messages.
    pub messages_waiting: u64,
    /// Messages that could not be handled.
    #[serde(default)]
    pub messages_dead: u64,
    /// Turns ever committed.
    pub turns: u64,
    /// The nodes, by name.
    pub nodes: Vec<Node>,
}

impl From<handle::Status> for Status {
    fn from(status: handle::Status) -> Self {
        let handle::Status {
            mesh,
            mesh_name,
            node,
            holder,
            leader,
            term,
            leader_changes,
            quorum,
            nodes,
            sights,
            voters,
            can_lose,
            mut linked,
            last_index,
            applied_index,
            log_time,
            heard: _,
            agents_active,
            tasks,
            messages_waiting,
            messages_buried,
            turns,
            draining,
            disk_full,
        } = status;
        linked.insert(node.clone());
        let Holder { node: node_id, incarnation } = holder;
        let nodes = nodes.into_iter().map(|row| {
            // What is seen of an earlier run says nothing of this one.
            let sight = sights.get(&row.id).filter(|sight| sight.holder.incarnation >= row.incarnation);
            Node::of_row(row, leader.as_ref(), &voters, &linked, sight.map(Seen::from))
        });
        let nodes = nodes.collect();
        Self {
            mesh: mesh_name.to_string(),
            mesh_id: mesh.to_string(),
            node: node.to_string(),
            node_id: node_id.0,
            incarnation: incarnation.0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            draining,
            disk_full,
            leader: leader.map(|name| name.to_string()),
            term,
            leader_changes,
            quorum,
            can_lose,
            voters: voters.iter().map(Name::to_string).collect(),
            last_index,
            applied_index,
            log_time: log_time.into(),
            agents_active,
            tasks: tasks.into_iter().map(|(state, count)| (state.to_owned(), count)).collect(),
            messages_waiting,
            messages_dead: messages_buried,
            turns,
            nodes,
        }
    }
}

/// Whether a node is well, for load balancers and people in a hurry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `healthy`; `degraded` without a majority; `draining` while stopping.
    pub status: String,
    /// The node's name.
    pub node_id: String,
    /// The version of its program.
    pub version: String,
    /// Its place in the mesh.
    pub mesh: HealthMesh,
    /// Its work.
    pub agents: HealthAgents,
}

/// A node's place in the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthMesh {
    /// Nodes that it has a link with.
    pub connected_peers: u64,
    /// The last sign of life from the mesh: now, if a majority answers, else the time of the last entry applied here.
    pub last_heartbeat: Timestamp,
}

/// A node's work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthAgents {
    /// Keyed agents in memory.
    pub active: u64,
    /// Tasks of the mesh that wait for a node.
    pub queued: u64,
}

impl Health {
    /// The status of a node that needs no attention.
    pub const HEALTHY: &'static str = "healthy";

    /// The short form of `status`, on a node that last heard of a majority then.
    #[must_use]
    pub fn of(status: &Status, heard: Timestamp, ready: bool) -> Self {
        let word = match (status.draining, ready && status.quorum) {
            (true, _) => "draining",
            (false, true) => Self::HEALTHY,
            (false, false) => "degraded",
        };
        let others = status.nodes.iter().filter(|node| node.linked && node.name != status.node);
        let queued = words::task_state::as_str(TaskState::Queued);
        Self {
            status: word.to_owned(),
            node_id: status.node.clone(),
            version: status.version.clone(),
            mesh: HealthMesh { connected_peers: others.count() as u64, last_heartbeat: heard },
            agents: HealthAgents {
                active: status.agents_active,
                queued: status.tasks.get(queued).copied().unwrap_or(0),
            },
        }
    }

    /// Whether the node needs no attention.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.status == Self::HEALTHY
    }
}

/// The process answers: it need not be restarted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Liveness {
    /// Always `alive`.
    pub status: String,
}

/// Whether a node should be sent requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// `ready` or `not ready`.
    pub status: String,
    /// The single checks, when asked for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub checks: BTreeMap<String, bool>,
}
