//! Rows that were decided and that the database does not have yet.
//!
//! A task is enqueued, assigned and done within a moment, and nobody sees its row in between. So the rows of agents and
//! tasks wait here until they must be there: before a commit, before a rule asks a table for what it keeps nowhere
//! else, or when too many wait. Then each is written once, as it is by now (a write-back cache).

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use pelago_core::{
    id::{AgentId, TaskId},
    record::{Agent, EventKind, IdempotencyKey, Task, TaskEvent},
};

use super::statements::ROWS;

/// How many agents may wait. Few, so that writing them all keeps nobody waiting; an agent that is busy enough to gain by it
/// has its next turn before so many others.
const AGENTS_MAX: usize = 64;
/// How many tasks may wait. One that is under way for longer than it takes so many others to begin is written twice.
const TASKS_MAX: usize = 512;
/// How many tasks that have ended wait for each other. Nothing more will happen to them.
const ENDED_MAX: usize = ROWS;
/// How many bytes of payloads may come before all that waits is written.
const BYTES_MAX: usize = 4 << 20;

/// The rows that wait.
#[derive(Debug)]
pub(super) struct Unwritten {
    agents: HashMap<AgentId, UnwrittenAgent>,
    tasks: HashMap<TaskId, UnwrittenTask>,
    /// Those of the tasks that have an idempotency key.
    keyed: HashMap<IdempotencyKey, TaskId>,
    /// The agents in the order of their first change.
    agents_order: VecDeque<AgentId>,
    /// The tasks in the order of their first change; some may be written by now.
    tasks_order: VecDeque<TaskId>,
    /// Those of them that have ended.
    ended: Vec<TaskId>,
    /// Payloads that came since nothing waited.
    bytes: usize,
    /// The database has no task with a greater id.
    greatest: TaskId,
}

/// In what a row differs from what the database has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Differs {
    /// Not in the columns by which it is indexed.
    InOthers,
    InIndexed,
    /// The database has no such row.
    Whole,
}

#[derive(Debug)]
pub(super) struct UnwrittenAgent {
    pub(super) agent: Agent,
    pub(super) differs: Differs,
    /// Its state, if that changed.
    pub(super) state: Option<Bytes>,
}

#[derive(Debug)]
pub(super) struct UnwrittenTask {
    pub(super) task: Arc<Task>,
    pub(super) differs: Differs,
    /// What comes to it, each in a row of its own.
    pub(super) input: Option<Bytes>,
    pub(super) result: Option<Bytes>,
    pub(super) events: Vec<TaskEvent>,
}

/// Rows that are to be written now.
#[derive(Debug, Default)]
pub(super) struct Due {
    pub(super) agents: Vec<UnwrittenAgent>,
    pub(super) tasks: Vec<UnwrittenTask>,
}

impl Unwritten {
    /// Nothing waits yet, and the database has no task with a greater id.
    pub(super) fn new(greatest: TaskId) -> Self {
        Self {
            agents: HashMap::new(),
            tasks: HashMap::new(),
            keyed: HashMap::new(),
            agents_order: VecDeque::new(),
            tasks_order: VecDeque::new(),
            ended: Vec::new(),
            bytes: 0,
            greatest,
        }
    }

    /// Whether the database may have that task. Ids begin with the time, so it need hardly ever be asked for a new one.
    pub(super) fn may_be_stored(&self, id: TaskId) -> bool {
        id <= self.greatest
    }

    pub(super) fn agent(&self, id: &AgentId) -> Option<&Agent> {
        self.agents.get(id).map(|row| &row.agent)
    }

    pub(super) fn task(&self, id: TaskId) -> Option<&Arc<Task>> {
        self.tasks.get(&id).map(|row| &row.task)
    }

    pub(super) fn task_keyed(&self, key: &IdempotencyKey) -> Option<TaskId> {
        self.keyed.get(key).copied()
    }

