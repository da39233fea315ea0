//! Random ops and outcomes, the same for the same seed.

use std::sync::Arc;

use bytes::Bytes;
use pelago_core::{
    connection::{Connection, Filter},
    id::{
        Address, AgentId, BootId, DirectoryId, Epoch, FencingToken, Holder, Incarnation, Key, Name, NodeId, SessionId,
        TaskId, TimerName, TurnId, Version,
    },
    message::TraceContext,
    record::{
        Append, Assign, BodyHash, Cancel, Claim, Connect, ConnectionChange, Dismiss, EndSession, Enqueue, Expire,
        Finish, IdempotencyKey, MessageBody, MessageId, NewTask, Offer, Op, Outcome, PartOf, Placement, Progress,
        Refusal, Register, Release, Remember, Remove, Retry, RetryPolicy, Return, Send, Sender, SessionTurn, SetTimer,
        Sweep, TaskSession, TimeOut, TimerChange, Turn, Verdict,
    },
    time::LogTime,
};

use crate::samples::{OP_KINDS, OUTCOME_KINDS};

/// A xorshift generator.
pub(crate) struct Dice(u64);

impl Dice {
    /// Dice that fall the same way for the same seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// An op of any sort.
    pub(crate) fn op(&mut self) -> Op {
        let task = TaskId(self.wide());
        match self.below(OP_KINDS) {
            0 => Op::Register(self.register()),
            1 => Op::Expire(Expire { holder: self.holder(), left: self.below(2) == 0 }),
            2 => Op::Claim(Claim { agent: self.agent(), seen: Epoch(self.number()), holder: self.holder() }),
            3 => Op::Turn(self.turn()),
            4 => Op::Release(Release { agent: self.agent(), epoch: Epoch(self.number()), holder: self.holder() }),
            5 => Op::Send(self.send()),
            6 => Op::Enqueue(Enqueue { task: self.task(), assign: self.maybe(Self::holder) }),
            7 => Op::Assign(Assign { task, holder: self.holder() }),
            8 => Op::Finish(self.finish()),
            9 => Op::Progress(self.progress()),
            10 => Op::Cancel(Cancel { task, reason: self.text(), dead_too: self.coin() }),
            11 => Op::Retry(Retry { task }),
            12 => Op::TimeOut(TimeOut { task, token: self.token(), retry_after_ms: self.number() }),
            13 => Op::Sweep(self.sweep()),
            14 => Op::Remove(Remove { node: NodeId(self.number()) }),
            15 => Op::Dismiss(Dismiss { agent: self.agent() }),
            16 => Op::Connect(self.connect()),
            17 => Op::Append(self.append()),
            _ => Op::EndSession(EndSession { session: self.session() }),
        }
    }

    /// An outcome of any sort.
    pub(crate) fn outcome(&mut self) -> Outcome {
        let task = TaskId(self.wide());
        let (epoch, version) = (Epoch(self.number()), Version(self.number()));
        let refusal = match self.below(OUTCOME_KINDS) {
            0 => return Outcome::Committed,
            1 => {
                return Outcome::Registered { holder: self.holder(), freed: self.some(|d| TaskId(d.wide())) };
            }
            2 => {
                return Outcome::Expired { freed: self.some(|d| TaskId(d.wide())) };
            }
            3 => return Outcome::Claimed { epoch, version },
            4 => {
                return Outcome::Enqueued { token: self.maybe(Self::token) };
            }
            5 => {
                return Outcome::Assigned { token: self.token(), attempt: self.small() };
            }
            6 => return Outcome::Swept { rows: self.number() },
            7 => return Outcome::Existing { task },
            8 => {
                return Outcome::Duplicate { position: self.small(), reply: self.payload() };
            }
            9 => Refusal::Fenced { epoch, version, holder: self.holder(), live: self.coin() },
            10 => Refusal::HolderGone(self.holder()),
            11 => Refusal::StaleToken { task, token: self.token() },
            12 => Refusal::MessageGone { position: self.small() },
            13 => Refusal::Full(self.agent()),
            14 => Refusal::TooLarge { what: "the reply", bytes: self.number(), bytes_max: self.number() },
            15 => Refusal::Conflict { key: self.text() },
            16 => Refusal::NoTask(task),
            17 => Refusal::WrongState { task, state: self.pick(&["queued", "running", "done", "dead", "cancelled"]) },
            18 => Refusal::TooEarly,
            19 => Refusal::NameTaken(NodeId(self.number())),
            20 => Refusal::NotAlone,
            21 => Refusal::NodeUp(NodeId(self.number())),
            22 => Refusal::NodeRemoved(NodeId(self.number())),
            _ => Refusal::Overtaken { position: self.small() },
        };
        Outcome::Refused(refusal)
    }

