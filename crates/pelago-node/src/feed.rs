//! What was committed, told to the rest of the node.
//!
//! Every batch of writes that the state machine commits passes here once, in order. Attempts begin and end, inboxes are
//! looked into, waiting requests wake and the scheduler learns what waits, all from what the rows now say.

use std::sync::Arc;

use pelago_core::{
    record::{Node, NodeState, Task, Write},
    time::LogTime,
};
use pelago_store::sqlite::{self, Reader};
use tokio::sync::mpsc;

use crate::{
    agents::Agents,
    raft::Told,
    scheduler, timers, view,
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
}

impl Feed {
    /// Runs until consensus ends.
    pub(crate) async fn run(mut self) {
        while let Some(told) = self.told.recv().await {
            match told {
                Told::Writes(writes) => {
                    for write in writes {
                        self.tell(write).await;
                    }
                }
                Told::Replaced => self.begin_anew().await,
            }
        }
    }

    /// Nobody told what led to the rows as they are now: whoever goes by them looks again.
    async fn begin_anew(&mut self) {
        match read_standing(&self.reader).await {
            Ok((nodes, running)) => {
                self.view.replace(nodes);
                self.agents.only_these_run(&running);
            }
            Err(error) => tracing::error!(%error, "the rows that came from another node cannot be read"),
        }
        self.timers.heard(LogTime::ZERO);
        self.waiters.wake_all();
    }

    async fn tell(&mut self, write: Write) {
        match write {
            Write::NewTask { task, input } => {
                self.agents.task_changed(&task, Some(input));
                self.scheduler.task(task).await;
            }
            Write::Task { task, result } => {
                self.agents.task_changed(&task, None);
                let end = End::of(&task, result.as_ref());
                if end.is_some() {
                    self.waiters.ended.wake(task.id, &end);
                }
                self.scheduler.task(task).await;
            }
            Write::Event(event) => self.waiters.told.wake(event.task, &()),
            Write::Message(message) if message.buried.is_none() => self.agents.wake(&message.to),
            Write::Timer { timer, .. } => self.timers.heard(timer.due),
            Write::Node(node) => {
                match node.state {
                    NodeState::Up => self.scheduler.node_up(node.holder(), node.offers.clone()).await,
                    NodeState::Expired => self.scheduler.node_gone(node.holder()).await,
                }
                self.view.put(node);
            }
            Write::Agent { .. }
            | Write::Message(_)
            | Write::MessageGone { .. }
            | Write::TimerBuried { .. }
            | Write::TimerGone { .. }
            | Write::Reply(_)
            | Write::ReplyGone(_)
            | Write::TaskGone(_) => {}
        }
    }
}

/// Reads what a node goes by from the start, and again when all rows were replaced: the nodes, and the tasks that run.
pub(crate) async fn read_standing(reader: &Arc<Reader>) -> Result<(Vec<Node>, Vec<Task>), sqlite::Error> {
    let reader = Arc::clone(reader);
    let read = move || reader.view(|view| Ok((view.nodes()?, view.running_tasks()?)));
    tokio::task::spawn_blocking(read).await.expect("a query does not panic, and the runtime outlives it")
}
