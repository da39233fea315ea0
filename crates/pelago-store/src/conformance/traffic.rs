//! Random batches that are mostly sensible: what two stores must answer alike, whatever it is.

use std::sync::Arc;

use bytes::Bytes;
use pelago_core::{
    id::{AgentId, Epoch, FencingToken, Holder, NodeId, SessionId, TaskId, TimerName, TurnId, Version},
    message::TraceContext,
    record::{
        Append, Assign, BodyHash, Cancel, Claim, Dismiss, EndSession, Expire, Finish, MessageBody, MessageId, NewTask,
        Op, Outcome, PartOf, Placement, Progress, Release, Remember, Remove, Retry, RetryPolicy, Return,
        SESSION_ENTRY_BYTES_MAX, Send, SessionTurn, SetTimer, Sweep, TaskSession, TimeOut, TimerChange, Turn, Verdict,
    },
    time::LogTime,
};

use super::{
    Subject,
    world::{BEGINNING_MS, agent, enqueue, finish, key, keyed_agent, message, name, register},
};

const NODES: [&str; 4] = ["n1", "n2", "n3", "n4"];
const BATCH_ITEMS_MAX: u64 = 12;
/// How many ops are remembered to be sent again.
const SENT_MAX: usize = 32;

/// An endless source of batches. The same seed over stores that answer alike gives the same batches.
#[derive(Debug)]
pub struct Traffic {
    random: u64,
    now_ms: u64,
    ids: u128,
    /// Runs that were registered, some of them over.
    holders: Vec<Holder>,
    /// Tasks that were proposed, some of them refused.
    tasks: Vec<TaskId>,
    tokens: Vec<(TaskId, FencingToken)>,
    sent: Vec<Op>,
}

