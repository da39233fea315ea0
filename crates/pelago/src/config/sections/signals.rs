//! `[signals]`

use pelago_core::connection::{HOPS, HOPS_MAX};

use super::super::{section::Section, value};

/// What a signal gets when its starter says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignalDefaults {
    /// How many hops a path may have: from agent to agent, the first included. More than your longest chain of
    /// connections has; best fewer than 5.
    pub hops_max: u32,
}

impl Default for SignalDefaults {
    fn default() -> Self {
        Self { hops_max: HOPS }
    }
}

impl SignalDefaults {
    pub(in super::super) fn read(section: &mut Section<'_>) -> Self {
        Self { hops_max: section.get("hops_max", value::number(1..=HOPS_MAX), Self::default().hops_max) }
    }
}
