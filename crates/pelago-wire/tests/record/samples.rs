//! One value of every op and outcome, every field set at least once. Golden files are made of them: never change one.

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

const ID: u128 = 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff;

/// How many sorts of ops there are.
pub(crate) const OP_KINDS: usize = 19;

/// Numbers the sorts of ops.
pub(crate) fn kind_of_op(op: &Op) -> usize {
    match op {
        Op::Register(_) => 0,
        Op::Expire(_) => 1,
        Op::Claim(_) => 2,
        Op::Turn(_) => 3,
        Op::Release(_) => 4,
        Op::Send(_) => 5,
        Op::Enqueue(_) => 6,
        Op::Assign(_) => 7,
        Op::Finish(_) => 8,
        Op::Progress(_) => 9,
        Op::Cancel(_) => 10,
        Op::Retry(_) => 11,
        Op::TimeOut(_) => 12,
        Op::Sweep(_) => 13,
        Op::Remove(_) => 14,
        Op::Dismiss(_) => 15,
        Op::Connect(_) => 16,
        Op::Append(_) => 17,
        Op::EndSession(_) => 18,
    }
}

/// How many sorts of outcomes there are, refusals counted one by one.
pub(crate) const OUTCOME_KINDS: usize = 24;

/// Numbers the sorts of outcomes.
pub(crate) fn kind_of_outcome(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Committed => 0,
        Outcome::Registered { .. } => 1,
        Outcome::Expired { .. } => 2,
        Outcome::Claimed { .. } => 3,
        Outcome::Enqueued { .. } => 4,
        Outcome::Assigned { .. } => 5,
        Outcome::Swept { .. } => 6,
        Outcome::Existing { .. } => 7,
        Outcome::Duplicate { .. } => 8,
        Outcome::Refused(Refusal::Fenced { .. }) => 9,
        Outcome::Refused(Refusal::HolderGone(_)) => 10,
        Outcome::Refused(Refusal::StaleToken { .. }) => 11,
        Outcome::Refused(Refusal::MessageGone { .. }) => 12,
        Outcome::Refused(Refusal::Full(_)) => 13,
        Outcome::Refused(Refusal::TooLarge { .. }) => 14,
        Outcome::Refused(Refusal::Conflict { .. }) => 15,
        Outcome::Refused(Refusal::NoTask(_)) => 16,
        Outcome::Refused(Refusal::WrongState { .. }) => 17,
        Outcome::Refused(Refusal::TooEarly) => 18,
        Outcome::Refused(Refusal::NameTaken(_)) => 19,
        Outcome::Refused(Refusal::NotAlone) => 20,
        Outcome::Refused(Refusal::NodeUp(_)) => 21,
        Outcome::Refused(Refusal::NodeRemoved(_)) => 22,
        Outcome::Refused(Refusal::Overtaken { .. }) => 23,
    }
}

/// Every sort of op.
pub(crate) fn ops() -> Vec<(&'static str, Op)> {
    [ops_of_1(), ops_of_2(), ops_of_3(), ops_of_4(), ops_of_5(), ops_of_6()].concat()
}

fn ops_of_1() -> Vec<(&'static str, Op)> {
    let turn = TurnId(ID + 1);
    let sends = vec![message(b"one"), message(b"two")];
    vec![
        ("register", Op::Register(register())),
        ("expire", Op::Expire(Expire { holder: holder(), left: false })),
        ("claim", Op::Claim(Claim { agent: agent(), seen: Epoch(0), holder: holder() })),
        ("turn", Op::Turn(full_turn(turn))),
        ("turn_without_effects", Op::Turn(bare_turn(turn))),
        ("release", Op::Release(Release { agent: agent(), epoch: Epoch(9), holder: holder() })),
        ("send", Op::Send(Send { id: ID, idempotency: None, body: message(b"hello") })),
        (
            "send_once",
            Op::Send(Send { id: ID, idempotency: Some((key(), BodyHash([0xab; 16]))), body: message(b"hello") }),
        ),
        ("enqueue", Op::Enqueue(Enqueue { task: plain_task(), assign: None })),
        ("enqueue_and_assign", Op::Enqueue(Enqueue { task: pinned_task(), assign: Some(holder()) })),
        ("assign", Op::Assign(Assign { task: TaskId(ID), holder: holder() })),
        ("finish_done", Op::Finish(finish(Verdict::Done(Bytes::from_static(b"42"))))),
        ("finish_failed", Op::Finish(finish(Verdict::Failed { reason: "no network".into(), retry_after_ms: 1_234 }))),
        ("finish_hopeless", Op::Finish(finish(Verdict::Hopeless { reason: "no such file".into() }))),
        ("finish_returned", Op::Finish(finish(Verdict::Returned(Return::NotTaken)))),
        ("finish_interrupted", Op::Finish(finish(Verdict::Returned(Return::Interrupted)))),
        (
            "finish_with_effects",
            Op::Finish(Finish { sends, enqueues: vec![plain_task()], ..finish(Verdict::Done(Bytes::new())) }),
        ),
        ("progress", Op::Progress(progress())),
        ("cancel", Op::Cancel(Cancel { task: TaskId(ID), reason: "not needed — 要らない".into(), dead_too: false })),
        ("retry", Op::Retry(Retry { task: TaskId(0) })),
        ("time_out", Op::TimeOut(TimeOut { task: TaskId(ID), token: token(), retry_after_ms: 99 })),
        ("sweep", Op::Sweep(Sweep { ended_before: time(), keyed_ended_before: LogTime::ZERO, rows_max: 500 })),
    ]
}

