//! A client asked again under its key, and both asks ran before the next commit. The rules look at the rows as they
//! were before the commit, so neither found the other, and the ask had its effect twice. Since then an activation
//! commits before it runs the same thing again, and the rules refuse an item that names one key, message or task twice.

use super::Scenario;
use crate::workload::Workload;

pub(super) const SCENARIO: Scenario =
    Scenario { name: "same_key_twice_in_a_commit", workload: Workload::Append, seed: 2 };
