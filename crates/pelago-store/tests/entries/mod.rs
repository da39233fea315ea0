//! A log that touches every table, for tests of the database that holds it.

use std::{collections::BTreeMap, path::Path};

use bytes::Bytes;
use pelago_core::{
    id::{
        AgentId, BootId, DirectoryId, Epoch, FencingToken, Holder, Incarnation, Key, MeshId, Name, NodeId, TaskId,
        TurnId, Version,
    },
    record::{
        BodyHash, Claim, Enqueue, Finish, IdempotencyKey, MessageBody, NewTask, Offer, Op, Placement, Progress,
        Register, Remember, RetryPolicy, Send, Turn, Verdict,
    },
    time::LogTime,
};
use pelago_store::sqlite::{Entry, Reader, dump};
use tempfile::TempDir;

pub(crate) const MESH: MeshId = MeshId(7);

const HOLDER: Holder = Holder { node: NodeId(1), incarnation: Incarnation(1) };

/// The first `entries` entries of the log: a node registers, then works.
pub(crate) fn log(entries: u64) -> Vec<Entry> {
    (1..=entries).map(|index| entry(index, if index == 1 { vec![register()] } else { mixed(index) })).collect()
}

pub(crate) fn entry(index: u64, ops: Vec<Op>) -> Entry {
    let time = Some(LogTime::from_millis(1_800_000_000_000 + index));
    Entry { index, log_id: Bytes::from(format!("log id {index}")), time, ops, membership: None }
}

fn register() -> Op {
    let name: Name = "reader".parse().expect("a name");
    Op::Register(Register {
        name: "n1".parse().expect("a name"),
        directory: DirectoryId(1),
        boot: BootId(1),
        mesh_address: "127.0.0.1:50051".into(),
        http_address: "127.0.0.1:8080".into(),
        labels: BTreeMap::from([("zone".into(), "a".into())]),
        offers: BTreeMap::from([(name, Offer::new(Placement::Pool, 4))]),
        node: None,
        left: None,
    })
}

/// Items of every lasting kind; a task assigned in one entry ends in the next.
fn mixed(index: u64) -> Vec<Op> {
    let cart = agent(Some(&index.to_string()));
    let id = |n: u128| TaskId(u128::from(index) << 8 | n);
    let earlier = TaskId(u128::from(index - 1) << 8 | 1);
    let earlier_token = FencingToken { index: index - 1, item: 2 };
    let result = Verdict::Done(Bytes::from(vec![index as u8; 100]));
    vec![
        Op::Claim(Claim { agent: cart.clone(), seen: Epoch(0), holder: HOLDER }),
        Op::Turn(turn(cart, index)),
        Op::Enqueue(Enqueue { task: task(id(1), index), assign: Some(HOLDER) }),
        Op::Enqueue(Enqueue { task: task(id(2), index), assign: None }),
        Op::Progress(Progress {
            task: earlier,
            token: earlier_token,
            first: 0,
            notes: vec![Bytes::from_static(b"half")],
        }),
        Op::Finish(Finish {
            task: earlier,
            token: earlier_token,
            verdict: result,
            sends: vec![],
            enqueues: vec![],
            append: None,
        }),
        Op::Send(Send { id: u128::from(index), idempotency: None, body: message(index) }),
    ]
}

fn turn(agent: AgentId, index: u64) -> Turn {
    let key = IdempotencyKey { namespace: Name::default_namespace(), key: format!("reply {index}") };
    let reply = Remember { key, request: BodyHash::of(&agent, b""), reply: Bytes::from_static(b"reply") };
    Turn {
        agent,
        epoch: Epoch(1),
        holder: HOLDER,
        version: Version(0),
        turns: 2,
        turn: TurnId(u128::from(index)),
        state: Some(Bytes::from(vec![index as u8; 3_000])),
        consumed: vec![],
        buried: vec![],
        replies: vec![reply],
        finishes: vec![],
        sends: vec![message(index)],
        enqueues: vec![],
        timers: Vec::new(),
        appends: Vec::new(),
    }
}

fn message(index: u64) -> MessageBody {
    MessageBody { to: agent(Some("till")), payload: Bytes::from(format!("message {index}")) }
}

fn agent(key: Option<&str>) -> AgentId {
    let key = key.map(|key| Key::new(key).expect("a key"));
    AgentId { namespace: Name::default_namespace(), name: "cart".parse().expect("a name"), key }
}

fn task(id: TaskId, index: u64) -> NewTask {
    let agent = agent(None);
    NewTask {
        id,
        body: BodyHash::of(&agent, b"input"),
        agent,
        placement: Placement::Pool,
        node: None,
        input: Bytes::from_static(b"input"),
        priority: (index % 3) as u8,
        delay_ms: 0,
        policy: RetryPolicy { attempts_max: 3, attempt_ms_max: 1_000, backoff_ms: 10, backoff_ms_max: 100 },
        idempotency: None,
        part_of: None,
    }
}

/// Every row of the database, in bytes.
pub(crate) fn dumped(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let reader = Reader::open(path, 1).expect("the database can be opened");
    dump(&reader, &mut bytes).expect("the database can be read");
    bytes
}

/// The files as a process killed now would leave them: `machine.db` in another directory.
pub(crate) fn crash_image(path: &Path) -> TempDir {
    let image = TempDir::new().expect("a temporary directory");
    for suffix in ["", "-wal"] {
        let name = format!("machine.db{suffix}");
        std::fs::copy(path.with_file_name(&name), image.path().join(&name)).expect("the file can be copied");
    }
    image
}
