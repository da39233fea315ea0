//! `pelago status`: the mesh on one screen, problems first.

use pelago_api::{
    client::Client,
    model::{Node, Status, words},
};
use pelago_core::{
    membership::State,
    record::{NodeState, TaskState},
};

use crate::{
    exit::Exit,
    output::{Error, Output, facts},
};

pub(super) const EXAMPLES: &str = "\
Examples:
  pelago status
  pelago status --url http://127.0.0.1:8081 -o json
  pelago status --url http://127.0.0.1:8080,http://127.0.0.1:8081    # whichever answers";

/// A node that is further behind than this misses more than what is just under way.
const ENTRIES_BEHIND_MAX: u64 = 1_000;

pub(super) async fn run(client: &Client, output: Output) -> Result<Exit, Error> {
    let status = client.status().await?;
    output.document(&status, text)?;
    let is_away = |node: &&Node| node.state != NodeState::Up || (!status.quorum && !node.linked);
    let away: Vec<&str> = status.nodes.iter().filter(is_away).map(|node| node.name.as_str()).collect();
    match away.first() {
        Some(_) if !status.quorum => output.note(&format!("next: start {} again", away.join(", "))),
        Some(first) => {
            let all = away.join(", ");
            output.note(&format!("next: start {all} again, or one that is gone for good: pelago node remove {first}"));
        }
        None => {}
    }
    if tasks(&status, TaskState::Dead) > 0 {
        output.note("next: pelago task ls --state dead, and for each: pelago task retry ID, or pelago task cancel ID");
    }
    if status.messages_dead > 0 {
        output.note("next: pelago agent dead, and once you have seen them: pelago agent dismiss ADDRESS");
    }
    Ok(Exit::Done)
}

fn text(status: &Status) -> String {
    let problems = problems(status);
    let lines = problems.iter().map(|problem| ("PROBLEM", problem.clone()));
    facts(lines.chain([
        ("mesh", format!("{} ({})", status.mesh, status.mesh_id)),
        ("node", format!("{} answers, version {}", status.node, status.version)),
        ("nodes", nodes(status)),
        ("voters", voters(status)),
        ("agents", agents(status)),
        ("tasks", all_tasks(status)),
        ("log", log(status)),
    ]))
}

/// What needs attention, the worst first.
fn problems(status: &Status) -> Vec<String> {
    let mut problems = Vec::new();
    if !status.quorum {
        problems.push("no majority of the voters answers: nothing can be written".to_owned());
    }
    if status.leader.is_none() {
        problems.push("no node leads, as far as this one knows".to_owned());
    }
    if status.disk_full {
        problems.push(format!("node {} takes no new work: hardly any space is left on its disk", status.node));
    }
    if status.draining {
        problems.push(format!("node {} is stopping", status.node));
    }
    for node in &status.nodes {
        match node.state {
            NodeState::Up => {
                if !node.linked {
                    problems.push(format!("node {} has no link with {}", status.node, node.name));
                }
                let missed = node.seen.as_ref().filter(|seen| matches!(seen.state, State::Suspect | State::Down));
                if let Some(seen) = missed {
                    let state = words::seen::as_str(seen.state);
                    problems.push(format!("node {} gives no sign of life: gossip has it as {state}", node.name));
                }
            }
            NodeState::Expired => problems.push(format!(
                "node {} has expired: the run that began {} does not answer, and its work went to others",
                node.name, node.registered
            )),
            NodeState::Left => problems.push(format!("node {} was stopped, and its work went to others", node.name)),
        }
    }
    if status.quorum && status.can_lose == 0 && status.voters.len() > 2 {
        problems.push("no further node may be lost, or nothing can be written".to_owned());
    }
    let behind = status.last_index.saturating_sub(status.applied_index);
    if behind > ENTRIES_BEHIND_MAX {
        problems.push(format!("node {} is {behind} entries behind the log", status.node));
    }
    match tasks(status, TaskState::Dead) {
        0 => {}
        1 => problems.push("1 task is dead".to_owned()),
        dead => problems.push(format!("{dead} tasks are dead")),
    }
    match status.messages_dead {
        0 => {}
        1 => problems.push("1 message failed too often and is tried no more".to_owned()),
        dead => problems.push(format!("{dead} messages failed too often and are tried no more")),
    }
    problems
}

fn nodes(status: &Status) -> String {
    let up = status.nodes.iter().filter(|node| node.state == NodeState::Up).count();
    let leader = status.leader.as_deref().unwrap_or("nobody");
    format!("{up} up, {leader} leads (term {}); {}", status.term, can_lose(status))
}

/// How many may go before nothing can be written.
pub(super) fn can_lose(status: &Status) -> String {
    match status.can_lose {
        _ if !status.quorum => "nothing can be written now".to_owned(),
        0 if status.nodes.len() == 1 => "while it is away, nothing can be written".to_owned(),
        0 => "if a voter is lost, nothing can be written".to_owned(),
        1 => "any one of them may be lost, and the mesh goes on".to_owned(),
        many => format!("any {many} of them may be lost, and the mesh goes on"),
    }
}

/// Who votes, and who only follows.
fn voters(status: &Status) -> String {
    let observers = status.nodes.iter().filter(|node| node.state == NodeState::Up && !node.voter);
    let observers: Vec<&str> = observers.map(|node| node.name.as_str()).collect();
    let voters = status.voters.join(", ");
    if observers.is_empty() { voters } else { format!("{voters}; observers: {}", observers.join(", ")) }
}

