//! The simulator's store: the rules of [`pelago_core::record`] over maps.
//!
//! *Is:* the same `decide` and the same writes as on a real node, over rows that a test may read as they are.
//!
//! *Is not:* a second statement of any rule, nor durable: what a crash leaves is the simulator's to say.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use bytes::Bytes;
use pelago_core::{
    connection::Connection,
    id::{Address, AgentId, Incarnation, Name, NodeId, SessionId, TaskId, TimerName},
    record::{
        Agent, IdempotencyKey, Message, MessageId, Node, Op, Outcome, Reply, Rows, Session, SessionEntry, Stamp, Task,
        TaskEvent, TaskState, Timer, Write, decide,
    },
    time::LogTime,
};

/// All rows of one store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MapRows {
    /// The time of the log.
    pub time: LogTime,
    /// Nodes.
    pub nodes: BTreeMap<NodeId, Arc<Node>>,
    /// Keyed agents.
    pub agents: BTreeMap<AgentId, Agent>,
    /// Their states; none before an agent's first.
    pub states: BTreeMap<AgentId, Bytes>,
    /// Messages by receiver, buried ones included. A receiver without any has no entry.
    pub messages: BTreeMap<AgentId, BTreeMap<MessageId, Message>>,
    /// Timers with their payloads, buried ones included.
    pub timers: BTreeMap<(AgentId, TimerName), (Timer, Bytes)>,
    /// Remembered replies.
    pub replies: BTreeMap<IdempotencyKey, Reply>,
    /// Tasks.
    pub tasks: BTreeMap<TaskId, Arc<Task>>,
    /// Inputs of tasks.
    pub inputs: BTreeMap<TaskId, Bytes>,
    /// Results of tasks that are done.
    pub results: BTreeMap<TaskId, Bytes>,
    /// Events of tasks by number.
    pub events: BTreeMap<(TaskId, u64), TaskEvent>,
    /// Connections by the agent that they lead on from and where they lead.
    pub connections: BTreeMap<(Name, Address), Connection>,
    /// Sessions.
    pub sessions: BTreeMap<SessionId, Session>,
    /// Entries of sessions by number.
    pub session_entries: BTreeMap<(SessionId, u64), SessionEntry>,
    /// The task of each idempotency key.
    keyed: BTreeMap<IdempotencyKey, TaskId>,
}

impl MapRows {
    /// Applies the items of one entry of the log, each after the one before.
    pub fn apply(&mut self, index: u64, stamp: Option<LogTime>, ops: &[Op]) -> Vec<Outcome> {
        self.time = stamp.map_or(self.time, |stamp| stamp.max(self.time));
        let mut writes = Vec::new();
        let mut apply = |(item, op)| {
            let Ok(outcome) = decide(Stamp { index, item, time: self.time }, op, &*self, &mut writes);
            writes.drain(..).for_each(|write| self.apply_write(write));
            outcome
        };
        (0..).zip(ops).map(&mut apply).collect()
    }

    /// Makes one write of a rule true.
    pub fn apply_write(&mut self, write: Write) {
        match write {
            Write::Node(node) => {
                self.nodes.insert(node.id, Arc::new(node));
            }
            Write::NodeGone(id) => {
                self.nodes.remove(&id);
            }
            Write::Agent { agent, state } => {
                self.states.extend(state.map(|state| (agent.id.clone(), state)));
                self.agents.insert(agent.id.clone(), agent);
            }
            Write::Message(message) => {
                self.messages.entry(message.to.clone()).or_default().insert(message.id.clone(), message);
            }
            Write::MessageGone { to, id } => self.message_gone(&to, &id),
            Write::Timer { timer, payload } => {
                self.timers.insert((timer.agent.clone(), timer.name.clone()), (timer, payload));
            }
            Write::TimerBuried { agent, name, reason } => {
                let (timer, _) = self.timers.get_mut(&(agent, name)).expect("a timer is buried that is there");
                timer.buried = Some(reason);
            }
            Write::TimerGone { agent, name } => {
                self.timers.remove(&(agent, name));
            }
            Write::Reply(reply) => {
                self.replies.insert(reply.key.clone(), reply);
            }
            Write::ReplyGone(key) => {
                self.replies.remove(&key);
            }
            Write::NewTask { task, input } => self.new_task(task, input),
            Write::Task { task, result } => {
                self.results.extend(result.map(|result| (task.id, result)));
                self.tasks.insert(task.id, task);
            }
            Write::Event(event) => {
                self.events.insert((event.task, event.n), event);
            }
            Write::TaskGone(id) => self.task_gone(id),
            Write::Connection { from, connection } => {
                self.connections.insert((from, connection.to.clone()), connection);
            }
            Write::ConnectionGone { from, to } => {
                self.connections.remove(&(from, to));
            }
            Write::Session(session) => {
                self.sessions.insert(session.id.clone(), session);
            }
            Write::SessionEntry(entry) => {
                self.session_entries.insert((entry.session.clone(), entry.n), entry);
            }
            Write::SessionEntriesGone { session, before } => {
                self.session_entries.retain(|(of, n), _| *of != session || *n >= before);
            }
            Write::SessionGone(session) => {
                self.session_entries.retain(|(of, _), _| *of != session);
                self.sessions.remove(&session);
            }
        }
    }

