//! Rules of connections that are added while the mesh runs: one an address, none without a limit.

use super::{
    Connect, ConnectionChange, Outcome,
    agent::fits,
    row::{Rows, Write},
};
use crate::connection::{CONNECTIONS_PER_AGENT_MAX, Connection};

/// Adds, changes or takes away a connection. To take away what is not there is no error.
pub(super) fn connect<R: Rows>(op: &Connect, rows: &R, writes: &mut Vec<Write>) -> Result<Outcome, R::Error> {
    let Connect { from, to, change } = op;
    let connections = rows.connections(&to.agent.namespace, from)?;
    let is_there = connections.iter().any(|connection| connection.to == *to);
    Ok(match change {
        ConnectionChange::Set(only) => {
            let come = usize::from(!is_there);
            if let Err(refused) =
                fits("the connections of one agent", connections.len() + come, CONNECTIONS_PER_AGENT_MAX)
            {
                return Ok(refused);
            }
            let connection = Connection { to: to.clone(), only: only.clone() };
            writes.push(Write::Connection { from: from.clone(), connection });
            Outcome::Committed
        }
        ConnectionChange::Gone if is_there => {
            writes.push(Write::ConnectionGone { from: from.clone(), to: to.clone() });
            Outcome::Swept { rows: 1 }
        }
        ConnectionChange::Gone => Outcome::Swept { rows: 0 },
    })
}
