//! `[server]`

use super::super::{
    address::{LoopbackAddr, LoopbackHost},
    section::Section,
    value,
};

/// The HTTP listener: API, health, metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Whether to listen at all. Off for a node that only runs agents; any other node of the mesh answers for it.
    pub enabled: bool,
    /// The address to listen on: loopback only, until there is TLS and authentication.
    pub host: LoopbackHost,
    /// The port; 0 takes a free one.
    pub port: u16,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self { enabled: true, host: LoopbackHost::V4, port: 8080 }
    }
}

impl ServerConfig {
    /// Where to listen.
    #[must_use]
    pub const fn listen_addr(&self) -> LoopbackAddr {
        self.host.with_port(self.port)
    }

    pub(in super::super) fn read(section: &mut Section<'_>) -> Self {
        let default = Self::default();
        Self {
            enabled: section.get("enabled", value::boolean, default.enabled),
            host: section.get("host", value::loopback_host, default.host),
            port: section.get("port", value::number(0..=u16::MAX), default.port),
        }
    }
}
