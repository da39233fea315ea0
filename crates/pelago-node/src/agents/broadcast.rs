//! Telling all agents of this node whose names meet a pattern.

use std::sync::Arc;

use pelago_core::{id::AgentId, message::Content, pattern::Pattern};

use super::{Agents, Hosted, Told};

impl Agents {
    /// Tells every agent that is in memory here and whose name meets the pattern: residents, pools (each once, as one),
    /// and keyed agents that are active. Says how many were told; who has no room is not, and the message to it counts
    /// as lost.
    pub(crate) fn broadcast(self: &Arc<Self>, to: &Pattern, content: &Content) -> u64 {
        let told = |agent: &AgentId| {
            let told = Told::new(vec![content.clone()], None, &self.context.metrics.told_lost);
            self.try_tell(agent, told).is_ok()
        };
        let agents = self.met_by(to);
        agents.iter().filter(|agent| told(agent)).count() as u64
    }

    fn met_by(&self, to: &Pattern) -> Vec<AgentId> {
        let mut agents = Vec::new();
        for (name, hosted) in self.hosted.iter().filter(|(name, _)| to.is_met_by(name)) {
            match hosted {
                Hosted::Keyed(_) => agents.extend(self.active().keys().filter(|agent| agent.name == *name).cloned()),
                Hosted::Pool(_) | Hosted::Resident(_) => agents.push(AgentId::unkeyed(name.clone())),
            }
        }
        agents
    }
}