impl Traffic {
    /// Traffic by `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Self {
            random,
            now_ms: BEGINNING_MS,
            ids: 0,
            holders: Vec::new(),
            tasks: Vec::new(),
            tokens: Vec::new(),
            sent: Vec::new(),
        }
    }

    /// The next batch and its stamp, with a look at what is in the store.
    pub fn next(&mut self, subject: &impl Subject) -> (LogTime, Vec<Op>) {
        // Clocks of leaders differ, so the time may go back a little.
        self.now_ms = self.now_ms + self.below(400) - self.below(40);
        let time = LogTime::from_millis(self.now_ms);
        if self.holders.is_empty() || self.one_in(25) {
            return (time, vec![Op::Register(register(self.pick(&NODES), self.id()))]);
        }
        let items = 1 + self.below(BATCH_ITEMS_MAX);
        (time, (0..items).map(|_| self.op(subject)).collect())
    }

    /// Takes note of the nodes that a batch registered.
    pub fn learn(&mut self, outcomes: &[Outcome]) {
        self.holders.extend(
            outcomes.iter().filter_map(|outcome| {
                if let Outcome::Registered { holder, .. } = outcome { Some(*holder) } else { None }
            }),
        );
    }

    /// Every agent that this traffic is about.
    #[must_use]
    pub fn agents() -> Vec<AgentId> {
        vec![
            agent("reader"),
            agent("cart"),
            keyed_agent("cart", "a"),
            keyed_agent("cart", "b"),
            keyed_agent("till", "a"),
        ]
    }

    /// Every node it registered.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.holders.iter().map(|holder| holder.node)
    }

    /// Every task it may have enqueued.
    #[must_use]
    pub fn tasks(&self) -> &[TaskId] {
        &self.tasks
    }

    fn below(&mut self, n: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize].clone()
    }

    /// One of the last few, since what is old has mostly ended.
    fn pick_late<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        let late = &from[from.len().saturating_sub(12)..];
        if late.is_empty() { None } else { Some(self.pick(late)) }
    }

    fn id(&mut self) -> u128 {
        self.ids += 1;
        self.ids
    }

    fn agent(&mut self) -> AgentId {
        self.pick(&Self::agents())
    }

    fn holder(&mut self) -> Holder {
        let holders = std::mem::take(&mut self.holders);
        let latest = &holders[holders.len().saturating_sub(6)..];
        let holder = self.pick(latest);
        self.holders = holders;
        holder
    }

    fn op(&mut self, subject: &impl Subject) -> Op {
        if !self.sent.is_empty() && self.one_in(8) {
            let sent = std::mem::take(&mut self.sent);
            let again = self.pick(&sent);
            self.sent = sent;
            return again;
        }
        let op = self.fresh(subject);
        if self.sent.len() == SENT_MAX {
            self.sent.remove(0);
        }
        self.sent.push(op.clone());
        op
    }

    fn fresh(&mut self, subject: &impl Subject) -> Op {
        match self.below(40) {
            0 if self.one_in(3) => Op::Remove(Remove { node: self.holder().node }),
            0 if self.one_in(3) => Op::Dismiss(Dismiss { agent: self.agent() }),
            0 => Op::Expire(Expire { holder: self.holder(), left: self.below(2) == 0 }),
            1..=5 => self.claim(subject),
            6..=13 => Op::Turn(self.turn(subject)),
            14 => self.release(subject),
            15..=17 => self.send(),
            18..=24 => {
                let assign = if self.one_in(2) { Some(self.holder()) } else { None };
                enqueue(self.new_task(), assign)
            }
            25 => Op::Sweep(Sweep {
                ended_before: LogTime::from_millis(self.now_ms - self.below(20_000)),
                keyed_ended_before: LogTime::from_millis(self.now_ms - self.below(40_000)),
                rows_max: 1 + self.below(20) as u32,
            }),
            26..=28 => {
                let sends = (0..self.below(2)).map(|_| self.message()).collect();
                let enqueues = (0..self.below(2)).map(|_| self.new_task()).collect();
                Op::Append(Append { sends, enqueues, ..self.append(subject) })
            }
            29 if self.one_in(4) => Op::EndSession(EndSession { session: self.pick(&Self::sessions()) }),
            _ => self.task_op(subject),
        }
    }

    fn claim(&mut self, subject: &impl Subject) -> Op {
        let agent = self.agent();
        let seen = subject.agent(&agent).map_or(Epoch(0), |row| row.epoch);
        let seen = if self.one_in(6) { Epoch(seen.0 + 1) } else { seen };
        Op::Claim(Claim { agent, seen, holder: self.holder() })
    }

    fn release(&mut self, subject: &impl Subject) -> Op {
        let agent = self.agent();
        let row = subject.agent(&agent);
        let (epoch, holder) = row.map_or((Epoch(1), self.holder()), |row| (row.epoch, row.holder));
        Op::Release(Release { agent, epoch, holder })
    }

    fn send(&mut self) -> Op {
        let body = self.message();
        let idempotency = if self.one_in(2) {
            let n = self.below(6);
            Some((key(&format!("send-{n}")), BodyHash::of(&body.to, b"same")))
        } else {
            None
        };
        Op::Send(Send { id: self.id(), idempotency, body })
    }

    fn message(&mut self) -> MessageBody {
        let text = format!("message {}", self.below(1_000));
        message(&self.agent(), &text)
    }

    fn turn(&mut self, subject: &impl Subject) -> Turn {
        let agent = self.agent();
        let row = subject.agent(&agent);
        let (epoch, holder, version) =
            row.map_or((Epoch(1), self.holder(), Version(0)), |row| (row.epoch, row.holder, row.version));
        let version = if self.one_in(12) { Version(version.0 + 1) } else { version };
        let mut inbox = subject.inbox(&agent).into_iter().map(|message| message.id);
        let handled = self.below(5) as usize;
        let mut consumed: Vec<_> = inbox.by_ref().take(handled).collect();
        let mut buried: Vec<_> = inbox.filter(|_| self.one_in(20)).map(|id| (id, "gibberish".to_owned())).collect();
        let timers = subject.timers(&agent).into_iter().map(|(timer, _)| timer);
        // Some come early, and some that were set anew since.
        let fired: Vec<_> = timers.filter(|timer| timer.due.as_millis() < self.now_ms || self.one_in(20)).collect();
        for timer in fired {
            let set = if self.one_in(20) { Version(timer.set.0 - 1) } else { timer.set };
            let id = MessageId::of_timer(timer.name, set);
            if self.one_in(10) { buried.push((id, "gibberish".to_owned())) } else { consumed.push(id) }
        }
        Turn {
            agent,
            epoch,
            holder,
            version,
            turns: 1 + self.below(3),
            turn: TurnId(self.id()),
            state: if self.one_in(3) { None } else { Some(Bytes::from(format!("state {}", self.below(1_000)))) },
            consumed,
            buried,
            replies: self.replies(),
            finishes: self.finish(subject).filter(|_| self.one_in(3)).into_iter().collect(),
            sends: (0..self.below(4)).map(|_| self.message()).collect(),
            enqueues: (0..self.below(3)).map(|_| self.new_task()).collect(),
            timers: (0..self.below(3)).map(|_| self.timer()).collect(),
            appends: (0..self.below(2)).map(|_| self.append(subject)).collect(),
        }
    }

    /// Every session that this traffic is about.
    #[must_use]
    pub fn sessions() -> Vec<SessionId> {
        let agents = [agent("reader"), keyed_agent("cart", "a")];
        let of = |agent: AgentId| ["a", "b"].map(|text| SessionId { agent: agent.clone(), name: name(text) });
        agents.into_iter().flat_map(of).collect()
    }

    fn append(&mut self, subject: &impl Subject) -> Append {
        let session = self.pick(&Self::sessions());
        let row = subject.session(&session);
        // Some saw less than there is.
        let seen = row.map_or((0, TurnId(0)), |row| (row.entries, row.last));
        let (seen, after) = if self.one_in(6) { (0, TurnId(0)) } else { seen };
        let turn = SessionTurn { session, id: TurnId(self.id()), seen, after, ttl_ms: 500 + self.below(5_000) };
        let long = if self.one_in(3) { SESSION_ENTRY_BYTES_MAX } else { 10 };
        let said = Bytes::from(vec![b's'; self.below(long as u64 + 2) as usize]);
        let (holder, replied) = (self.holder(), Bytes::from_static(b"r"));
        Append { turn, holder, said, replied, sends: Vec::new(), enqueues: Vec::new() }
    }

    fn timer(&mut self) -> TimerChange {
        let name = TimerName::new(self.pick(&["a", "b", "c"])).expect("a timer's name");
        let (after_ms, text) = (self.below(2_000), format!("timer {}", self.below(1_000)));
        let set = SetTimer { after_ms, payload: text.into() };
        TimerChange { name, set: if self.one_in(4) { None } else { Some(set) } }
    }

    fn replies(&mut self) -> Vec<Remember> {
        if !self.one_in(4) {
            return Vec::new();
        }
        let (n, request) = (self.below(9), self.below(3));
        let request = BodyHash::of(&agent("reader"), &[request as u8]);
        vec![Remember { key: key(&format!("reply-{n}")), request, reply: Bytes::from(format!("reply {n}")) }]
    }

    fn new_task(&mut self) -> NewTask {
        let id = TaskId(self.id());
        self.tasks.push(id);
        let agent = self.agent();
        let input = format!("input {}", self.below(3));
        let policy = RetryPolicy {
            attempts_max: 1 + self.below(3) as u32,
            attempt_ms_max: self.below(1_000),
            backoff_ms: 10,
            backoff_ms_max: 100,
        };
        NewTask {
            id,
            body: BodyHash::of(&agent, input.as_bytes()),
            agent,
            placement: self.pick(&[Placement::Resident, Placement::Pool, Placement::Keyed]),
            node: if self.one_in(10) { self.holders.first().map(|holder| holder.node) } else { None },
            input: input.into(),
            priority: self.below(3) as u8,
            delay_ms: if self.one_in(5) { self.below(2_000) } else { 0 },
            policy,
            idempotency: if self.one_in(4) { Some(key(&format!("task-{}", self.below(12)))) } else { None },
            part_of: self.part_of(),
        }
    }

    fn part_of(&mut self) -> Option<Arc<PartOf>> {
        let state = self.one_in(2).then(|| "a=1".into());
        let trace = TraceContext { trace: 7, span: 1 + self.below(9), sampled: self.one_in(2), state };
        let session = TaskSession { name: name("s1"), ttl_ms: self.one_in(2).then_some(9) };
        let part_of = match self.below(12) {
            0 => PartOf { trace: Some(trace), ..PartOf::default() },
            1 => PartOf { session: Some(session), ..PartOf::default() },
            2 => PartOf { affinity: Some("x".into()), ..PartOf::default() },
            3 => PartOf { trace: Some(trace), session: Some(session), affinity: None },
            _ => return None,
        };
        Some(Arc::new(part_of))
    }

    /// A task and the token of its present attempt, or of an earlier one.
    fn attempt(&mut self, subject: &impl Subject) -> Option<(TaskId, FencingToken)> {
        if self.one_in(5) {
            let tokens = std::mem::take(&mut self.tokens);
            let old = self.pick_late(&tokens);
            self.tokens = tokens;
            return old;
        }
        let task = self.task()?;
        let token = subject.task(task)?.token?;
        self.tokens.push((task, token));
        Some((task, token))
    }

    fn task(&mut self) -> Option<TaskId> {
        let tasks = std::mem::take(&mut self.tasks);
        let task = self.pick_late(&tasks);
        self.tasks = tasks;
        task
    }

    fn finish(&mut self, subject: &impl Subject) -> Option<Finish> {
        let (task, token) = self.attempt(subject)?;
        let verdict = match self.below(6) {
            0 => Verdict::Failed { reason: "it broke".into(), retry_after_ms: self.below(500) },
            1 => Verdict::Hopeless { reason: "it never works".into() },
            2 => Verdict::Returned(Return::NotTaken),
            _ => Verdict::Done(Bytes::from(format!("result {}", self.below(100)))),
        };
        Some(finish(task, token, verdict))
    }

    fn task_op(&mut self, subject: &impl Subject) -> Op {
        let task = self.task().unwrap_or(TaskId(0));
        match self.below(16) {
            0 => {
                let dead_too = self.one_in(2);
                return Op::Cancel(Cancel { task, reason: "not needed".into(), dead_too });
            }
            1 => return Op::Retry(Retry { task }),
            2..=6 => return Op::Assign(Assign { task, holder: self.holder() }),
            _ => {}
        }
        let Some((task, token)) = self.attempt(subject) else {
            return Op::Retry(Retry { task });
        };
        match self.below(9) {
            0 => Op::TimeOut(TimeOut { task, token, retry_after_ms: self.below(100) }),
            1..=2 => {
                let first = subject.task(task).map_or(0, |row| row.notes).saturating_sub(self.below(2));
                let notes = (0..self.below(4)).map(|n| Bytes::from(format!("note {n}"))).collect();
                Op::Progress(Progress { task, token, first, notes })
            }
            _ => self.plain_finish(subject, task),
        }
    }

    fn plain_finish(&mut self, subject: &impl Subject, task: TaskId) -> Op {
        let Some(finish) = self.finish(subject) else {
            return Op::Retry(Retry { task });
        };
        let sends = (0..self.below(2)).map(|_| self.message()).collect();
        let enqueues = (0..self.below(2)).map(|_| self.new_task()).collect();
        Op::Finish(Finish { sends, enqueues, ..finish })
    }
}
