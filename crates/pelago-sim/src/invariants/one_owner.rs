//! I1: at most one owner per agent and epoch, and epochs only grow.

use std::collections::BTreeMap;

use pelago_core::{
    id::{AgentId, Epoch, Holder},
    record::{Agent, Phase, Write},
};

use super::Violation;
use crate::{ledger::Applied, store::MapRows};

const NAME: &str = "I1 (one owner)";

#[derive(Debug, Default)]
pub(crate) struct OneOwner {
    owners: BTreeMap<AgentId, (Epoch, Holder)>,
}

impl OneOwner {
    pub(crate) fn check(&mut self, change: &Applied, before: &MapRows) -> Result<(), Violation> {
        for write in &change.writes {
            if let Write::Agent { agent, .. } = write {
                self.check_agent(agent, before)?;
            }
        }
        Ok(())
    }

    fn check_agent(&mut self, agent: &Agent, before: &MapRows) -> Result<(), Violation> {
        let violated = |what: String| Err(Violation::new(NAME, format!("{}: {what}", agent.id)));
        if let Some((epoch, holder)) = self.owners.get(&agent.id) {
            if agent.epoch < *epoch {
                return violated(format!("epoch {} follows epoch {epoch}", agent.epoch));
            }
            if agent.epoch == *epoch && agent.holder != *holder {
                return violated(format!("epoch {epoch} belongs to {holder} and to {}", agent.holder));
            }
            let was_held = before.agents.get(&agent.id).is_some_and(|row| row.phase == Phase::Active);
            if agent.holder != *holder && was_held && before.is_live(*holder) {
                return violated(format!("{} took it from {holder}, which lives", agent.holder));
            }
        }
        self.owners.insert(agent.id.clone(), (agent.epoch, agent.holder));
        Ok(())
    }
}
