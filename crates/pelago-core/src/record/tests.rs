//! What the rules say within one op, which no store can show them; the rules over whole stores are the conformance
//! suite's.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use bytes::Bytes;

use super::*;
use crate::{
    connection::Connection,
    id::{
        AgentId, BootId, DirectoryId, Epoch, FencingToken, Holder, Incarnation, Key, Name, NodeId, SessionId, TaskId,
        TimerName, TurnId, Version,
    },
};

#[test]
fn only_who_committed_its_state_and_nothing_else_goes_on_without_reading() {
    let table = Table::new();
    let turn = Turn { state: Some(Bytes::new()), ..table.turn(1) };
    let message = MessageId::of_timer(timer("t"), Version(1));
    let others = [
        Turn { consumed: vec![message.clone()], ..turn.clone() },
        Turn { buried: vec![(message, String::new())], ..turn.clone() },
        Turn { timers: vec![set("t", 1)], ..turn.clone() },
        Turn { enqueues: vec![table.new_task(1)], ..turn.clone() },
    ];
    assert!(others.into_iter().all(|other| !Op::Turn(other).needs_no_reading(&Outcome::Committed)));
    let turn = Op::Turn(turn);
    assert!(turn.needs_no_reading(&Outcome::Committed));
    assert!(!turn.needs_no_reading(&Outcome::Refused(Refusal::HolderGone(table.holder))));
}

#[test]
fn a_message_has_its_effect_once_even_within_one_commit() {
    let mut table = Table::new();
    let id = table.sent();
    let once = Turn { consumed: vec![id.clone()], ..table.turn(1) };
    let gone = |position| Outcome::Refused(Refusal::MessageGone { position });
    for twice in [
        Turn { consumed: vec![id.clone(), id.clone()], ..once.clone() },
        Turn { buried: vec![(id.clone(), "no".into())], ..once.clone() },
    ] {
        assert_eq!(table.apply(&Op::Turn(twice)), gone(1));
    }
    assert_eq!(table.apply(&Op::Turn(once)), Outcome::Committed);
    let later = Turn { consumed: vec![id], version: Version(1), ..table.turn(2) };
    assert_eq!(table.apply(&Op::Turn(later)), gone(0));
}

#[test]
fn a_mesh_has_so_many_sessions_and_no_more_until_one_ends() {
    let mut table = Table::new();
    table.sessions = SESSIONS_MAX;
    let session = SessionId { agent: agent(), name: Name::new("s").expect("valid") };
    let turn = SessionTurn { session: session.clone(), id: TurnId(1), seen: 0, after: TurnId(0), ttl_ms: 1_000 };
    let begin = Append {
        turn,
        holder: table.holder,
        said: Bytes::from("hello"),
        replied: Bytes::from("hi"),
        sends: vec![MessageBody { to: agent(), payload: Bytes::new() }],
        enqueues: Vec::new(),
    };
    let mut writes = Vec::new();
    let Ok(refused) = decide(table.stamp(), &Op::Append(begin.clone()), &table, &mut writes);
    let Outcome::Refused(Refusal::TooLarge { what, bytes_max: SESSIONS_MAX, .. }) = refused else {
        panic!("there is no room: {refused:?}")
    };
    assert_eq!((what, writes), ("the sessions of the mesh", vec![]));

    table.sessions -= 1;
    let mut writes = Vec::new();
    assert_eq!(decide(table.stamp(), &Op::Append(begin), &table, &mut writes), Ok(Outcome::Committed));
    assert!(writes.iter().any(|write| matches!(write, Write::Session(row) if row.id == session)));
}

