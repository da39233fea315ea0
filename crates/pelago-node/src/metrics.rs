//! What a node counts. One registry feeds `/metrics`.
//!
//! Labels are bounded: states, outcomes and reasons, never a key or an id.

use std::sync::atomic::AtomicU64;

use pelago_core::connection::Outcome;
use prometheus_client::{
    encoding::text::encode,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::gossip::GossipMetrics;
use pelago_core::route::{Reason, Strategy};

/// The counters of one node. Adding to one is a single atomic operation.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Turns committed by agents of this node.
    pub turns: Counter,
    /// Turns that failed.
    pub turns_failed: Counter,
    /// Commits refused because another node held the agent, or a later run of it did.
    pub zombie_commit_blocked: Counter,
    /// Attempts at tasks begun on this node.
    pub attempts: Counter,
    /// Keyed agents in memory.
    pub agents_active: Gauge,
    /// Messages told to agents of this node whose turns counted.
    pub told: Counter,
    /// Messages that this node could tell no agent, or whose turns failed. Of one whose commit is in doubt nobody knows.
    pub told_lost: Counter,
    /// Messages of topics given to those who subscribe at this node: each once for each of them.
    pub published: Counter,
    /// Messages of topics that those who subscribe here were too slow for, or that another node had no room for.
    pub published_missed: Counter,
    /// Deliveries refused because a mailbox was full.
    pub busy: Counter,
    /// Choices between nodes that host a pool, by strategy and reason.
    route_choices: Family<[(&'static str, &'static str); 2], Counter>,
    /// How often a node was left out because a pool failed there too often.
    pub route_breaker_openings: Counter,
    /// How often one was taken in again.
    pub route_breaker_closings: Counter,
    /// Messages that agents of this node failed at too often, and that are tried no more.
    pub messages_buried: Counter,
    /// Answered HTTP requests.
    pub http_requests: Counter,
    /// Connections with other nodes, and with clients that do not speak HTTP.
    pub connections: Gauge,
    /// Bytes sent over links.
    pub link_bytes_sent: Counter,
    /// Bytes received over links.
    pub link_bytes_received: Counter,
    /// Whether this node leads the mesh: 0 or 1.
    pub leads: Gauge,
    /// Raft's term, as this node knows it.
    pub consensus_term: Gauge<u64, AtomicU64>,
    /// How often this node saw another leader, or the same one in another term.
    pub leader_changes: Counter,
    /// The last entry of the log that was applied here.
    pub applied_index: Gauge<u64, AtomicU64>,
    /// Batches proposed by this node.
    pub batches: Counter,
    /// Items per batch.
    pub batch_items: Histogram,
    /// Flushes of the log on this node.
    pub log_flushes: Counter,
    /// Signals that this node took, by whether all their branches ended well.
    pub signals: Family<[(&'static str, &'static str); 1], Counter>,
    /// Signals that this node had agents of other nodes take.
    pub signals_remote: Counter,
    /// Signals that agents of this node handle, or wait for what follows.
    pub signals_handled: Gauge,
    /// Branches of signals that ended on this node, by their outcome.
    pub signal_branches: Family<[(&'static str, &'static str); 1], Counter>,
    /// Turns of sessions on this node, by what became of them.
    pub session_turns: Family<[(&'static str, &'static str); 1], Counter>,
    /// Gossip.
    pub gossip: GossipMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            turns: Counter::default(),
            turns_failed: Counter::default(),
            zombie_commit_blocked: Counter::default(),
            attempts: Counter::default(),
            agents_active: Gauge::default(),
            told: Counter::default(),
            told_lost: Counter::default(),
            published: Counter::default(),
            published_missed: Counter::default(),
            busy: Counter::default(),
            route_choices: Family::default(),
            route_breaker_openings: Counter::default(),
            route_breaker_closings: Counter::default(),
            messages_buried: Counter::default(),
            http_requests: Counter::default(),
            connections: Gauge::default(),
            link_bytes_sent: Counter::default(),
            link_bytes_received: Counter::default(),
            leads: Gauge::default(),
            consensus_term: Gauge::default(),
            leader_changes: Counter::default(),
            applied_index: Gauge::default(),
            batches: Counter::default(),
            batch_items: Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            log_flushes: Counter::default(),
            signals: Family::default(),
            signals_remote: Counter::default(),
            signals_handled: Gauge::default(),
            signal_branches: Family::default(),
            session_turns: Family::default(),
            gossip: GossipMetrics::default(),
        }
    }
}

impl Metrics {
    /// Counts one batch.
    pub(crate) fn batch(&self, items: usize) {
        self.batches.inc();
        self.batch_items.observe(items as f64);
    }

