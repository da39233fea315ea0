//! I2: the committed versions of an agent are contiguous, and each link of its chain follows from one before.

use std::collections::BTreeSet;

use pelago_core::{
    id::{AgentId, Version},
    record::{Agent, Chain, Op, Write},
};

use super::Violation;
use crate::{ledger::Applied, store::MapRows};

const NAME: &str = "I2 (contiguous versions)";

#[derive(Debug, Default)]
pub(crate) struct Versions {
    links: BTreeSet<(AgentId, Chain)>,
}

impl Versions {
    pub(crate) fn check(&mut self, change: &Applied, before: &MapRows) -> Result<(), Violation> {
        for write in &change.writes {
            if let Write::Agent { agent, .. } = write {
                self.check_agent(agent, &change.op, before)?;
            }
        }
        Ok(())
    }

    fn check_agent(&mut self, agent: &Agent, op: &Op, before: &MapRows) -> Result<(), Violation> {
        let violated = |what: String| Err(Violation::new(NAME, format!("{}: {what}", agent.id)));
        let (version, chain) = match before.agents.get(&agent.id) {
            Some(row) => (row.version, row.chain),
            None => (Version(0), Chain::START),
        };
        let Op::Turn(turn) = op else {
            if agent.version != version || agent.chain != chain {
                return violated(format!("version {} came without a turn", agent.version));
            }
            return Ok(());
        };
        if turn.version != version || agent.version.0 != version.0 + turn.turns {
            return violated(format!("{} turns led from version {version} to {}", turn.turns, agent.version));
        }
        if agent.last_turn != turn.turn {
            return violated(format!("version {} names another turn", agent.version));
        }
        if agent.chain == chain || !self.links.insert((agent.id.clone(), agent.chain)) {
            return violated(format!("the chain at version {} was seen before", agent.version));
        }
        Ok(())
    }
}