#[test]
fn a_key_is_answered_once_even_within_one_commit() {
    let mut table = Table::new();
    let remember = Remember { key: key("k"), request: BodyHash([0; 16]), reply: Bytes::from("r") };
    let once = Turn { replies: vec![remember.clone()], ..table.turn(1) };
    let twice = Turn { replies: vec![remember.clone(), remember], ..once.clone() };
    assert_eq!(table.apply(&Op::Turn(twice)), Outcome::Refused(Refusal::Conflict { key: "k".into() }));
    assert_eq!(table.apply(&Op::Turn(once.clone())), Outcome::Committed);
    let later = Turn { version: Version(1), turn: TurnId(2), ..once };
    assert_eq!(table.apply(&Op::Turn(later)), Outcome::Duplicate { position: 0, reply: Bytes::from("r") });
}

#[test]
fn a_task_has_one_result_even_within_one_commit() {
    let mut table = Table::new();
    let (task, token) = table.running(7);
    let finish =
        |result| Finish { task, token, verdict: Verdict::Done(result), sends: vec![], enqueues: vec![], append: None };
    let once = Turn { finishes: vec![finish(Bytes::from("1"))], ..table.turn(1) };
    let twice = Turn { finishes: vec![finish(Bytes::from("1")), finish(Bytes::from("2"))], ..once.clone() };
    assert_eq!(table.apply(&Op::Turn(twice)), Outcome::Refused(Refusal::StaleToken { task, token }));
    assert_eq!(table.apply(&Op::Turn(once)), Outcome::Committed);
}

#[test]
fn a_task_that_is_there_is_not_made_again_by_a_turn() {
    let mut table = Table::new();
    let (task, _) = table.running(7);
    let turn = Turn { enqueues: vec![table.new_task(7), table.new_task(8), table.new_task(8)], ..table.turn(1) };
    assert_eq!(table.apply(&Op::Turn(turn)), Outcome::Committed);
    assert_eq!(table.tasks.keys().copied().collect::<Vec<_>>(), [TaskId(7), TaskId(8)]);
    assert_eq!(table.tasks[&task].state, TaskState::Running);
}

#[test]
fn a_task_that_its_node_could_not_take_is_not_given_back_at_once() {
    let mut table = Table::new();
    let (task, token) = table.running(7);
    let verdict = Verdict::Returned(Return::NotTaken);
    let finish = Finish { task, token, verdict, sends: vec![], enqueues: vec![], append: None };
    assert_eq!(table.apply(&Op::Finish(finish)), Outcome::Committed);
    assert_eq!(table.tasks[&task].attempt, 0);
    let assign = Op::Assign(Assign { task, holder: table.holder });
    assert_eq!(table.apply(&assign), Outcome::Refused(Refusal::TooEarly));
    table.time = table.time.plus_millis(RETURNED_PAUSE_MS);
    assert!(matches!(table.apply(&assign), Outcome::Assigned { attempt: 1, .. }));
}

#[test]
fn a_task_that_a_question_interrupts_keeps_its_place_in_the_queue() {
    let mut table = Table::new();
    let (task, token) = table.running(7);
    let before = table.tasks[&task].run_at;
    let verdict = Verdict::Returned(Return::Interrupted);
    let finish = Finish { task, token, verdict, sends: vec![], enqueues: vec![], append: None };
    assert_eq!(table.apply(&Op::Finish(finish)), Outcome::Committed);
    assert_eq!((table.tasks[&task].attempt, table.tasks[&task].run_at), (0, before));
    let assign = Op::Assign(Assign { task, holder: table.holder });
    assert!(matches!(table.apply(&assign), Outcome::Assigned { attempt: 1, .. }));
}

#[test]
fn an_op_that_is_refused_writes_nothing() {
    let mut table = Table::new();
    let id = table.sent();
    let stale = FencingToken { index: 0, item: 0 };
    let finish = Finish {
        task: TaskId(7),
        token: stale,
        verdict: Verdict::Done(Bytes::new()),
        sends: vec![],
        enqueues: vec![],
        append: None,
    };
    let turn = Turn { consumed: vec![id], finishes: vec![finish], ..table.turn(1) };
    let mut writes = vec![Write::TaskGone(TaskId(1))];
    let Ok(outcome) = decide(table.stamp(), &Op::Turn(turn), &table, &mut writes);
    assert!(!outcome.is_success(), "{outcome:?}");
    assert_eq!(writes, [Write::TaskGone(TaskId(1))]);
}

