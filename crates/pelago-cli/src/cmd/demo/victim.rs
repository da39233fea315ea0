//! Which node to kill: the one with the most to lose.

use std::{collections::BTreeMap, fmt};

use pelago_api::{
    client::{Client, Result, TaskQuery},
    model::{Agent, Task},
};
use pelago_core::{
    id::TaskId,
    record::{Phase, TaskState},
};
use serde::Serialize;

use super::crew::{LIST_MAX, all_agents};
use crate::builtin::crew::{FILE_READER, section};

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
    /// The tasks that run on it, each with the number of the attempt.
    #[serde(skip)]
    pub(super) attempts: BTreeMap<TaskId, u32>,
}

/// A count of things.
pub(super) fn many(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, tasks, sections, agents: _, attempts: _ } = self;
        write!(f, "{node}, which holds {}", many(*tasks, "running task"))?;
        if *sections > 0 { write!(f, " and {}", many(*sections, "section")) } else { Ok(()) }
    }
}

/// Asks the mesh who holds what, and chooses. None until `held` readings run: from then on none of them ends before the
/// gate is open.
pub(super) async fn choose(client: &Client, held: usize) -> Result<Option<Victim>> {
    let query = TaskQuery {
        state: Some(TaskState::Running),
        agent: Some(FILE_READER.to_owned()),
        limit: Some(LIST_MAX),
        ..TaskQuery::default()
    };
    let running = client.tasks(&query).await?.items;
    // One part of the list is enough to choose by.
    if running.len() < held.min(LIST_MAX) {
        return Ok(None);
    }
    Ok(most_laden(&running, &all_agents(client).await?))
}

fn most_laden(running: &[Task], agents: &[Agent]) -> Option<Victim> {
    let mut nodes: BTreeMap<&str, Victim> = BTreeMap::new();
    for task in running {
        let Some(node) = task.node.as_deref() else { continue };
        let victim = laden_at(&mut nodes, node);
        victim.tasks += 1;
        victim.attempts.insert(task.id, task.attempt);
    }
    for agent in agents.iter().filter(|agent| agent.phase == Phase::Active) {
        let Some(node) = agent.node.as_deref() else { continue };
        let victim = laden_at(&mut nodes, node);
        victim.sections += u64::from(agent.name == section::NAME);
        victim.agents.insert(agent.agent.clone(), agent.incarnation);
    }
    // Where files are few, there may be no node that holds both.
    let laden = nodes.into_values().filter(|victim| victim.tasks > 0);
    laden.max_by_key(|victim| (victim.sections > 0, victim.tasks + victim.sections))
}

fn laden_at<'n, 'a>(nodes: &'n mut BTreeMap<&'a str, Victim>, node: &'a str) -> &'n mut Victim {
    nodes.entry(node).or_insert_with(|| Victim {
        node: node.to_owned(),
        tasks: 0,
        sections: 0,
        agents: BTreeMap::new(),
        attempts: BTreeMap::new(),
    })
}

impl Victim {
    /// Which of its tasks were done by another attempt since.
    pub(super) fn done_elsewhere<'t>(&self, now: &'t [Task]) -> impl Iterator<Item = &'t Task> {
        now.iter().filter(|task| {
            let before = self.attempts.get(&task.id);
            task.state == TaskState::Done && before.is_some_and(|before| task.attempt > *before)
        })
    }

    /// Which of its agents have been active in another run since, of whichever node.
    pub(super) fn rehomed<'a>(&self, now: &'a [Agent]) -> impl Iterator<Item = &'a Agent> {
        now.iter().filter(|agent| self.agents.get(&agent.agent).is_some_and(|before| *before != agent.incarnation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(node: &str) -> Task {
        document(serde_json::json!({
            "id": "0".repeat(32), "agent": "file-reader", "placement": "pool", "state": "running", "node": node,
            "priority": 4, "attempt": 1, "attempts_max": 5, "attempt_ms_max": 1, "backoff_ms": 1, "backoff_ms_max": 1,
            "created": "2024-01-15T10:30:00.000Z", "run_at": "2024-01-15T10:30:00.000Z",
            "changed": "2024-01-15T10:30:00.000Z", "events": 1,
        }))
    }

    fn agent(address: &str, node: &str, phase: &str) -> Agent {
        let name = address.split(':').next();
        document(serde_json::json!({
            "agent": address, "name": name, "phase": phase, "node": node, "incarnation": 2, "epoch": 1, "version": 1,
            "generation": 1, "last_turn": "0", "chain": "0",
        }))
    }

    fn document<T: serde::de::DeserializeOwned>(json: serde_json::Value) -> T {
        serde_json::from_value(json).expect("it is a document of the API")
    }

    #[test]
    fn the_node_with_the_most_to_lose_is_chosen() {
        let running = ["a", "b", "b", "c", "c", "c", "c"].map(task);
        let agents = [
            agent("section:1", "a", "active"),
            agent("section:2", "b", "active"),
            agent("librarian:demo", "b", "active"),
            agent("section:3", "b", "free"),
            agent("section:4", "a", "active"),
            agent("section:5", "b", "active"),
        ];
        let victim = most_laden(&running, &agents).expect("two nodes hold both");
        assert_eq!(victim.attempts.values().collect::<Vec<_>>(), [&1], "these tasks have one id");
        assert_eq!(victim.to_string(), "b, which holds 2 running tasks and 2 sections");
        let mut later = agents.to_vec();
        assert_eq!(victim.rehomed(&later).count(), 0);
        for agent in &mut later[..3] {
            agent.incarnation = 9;
        }
        assert_eq!(victim.rehomed(&later).count(), 2, "section:1 was not on that node");
    }

    #[test]
    fn a_node_without_tasks_is_no_victim_and_one_without_sections_the_last_choice() {
        assert_eq!(most_laden(&[], &[agent("section:1", "b", "active")]), None);
        let chosen = |running: &[&str], agents: &[Agent]| {
            let running: Vec<Task> = running.iter().map(|node| task(node)).collect();
            most_laden(&running, agents).expect("a task runs").node
        };
        assert_eq!(chosen(&["a"], &[agent("section:1", "b", "active")]), "a");
        assert_eq!(chosen(&["a", "a", "a", "b"], &[agent("section:1", "b", "active")]), "b");
    }
}
