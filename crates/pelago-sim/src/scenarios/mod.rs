//! Bugs that the simulator found, each with the seed that showed it.
//!
//! A seed makes another run once the simulator itself draws its chances in another order; the exact behaviour of each
//! is also tested beside its core.

mod answer_of_an_earlier_proposal;
mod attempt_of_a_node_that_left;
mod burial_refused;
mod error_told_before_its_commit;
mod forestalled_commit_run_again;
mod same_key_twice_in_a_commit;
mod same_message_twice_in_a_commit;
mod task_enqueued_twice;
mod tasks_told_before_nodes;

use crate::workload::Workload;

/// A run that once failed.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// What went wrong.
    pub name: &'static str,
    /// What clients did.
    pub workload: Workload,
    /// The seed.
    pub seed: u64,
}

/// All of them.
pub const ALL: [Scenario; 9] = [
    answer_of_an_earlier_proposal::SCENARIO,
    attempt_of_a_node_that_left::SCENARIO,
    burial_refused::SCENARIO,
    error_told_before_its_commit::SCENARIO,
    forestalled_commit_run_again::SCENARIO,
    same_key_twice_in_a_commit::SCENARIO,
    same_message_twice_in_a_commit::SCENARIO,
    task_enqueued_twice::SCENARIO,
    tasks_told_before_nodes::SCENARIO,
];