#[test]
fn a_timer_fires_once_even_within_one_commit() {
    let mut table = Table::new();
    let id = table.timer_set("tick", 0);
    let once = Turn { consumed: vec![id.clone()], version: Version(1), ..table.turn(9) };
    for twice in [
        Turn { consumed: vec![id.clone(), id.clone()], ..once.clone() },
        Turn { buried: vec![(id.clone(), "no".into())], ..once.clone() },
    ] {
        assert_eq!(table.apply(&Op::Turn(twice)), Outcome::Refused(Refusal::MessageGone { position: 1 }));
    }
    assert_eq!(table.apply(&Op::Turn(once)), Outcome::Committed);
    assert_eq!(table.timers.len(), 0);
}

#[test]
fn a_timer_that_fires_may_be_set_again_by_its_own_turn() {
    let mut table = Table::new();
    let first = table.timer_set("tick", 0);
    let timers = vec![set("tick", 50), set("tick", 70)];
    let again = Turn { consumed: vec![first.clone()], timers, version: Version(1), ..table.turn(9) };
    assert_eq!(table.apply(&Op::Turn(again)), Outcome::Committed);
    let row = &table.timers[&timer("tick")];
    assert_eq!((row.set, row.due), (Version(2), table.time.plus_millis(70)), "the last of the two counts");
    let stale = Turn { consumed: vec![first], version: Version(2), ..table.turn(10) };
    assert_eq!(table.apply(&Op::Turn(stale)), Outcome::Refused(Refusal::MessageGone { position: 0 }));
}

#[test]
fn setting_a_timer_anew_needs_no_room() {
    let mut table = Table::new();
    let timers: Vec<_> = (0..TIMERS_PER_AGENT_MAX).map(|n| set(&n.to_string(), 0)).collect();
    assert_eq!(table.apply(&Op::Turn(Turn { timers, ..table.turn(1) })), Outcome::Committed);
    let next = |timers, consumed| Turn { version: Version(1), timers, consumed, ..table.turn(2) };
    let full = next(vec![set("one more", 0)], vec![]);
    let fired = next(vec![set("0", 9), set("one more", 0)], vec![MessageId::of_timer(timer("1"), Version(1))]);
    let cancelled = TimerChange { name: timer("2"), set: None };
    let cancelled = next(vec![set("one more", 0), cancelled], vec![]);
    assert!(matches!(table.apply(&Op::Turn(full)), Outcome::Refused(Refusal::TooLarge { .. })));
    let mut writes = Vec::new();
    let Ok(outcome) = decide(table.stamp(), &Op::Turn(cancelled), &table, &mut writes);
    assert_eq!(outcome, Outcome::Committed);
    assert_eq!(table.apply(&Op::Turn(fired)), Outcome::Committed);
    assert_eq!(table.timers.len(), TIMERS_PER_AGENT_MAX);
}

/// As much of a store as these tests need: one node, which holds one agent.
struct Table {
    index: u64,
    time: LogTime,
    holder: Holder,
    nodes: BTreeMap<NodeId, Arc<Node>>,
    agents: BTreeMap<AgentId, Agent>,
    messages: BTreeMap<MessageId, Message>,
    timers: BTreeMap<TimerName, Timer>,
    replies: BTreeMap<IdempotencyKey, Reply>,
    tasks: BTreeMap<TaskId, Arc<Task>>,
    /// How many there are, of which none is here.
    sessions: u64,
}

