//! A store with a log before it, and short words for what cases do to it.

use std::collections::BTreeMap;

use bytes::Bytes;
use pelago_core::{
    id::{AgentId, BootId, DirectoryId, Epoch, FencingToken, Holder, Key, Name, TaskId, TurnId, Version},
    record::{
        Assign, BodyHash, Claim, Enqueue, Expire, Finish, IdempotencyKey, MessageBody, NewTask, Offer, Op, Outcome,
        Placement, Refusal, Register, RetryPolicy, Send, Task, TaskState, Turn, Verdict,
    },
    time::LogTime,
};

use super::Subject;

/// When the log begins: an ordinary day, in milliseconds.
pub(super) const BEGINNING_MS: u64 = 1_800_000_000_000;

/// The largest number that the log and the rows carry: both have signed ones of 64 bits.
pub(super) const NUMBER_MAX: u64 = i64::MAX as u64;

/// How often the tasks of cases are tried.
pub(super) const ATTEMPTS_MAX: u32 = 3;
/// How long an attempt of theirs may take.
pub(super) const ATTEMPT_MS_MAX: u64 = 1_000;

pub(super) struct World<S> {
    pub(super) subject: S,
    index: u64,
    now_ms: u64,
    ids: u128,
}

impl<S: Subject> World<S> {
    pub(super) fn new(subject: S) -> Self {
        Self { subject, index: 0, now_ms: BEGINNING_MS, ids: 0 }
    }

    /// Applies one entry.
    pub(super) fn batch(&mut self, ops: Vec<Op>) -> Vec<Outcome> {
        self.index += 1;
        let items = ops.len();
        let outcomes = self.subject.apply(self.index, LogTime::from_millis(self.now_ms), ops);
        assert_eq!(outcomes.len(), items, "an outcome an item");
        outcomes
    }

    /// Applies one entry of one item.
    pub(super) fn one(&mut self, op: Op) -> Outcome {
        self.batch(vec![op]).remove(0)
    }

    #[track_caller]
    pub(super) fn commit(&mut self, op: Op) {
        assert_eq!(self.one(op), Outcome::Committed);
    }

    #[track_caller]
    pub(super) fn refused(&mut self, op: Op) -> Refusal {
        let outcome = self.one(op);
        let Outcome::Refused(refusal) = outcome else { panic!("it was not refused: {outcome:?}") };
        refusal
    }

    pub(super) fn now(&self) -> LogTime {
        LogTime::from_millis(self.now_ms)
    }

    pub(super) fn wait_ms(&mut self, ms: u64) {
        self.now_ms += ms;
    }

    /// Sets the clock of the next leader behind that of the last.
    pub(super) fn clock_back_ms(&mut self, ms: u64) {
        self.now_ms -= ms;
    }

    /// A number used nowhere else.
    pub(super) fn id(&mut self) -> u128 {
        self.ids += 1;
        self.ids
    }

    #[track_caller]
    pub(super) fn join(&mut self, name: &str) -> Holder {
        let boot = self.id();
        self.register(register(name, boot)).0
    }

    #[track_caller]
    pub(super) fn join_offering(&mut self, name: &str, offers: BTreeMap<Name, Offer>) -> Holder {
        let boot = self.id();
        self.register(Register { offers, ..register(name, boot) }).0
    }

    #[track_caller]
    pub(super) fn register(&mut self, register: Register) -> (Holder, Vec<TaskId>) {
        let outcome = self.one(Op::Register(register));
        let Outcome::Registered { holder, freed } = outcome else { panic!("it was not registered: {outcome:?}") };
        (holder, freed)
    }

    #[track_caller]
    pub(super) fn expire(&mut self, holder: Holder) -> Vec<TaskId> {
        self.end(Expire { holder, left: false })
    }

    /// The run takes leave.
    #[track_caller]
    pub(super) fn leave(&mut self, holder: Holder) -> Vec<TaskId> {
        self.end(Expire { holder, left: true })
    }

    #[track_caller]
    fn end(&mut self, expire: Expire) -> Vec<TaskId> {
        let outcome = self.one(Op::Expire(expire));
        let Outcome::Expired { freed } = outcome else { panic!("it was not expired: {outcome:?}") };
        freed
    }

    #[track_caller]
    pub(super) fn claim(&mut self, agent: &AgentId, seen: u64, holder: Holder) -> Epoch {
        let outcome = self.one(claim(agent, seen, holder));
        let Outcome::Claimed { epoch, .. } = outcome else { panic!("it was not claimed: {outcome:?}") };
        epoch
    }

