//! `[shutdown]`

use std::time::Duration;

use super::super::{section::Section, value};

/// The graceful stop on SIGTERM and SIGINT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShutdownConfig {
    /// How long running turns have to end before the node stops without them; 0 waits for none. Shorter than the grace
    /// of what runs the node (systemd 90 s, Kubernetes 30 s), which kills it afterwards.
    pub drain_max: Duration,
}

impl Default for ShutdownConfig {
    fn default() -> Self {
        Self { drain_max: Duration::from_secs(20) }
    }
}

impl ShutdownConfig {
    pub(in super::super) fn read(section: &mut Section<'_>) -> Self {
        let default = Self::default();
        Self { drain_max: section.get("drain_ms_max", value::millis(0..=3_600_000), default.drain_max) }
    }
}
