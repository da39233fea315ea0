//! `[mesh]`

use std::collections::BTreeMap;

use pelago_core::{id::Name, membership::Profile};
use pelago_node::Packing;

use super::{
    super::{
        address::{HostPort, LoopbackAddr, LoopbackHost},
        section::{Report, Section},
        tree::{Node, Value},
        value::{self, Refusal},
    },
    agents::AgentConfig,
    balancing::BalancingConfig,
};

const COMPRESSIONS: &[(&str, Packing)] =
    &[("never", Packing::Never), ("remote", Packing::Remote), ("always", Packing::Always)];
const PROFILES: &[(&str, Profile)] = &[("local", Profile::Local), ("lan", Profile::Lan), ("wan", Profile::Wan)];

/// This node, the mesh it belongs to, and where to meet it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshConfig {
    /// The mesh. Nodes of another name are refused in the handshake.
    pub name: Name,
    /// The node's name: unique in the mesh, and kept for ever, since addresses and affinities use it. None lets the
    /// node choose one at its first start and keep it in its data directory.
    pub node_id: Option<Name>,
    /// Where links from other nodes arrive: loopback only, until there is TLS and authentication. Port 0 takes a free
    /// one.
    pub listen_addr: LoopbackAddr,
    /// The most connections at that address: two with each other node, one with each client. 256 are for nodes only, or
    /// half if that is less. More are refused with an error that the other side reports.
    pub connections_max: u32,
    /// On which links frames of 4 KiB and more are packed by LZ4: none, those that leave this machine, or all. It takes
    /// about a millisecond of the processor for each MiB, so it pays where the network is slower than that.
    pub compression: Packing,
    /// Nodes to ask for the mesh at the start; one that answers is enough, for it knows the others.
    pub peers: Vec<KnownNode>,
    /// Whether to found a mesh when the data directory holds none and none is met. Set it on one node at most: two
    /// founders make two meshes.
    pub found: bool,
    /// The line of sight: frames of JSON for programs without HTTP.
    pub json: JsonConfig,
    /// How fast gossip notices that a node is gone: what lies between the nodes. The same on all of them.
    pub gossip: Profile,
    /// How requests to pools are spread over nodes.
    pub load_balancing: BalancingConfig,
    /// What this node is or has, for `agents.NAME.node_affinity`. `zone` and `region` also spread voters, and say which
    /// nodes are near.
    pub labels: BTreeMap<Name, String>,
}

/// `[mesh.json]`: the line of sight.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JsonConfig {
    /// Where it listens, if it does: loopback only, until there is TLS and authentication. Port 0 takes a free one.
    pub listen: Option<LoopbackAddr>,
}

/// A node that was named before it was met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownNode {
    /// The name it should have, if one was written.
    pub id: Option<Name>,
    /// Where it listens for links.
    pub address: HostPort,
}

impl Default for MeshConfig {
    fn default() -> Self {
        Self {
            name: Name::new("pelago").expect("it has only letters"),
            node_id: None,
            listen_addr: LoopbackHost::V4.with_port(50051),
            connections_max: 1_000,
            compression: Packing::default(),
            peers: Vec::new(),
            found: false,
            json: JsonConfig::default(),
            gossip: Profile::default(),
            load_balancing: BalancingConfig::default(),
            labels: BTreeMap::new(),
        }
    }
}

impl MeshConfig {
    pub(in super::super) fn read(section: &mut Section<'_>, agents: &BTreeMap<Name, AgentConfig>) -> Self {
        let default = Self::default();
        // A mesh that cannot be switched off and addresses that are static are what S2's guide asks for by these two.
        section.optional("enabled", enabled);
        section.table("discovery", |discovery| discovery.optional("method", discovery_method));
        let gossip = section.table("gossip", |gossip| gossip.get("profile", value::word(PROFILES), default.gossip));
        let for_programs = value::loopback_addr("use 127.0.0.1:9900, and reach it from elsewhere by `ssh -L`");
        let json = |json: &mut Section<'_>| JsonConfig { listen: json.optional("listen", for_programs) };
        let for_nodes = value::loopback_addr("use 127.0.0.1:50051; until then all nodes of a mesh run on one machine");
        Self {
            name: section.get("name", value::name, default.name),
            node_id: section.optional("node_id", value::name),
            listen_addr: section.get("listen_addr", for_nodes, default.listen_addr),
            compression: section.get("compression", value::word(COMPRESSIONS), default.compression),
            connections_max: section.get("connections_max", value::number(4..=65_536), default.connections_max),
            peers: section.list("peers", KnownNode::read),
            found: section.get("found", value::boolean, default.found),
            json: section.table("json", json),
            gossip,
            load_balancing: section.table("load_balancing", |section| BalancingConfig::read(section, agents)),
            labels: section.entries("labels", |report, _, node| report.value(&node, value::label)),
        }
    }
}

impl KnownNode {
    /// Reads `"host:port"`, or a table with an address.
    fn read(report: &mut Report, node: Node) -> Option<Self> {
        if matches!(node.value, Value::Table(_)) {
            return report.section(node, |section| {
                // A note for those who read the file: the node itself says what it does when it is met.
                section.optional("role", value::word(&[("coordinator", ()), ("worker", ())]));
                let id = section.optional("id", value::name);
                Some(Self { id, address: section.required("address", value::host_port)? })
            });
        }
        let address = report.value(&node, value::host_port)?;
        Some(Self { id: None, address })
    }
}

fn enabled(value: &Value) -> Result<(), Refusal> {
    if value::boolean(value)? {
        return Ok(());
    }
    Err(Refusal::not_yet(value, "remove it; a node without peers is a mesh of one"))
}

fn discovery_method(value: &Value) -> Result<(), Refusal> {
    let method = value::word(&[("static", true), ("dns", false), ("kubernetes", false)]);
    if method(value)? {
        return Ok(());
    }
    Err(Refusal::not_yet(value, "use \"static\" and list the addresses in mesh.peers"))
}
