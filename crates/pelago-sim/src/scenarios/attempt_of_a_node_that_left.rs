//! A node that stopped handed back what it had, and the log was slow: it was over, by its own word, before the task was
//! back, which so lost an attempt although nothing had failed. Since then the attempts of a run that takes leave do not
//! count.

use super::Scenario;
use crate::workload::Workload;

pub(super) const SCENARIO: Scenario =
    Scenario { name: "attempt_of_a_node_that_left", workload: Workload::Tasks, seed: 53 };
