//! What simulated nodes, the leader and the invariants read of the rows.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use pelago_core::{
    id::{AgentId, Holder, TaskId},
    record::{Agent, Message, Phase, Rows as _, Task, Timer},
    route,
    time::LogTime,
};

use crate::store::MapRows;

/// An agent with its state.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) row: Agent,
    pub(crate) state: Bytes,
}

/// An attempt at a task, as its node reads it.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) task: Arc<Task>,
    pub(crate) input: Bytes,
}

impl MapRows {
    /// Whether nothing waits: every task has ended, every inbox is empty, and no timer is set.
    pub(crate) fn is_at_rest(&self) -> bool {
        let waits = |agent| !self.inbox(agent).is_empty();
        self.tasks.values().all(|task| task.state.is_ended())
            && !self.messages.keys().any(waits)
            && !self.timers.values().any(|(timer, _)| timer.buried.is_none())
    }

    pub(crate) fn is_live(&self, holder: Holder) -> bool {
        self.nodes.get(&holder.node).is_some_and(|node| node.is_live(holder.incarnation))
    }

    /// The runs that take part, in the order of their nodes.
    pub(crate) fn live(&self) -> impl Iterator<Item = Holder> {
        self.nodes.values().filter(|node| node.is_live(node.incarnation)).map(|node| node.holder())
    }

    /// An agent with its state.
    pub(crate) fn kept(&self, agent: &AgentId) -> Option<Kept> {
        let row = self.agents.get(agent)?.clone();
        Some(Kept { row, state: self.states.get(agent).cloned().unwrap_or_else(Bytes::new) })
    }

    /// Who holds an agent and may act.
    pub(crate) fn holder(&self, agent: &AgentId) -> Option<Holder> {
        let row = self.agents.get(agent)?;
        (row.phase == Phase::Active && self.is_live(row.holder)).then_some(row.holder)
    }

    /// Whether no agent and no attempt is a run's.
    pub(crate) fn holds_nothing(&self, holder: Holder) -> bool {
        let holds = |agent: &Agent| agent.phase == Phase::Active && agent.holder == holder;
        !self.agents.values().any(holds) && self.attempts_of(holder).is_empty()
    }

    /// Where an agent's messages go: to its holder, else to the node that its key hashes to.
    pub(crate) fn home(&self, agent: &AgentId) -> Option<Holder> {
        self.holder(agent).or_else(|| route::rendezvous(agent, self.live()))
    }

    /// The first messages that wait for agents whose home is `holder`, a few an agent.
    pub(crate) fn messages_for(&self, holder: Holder, an_agent_max: usize) -> Vec<Message> {
        let at_home = self.messages.keys().filter(|agent| self.home(agent) == Some(holder));
        at_home.flat_map(|agent| self.inbox(agent).into_iter().take(an_agent_max).cloned()).collect()
    }

    /// The first timers due at `now` of agents whose home is `holder`, a few an agent.
    pub(crate) fn timers_for(&self, holder: Holder, now: LogTime, an_agent_max: usize) -> Vec<Message> {
        let agents: BTreeSet<_> = self.timers.keys().map(|(agent, _)| agent).collect();
        let at_home = agents.into_iter().filter(|agent| self.home(agent) == Some(holder));
        at_home.flat_map(|agent| self.timers_due(agent, now).into_iter().take(an_agent_max)).collect()
    }

    /// The homes of agents with timers that are due from `after` on, until `now`.
    pub(crate) fn homes_of_timers_due(&self, after: LogTime, now: LogTime) -> BTreeSet<Holder> {
        let is_due = |timer: &&Timer| timer.buried.is_none() && timer.due > after && timer.due <= now;
        let due = self.timers.values().map(|(timer, _)| timer).filter(is_due);
        due.filter_map(|timer| self.home(&timer.agent)).collect()
    }

    /// The attempts that a run works on.
    pub(crate) fn attempts_of(&self, holder: Holder) -> Vec<Attempt> {
        let Ok(held) = self.tasks_held_by(holder.incarnation);
        held.into_iter().map(|task| Attempt { input: self.input(task.id), task }).collect()
    }

    fn input(&self, task: TaskId) -> Bytes {
        self.inputs.get(&task).cloned().unwrap_or_else(Bytes::new)
    }
}