    fn register(&mut self) -> Register {
        Register {
            name: self.name(),
            directory: DirectoryId(self.wide()),
            boot: BootId(self.wide()),
            mesh_address: self.text(),
            http_address: self.text(),
            labels: self.some(|d| (d.text(), d.text())).into_iter().collect(),
            offers: self.some(|d| (d.name(), d.offer())).into_iter().collect(),
            node: self.maybe(|d| NodeId(d.number())),
            left: self.maybe(|d| Incarnation(d.number())),
        }
    }

    fn offer(&mut self) -> Offer {
        Offer {
            placement: self.placement(),
            tasks_max: self.small(),
            layer: self.maybe(Self::name),
            connections: self.some(|d| Connection { to: d.address(), only: d.maybe(Self::filter) }),
        }
    }

    fn connect(&mut self) -> Connect {
        let change = match self.below(2) {
            0 => ConnectionChange::Set(self.maybe(Self::filter)),
            _ => ConnectionChange::Gone,
        };
        Connect { from: self.name(), to: self.address(), change }
    }

    fn address(&mut self) -> Address {
        Address { node: self.maybe(Self::name), agent: self.agent() }
    }

    fn filter(&mut self) -> Filter {
        let text = self.pick(&["urgent*", "kind=plan", "kind=", "日本*"]);
        text.parse().expect("a filter")
    }

    fn placement(&mut self) -> Placement {
        self.pick(&[Placement::Resident, Placement::Pool, Placement::Keyed])
    }

    fn turn(&mut self) -> Turn {
        Turn {
            agent: self.agent(),
            epoch: Epoch(self.number()),
            holder: self.holder(),
            version: Version(self.number()),
            turns: self.number().max(1),
            turn: TurnId(self.wide()),
            state: self.maybe(Self::payload),
            consumed: self.some(Self::message_id),
            buried: self.some(|d| (d.message_id(), d.text())),
            replies: self.some(|d| Remember { key: d.key(), request: d.hash(), reply: d.payload() }),
            finishes: self.some(Self::finish),
            sends: self.some(Self::message),
            enqueues: self.some(Self::task),
            timers: self.some(Self::timer_change),
            appends: self.some(Self::append),
        }
    }

    fn append(&mut self) -> Append {
        let turn = SessionTurn {
            session: self.session(),
            id: TurnId(self.wide()),
            seen: self.number(),
            after: TurnId(self.wide()),
            ttl_ms: self.number(),
        };
        Append {
            turn,
            holder: self.holder(),
            said: self.payload(),
            replied: self.payload(),
            sends: self.some(Self::message),
            enqueues: self.some(Self::task),
        }
    }

    fn session(&mut self) -> SessionId {
        SessionId { agent: self.agent(), name: self.name() }
    }

    fn timer_change(&mut self) -> TimerChange {
        let set = |d: &mut Self| SetTimer { after_ms: d.number(), payload: d.payload() };
        TimerChange { name: self.timer(), set: self.maybe(set) }
    }

    fn timer(&mut self) -> TimerName {
        TimerName::new(&self.pick(&["noon", "a@b c/d:e", "正午"]).repeat(1 + self.below(9))).expect("a valid name")
    }

    fn message_id(&mut self) -> MessageId {
        let sender = match self.below(4) {
            0 => Sender::Agent(self.agent()),
            1 => Sender::Task(TaskId(self.wide())),
            2 => Sender::Client(self.wide()),
            _ => Sender::Timer(self.timer()),
        };
        MessageId { sender, generation: self.number(), seq: self.number() }
    }

    fn message(&mut self) -> MessageBody {
        MessageBody { to: self.agent(), payload: self.payload() }
    }

    fn send(&mut self) -> Send {
        Send { id: self.wide(), idempotency: self.maybe(|d| (d.key(), d.hash())), body: self.message() }
    }