    /// Counts a signal that has ended.
    pub(crate) fn signal(&self, is_whole: bool) {
        let outcome = if is_whole { "whole" } else { "partial" };
        self.signals.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// Counts a branch of a signal.
    pub(crate) fn branch(&self, outcome: &Outcome) {
        self.signal_branches.get_or_create(&[("outcome", outcome.word())]).inc();
    }

    /// Counts a turn of a session.
    pub(crate) fn session_turn(&self, outcome: &'static str) {
        self.session_turns.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// Counts connections along which a signal did not go since its tree had no room.
    pub(crate) fn left_out(&self, connections: u32) {
        if connections > 0 {
            self.signal_branches.get_or_create(&[("outcome", "left_out")]).inc_by(connections.into());
        }
    }

    /// The counters of choices between nodes.
    pub(crate) fn route_counters(&self) -> RouteCounters {
        let of = |strategy: Strategy, reason: Reason| {
            let labels = [("strategy", strategy.name()), ("reason", reason.name())];
            self.route_choices.get_or_create_owned(&labels)
        };
        RouteCounters(Strategy::ALL.map(|strategy| Reason::ALL.map(|reason| of(strategy, reason))))
    }

    /// All counters in OpenMetrics text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry()).expect("writing to a string does not fail");
        text
    }

    fn registry(&self) -> Registry {
        let mut all = Registry::with_prefix("pelago");
        all.register("turns", "Turns committed by agents of this node", self.turns.clone());
        all.register("turns_failed", "Turns that failed", self.turns_failed.clone());
        let help = "Commits refused because the agent was held elsewhere";
        all.register("zombie_commit_blocked", help, self.zombie_commit_blocked.clone());
        all.register("task_attempts", "Attempts at tasks begun on this node", self.attempts.clone());
        all.register("agents_active", "Keyed agents in memory", self.agents_active.clone());
        all.register("told", "Messages told to agents of this node whose turns counted", self.told.clone());
        all.register("told_lost", "Messages told to agents that had no effect", self.told_lost.clone());
        all.register("published", "Messages of topics given to subscribers of this node", self.published.clone());
        let help = "Messages of topics that subscribers, or other nodes, missed since they were slow";
        all.register("published_missed", help, self.published_missed.clone());
        all.register("mailbox_busy", "Deliveries refused because a mailbox was full", self.busy.clone());
        let help = "Choices between nodes that host a pool";
        all.register("route_choices", help, self.route_choices.clone());
        let help = "How often a node was left out because a pool failed there too often";
        all.register("route_breaker_openings", help, self.route_breaker_openings.clone());
        let help = "How often a node that was left out was taken in again";
        all.register("route_breaker_closings", help, self.route_breaker_closings.clone());
        let help = "Messages that agents of this node failed at too often";
        all.register("messages_dead", help, self.messages_buried.clone());
        all.register("http_requests", "Answered HTTP requests", self.http_requests.clone());
        let help = "Connections with other nodes, and with clients that do not speak HTTP";
        all.register("connections_active", help, self.connections.clone());
        all.register("link_bytes_sent", "Bytes sent over links", self.link_bytes_sent.clone());
        all.register("link_bytes_received", "Bytes received over links", self.link_bytes_received.clone());
        all.register("consensus_is_leader", "Whether this node leads the mesh", self.leads.clone());
        all.register("consensus_term", "Raft's term, as this node knows it", self.consensus_term.clone());
        let help = "How often this node saw another leader, or the same one in another term";
        all.register("consensus_leader_changes", help, self.leader_changes.clone());
        all.register("log_applied_index", "Last entry of the log applied here", self.applied_index.clone());
        all.register("batches", "Batches proposed by this node", self.batches.clone());
        all.register("batch_items", "Items per batch", self.batch_items.clone());
        all.register("log_flushes", "Flushes of the log on this node", self.log_flushes.clone());
        let help = "Signals that this node took and that have ended: whole, or with branches that came to nothing";
        all.register("signals", help, self.signals.clone());
        all.register("signals_remote", "Signals that went on to agents of other nodes", self.signals_remote.clone());
        let help = "Signals that agents of this node handle now, or wait for what follows";
        all.register("signals_handled", help, self.signals_handled.clone());
        let help = "Branches of signals by what came of them here; hop_limit, cycle and left_out were not gone along";
        all.register("signal_branches", help, self.signal_branches.clone());
        let help = "Turns of sessions on this node: appended, overtaken by another, interrupted, refused since another ran, or failed";
        all.register("session_turns", help, self.session_turns.clone());
        self.gossip.register(&mut all);
        all
    }
}

/// Counts choices between nodes: found once, since finding one takes longer than a choice.
#[derive(Debug)]
pub(crate) struct RouteCounters([[Counter; Reason::ALL.len()]; Strategy::ALL.len()]);

impl RouteCounters {
    pub(crate) fn chosen(&self, strategy: Strategy, reason: Reason) {
        self.0[strategy as usize][reason as usize].inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_rendered() {
        let metrics = Metrics::default();
        metrics.turns.inc_by(3);
        metrics.batch(4);
        let text = metrics.render();
        assert!(text.contains("pelago_turns_total 3"), "{text}");
        assert!(text.contains("pelago_batch_items_sum 4.0"), "{text}");
    }
}
