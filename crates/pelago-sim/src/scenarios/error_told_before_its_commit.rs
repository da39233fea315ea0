//! A turn failed and told in its error what the agent held, turns before it included that were not committed yet. Their
//! commit was refused: somebody had been told of what never was. Since then an error waits for the turns before it.

use super::Scenario;
use crate::workload::Workload;

pub(super) const SCENARIO: Scenario =
    Scenario { name: "error_told_before_its_commit", workload: Workload::Append, seed: 0 };