impl Table {
    fn new() -> Self {
        let mut table = Self {
            index: 0,
            time: LogTime::from_millis(1),
            holder: Holder { node: NodeId(1), incarnation: Incarnation(1) },
            nodes: BTreeMap::new(),
            agents: BTreeMap::new(),
            messages: BTreeMap::new(),
            timers: BTreeMap::new(),
            replies: BTreeMap::new(),
            tasks: BTreeMap::new(),
            sessions: 0,
        };
        let register = Register {
            name: Name::new("node").expect("valid"),
            directory: DirectoryId(1),
            boot: BootId(1),
            mesh_address: String::new(),
            http_address: String::new(),
            labels: BTreeMap::new(),
            offers: BTreeMap::new(),
            node: None,
            left: None,
        };
        table.apply(&Op::Register(register));
        table.apply(&Op::Claim(Claim { agent: agent(), seen: Epoch(0), holder: table.holder }));
        table
    }

    fn stamp(&self) -> Stamp {
        Stamp { index: self.index, item: 0, time: self.time }
    }

    fn apply(&mut self, op: &Op) -> Outcome {
        self.index += 1;
        let mut writes = Vec::new();
        let Ok(outcome) = decide(self.stamp(), op, self, &mut writes);
        writes.into_iter().for_each(|write| self.write(write));
        outcome
    }

    fn write(&mut self, write: Write) {
        match write {
            Write::Node(node) => drop(self.nodes.insert(node.id, Arc::new(node))),
            Write::Agent { agent, .. } => drop(self.agents.insert(agent.id.clone(), agent)),
            Write::Message(message) => drop(self.messages.insert(message.id.clone(), message)),
            Write::MessageGone { id, .. } => drop(self.messages.remove(&id)),
            Write::Timer { timer, .. } => drop(self.timers.insert(timer.name.clone(), timer)),
            Write::TimerGone { name, .. } => drop(self.timers.remove(&name)),
            Write::TimerBuried { name, reason, .. } => {
                self.timers.get_mut(&name).expect("it was there").buried = Some(reason);
            }
            Write::Reply(reply) => drop(self.replies.insert(reply.key.clone(), reply)),
            Write::NewTask { task, .. } | Write::Task { task, .. } => drop(self.tasks.insert(task.id, task)),
            Write::Event(_) => {}
            Write::Connection { .. } | Write::ConnectionGone { .. } => unreachable!("nobody connects anything here"),
            Write::Session(_) | Write::SessionEntry(_) | Write::SessionEntriesGone { .. } | Write::SessionGone(_) => {
                unreachable!("nobody converses here")
            }
            Write::NodeGone(_) | Write::ReplyGone(_) | Write::TaskGone(_) => unreachable!("nothing is forgotten here"),
        }
    }

    /// A message waits for the agent.
    fn sent(&mut self) -> MessageId {
        let body = MessageBody { to: agent(), payload: Bytes::new() };
        self.apply(&Op::Send(Send { id: 1, idempotency: None, body }));
        self.messages.keys().next().expect("a message was sent").clone()
    }

    fn running(&mut self, n: u128) -> (TaskId, FencingToken) {
        let enqueue = Enqueue { task: self.new_task(n), assign: Some(self.holder) };
        let Outcome::Enqueued { token: Some(token) } = self.apply(&Op::Enqueue(enqueue)) else {
            unreachable!("the node has room")
        };
        (TaskId(n), token)
    }

    fn new_task(&self, n: u128) -> NewTask {
        NewTask {
            id: TaskId(n),
            agent: agent(),
            placement: Placement::Keyed,
            node: None,
            input: Bytes::new(),
            priority: 4,
            delay_ms: 0,
            policy: RetryPolicy { attempts_max: 3, attempt_ms_max: 1_000, backoff_ms: 10, backoff_ms_max: 100 },
            idempotency: None,
            body: BodyHash([0; 16]),
            part_of: None,
        }
    }

    fn turn(&self, n: u128) -> Turn {
        Turn {
            agent: agent(),
            epoch: Epoch(1),
            holder: self.holder,
            version: Version(0),
            turns: 1,
            turn: TurnId(n),
            state: None,
            consumed: Vec::new(),
            buried: Vec::new(),
            replies: Vec::new(),
            finishes: Vec::new(),
            sends: Vec::new(),
            enqueues: Vec::new(),
            timers: Vec::new(),
            appends: Vec::new(),
        }
    }