    /// The next turn of an agent, as its holder would commit it.
    #[track_caller]
    pub(super) fn turn(&mut self, agent: &AgentId) -> Turn {
        let row = self.subject.agent(agent).expect("the agent was claimed");
        Turn {
            agent: agent.clone(),
            epoch: row.epoch,
            holder: row.holder,
            version: row.version,
            turns: 1,
            turn: TurnId(self.id()),
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

    /// A turn that sends `texts`, one message each.
    #[track_caller]
    pub(super) fn sending(&mut self, agent: &AgentId, to: &AgentId, texts: &[&str]) -> Turn {
        let sends = texts.iter().map(|text| message(to, text)).collect();
        Turn { sends, ..self.turn(agent) }
    }

    /// A message from a client.
    pub(super) fn send(&mut self, to: &AgentId, text: &str) -> Op {
        Op::Send(Send { id: self.id(), idempotency: None, body: message(to, text) })
    }

    pub(super) fn inbox(&self, to: &AgentId) -> Vec<Bytes> {
        self.subject.inbox(to).into_iter().map(|message| message.payload).collect()
    }

    pub(super) fn new_task(&mut self, input: &str) -> NewTask {
        let agent = agent("reader");
        let body = BodyHash::of(&agent, input.as_bytes());
        NewTask {
            id: TaskId(self.id()),
            agent,
            placement: Placement::Pool,
            node: None,
            input: Bytes::copy_from_slice(input.as_bytes()),
            priority: 1,
            delay_ms: 0,
            policy: RetryPolicy {
                attempts_max: ATTEMPTS_MAX,
                attempt_ms_max: ATTEMPT_MS_MAX,
                backoff_ms: 100,
                backoff_ms_max: 10_000,
            },
            idempotency: None,
            body,
            part_of: None,
        }
    }

    /// Enqueues a task.
    #[track_caller]
    pub(super) fn queued(&mut self) -> TaskId {
        let task = self.new_task("input");
        self.enqueue(task)
    }

    #[track_caller]
    pub(super) fn enqueue(&mut self, task: NewTask) -> TaskId {
        let id = task.id;
        assert_eq!(self.one(enqueue(task, None)), Outcome::Enqueued { token: None });
        id
    }

    /// Enqueues a task that `holder` works on at once.
    #[track_caller]
    pub(super) fn running(&mut self, holder: Holder) -> (TaskId, FencingToken) {
        let task = self.new_task("input");
        let id = task.id;
        let outcome = self.one(enqueue(task, Some(holder)));
        let Outcome::Enqueued { token: Some(token) } = outcome else { panic!("it was not assigned: {outcome:?}") };
        (id, token)
    }

    #[track_caller]
    pub(super) fn assign(&mut self, task: TaskId, holder: Holder) -> FencingToken {
        let outcome = self.one(Op::Assign(Assign { task, holder }));
        let Outcome::Assigned { token, .. } = outcome else { panic!("it was not assigned: {outcome:?}") };
        token
    }

    #[track_caller]
    pub(super) fn task(&self, id: TaskId) -> Task {
        self.subject.task(id).expect("the task is in the store")
    }

    #[track_caller]
    pub(super) fn state(&self, id: TaskId) -> TaskState {
        self.task(id).state
    }

    /// The kinds of a task's events in order, in a word each; their numbers have no gap.
    #[track_caller]
    pub(super) fn story(&self, id: TaskId) -> String {
        let events = self.subject.events(id);
        assert!((1..).zip(&events).all(|(n, event)| event.n == n), "numbered without a gap: {events:?}");
        assert_eq!(self.task(id).events, events.len() as u64);
        let words: Vec<_> = events.iter().map(|event| word(&event.kind)).collect();
        words.join(" ")
    }
}

fn word(kind: &pelago_core::record::EventKind) -> String {
    use pelago_core::record::EventKind as K;
    match kind {
        K::Queued => "queued".into(),
        K::Running { .. } => "running".into(),
        K::Progress(note) => format!("“{}”", String::from_utf8_lossy(note)),
        K::Retried { .. } => "retried".into(),
        K::Done => "done".into(),
        K::Dead { .. } => "dead".into(),
        K::Cancelled { .. } => "cancelled".into(),
    }
}

pub(super) fn name(text: &str) -> Name {
    Name::new(text).expect("cases use valid names")
}

pub(super) fn agent(text: &str) -> AgentId {
    AgentId { namespace: Name::default_namespace(), name: name(text), key: None }
}

pub(super) fn keyed_agent(text: &str, key: &str) -> AgentId {
    AgentId { key: Some(Key::new(key).expect("cases use valid keys")), ..agent(text) }
}

pub(super) fn key(text: &str) -> IdempotencyKey {
    IdempotencyKey { namespace: Name::default_namespace(), key: text.into() }
}

pub(super) fn register(node: &str, boot: u128) -> Register {
    let directory = node.bytes().fold(1, |hash: u128, byte| hash * 31 + u128::from(byte));
    let offer = Offer::new(Placement::Pool, 8);
    Register {
        name: name(node),
        directory: DirectoryId(directory),
        boot: BootId(boot),
        mesh_address: format!("{node}:50051"),
        http_address: String::new(),
        labels: BTreeMap::from([("zone".into(), "a".into())]),
        offers: BTreeMap::from([(name("reader"), offer)]),
        node: None,
        left: None,
    }
}

pub(super) fn claim(agent: &AgentId, seen: u64, holder: Holder) -> Op {
    Op::Claim(Claim { agent: agent.clone(), seen: Epoch(seen), holder })
}

pub(super) fn message(to: &AgentId, text: &str) -> MessageBody {
    MessageBody { to: to.clone(), payload: Bytes::copy_from_slice(text.as_bytes()) }
}

pub(super) fn enqueue(task: NewTask, assign: Option<Holder>) -> Op {
    Op::Enqueue(Enqueue { task, assign })
}

pub(super) fn finish(task: TaskId, token: FencingToken, verdict: Verdict) -> Finish {
    Finish { task, token, verdict, sends: Vec::new(), enqueues: Vec::new(), append: None }
}

pub(super) fn done(task: TaskId, token: FencingToken) -> Op {
    Op::Finish(finish(task, token, Verdict::Done(Bytes::from_static(b"result"))))
}

pub(super) fn failed(task: TaskId, token: FencingToken, retry_after_ms: u64) -> Op {
    Op::Finish(finish(task, token, Verdict::Failed { reason: "it broke".into(), retry_after_ms }))
}

/// Whether a claim or a commit was fenced off by version `version` at epoch `epoch`.
pub(super) fn is_fenced(refusal: &Refusal, by_epoch: Epoch, at_version: u64) -> bool {
    matches!(refusal, Refusal::Fenced { epoch, version, .. } if (*epoch, *version) == (by_epoch, Version(at_version)))
}