/// What only format 2 can say.
fn ops_of_2() -> Vec<(&'static str, Op)> {
    let timer = |name| TimerName::new(name).expect("a valid name");
    let set = SetTimer { after_ms: 86_400_000, payload: Bytes::from_static(b"\"dunning\"") };
    let timers =
        vec![TimerChange { name: timer("due: 17"), set: Some(set) }, TimerChange { name: timer("日本"), set: None }];
    let fired = |name| MessageId::of_timer(timer(name), Version(68));
    let turn = bare_turn(TurnId(ID + 2));
    vec![
        ("remove", Op::Remove(Remove { node: NodeId(7) })),
        ("turn_sets_timers", Op::Turn(Turn { timers, ..turn.clone() })),
        ("turn_of_timer", Op::Turn(Turn { consumed: vec![fired("a@b")], ..turn.clone() })),
        ("turn_buries_timer", Op::Turn(Turn { buried: vec![(fired("a@b"), "it broke".into())], ..turn })),
    ]
}

/// What only format 3 can say.
fn ops_of_3() -> Vec<(&'static str, Op)> {
    let cancel = Cancel { task: TaskId(ID), reason: "seen".into(), dead_too: true };
    let left = Register { left: Some(holder().incarnation), ..register() };
    let again = Register { node: Some(holder().node), ..register() };
    vec![
        ("cancel_dead_too", Op::Cancel(cancel)),
        ("dismiss", Op::Dismiss(Dismiss { agent: agent() })),
        ("register_left", Op::Register(left)),
        ("register_again", Op::Register(again)),
        ("expire_left", Op::Expire(Expire { holder: holder(), left: true })),
    ]
}

/// What only format 4 can say.
fn ops_of_4() -> Vec<(&'static str, Op)> {
    let to = |text| Address::parse(&Name::default_namespace(), text).expect("valid");
    let only = |text: &str| Some(text.parse::<Filter>().expect("a filter"));
    let connect = |change| Op::Connect(Connect { from: name("main"), to: to("n1/impl:a/b"), change });
    let connections =
        vec![Connection { to: to("impl-1"), only: None }, Connection { to: to("n1/a:b"), only: only("k=v") }];
    let offer = Offer { layer: Some(name("L4")), connections, ..Offer::new(Placement::Pool, 4) };
    let offers = [(name("main"), offer)].into();
    vec![
        ("connect", connect(ConnectionChange::Set(None))),
        ("connect_only", connect(ConnectionChange::Set(only("urgent*")))),
        ("connect_gone", connect(ConnectionChange::Gone)),
        ("register_connected", Op::Register(Register { offers, ..register() })),
    ]
}

/// What only format 5 can say.
fn ops_of_5() -> Vec<(&'static str, Op)> {
    let session = SessionId { agent: agent(), name: name("talk-1") };
    let turn =
        SessionTurn { session: session.clone(), id: TurnId(ID), seen: 7, after: TurnId(ID + 1), ttl_ms: 3_600_000 };
    let first = SessionTurn { seen: 0, after: TurnId(0), ..turn.clone() };
    let (said, replied) = (Bytes::from_static(b"?"), Bytes::from_static(b"!"));
    let bare = Append { turn: first, holder: holder(), said, replied, sends: Vec::new(), enqueues: Vec::new() };
    let full = Append { turn, sends: vec![message(b"ping")], enqueues: vec![plain_task()], ..bare.clone() };
    vec![
        ("append_first", Op::Append(bare.clone())),
        ("append", Op::Append(full)),
        ("turn_appends", Op::Turn(Turn { appends: vec![bare], ..bare_turn(TurnId(ID)) })),
        ("end_session", Op::EndSession(EndSession { session })),
    ]
}