    pub(super) fn put_agent(&mut self, agent: &Agent, differs: Differs, state: Option<&Bytes>) {
        self.bytes += state.map_or(0, Bytes::len);
        let Some(row) = self.agents.get_mut(&agent.id) else {
            self.agents_order.push_back(agent.id.clone());
            let row = UnwrittenAgent { agent: agent.clone(), differs, state: state.cloned() };
            self.agents.insert(agent.id.clone(), row);
            return;
        };
        row.agent.clone_from(agent);
        row.differs = row.differs.max(differs);
        if let Some(state) = state {
            row.state = Some(state.clone());
        }
    }

    pub(super) fn new_task(&mut self, task: &Arc<Task>, input: &Bytes) {
        if let Some(key) = &task.idempotency {
            self.keyed.insert(key.clone(), task.id);
        }
        let row = self.task_row(task, Differs::Whole);
        row.input = Some(input.clone());
        self.bytes += input.len();
    }

    pub(super) fn put_task(&mut self, task: &Arc<Task>, differs: Differs, result: Option<&Bytes>) {
        let row = self.task_row(task, differs);
        if let Some(result) = result {
            row.result = Some(result.clone());
            self.bytes += result.len();
        }
        if task.state.is_ended() {
            self.ended.push(task.id);
        }
    }

    /// Adds an event of a task that was put before.
    pub(super) fn add_event(&mut self, event: &TaskEvent) {
        let row = self.tasks.get_mut(&event.task).expect("an event follows the row that counts it");
        row.events.push(event.clone());
        if let EventKind::Progress(note) = &event.kind {
            self.bytes += note.len();
        }
    }

    fn task_row(&mut self, task: &Arc<Task>, differs: Differs) -> &mut UnwrittenTask {
        let order = &mut self.tasks_order;
        let row = self.tasks.entry(task.id).or_insert_with(|| {
            order.push_back(task.id);
            UnwrittenTask { task: Arc::clone(task), differs, input: None, result: None, events: Vec::new() }
        });
        row.task.clone_from(task);
        row.differs = row.differs.max(differs);
        row
    }

    /// Takes out what is too much, those first that wait longest.
    pub(super) fn take_surplus(&mut self) -> Due {
        if self.bytes > BYTES_MAX {
            return self.take_all();
        }
        let mut due = Due::default();
        for id in self.agents_order.drain(..self.agents_order.len().saturating_sub(AGENTS_MAX)) {
            due.agents.extend(self.agents.remove(&id));
        }
        let full = self.ended.len() - self.ended.len() % ENDED_MAX;
        let ended = self.ended.drain(..full).filter_map(|id| self.tasks.remove(&id));
        due.tasks.extend(ended);
        while self.tasks.len() > TASKS_MAX
            && let Some(id) = self.tasks_order.pop_front()
        {
            due.tasks.extend(self.tasks.remove(&id));
        }
        self.greatest = due.greatest().max(self.greatest);
        for key in due.tasks.iter().filter_map(|row| row.task.idempotency.as_ref()) {
            self.keyed.remove(key);
        }
        due
    }

    /// Takes out everything.
    pub(super) fn take_all(&mut self) -> Due {
        let mut all = std::mem::replace(self, Self::new(self.greatest));
        let agents = all.agents_order.drain(..).filter_map(|id| all.agents.remove(&id)).collect();
        let tasks = all.tasks_order.drain(..).filter_map(|id| all.tasks.remove(&id)).collect();
        let due = Due { agents, tasks };
        self.greatest = due.greatest().max(self.greatest);
        due
    }
}

impl Due {
    fn greatest(&self) -> TaskId {
        self.tasks.iter().map(|row| row.task.id).max().unwrap_or(TaskId(0))
    }
}

#[cfg(test)]
mod tests {
    use pelago_core::{
        id::{AgentId, Epoch, Holder, Incarnation, Key, Name, NodeId, TurnId, Version},
        record::{BodyHash, Chain, Phase, Placement, RetryPolicy, TaskState},
        time::LogTime,
    };

    use super::*;

    fn agent(key: usize) -> Agent {
        Agent {
            id: agent_id(Some(Key::new(&key.to_string()).expect("a key"))),
            generation: 1,
            epoch: Epoch(1),
            phase: Phase::Active,
            holder: Holder { node: NodeId(1), incarnation: Incarnation(1) },
            version: Version(1),
            last_turn: TurnId(1),
            chain: Chain([0; 16]),
        }
    }

