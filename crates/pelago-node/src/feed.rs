//! What was committed, told to the rest of the node.
//!
//! Every batch of writes that the state machine commits passes here once, in order. Attempts begin and end, inboxes are
//! looked into, waiting requests wake and the scheduler learns what waits, all from what the rows now say.

use std::sync::Arc;

use pelago_core::{
    connection::Connection,
    id::Name,
    record::{Message, Node, NodeState, Task, Write},
    time::LogTime,
};
use pelago_store::sqlite::{self, Reader};
use tokio::sync::mpsc;

use crate::{
    agents::Agents,
    metrics::Metrics,
    raft::Told,
    scheduler::{self, Row},
    timers, view,
    waiters::{End, TaskWaiters},
};

/// Committed batches that wait to be told. When they do, applying waits too.
pub(crate) const BATCHES_MAX: usize = 256;

pub(crate) struct Feed {
    pub(crate) told: mpsc::Receiver<Told>,
    pub(crate) agents: Arc<Agents>,
    pub(crate) timers: Arc<timers::Set>,
    pub(crate) waiters: Arc<TaskWaiters>,
    pub(crate) scheduler: scheduler::Handle,
    pub(crate) view: view::Writer,
    pub(crate) reader: Arc<Reader>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Feed {
    /// Runs until consensus ends.
    pub(crate) async fn run(mut self) {
        while let Some(told) = self.told.recv().await {
            match told {
                Told::Writes { index, writes } => {
                    let mut rows = Vec::new();
                    for write in writes {
                        self.tell(write, index, &mut rows);
                    }
                    self.view.seen(index);
                    self.scheduler.tell(rows).await;
                }
                Told::Replaced => self.begin_anew().await,
            }
        }
    }

    /// Nobody told what led to the rows as they are now: whoever goes by them looks again.
    async fn begin_anew(&mut self) {
        match read_standing(&self.reader).await {
            Ok(Standing { nodes, connections, running }) => {
                self.view.replace(nodes, connections);
                self.agents.only_these_run(&running);
            }
            Err(error) => tracing::error!(%error, "the rows that came from another node cannot be read"),
        }
        self.agents.look_into_all();
        self.timers.heard(LogTime::ZERO);
        self.waiters.wake_all();
    }

    /// Tells everybody but the scheduler, for whom it leaves `rows`, what was written by then.
    fn tell(&mut self, write: Write, index: u64, rows: &mut Vec<Row>) {
        match write {
            Write::NewTask { task, input } => {
                self.agents.task_changed(&task, Some(input));
                rows.push(Row::Task(task));
            }
            Write::Task { task, result } => {
                self.agents.task_changed(&task, None);
                let end = End::of(&task, result.as_ref());
                if end.is_some() {
                    self.waiters.ended.wake(task.id, &end);
                }
                rows.push(Row::Task(task));
            }
            Write::Event(event) => self.waiters.told.wake(event.task, &()),
            Write::Message(message) => match &message.buried {
                None => self.agents.arrived(message, index),
                Some(reason) => self.buried(&message, reason),
            },
            Write::Timer { timer, .. } => self.timers.heard(timer.due),
            Write::Node(node) => {
                match node.state {
                    NodeState::Up => rows.push(Row::NodeUp(node.holder(), node.offers.clone())),
                    NodeState::Expired | NodeState::Left => rows.push(Row::NodeGone(node.holder())),
                }
                self.view.put(node);
            }
            Write::NodeGone(id) => {
                self.view.remove(id);
                rows.push(Row::NodeRemoved(id));
            }
            Write::Connection { from, connection } => self.view.connect(&from, connection),
            Write::ConnectionGone { from, to } => self.view.disconnect(&from, &to),
            Write::Agent { .. }
            | Write::MessageGone { .. }
            | Write::TimerBuried { .. }
            | Write::TimerGone { .. }
            | Write::Reply(_)
            | Write::ReplyGone(_)
            | Write::TaskGone(_)
            | Write::Session(_)
            | Write::SessionEntry(_)
            | Write::SessionEntriesGone { .. }
            | Write::SessionGone(_) => {}
        }
    }

    /// Nobody waits for the reply to a message, so only this tells that it will never be handled. Every node hears of
    /// it, and the one that has the agent in memory is the one that failed at it.
    fn buried(&self, message: &Message, reason: &str) {
        let Message { to, id, .. } = message;
        if self.agents.is_active(to) {
            self.metrics.messages_buried.inc();
            let sender = &id.sender;
            tracing::warn!(agent = %to, %sender, reason, "a message failed too often and is tried no more");
        }
    }
}

/// What a node goes by from the start, and again when all rows were replaced.
pub(crate) struct Standing {
    pub(crate) nodes: Vec<Node>,
    /// Those that were added while the mesh runs, each with the agent that it leads on from.
    pub(crate) connections: Vec<(Name, Connection)>,
    /// The tasks that run.
    pub(crate) running: Vec<Task>,
}

/// Reads it.
pub(crate) async fn read_standing(reader: &Arc<Reader>) -> Result<Standing, sqlite::Error> {
    let reader = Arc::clone(reader);
    let read = move || {
        reader.view(|view| {
            let (nodes, connections, running) = (view.nodes()?, view.connections()?, view.running_tasks()?);
            Ok(Standing { nodes, connections, running })
        })
    };
    tokio::task::spawn_blocking(read).await.expect("a query does not panic, and the runtime outlives it")
}