    fn task(&mut self) -> NewTask {
        let policy = RetryPolicy {
            attempts_max: self.small(),
            attempt_ms_max: self.number(),
            backoff_ms: self.number(),
            backoff_ms_max: self.number(),
        };
        NewTask {
            id: TaskId(self.wide()),
            agent: self.agent(),
            placement: self.placement(),
            node: self.maybe(|d| NodeId(d.number())),
            input: self.payload(),
            priority: self.below(256) as u8,
            delay_ms: self.number(),
            policy,
            idempotency: self.maybe(Self::key),
            body: self.hash(),
            part_of: self.maybe(|d| Arc::new(d.part_of())),
        }
    }

    fn part_of(&mut self) -> PartOf {
        let session = self.maybe(|d| TaskSession { name: d.name(), ttl_ms: d.maybe(Self::number) });
        PartOf { trace: Some(self.trace()), session, affinity: self.maybe(Self::text) }
    }

    fn trace(&mut self) -> TraceContext {
        let state = self.maybe(|d| format!("a={}", d.below(9)).into());
        TraceContext { trace: self.wide() | 1, span: self.number() | 1, sampled: self.below(2) == 0, state }
    }

    fn finish(&mut self) -> Finish {
        let verdict = match self.below(4) {
            0 => Verdict::Done(self.payload()),
            1 => Verdict::Failed { reason: self.text(), retry_after_ms: self.number() },
            2 => Verdict::Hopeless { reason: self.text() },
            _ => Verdict::Returned(self.pick(&[Return::NotTaken, Return::SessionBusy, Return::Interrupted])),
        };
        let (sends, enqueues) = (self.some(Self::message), self.some(Self::task));
        let append = self.maybe(|d| Box::new(d.append()));
        Finish { task: TaskId(self.wide()), token: self.token(), verdict, sends, enqueues, append }
    }

    fn progress(&mut self) -> Progress {
        let (task, token) = (TaskId(self.wide()), self.token());
        Progress { task, token, first: self.number(), notes: self.some(Self::payload) }
    }

    fn sweep(&mut self) -> Sweep {
        Sweep { ended_before: self.time(), keyed_ended_before: self.time(), rows_max: self.small() }
    }

    /// A point in the log's time.
    pub(crate) fn time(&mut self) -> LogTime {
        LogTime::from_millis(self.number())
    }

    fn agent(&mut self) -> AgentId {
        let key = self.maybe(|d| Key::new(&d.pick(&["alice", "a/b:c", "日本"]).repeat(1 + d.below(9))));
        AgentId { namespace: self.name(), name: self.name(), key: key.transpose().expect("a valid key") }
    }

    fn name(&mut self) -> Name {
        let text = self.pick(&["a", "cart", "prod.ml.training", "x_-9"]).repeat(1 + self.below(7));
        Name::new(&text).expect("a valid name")
    }

    fn key(&mut self) -> IdempotencyKey {
        IdempotencyKey { namespace: self.name(), key: self.text() }
    }

    fn holder(&mut self) -> Holder {
        Holder { node: NodeId(self.number()), incarnation: Incarnation(self.number()) }
    }

    fn token(&mut self) -> FencingToken {
        FencingToken { index: self.number(), item: self.small() }
    }

    fn hash(&mut self) -> BodyHash {
        BodyHash(self.wide().to_le_bytes())
    }

    fn text(&mut self) -> String {
        self.pick(&["", "why", "\0\n", "größer → 大"]).repeat(self.below(4))
    }

    fn payload(&mut self) -> Bytes {
        let length = self.pick(&[0, 1, 7, 127, 128, 300]);
        (0..length).map(|_| self.bits() as u8).collect()
    }

    fn wide(&mut self) -> u128 {
        (u128::from(self.bits()) << 64 | u128::from(self.bits())) >> self.pick(&[0, 8, 100, 127])
    }

    /// A number of any size up to the largest allowed, small ones as likely as large ones.
    fn number(&mut self) -> u64 {
        self.bits() >> (1 + self.below(63))
    }

    fn small(&mut self) -> u32 {
        (self.bits() >> 32) as u32 >> self.below(32)
    }

    fn maybe<T>(&mut self, make: impl Fn(&mut Self) -> T) -> Option<T> {
        self.coin().then(|| make(self))
    }

    fn some<T>(&mut self, make: impl Fn(&mut Self) -> T) -> Vec<T> {
        (0..self.below(4)).map(|_| make(self)).collect()
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}