    fn message_gone(&mut self, to: &AgentId, id: &MessageId) {
        if let Some(messages) = self.messages.get_mut(to) {
            messages.remove(id);
            if messages.is_empty() {
                self.messages.remove(to);
            }
        }
    }

    fn new_task(&mut self, task: Arc<Task>, input: Bytes) {
        self.keyed.extend(task.idempotency.clone().map(|key| (key, task.id)));
        self.inputs.insert(task.id, input);
        let before = self.tasks.insert(task.id, task);
        assert!(before.is_none(), "a new task replaced another: {before:?}");
    }

    fn task_gone(&mut self, id: TaskId) {
        let task = self.tasks.remove(&id);
        if let Some(key) = task.as_ref().and_then(|task| task.idempotency.as_ref()) {
            self.keyed.remove(key);
        }
        self.inputs.remove(&id);
        self.results.remove(&id);
        self.events.retain(|(task, _), _| *task != id);
    }

    /// The messages that wait for an agent, oldest first; those of one sender in the order in which it sent them.
    #[must_use]
    pub fn inbox(&self, to: &AgentId) -> Vec<&Message> {
        let mut inbox: Vec<_> = self.waiting(to).collect();
        inbox.sort_by_key(|message| (message.sent, &message.id));
        inbox
    }

    fn waiting(&self, to: &AgentId) -> impl Iterator<Item = &Message> {
        self.messages_to(to).filter(|message| message.buried.is_none())
    }

    /// All timers of an agent with their payloads, in the order of their names.
    pub fn timers_of(&self, agent: &AgentId) -> impl Iterator<Item = &(Timer, Bytes)> {
        self.timers.iter().filter(move |((of, _), _)| of == agent).map(|(_, timer)| timer)
    }

    /// The timers of an agent that are due at `now`, as the messages that they are then, oldest first.
    #[must_use]
    pub fn timers_due(&self, agent: &AgentId, now: LogTime) -> Vec<Message> {
        let due = self.timers_of(agent).filter(|(timer, _)| timer.buried.is_none() && timer.due <= now);
        let mut due: Vec<_> = due
            .map(|(timer, payload)| Message {
                to: agent.clone(),
                id: MessageId::of_timer(timer.name.clone(), timer.set),
                payload: payload.clone(),
                sent: timer.due,
                buried: None,
            })
            .collect();
        due.sort_by_key(|message| message.sent);
        due
    }

    /// All messages of an agent, buried ones included, in the order of their ids.
    pub fn messages_to(&self, to: &AgentId) -> impl Iterator<Item = &Message> {
        self.messages.get(to).into_iter().flat_map(BTreeMap::values)
    }
}

impl Rows for MapRows {
    type Error = Infallible;

    fn node(&self, id: NodeId) -> Result<Option<Arc<Node>>, Infallible> {
        Ok(self.nodes.get(&id).cloned())
    }

    fn node_named(&self, name: &Name) -> Result<Option<Arc<Node>>, Infallible> {
        Ok(self.nodes.values().find(|node| node.name == *name).cloned())
    }

    fn agent(&self, id: &AgentId) -> Result<Option<Agent>, Infallible> {
        Ok(self.agents.get(id).cloned())
    }