    /// A timer of the agent is due `after_ms` from now.
    fn timer_set(&mut self, name: &str, after_ms: u64) -> MessageId {
        let row = &self.agents[&agent()];
        let (version, turn) = (row.version, TurnId(row.last_turn.0 + 1));
        let timers = vec![set(name, after_ms)];
        assert_eq!(self.apply(&Op::Turn(Turn { version, turn, timers, ..self.turn(0) })), Outcome::Committed);
        MessageId::of_timer(timer(name), Version(version.0 + 1))
    }
}

impl Rows for Table {
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

    fn message(&self, _to: &AgentId, id: &MessageId) -> Result<Option<Message>, Infallible> {
        Ok(self.messages.get(id).cloned())
    }

    fn inbox_len(&self, _to: &AgentId) -> Result<u64, Infallible> {
        Ok(self.messages.len() as u64)
    }

    fn messages_buried(&self, _to: &AgentId, _rows_max: u32) -> Result<Vec<MessageId>, Infallible> {
        Ok(Vec::new())
    }

    fn timer(&self, _agent: &AgentId, name: &TimerName) -> Result<Option<Timer>, Infallible> {
        Ok(self.timers.get(name).cloned())
    }

    fn timers_len(&self, _agent: &AgentId) -> Result<u64, Infallible> {
        Ok(self.timers.len() as u64)
    }

    fn reply(&self, key: &IdempotencyKey) -> Result<Option<Reply>, Infallible> {
        Ok(self.replies.get(key).cloned())
    }

    fn replies_expired(&self, _before: LogTime, _rows_max: u32) -> Result<Vec<IdempotencyKey>, Infallible> {
        Ok(Vec::new())
    }

    fn task(&self, id: TaskId) -> Result<Option<Arc<Task>>, Infallible> {
        Ok(self.tasks.get(&id).cloned())
    }

    fn task_keyed(&self, key: &IdempotencyKey) -> Result<Option<Arc<Task>>, Infallible> {
        Ok(self.tasks.values().find(|task| task.idempotency.as_ref() == Some(key)).cloned())
    }

    fn tasks_held_by(&self, _incarnation: Incarnation) -> Result<Vec<Arc<Task>>, Infallible> {
        Ok(Vec::new())
    }

    fn tasks_ended(&self, _before: LogTime, _keyed: bool, _rows_max: u32) -> Result<Vec<TaskId>, Infallible> {
        Ok(Vec::new())
    }

    fn connections(&self, _namespace: &Name, _from: &Name) -> Result<Vec<Connection>, Infallible> {
        Ok(Vec::new())
    }

    fn session(&self, _id: &SessionId) -> Result<Option<Session>, Infallible> {
        Ok(None)
    }

    fn sessions_len(&self) -> Result<u64, Infallible> {
        Ok(self.sessions)
    }

    fn session_entry(&self, _id: &SessionId, _n: u64) -> Result<Option<SessionEntry>, Infallible> {
        Ok(None)
    }

    fn sessions_ended(&self, _before: LogTime, _rows_max: u32) -> Result<Vec<Session>, Infallible> {
        Ok(Vec::new())
    }
}

fn agent() -> AgentId {
    let key = Some(Key::new("alice").expect("valid"));
    AgentId { namespace: Name::default_namespace(), name: Name::new("cart").expect("valid"), key }
}

fn key(text: &str) -> IdempotencyKey {
    IdempotencyKey { namespace: Name::default_namespace(), key: text.into() }
}

fn timer(name: &str) -> TimerName {
    TimerName::new(name).expect("valid")
}

fn set(name: &str, after_ms: u64) -> TimerChange {
    TimerChange { name: timer(name), set: Some(SetTimer { after_ms, payload: Bytes::new() }) }
}
