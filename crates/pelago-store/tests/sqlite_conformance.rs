//! The conformance suite over SQLite with direct apply.

use bytes::Bytes;
use pelago_core::{
    id::{AgentId, MeshId, NodeId, TaskId},
    record::{Agent, IdempotencyKey, Message, Node, Op, Outcome, Reply, Task, TaskEvent},
    time::LogTime,
};
use pelago_store::{
    conformance::{self, Subject},
    sqlite::{Entry, Error, Machine, Reader, View},
};
use tempfile::TempDir;

/// Entries go straight into the database; reads see what was committed.
struct Direct {
    machine: Machine,
    reader: Reader,
    _directory: TempDir,
}

impl Direct {
    fn new() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let path = directory.path().join("machine.db");
        let machine = Machine::open(&path, MeshId(7)).expect("a new database");
        let reader = Reader::open(&path, 1).expect("the database is there");
        Self { machine, reader, _directory: directory }
    }

    fn view<T>(&self, read: impl FnOnce(&View<'_>) -> Result<T, Error>) -> T {
        self.reader.view(read).expect("the database can be read")
    }
}

impl Subject for Direct {
    fn apply(&mut self, index: u64, time: LogTime, ops: Vec<Op>) -> Vec<Outcome> {
        let entry = Entry { index, log_id: Bytes::new(), time: Some(time), ops, membership: None };
        self.machine.apply(&[entry]).expect("the database can be written").outcomes.remove(0)
    }

    fn node(&self, id: NodeId) -> Option<Node> {
        self.view(|view| view.nodes()).into_iter().find(|node| node.id == id)
    }

    fn agent(&self, id: &AgentId) -> Option<Agent> {
        self.view(|view| view.agent(id)).map(|whole| whole.agent)
    }

    fn state(&self, id: &AgentId) -> Option<Bytes> {
        self.view(|view| view.agent(id)).and_then(|whole| whole.state)
    }

    fn inbox(&self, to: &AgentId) -> Vec<Message> {
        self.view(|view| view.inbox(to, u32::MAX))
    }

    fn buried(&self, to: &AgentId) -> Vec<Message> {
        let all = self.view(|view| view.buried(u32::MAX));
        all.into_iter().filter(|message| message.to == *to).collect()
    }

    fn reply(&self, key: &IdempotencyKey) -> Option<Reply> {
        self.view(|view| view.reply(key))
    }

    fn task(&self, id: TaskId) -> Option<Task> {
        self.view(|view| view.task(id)).map(|whole| whole.task)
    }

    fn input(&self, id: TaskId) -> Option<Bytes> {
        self.view(|view| view.task(id)).map(|whole| whole.input)
    }

    fn result(&self, id: TaskId) -> Option<Bytes> {
        self.view(|view| view.task(id)).and_then(|whole| whole.result)
    }

    fn events(&self, id: TaskId) -> Vec<TaskEvent> {
        self.view(|view| view.events(id, 0, u32::MAX))
    }
}

#[test]
fn sqlite_keeps_the_rules() {
    conformance::run(Direct::new);
}
