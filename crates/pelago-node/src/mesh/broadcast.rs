//! Telling all agents of the mesh whose names meet a pattern: each node tells its own, and says how many they were.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use pelago_core::{
    id::{Holder, Name},
    link::{Lane, Role},
    pattern::Pattern,
};
use pelago_wire::mesh::{self as wire, kind};

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
    pub(crate) async fn broadcast(&self, to: &Pattern, payload: Bytes) -> Reached {
        let message = wire::encode(&wire::Broadcast { to: to.to_string(), payload: payload.clone() });
        let told = self.homes.hosts_of_any(to).into_iter().map(|holder| {
            let (payload, message) = (&payload, &message);
            async move { (holder, self.broadcast_at(holder, to, payload, message).await) }
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

    async fn broadcast_at(&self, holder: Holder, to: &Pattern, payload: &Bytes, message: &[u8]) -> Option<u64> {
        if holder == self.homes.me() {
            return Some(self.agents.upgrade()?.broadcast(to, payload));
        }
        let link = self.links.get(&self.homes.node(holder)?, Role::Main)?;
        let reply = link.request(Lane::Requests, kind::BROADCAST, message, BROADCAST_MAX).await.ok()?;
        Some(wire::decode::<wire::Reached>("answer to a broadcast", reply).ok()?.agents)
    }
}
