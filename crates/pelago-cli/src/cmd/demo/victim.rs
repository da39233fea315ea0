//! Which node to kill: the one with the most to lose.

use std::{collections::BTreeMap, fmt};

use pelago_api::{
    client::{Client, Result, TaskQuery},
    model::{Agent, Task},
};
use pelago_core::record::{Phase, TaskState};
use serde::Serialize;

use super::crew::{LIST_MAX, all_agents};
use crate::builtin::crew::section;

/// A node and what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Victim {
    pub(super) node: String,
    /// Tasks that run on it.
    pub(super) tasks: u64,
    /// Sections that are active on it.
    pub(super) sections: u64,
    /// All agents that are active on it, each with the run of the node that it is active in.
    #[serde(skip)]
    pub(super) agents: BTreeMap<String, u64>,
}

/// A count of things.
pub(super) fn many(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, tasks, sections, agents: _ } = self;
        write!(f, "{node}, which holds {} and {}", many(*tasks, "running task"), many(*sections, "section"))
    }
}

/// Asks the mesh who holds what, and chooses. None if no node holds both tasks and sections.
pub(super) async fn choose(client: &Client) -> Result<Option<Victim>> {
    let agents = all_agents(client).await?;
    let running = TaskQuery { state: Some(TaskState::Running), limit: Some(LIST_MAX), ..TaskQuery::default() };
    // The tasks last: they are what changes fastest. One part of the list is enough: no mesh of a demo runs that many.
    let running = client.tasks(&running).await?.items;
    Ok(most_laden(&running, &agents))
}

fn most_laden(running: &[Task], agents: &[Agent]) -> Option<Victim> {
    let mut nodes: BTreeMap<&str, Victim> = BTreeMap::new();
    for node in running.iter().filter_map(|task| task.node.as_deref()) {
        laden_at(&mut nodes, node).tasks += 1;
    }
    for agent in agents.iter().filter(|agent| agent.phase == Phase::Active) {
        let Some(node) = agent.node.as_deref() else { continue };
        let victim = laden_at(&mut nodes, node);
        victim.sections += u64::from(agent.name == section::NAME);
        victim.agents.insert(agent.agent.clone(), agent.incarnation);
    }
    let laden = nodes.into_values().filter(|victim| victim.tasks > 0 && victim.sections > 0);
    laden.max_by_key(|victim| victim.tasks + victim.sections)
}

fn laden_at<'n, 'a>(nodes: &'n mut BTreeMap<&'a str, Victim>, node: &'a str) -> &'n mut Victim {
    nodes.entry(node).or_insert_with(|| Victim {
        node: node.to_owned(),
        tasks: 0,
        sections: 0,
        agents: BTreeMap::new(),
    })
}

impl Victim {
    /// How many of its agents are active in another run now, of whichever node.
    pub(super) fn rehomed(&self, now: &[Agent]) -> u64 {
        let moved = |agent: &&Agent| self.agents.get(&agent.agent).is_some_and(|before| *before != agent.incarnation);
        now.iter().filter(moved).count() as u64
    }
}