    fn agent_id(key: Option<Key>) -> AgentId {
        AgentId { namespace: Name::default_namespace(), name: Name::new("cart").expect("a name"), key }
    }

    fn task(id: usize, state: TaskState) -> Arc<Task> {
        Arc::new(Task {
            id: TaskId(id as u128),
            agent: agent_id(None),
            placement: Placement::Pool,
            node: None,
            state,
            priority: 4,
            run_at: LogTime::ZERO,
            policy: RetryPolicy { attempts_max: 1, attempt_ms_max: 1, backoff_ms: 1, backoff_ms_max: 1 },
            attempt: 0,
            token: None,
            holder: None,
            idempotency: None,
            body: BodyHash([0; 16]),
            part_of: None,
            created: LogTime::ZERO,
            changed: LogTime::ZERO,
            events: 0,
            notes: 0,
            reason: None,
        })
    }

    fn ids(due: &Due) -> Vec<u128> {
        due.tasks.iter().map(|row| row.task.id.0).collect()
    }

    #[test]
    fn a_row_that_changes_again_is_written_once_as_it_is_by_then() {
        let mut unwritten = Unwritten::new(TaskId(0));
        unwritten.new_task(&task(1, TaskState::Queued), &Bytes::from_static(b"input"));
        unwritten.put_task(&task(1, TaskState::Done), Differs::InIndexed, Some(&Bytes::from_static(b"result")));
        let due = unwritten.take_all();
        let [row] = due.tasks.as_slice() else { panic!("{due:?}") };
        assert_eq!((row.task.state, row.differs), (TaskState::Done, Differs::Whole));
        assert_eq!((row.input.as_deref(), row.result.as_deref()), (Some(&b"input"[..]), Some(&b"result"[..])));
        assert_eq!(ids(&unwritten.take_all()), []);
    }

    #[test]
    fn those_that_wait_longest_go_first_when_there_are_too_many() {
        let mut unwritten = Unwritten::new(TaskId(0));
        for n in 0..TASKS_MAX + 3 {
            unwritten.new_task(&task(n, TaskState::Queued), &Bytes::new());
        }
        for key in 0..AGENTS_MAX + 2 {
            unwritten.put_agent(&agent(key), Differs::Whole, None);
            unwritten.put_agent(&agent(0), Differs::InOthers, None);
        }
        let due = unwritten.take_surplus();
        assert_eq!(ids(&due), [0, 1, 2]);
        let agents: Vec<_> = due.agents.iter().map(|row| row.agent.id.clone()).collect();
        assert_eq!(agents, [agent(0).id, agent(1).id]);
        assert_eq!(ids(&unwritten.take_surplus()), []);
    }

    #[test]
    fn tasks_that_ended_go_together() {
        let mut unwritten = Unwritten::new(TaskId(0));
        for n in 0..ENDED_MAX + 1 {
            unwritten.new_task(&task(n, TaskState::Queued), &Bytes::new());
            assert_eq!(ids(&unwritten.take_surplus()), []);
        }
        for n in 1..ENDED_MAX + 1 {
            unwritten.put_task(&task(n, TaskState::Done), Differs::InIndexed, None);
        }
        assert_eq!(ids(&unwritten.take_surplus()).len(), ENDED_MAX);
        assert!(unwritten.task(TaskId(1)).is_none() && unwritten.may_be_stored(TaskId(1)));
        assert_eq!(ids(&unwritten.take_all()), [0]);
        assert!(!unwritten.may_be_stored(TaskId(ENDED_MAX as u128 + 1)));
    }

    #[test]
    fn payloads_do_not_gather() {
        let mut unwritten = Unwritten::new(TaskId(0));
        unwritten.new_task(&task(1, TaskState::Queued), &Bytes::from(vec![0; BYTES_MAX]));
        assert_eq!(ids(&unwritten.take_surplus()), []);
        unwritten.new_task(&task(2, TaskState::Queued), &Bytes::from_static(&[0]));
        assert_eq!(ids(&unwritten.take_surplus()), [1, 2]);
    }
}