fn agents(status: &Status) -> String {
    let Status { agents_active, turns, messages_waiting, .. } = status;
    format!("{agents_active} active on this node; in the mesh {turns} turns ever, {messages_waiting} messages waiting")
}

/// All states, so that the line has the same form every time.
fn all_tasks(status: &Status) -> String {
    let counts = words::task_state::ALL
        .iter()
        .map(|state| format!("{} {state}", status.tasks.get(*state).copied().unwrap_or(0)));
    counts.collect::<Vec<_>>().join(", ")
}

fn tasks(status: &Status, state: TaskState) -> u64 {
    let state = words::task_state::as_str(state);
    status.tasks.get(state).copied().unwrap_or(0)
}

fn log(status: &Status) -> String {
    format!("{} of {} entries applied here", status.applied_index, status.last_index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(change: impl FnOnce(&mut serde_json::Value)) -> Status {
        let node = |name: &str, state: &str| {
            serde_json::json!({
                "id": 1, "name": name, "state": state, "leader": name == "n1", "voter": true, "linked": true,
                "incarnation": 3,
                "boot": "b", "mesh_address": "127.0.0.1:1", "labels": {}, "offers": {},
                "registered": "2024-01-15T10:30:00.000Z",
            })
        };
        let mut status = serde_json::json!({
            "mesh": "pelago", "mesh_id": "f00d", "node": "n1", "node_id": 1, "incarnation": 3, "version": "0.1.0",
            "draining": false, "leader": "n1", "term": 4, "quorum": true, "can_lose": 1, "voters": ["n1", "n2", "n3"],
            "last_index": 90, "applied_index": 90, "log_time": "2024-01-15T10:30:00.000Z", "agents_active": 2,
            "tasks": { "done": 7 }, "messages_waiting": 0, "turns": 12,
            "nodes": [node("n1", "up"), node("n2", "up"), node("n3", "up")],
        });
        change(&mut status);
        serde_json::from_value(status).expect("this is a status")
    }

    #[test]
    fn a_mesh_without_problems_is_seven_lines() {
        let expected = "\
mesh    pelago (f00d)
node    n1 answers, version 0.1.0
nodes   3 up, n1 leads (term 4); any one of them may be lost, and the mesh goes on
voters  n1, n2, n3
agents  2 active on this node; in the mesh 12 turns ever, 0 messages waiting
tasks   0 queued, 0 running, 7 done, 0 dead, 0 cancelled
log     90 of 90 entries applied here
";
        assert_eq!(text(&status(|_| ())), expected);
    }

    #[test]
    fn a_node_that_does_not_vote_is_told_apart() {
        let four = status(|status| {
            let mut fourth = status["nodes"][2].clone();
            fourth["name"] = "n4".into();
            fourth["voter"] = false.into();
            status["nodes"].as_array_mut().expect("it is a list").push(fourth);
        });
        assert_eq!(voters(&four), "n1, n2, n3; observers: n4");
    }

    #[test]
    fn problems_come_first_and_the_worst_of_them_before_the_others() {
        let shown = text(&status(|status| {
            status["quorum"] = false.into();
            status["leader"] = serde_json::Value::Null;
            status["nodes"][1]["state"] = "expired".into();
            status["nodes"][2]["linked"] = false.into();
            status["nodes"][2]["seen"] = serde_json::json!({ "state": "suspect", "for_ms": 7 });
            status["disk_full"] = true.into();
            status["tasks"]["dead"] = 2.into();
            status["messages_dead"] = 1.into();
            status["applied_index"] = 90.into();
            status["last_index"] = 2_000.into();
        }));
        let problems: Vec<&str> = shown.lines().map_while(|line| line.strip_prefix("PROBLEM  ")).collect();
        assert_eq!(
            problems,
            [
                "no majority of the voters answers: nothing can be written",
                "no node leads, as far as this one knows",
                "node n1 takes no new work: hardly any space is left on its disk",
                "node n2 has expired: the run that began 2024-01-15T10:30:00.000Z does not answer, and its work went to others",
                "node n1 has no link with n3",
                "node n3 gives no sign of life: gossip has it as suspect",
                "node n1 is 1910 entries behind the log",
                "2 tasks are dead",
                "1 message failed too often and is tried no more",
            ]
        );
    }

    #[test]
    fn a_node_that_was_stopped_is_not_one_that_does_not_answer() {
        let stopped = status(|status| status["nodes"][1]["state"] = "left".into());
        assert_eq!(problems(&stopped), ["node n2 was stopped, and its work went to others"]);
    }

    #[test]
    fn without_a_majority_nobody_is_told_what_may_still_be_lost() {
        let status = status(|status| (status["quorum"], status["can_lose"]) = (false.into(), 0.into()));
        assert_eq!(can_lose(&status), "nothing can be written now");
    }

    #[test]
    fn a_mesh_that_can_lose_none_is_a_problem_only_if_it_once_could() {
        let lonely = status(|status| {
            status["can_lose"] = 0.into();
            status["voters"] = serde_json::json!(["n1"]);
        });
        assert_eq!(problems(&lonely), Vec::<String>::new());
        let fragile = status(|status| status["can_lose"] = 0.into());
        assert_eq!(problems(&fragile), ["no further node may be lost, or nothing can be written"]);
    }
}
