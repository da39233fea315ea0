//! Signals over nodes that come and go: each goes on by the production rule, to a node that an asker has chosen.

use std::collections::BTreeSet;

use pelago_core::{
    connection::{Connection, Hop, Next, Onward, Readable, Signal},
    id::{Address, AgentId, Name, NodeId, SignalId},
};

use super::{World, violated};
use crate::Violation;

/// Agents that are connected with each other.
const AGENTS: usize = 8;

/// One signal, and what it must keep to.
struct Course {
    connections: Vec<Vec<Connection>>,
    hops_max: u32,
    branches: u32,
}

impl World {
    /// A signal from a random agent along random connections, all of it at once.
    pub(super) fn follow_a_signal(&mut self, asker: usize) -> Result<(), Violation> {
        let connections = (0..AGENTS).map(|_| {
            let onward = 1 + self.dice.index(3);
            let next = (0..onward).map(|_| Connection { to: self.address(), only: None });
            next.collect()
        });
        let connections = connections.collect();
        let (hops_max, branches_max) = (self.dice.between(1, 10) as u32, self.dice.between(1, 60) as u32);
        let mut course = Course { connections, hops_max, branches: 0 };
        let signal = Signal { id: SignalId(1), from: "sim".into(), hops_max, branches_max, path: Vec::new() };
        let to = self.address();
        self.follow(asker, &to, &signal, &mut course)?;
        if course.branches > branches_max {
            return violated("R5 (hops)", format!("{} branches of {branches_max}", course.branches));
        }
        Ok(())
    }

    fn follow(&mut self, asker: usize, to: &Address, signal: &Signal, course: &mut Course) -> Result<(), Violation> {
        course.branches += 1;
        let Some(node) = self.node_for(asker, to)? else { return Ok(()) };
        let here = Hop { agent: to.agent.clone(), node };
        let mut passed = BTreeSet::new();
        let path = signal.path.iter().chain([&here]);
        if !path.clone().all(|hop| passed.insert((hop.agent.to_string(), hop.node.to_string()))) {
            return violated("R5 (hops)", format!("a signal goes in a circle: {:?}", path.collect::<Vec<_>>()));
        }
        if signal.hop() > course.hops_max {
            return violated("R5 (hops)", format!("hop {} of {}", signal.hop(), course.hops_max));
        }
        self.hops += 1;
        let agent = index_of(&to.agent);
        let Onward { next, left_out: _ } = signal.goes_on(here.clone(), &course.connections[agent], &Anything);
        for Next { to, signal } in next {
            match signal {
                Ok(signal) => self.follow(asker, &to, &signal, course)?,
                Err(_cut) => course.branches += 1,
            }
        }
        Ok(())
    }

    /// The node where an agent is: the one that it is pinned to, or one that the asker chooses. None if that is gone.
    fn node_for(&mut self, asker: usize, to: &Address) -> Result<Option<Name>, Violation> {
        let node = match &to.node {
            Some(node) => self.nodes.iter().find(|there| there.is_up && node_name(there.holder.node) == *node),
            None => {
                let Some(choice) = self.choose(asker)? else { return Ok(None) };
                self.end(self.requests.len() - 1)?;
                self.nodes.iter().find(|there| there.is_up && there.holder == choice.holder)
            }
        };
        Ok(node.map(|node| node_name(node.holder.node)))
    }

    fn address(&mut self) -> Address {
        let (agent, node) = (self.dice.index(AGENTS), self.dice.index(self.nodes.len()));
        let node = self.dice.chance(200).then(|| node_name(self.nodes[node].holder.node));
        let agent = AgentId { namespace: Name::default_namespace(), name: name(format!("a{agent}")), key: None };
        Address { node, agent }
    }
}

/// A content that no filter looks at.
struct Anything;

impl Readable for Anything {
    fn text(&self) -> Option<&str> {
        None
    }

    fn field(&self, _name: &str) -> Option<String> {
        None
    }
}

fn index_of(agent: &AgentId) -> usize {
    agent.name.as_str()[1..].parse().expect("an agent is named after its number")
}

fn node_name(node: NodeId) -> Name {
    name(format!("n{}", node.0))
}

fn name(text: String) -> Name {
    Name::new(&text).expect("a letter and a number are a name")
}
