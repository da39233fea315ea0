//! Telling all agents of the mesh whose names meet a pattern: each node tells its own, and says how many they were.

use std::time::Duration;

use futures_util::future::join_all;
use pelago_core::{
    id::{Holder, Name},
    link::{Lane, Role},
    message::Content,
    pattern::Pattern,
};
use pelago_wire::{
    headers,
    mesh::{self as wire, kind},
};

use super::router::Router;

/// How long other nodes have to tell their agents.
const BROADCAST_MAX: Duration = Duration::from_secs(5);

/// Whom a broadcast reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reached {
    /// How many nodes told their agents.
    pub nodes: u32,
    /// How many agents were told.
    pub agents: u64,
    /// Nodes that host such agents and did not say that they told them: some may have been told.
    pub missed: Vec<Name>,
}

impl Router {
    /// Tells every agent in memory, on any node, whose name meets the pattern.
    pub(crate) async fn broadcast(&self, to: &Pattern, content: Content) -> Reached {
        let message = wire::encode(&wire::Broadcast {
            to: to.to_string(),
            payload: content.payload.clone(),
            headers: headers::field(content.headers.as_deref()),
        });
        let told = self.homes.hosts_of_any(to).into_iter().map(|holder| {
            let (content, message) = (&content, &message);
            async move { (holder, self.broadcast_at(holder, to, content, message).await) }
        });
        let mut reached = Reached::default();
        for (holder, agents) in join_all(told).await {
            match agents {
                Some(agents) => {
                    reached.nodes += 1;
                    reached.agents += agents;
                }
                None => reached.missed.extend(self.homes.node(holder)),
            }
        }
        reached
    }

    async fn broadcast_at(&self, holder: Holder, to: &Pattern, content: &Content, message: &[u8]) -> Option<u64> {
        if holder == self.homes.me() {
            return Some(self.agents.upgrade()?.broadcast(to, content));
        }
        let link = self.links.get(&self.homes.node(holder)?, Role::Main)?;
        let reply = link.request(Lane::Requests, kind::BROADCAST, message, BROADCAST_MAX).await.ok()?;
        Some(wire::decode::<wire::Reached>("answer to a broadcast", reply).ok()?.agents)
    }
}