/// What only format 6 can say.
fn ops_of_6() -> Vec<(&'static str, Op)> {
    let trace = TraceContext { trace: ID, span: 9, sampled: true, state: Some("a=1".into()) };
    let part_of = |part_of| NewTask { part_of: Some(Arc::new(part_of)), ..plain_task() };
    let task = part_of(PartOf { trace: Some(trace), ..PartOf::default() });
    let session = TaskSession { name: name("talk-1"), ttl_ms: Some(3_600_000) };
    let in_session = part_of(PartOf { session: Some(session), ..PartOf::default() });
    let alike = part_of(PartOf { affinity: Some("x".into()), ..PartOf::default() });
    let enqueues = vec![plain_task(), task.clone()];
    let finish = Finish { enqueues: enqueues.clone(), ..finish(Verdict::Done(Bytes::new())) };
    let session = SessionId { agent: agent(), name: name("talk-1") };
    let turn = SessionTurn { session, id: TurnId(ID), seen: 7, after: TurnId(ID + 1), ttl_ms: 3_600_000 };
    let (said, replied) = (Bytes::from_static(b"?"), Bytes::from_static(b"42"));
    let append = Append { turn, holder: holder(), said, replied, sends: Vec::new(), enqueues: Vec::new() };
    let appends = Finish { append: Some(Box::new(append)), ..self::finish(Verdict::Done(Bytes::from_static(b"42"))) };
    vec![
        ("enqueue_in_trace", Op::Enqueue(Enqueue { task, assign: None })),
        ("enqueue_in_session", Op::Enqueue(Enqueue { task: in_session, assign: None })),
        ("enqueue_alike", Op::Enqueue(Enqueue { task: alike, assign: None })),
        ("finish_appends", Op::Finish(appends)),
        ("finish_enqueues_in_trace", Op::Finish(finish)),
        ("turn_enqueues_in_trace", Op::Turn(Turn { enqueues, ..bare_turn(TurnId(ID)) })),
    ]
}

/// Every sort of outcome.
pub(crate) fn outcomes() -> Vec<(&'static str, Outcome)> {
    let tasks = vec![TaskId(ID), TaskId(1)];
    let reply = Bytes::from_static(b"as before");
    let fenced = Refusal::Fenced { epoch: Epoch(4), version: Version(70), holder: holder(), live: true };
    let too_large = Refusal::TooLarge { what: "the task's input", bytes: 524_289, bytes_max: 524_288 };
    let succeeded = [
        ("committed", Outcome::Committed),
        ("registered", Outcome::Registered { holder: holder(), freed: tasks.clone() }),
        ("expired", Outcome::Expired { freed: tasks }),
        ("claimed", Outcome::Claimed { epoch: Epoch(4), version: Version(70) }),
        ("enqueued", Outcome::Enqueued { token: None }),
        ("enqueued_and_assigned", Outcome::Enqueued { token: Some(token()) }),
        ("assigned", Outcome::Assigned { token: token(), attempt: 3 }),
        ("swept", Outcome::Swept { rows: 1_000 }),
        ("existing", Outcome::Existing { task: TaskId(ID) }),
        ("duplicate", Outcome::Duplicate { position: 5, reply }),
    ];
    let refused = [
        ("fenced", fenced),
        ("holder_gone", Refusal::HolderGone(holder())),
        ("stale_token", Refusal::StaleToken { task: TaskId(ID), token: token() }),
        ("message_gone", Refusal::MessageGone { position: 0 }),
        ("full", Refusal::Full(agent())),
        ("too_large", too_large),
        ("conflict", Refusal::Conflict { key: "order 17".into() }),
        ("no_task", Refusal::NoTask(TaskId(ID))),
        ("wrong_state", Refusal::WrongState { task: TaskId(ID), state: "cancelled" }),
        ("too_early", Refusal::TooEarly),
        ("name_taken", Refusal::NameTaken(NodeId(12))),
        ("not_alone", Refusal::NotAlone),
        ("node_up", Refusal::NodeUp(NodeId(7))),
        ("node_removed", Refusal::NodeRemoved(NodeId(7))),
        ("overtaken", Refusal::Overtaken { position: 3 }),
    ];
    succeeded.into_iter().chain(refused.map(|(name, refusal)| (name, Outcome::Refused(refusal)))).collect()
}

