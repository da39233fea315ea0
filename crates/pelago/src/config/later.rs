//! Keys that users of other systems, or of a later Pelago, will write, and that this version does not honour.
//!
//! They are refused by name: a setting that is accepted and does nothing is worse than an error. A row leaves when its
//! key arrives in a section.

/// The key, with `*` for a name the user chose, and what holds until it arrives.
const LATER: &[(&str, &str)] = &[
    ("server.websocket_enabled", "remove it; progress is read by `GET /api/v1/tasks/ID/events`"),
    ("mesh.role", "remove it; every node runs agents and answers requests"),
    ("mesh.max_agents", "remove it; agents.NAME.concurrency bounds the turns of one agent"),
    ("mesh.tls", "remove it; until then every listener stays on loopback"),
    ("mesh.discovery.refresh_interval", "remove it; static addresses are not refreshed"),
    ("mesh.discovery.dns_name", "list the addresses in mesh.peers"),
    ("mesh.discovery.hosted_zone", "list the addresses in mesh.peers"),
    ("mesh.session_affinity", "remove it; a session is always on one node: `pelago agent ask --session`"),
    ("mesh.affinity_ttl", "say it of an agent: `session = { ttl_ms = 3600000 }`"),
    ("mesh.access_control", "remove it; until then every listener stays on loopback"),
    ("mesh.failure_detection", "remove it; the limits of a node's lease are fixed"),
    ("agents.*.model", "declare an agent of a built-in kind"),
    ("database", "remove it; durable data is kept in store.dir on the nodes themselves"),
    ("telemetry.tags", "remove it; spans carry the name of their node"),
    ("metrics", "remove it; figures are at `GET /metrics` of the HTTP listener"),
];

/// What to do about `key`, if it is one of them.
pub(super) fn hint(key: &str) -> Option<&'static str> {
    LATER.iter().find(|(row, _)| matches(row, key)).map(|(_, hint)| *hint)
}

fn matches(row: &str, key: &str) -> bool {
    match row.split_once('*') {
        Some((before, after)) => key.starts_with(before) && key.ends_with(after),
        None => row == key,
    }
}
