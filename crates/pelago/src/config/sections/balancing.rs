//! `[mesh.load_balancing]`, and what an agent's section says of the same.

use std::{collections::BTreeMap, num::NonZeroU16};

use pelago_core::{
    id::Name,
    route::{Prefer, Strategy},
};

use super::{
    super::{
        section::{Report, Section},
        tree::{Node, Value},
        value::{self, Refusal},
    },
    agents::AgentConfig,
};

/// The greatest weight of a node.
const WEIGHT_MAX: u16 = 1_000;

/// How requests of this node to pools are spread over the nodes that host them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BalancingConfig {
    /// How a node is chosen among those that are preferred. The default shuns slow nodes and needs no numbers from you.
    pub strategy: Strategy,
    /// Which nodes are preferred as long as any of them has room. The default asks this node if it hosts the agent, which
    /// costs nothing; take `zone`, `region` or `none` where one node is given more than its part.
    pub prefer: Prefer,
    /// Of nodes, by name, for strategy `weighted`; 1 where nothing is said.
    pub weights: BTreeMap<Name, NonZeroU16>,
}

impl BalancingConfig {
    pub(super) fn read(section: &mut Section<'_>, agents: &BTreeMap<Name, AgentConfig>) -> Self {
        let default = Self::default();
        let read = Self {
            strategy: section.get("strategy", strategy, default.strategy),
            prefer: section.get("prefer", prefer, default.prefer),
            weights: section.list("weights", weight).into_iter().collect(),
        };
        let mut strategies = agents.values().filter_map(|agent| agent.strategy).chain([read.strategy]);
        if !read.weights.is_empty() && !strategies.any(|strategy| strategy == Strategy::Weighted) {
            let none_weighs = "have no effect: strategy \"weighted\" alone weighs nodes, and neither \
                               mesh.load_balancing.strategy nor that of any agent is \"weighted\"";
            section.contradiction(["weights", "strategy"], none_weighs);
        }
        read
    }
}

pub(super) fn strategy(value: &Value) -> Result<Strategy, Refusal> {
    const WORDS: [(&str, Strategy); Strategy::ALL.len()] = {
        let mut words = [("", Strategy::RoundRobin); Strategy::ALL.len()];
        let mut index = 0;
        while index < words.len() {
            words[index] = (Strategy::ALL[index].name(), Strategy::ALL[index]);
            index += 1;
        }
        words
    };
    value::word(&WORDS)(value)
}

pub(super) fn prefer(value: &Value) -> Result<Prefer, Refusal> {
    value::word(&[("node", Prefer::Node), ("zone", Prefer::Zone), ("region", Prefer::Region), ("none", Prefer::None)])(
        value,
    )
}

fn weight(report: &mut Report, node: Node) -> Option<(Name, NonZeroU16)> {
    report.section(node, |section| {
        let node = section.required("node_id", value::name);
        let weight = section.required("weight", value::number(1..=WEIGHT_MAX));
        Some((node?, NonZeroU16::new(weight?)?))
    })
}
