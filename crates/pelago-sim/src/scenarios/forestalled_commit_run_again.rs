//! A commit stood, but its answer was lost. When it was proposed again another node had taken the agent and moved on,
//! so it was refused as fenced, and its asks were sent to the new owner, where they had their effect a second time.
//! Since then what cannot be recognised is answered as unknown, unless the row shows that no commit came between.

use super::Scenario;
use crate::workload::Workload;

pub(super) const SCENARIO: Scenario =
    Scenario { name: "forestalled_commit_run_again", workload: Workload::Append, seed: 299 };
