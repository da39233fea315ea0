//! I4: no turn of an older epoch commits after a newer epoch exists.

use std::collections::BTreeMap;

use pelago_core::{
    id::{AgentId, Epoch, Holder},
    record::{Op, Phase, Turn, Write},
};

use super::Violation;
use crate::{ledger::Applied, store::MapRows};

const NAME: &str = "I4 (fencing)";

#[derive(Debug, Default)]
pub(crate) struct Fencing {
    newest: BTreeMap<AgentId, (Epoch, Holder)>,
}

impl Fencing {
    pub(crate) fn check(&mut self, change: &Applied, before: &MapRows) -> Result<(), Violation> {
        if let Op::Turn(turn) = &change.op
            && !change.writes.is_empty()
        {
            self.check_turn(turn, before)?;
        }
        for write in &change.writes {
            if let Write::Agent { agent, .. } = write {
                self.newest.insert(agent.id.clone(), (agent.epoch, agent.holder));
            }
        }
        Ok(())
    }

    fn check_turn(&self, turn: &Turn, before: &MapRows) -> Result<(), Violation> {
        let newest = self.newest.get(&turn.agent).copied();
        if newest != Some((turn.epoch, turn.holder)) {
            let what = format!(
                "{}: a turn of {} at epoch {} committed, the newest is {newest:?}",
                turn.agent, turn.holder, turn.epoch
            );
            return Err(Violation::new(NAME, what));
        }
        if before.agents.get(&turn.agent).is_none_or(|row| row.phase != Phase::Active) {
            return Err(Violation::new(NAME, format!("{}: a turn committed while nobody held it", turn.agent)));
        }
        Ok(())
    }
}