    fn message(&self, to: &AgentId, id: &MessageId) -> Result<Option<Message>, Infallible> {
        Ok(self.messages.get(to).and_then(|messages| messages.get(id)).cloned())
    }

    fn inbox_len(&self, to: &AgentId) -> Result<u64, Infallible> {
        Ok(self.waiting(to).count() as u64)
    }

    fn messages_buried(&self, to: &AgentId, rows_max: u32) -> Result<Vec<MessageId>, Infallible> {
        let buried = self.messages_to(to).filter(|message| message.buried.is_some());
        Ok(buried.take(rows_max as usize).map(|message| message.id.clone()).collect())
    }

    fn timer(&self, agent: &AgentId, name: &TimerName) -> Result<Option<Timer>, Infallible> {
        Ok(self.timers.get(&(agent.clone(), name.clone())).map(|(timer, _)| timer.clone()))
    }

    fn timers_len(&self, agent: &AgentId) -> Result<u64, Infallible> {
        Ok(self.timers_of(agent).count() as u64)
    }

    fn reply(&self, key: &IdempotencyKey) -> Result<Option<Reply>, Infallible> {
        Ok(self.replies.get(key).cloned())
    }

    fn replies_expired(&self, before: LogTime, rows_max: u32) -> Result<Vec<IdempotencyKey>, Infallible> {
        let mut expired: Vec<_> = self.replies.values().filter(|reply| reply.expires < before).collect();
        expired.sort_by_key(|reply| (reply.expires, &reply.key));
        Ok(expired.into_iter().take(rows_max as usize).map(|reply| reply.key.clone()).collect())
    }

    fn task(&self, id: TaskId) -> Result<Option<Arc<Task>>, Infallible> {
        Ok(self.tasks.get(&id).cloned())
    }

    fn task_keyed(&self, key: &IdempotencyKey) -> Result<Option<Arc<Task>>, Infallible> {
        Ok(self.keyed.get(key).and_then(|id| self.tasks.get(id)).cloned())
    }

    fn tasks_held_by(&self, incarnation: Incarnation) -> Result<Vec<Arc<Task>>, Infallible> {
        let held = |task: &&Arc<Task>| {
            task.state == TaskState::Running && task.holder.is_some_and(|holder| holder.incarnation == incarnation)
        };
        Ok(self.tasks.values().filter(held).cloned().collect())
    }

    fn tasks_ended(&self, before: LogTime, keyed: bool, rows_max: u32) -> Result<Vec<TaskId>, Infallible> {
        let ended =
            |task: &&Arc<Task>| task.state.is_ended() && task.changed < before && task.idempotency.is_some() == keyed;
        let mut ended: Vec<_> = self.tasks.values().filter(ended).map(|task| (task.changed, task.id)).collect();
        ended.sort_unstable();
        Ok(ended.into_iter().take(rows_max as usize).map(|(_, id)| id).collect())
    }

    fn connections(&self, namespace: &Name, from: &Name) -> Result<Vec<Connection>, Infallible> {
        let is_one = |of: &Name, to: &Address| of == from && to.agent.namespace == *namespace;
        let ones = self.connections.iter().filter(|((of, to), _)| is_one(of, to));
        let mut ones: Vec<_> = ones.map(|(_, connection)| connection.clone()).collect();
        ones.sort_by_key(|connection| connection.to.to_string());
        Ok(ones)
    }

    fn session(&self, id: &SessionId) -> Result<Option<Session>, Infallible> {
        Ok(self.sessions.get(id).cloned())
    }

    fn sessions_len(&self) -> Result<u64, Infallible> {
        Ok(self.sessions.len() as u64)
    }

    fn session_entry(&self, id: &SessionId, n: u64) -> Result<Option<SessionEntry>, Infallible> {
        Ok(self.session_entries.get(&(id.clone(), n)).cloned())
    }

    fn sessions_ended(&self, before: LogTime, rows_max: u32) -> Result<Vec<Session>, Infallible> {
        let mut ended: Vec<_> = self.sessions.values().filter(|session| session.expires() < before).collect();
        ended.sort_by_key(|session| (session.expires(), &session.id));
        Ok(ended.into_iter().take(rows_max as usize).cloned().collect())
    }
}
