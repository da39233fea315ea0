//! A request to enqueue arrived twice. The scheduler reserved room for it twice and gave it back once, so that the node
//! had room for one task less until the next leader.

use super::Scenario;
use crate::workload::Workload;

pub(super) const SCENARIO: Scenario = Scenario { name: "task_enqueued_twice", workload: Workload::Tasks, seed: 22 };
