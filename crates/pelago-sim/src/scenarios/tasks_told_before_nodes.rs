//! A new leader told its scheduler of running tasks before their node. The node began with nothing running, and when
//! its tasks ended the count went below zero.

use super::Scenario;
use crate::workload::Workload;

pub(super) const SCENARIO: Scenario = Scenario { name: "tasks_told_before_nodes", workload: Workload::Tasks, seed: 3 };
