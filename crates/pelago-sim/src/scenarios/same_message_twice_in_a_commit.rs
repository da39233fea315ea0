//! A look-up found a message that was being handled, and it was delivered again. Both turns were gathered into one
//! commit, which took the message out of the inbox once and had its effect twice: the same gap as with keys.

use super::Scenario;
use crate::workload::Workload;

pub(super) const SCENARIO: Scenario =
    Scenario { name: "same_message_twice_in_a_commit", workload: Workload::Append, seed: 5 };
