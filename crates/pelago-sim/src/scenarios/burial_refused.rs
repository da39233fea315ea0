//! A message that had failed too often was marked as such, and its burial was in a commit that another turn spoilt. Run
//! again it failed again, and counting that attempt overflowed; had it succeeded, it would have been buried with its
//! effects kept. Since then the burial is noted with the commit, and not on the message.

use super::Scenario;
use crate::workload::Workload;

pub(super) const SCENARIO: Scenario = Scenario { name: "burial_refused", workload: Workload::Append, seed: 5 };
