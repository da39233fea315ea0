//! A node is forgotten only after its last run was given up, and its id never comes back.

use std::collections::BTreeSet;

use pelago_core::{
    id::NodeId,
    record::{NodeState, Write},
};

use super::Violation;
use crate::{ledger::Applied, store::MapRows};

const NAME: &str = "nodes";

#[derive(Debug, Default)]
pub(crate) struct Nodes {
    removed: BTreeSet<NodeId>,
}

impl Nodes {
    pub(crate) fn check(&mut self, change: &Applied, before: &MapRows) -> Result<(), Violation> {
        for write in &change.writes {
            if let Write::NodeGone(id) = write {
                if before.nodes.get(id).is_none_or(|node| node.state == NodeState::Up) {
                    return Err(Violation::new(NAME, format!("node {id} was removed, and was not over")));
                }
                self.removed.insert(*id);
            } else if let Write::Node(node) = write
                && self.removed.contains(&node.id)
            {
                return Err(Violation::new(NAME, format!("node {} was removed and is there again", node.id)));
            }
        }
        Ok(())
    }
}
