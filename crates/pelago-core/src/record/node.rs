//! Rules of nodes: admission, registration of a run, expiry, removal.

use super::{
    Expire, Outcome, Refusal, Register, Remove, Stamp,
    row::{Node, NodeState, Rows, Write},
    task::{self, Over},
};
use crate::{
    id::{Holder, Incarnation, NodeId},
    time::LogTime,
};

/// Registers a run. The run before it is over: only one process can lock the data directory.
pub(super) fn register<R: Rows>(
    now: Stamp,
    op: &Register,
    rows: &R,
    writes: &mut Vec<Write>,
) -> Result<Outcome, R::Error> {
    if now.item != 0 {
        return Ok(Outcome::Refused(Refusal::NotAlone));
    }
    // Ids are never reused: a node that was admitted and is not there was removed.
    if let Some(node) = op.node
        && rows.node(node)?.is_none()
    {
        return Ok(Outcome::Refused(Refusal::NodeRemoved(node)));
    }
    let (id, freed) = match rows.node_named(&op.name)? {
        None => (NodeId(now.index), Vec::new()),
        Some(row) if row.directory != op.directory => return Ok(Outcome::Refused(Refusal::NameTaken(row.id))),
        Some(row) if row.boot == op.boot && row.state == NodeState::Up => {
            return Ok(Outcome::Registered { holder: row.holder(), freed: Vec::new() });
        }
        Some(row) => {
            let over = if op.left == Some(row.incarnation) { Over::Left } else { Over::Restarted };
            (row.id, task::free_all(now, row.incarnation, over, rows, writes)?)
        }
    };
    let node = Node {
        id,
        name: op.name.clone(),
        directory: op.directory,
        incarnation: Incarnation(now.index),
        boot: op.boot,
        state: NodeState::Up,
        mesh_address: op.mesh_address.clone(),
        http_address: op.http_address.clone(),
        labels: op.labels.clone(),
        offers: op.offers.clone(),
        registered: now.time,
    };
    let holder = node.holder();
    writes.push(Write::Node(node));
    Ok(Outcome::Registered { holder, freed })
}

/// Gives a run up. One-way: the node must register again.
pub(super) fn expire<R: Rows>(now: Stamp, op: &Expire, rows: &R, writes: &mut Vec<Write>) -> Result<Outcome, R::Error> {
    let Holder { node, incarnation } = op.holder;
    let freed = match rows.node(node)? {
        Some(row) if row.is_live(incarnation) => {
            let (state, over) = if op.left { (NodeState::Left, Over::Left) } else { (NodeState::Expired, Over::Lost) };
            writes.push(Write::Node(Node { state, ..Node::clone(&row) }));
            task::free_all(now, incarnation, over, rows, writes)?
        }
        // A later run, or one given up before: there is nothing left to expire.
        Some(_) | None => Vec::new(),
    };
    Ok(Outcome::Expired { freed })
}

/// Forgets a node. What its last run held is free already: agents are claimed by others, and its tasks wait. A task
/// that is pinned to it has nobody left to go to; the leader's scheduler calls it off.
pub(super) fn remove<R: Rows>(op: &Remove, rows: &R, writes: &mut Vec<Write>) -> Result<Outcome, R::Error> {
    match rows.node(op.node)? {
        Some(row) if row.state == NodeState::Up => return Ok(Outcome::Refused(Refusal::NodeUp(op.node))),
        Some(_) => writes.push(Write::NodeGone(op.node)),
        // Ids are never reused: it was removed before.
        None => {}
    }
    Ok(Outcome::Committed)
}

/// Whether the run may act. A run that was given up must not take anything new.
pub(super) fn is_live<R: Rows>(holder: Holder, rows: &R) -> Result<bool, R::Error> {
    Ok(rows.node(holder.node)?.is_some_and(|row| row.is_live(holder.incarnation)))
}

impl Stamp {
    /// The stamp's time, later by `millis`.
    pub(super) fn plus_millis(self, millis: u64) -> LogTime {
        self.time.plus_millis(millis)
    }
}
