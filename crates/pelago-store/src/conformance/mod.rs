//! What every store of the rules must do, whatever its rows stand in.
//!
//! *Is:* one suite, run over SQLite with direct apply, over the simulator's maps and over the embedded store. Each case
//! is a sentence about what a user of the store may rely on.
//!
//! *Is not:* a test of how a store keeps its rows, nor of what happens to it in a crash.

mod agents;
mod batches;
mod connections;
mod effects;
mod messages;
mod nodes;
mod over_sqlite;
mod sessions;
mod tasks;
mod timers;
mod traffic;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use pelago_core::{
    connection::Connection,
    id::{AgentId, Name, NodeId, SessionId, TaskId},
    record::{Agent, IdempotencyKey, Message, Node, Op, Outcome, Reply, Session, SessionEntry, Task, TaskEvent, Timer},
    time::LogTime,
};

pub use over_sqlite::OverSqlite;
pub use traffic::Traffic;
use world::World;

/// A store under test.
pub trait Subject {
    /// Applies one entry of the log and says what became of its items. `index` grows from call to call; a store that
    /// numbers its entries itself may take others, as long as they grow. `time` may go back, as leaders' clocks do.
    fn apply(&mut self, index: u64, time: LogTime, ops: Vec<Op>) -> Vec<Outcome>;
    /// A node.
    fn node(&self, id: NodeId) -> Option<Node>;
    /// An agent.
    fn agent(&self, id: &AgentId) -> Option<Agent>;
    /// An agent's state.
    fn state(&self, id: &AgentId) -> Option<Bytes>;
    /// All messages that wait for an agent, oldest first; those of one sender in the order in which it sent them.
    fn inbox(&self, to: &AgentId) -> Vec<Message>;
    /// All messages of an agent that could not be handled.
    fn buried(&self, to: &AgentId) -> Vec<Message>;
    /// All timers of an agent with their payloads, in the order of their names.
    fn timers(&self, of: &AgentId) -> Vec<(Timer, Bytes)>;
    /// A remembered reply.
    fn reply(&self, key: &IdempotencyKey) -> Option<Reply>;
    /// A task.
    fn task(&self, id: TaskId) -> Option<Task>;
    /// A task's input.
    fn input(&self, id: TaskId) -> Option<Bytes>;
    /// A task's result.
    fn result(&self, id: TaskId) -> Option<Bytes>;
    /// All events of a task, by number.
    fn events(&self, id: TaskId) -> Vec<TaskEvent>;
    /// The connections that were added, each with the agent that it leads on from, in the order of the text of both.
    fn connections(&self) -> Vec<(Name, Connection)>;
    /// A session.
    fn session(&self, id: &SessionId) -> Option<Session>;
    /// All entries of a session that are kept, by number.
    fn session_entries(&self, id: &SessionId) -> Vec<SessionEntry>;
}

/// A case: what it says, and what shows it.
type Case<S> = (&'static str, fn(&mut World<S>));

/// Makes a list of cases out of functions, whose names say what they show.
macro_rules! cases {
    ($($case:ident,)*) => {
        pub(super) fn cases<S: $crate::conformance::Subject>() -> Vec<$crate::conformance::Case<S>> {
            vec![$((stringify!($case), $case),)*]
        }
    };
}
use cases;

/// Runs every case, each on a new and empty store.
///
/// # Panics
/// When cases fail, with their names; what each found was printed before.
pub fn run<S: Subject>(mut make: impl FnMut() -> S) {
    let groups = [
        nodes::cases(),
        agents::cases(),
        effects::cases(),
        messages::cases(),
        timers::cases(),
        connections::cases(),
        sessions::cases(),
        tasks::cases(),
        batches::cases(),
    ];
    let mut failed = Vec::new();
    for (name, case) in groups.into_iter().flatten() {
        let mut world = World::new(make());
        if catch_unwind(AssertUnwindSafe(|| case(&mut world))).is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "{} cases failed: {failed:#?}", failed.len());
}
