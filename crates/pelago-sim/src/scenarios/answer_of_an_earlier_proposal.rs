//! A claim was proposed twice, because its answer was late. The second answer came when the activation had a commit on
//! its way, and was taken for the answer to that: turns were answered as refused, or run again, while their commit
//! stood. Since then a proposal has a number, and only an answer to the present one counts.

use super::Scenario;
use crate::workload::Workload;

pub(super) const SCENARIO: Scenario =
    Scenario { name: "answer_of_an_earlier_proposal", workload: Workload::Append, seed: 2 };