/// Entries: none, one, and all ops that the first format has.
pub(crate) fn entries() -> Vec<(&'static str, LogTime, Vec<Op>)> {
    let all = ops_of_1().into_iter().map(|(_, op)| op).collect();
    vec![
        ("empty", LogTime::ZERO, Vec::new()),
        ("one", time(), vec![Op::Retry(Retry { task: TaskId(ID) })]),
        ("all", time(), all),
    ]
}

fn register() -> Register {
    Register {
        name: name("n1"),
        directory: DirectoryId(ID),
        boot: BootId(u128::MAX),
        mesh_address: "127.0.0.1:50051".into(),
        http_address: "127.0.0.1:8080".into(),
        labels: [("zone", "a"), ("gpu", "")].map(|(key, value)| (key.into(), value.into())).into(),
        offers: [
            (name("echo"), Offer::new(Placement::Resident, 0)),
            (name("reader"), Offer::new(Placement::Pool, 4)),
            (name("section"), Offer::new(Placement::Keyed, 1)),
        ]
        .into(),
        node: None,
        left: None,
    }
}

fn full_turn(turn: TurnId) -> Turn {
    let generation = 300;
    Turn {
        state: Some(Bytes::from_static(b"{\"n\":1}")),
        turns: 2,
        consumed: vec![
            MessageId { sender: Sender::Agent(agent()), generation, seq: (7 << 10) | 1 },
            MessageId { sender: Sender::Task(TaskId(ID)), generation, seq: 0 },
        ],
        buried: vec![(MessageId { sender: Sender::Client(ID), generation: 0, seq: 0 }, "not understood".into())],
        replies: vec![Remember { key: key(), request: BodyHash([1; 16]), reply: Bytes::from_static(b"ok") }],
        finishes: vec![finish(Verdict::Done(Bytes::from_static(b"done")))],
        sends: vec![message(b"ping")],
        enqueues: vec![plain_task(), pinned_task()],
        ..bare_turn(turn)
    }
}

fn bare_turn(turn: TurnId) -> Turn {
    Turn {
        agent: agent(),
        epoch: Epoch(3),
        holder: holder(),
        version: Version(69),
        turns: 1,
        turn,
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

fn plain_task() -> NewTask {
    NewTask {
        id: TaskId(ID),
        agent: AgentId { namespace: Name::default_namespace(), name: name("reader"), key: None },
        placement: Placement::Pool,
        node: None,
        input: Bytes::new(),
        priority: 0,
        delay_ms: 0,
        policy: RetryPolicy { attempts_max: 1, attempt_ms_max: 0, backoff_ms: 0, backoff_ms_max: 0 },
        idempotency: None,
        body: BodyHash([0; 16]),
        part_of: None,
    }
}

fn pinned_task() -> NewTask {
    NewTask {
        id: TaskId(ID + 1),
        agent: agent(),
        placement: Placement::Keyed,
        node: Some(NodeId(1)),
        input: Bytes::from_static(b"\x00\xff binary"),
        priority: 255,
        delay_ms: 60_000,
        policy: RetryPolicy { attempts_max: 5, attempt_ms_max: 30_000, backoff_ms: 100, backoff_ms_max: 10_000 },
        idempotency: Some(key()),
        body: BodyHash([0xcd; 16]),
        part_of: None,
    }
}

fn finish(verdict: Verdict) -> Finish {
    Finish { task: TaskId(ID), token: token(), verdict, sends: Vec::new(), enqueues: Vec::new(), append: None }
}

fn progress() -> Progress {
    let notes = vec![Bytes::from_static(b"half"), Bytes::new(), Bytes::from_static(b"all")];
    Progress { task: TaskId(ID), token: token(), first: 128, notes }
}

fn message(payload: &'static [u8]) -> MessageBody {
    MessageBody { to: agent(), payload: Bytes::from_static(payload) }
}

fn agent() -> AgentId {
    let key = Key::new("alice/日本").expect("a valid key");
    AgentId { namespace: name("shop"), name: name("prod.cart"), key: Some(key) }
}

fn key() -> IdempotencyKey {
    IdempotencyKey { namespace: name("shop"), key: "order 17".into() }
}

fn holder() -> Holder {
    Holder { node: NodeId(1), incarnation: Incarnation(0x0102_0304) }
}

fn token() -> FencingToken {
    FencingToken { index: 1_000_000, item: 1_023 }
}

fn time() -> LogTime {
    LogTime::from_millis(1_790_000_000_123)
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a valid name")
}
