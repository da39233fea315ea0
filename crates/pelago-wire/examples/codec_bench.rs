//! Times the encoding and decoding of a full batch: `cargo run --release -p pelago-wire --example codec_bench`.

use std::{
    hint::black_box,
    io::{self, Write},
    time::Instant,
};

use bytes::Bytes;
use pelago_core::{
    id::{AgentId, Epoch, FencingToken, Holder, Incarnation, Key, Name, NodeId, TaskId, TurnId, Version},
    record::{
        BodyHash, Enqueue, Finish, MessageBody, MessageId, NewTask, Op, Placement, RetryPolicy, Sender, Turn, Verdict,
    },
    time::LogTime,
};
use pelago_wire::record::{ITEMS_MAX, decode_entry, encode_entry};

const ROUNDS: usize = 300;

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (name, op) in
        [("turn", Op::Turn(turn())), ("enqueue", Op::Enqueue(enqueue())), ("finish", Op::Finish(finish()))]
    {
        let ops = vec![op; ITEMS_MAX];
        let bytes = encode_entry(LogTime::ZERO, &ops);
        let encode = nanos_per_op(|| drop(black_box(encode_entry(LogTime::ZERO, black_box(&ops)))));
        let decode = nanos_per_op(|| drop(black_box(decode_entry(black_box(bytes.clone())))));
        let size = bytes.len() / ITEMS_MAX;
        writeln!(out, "{name:8} {size:4} bytes/op  encode {encode:5.0} ns/op  decode {decode:5.0} ns/op")?;
    }
    Ok(())
}

/// The fastest of many rounds: what the code costs, whatever else the machine does.
fn nanos_per_op(round: impl Fn()) -> f64 {
    let once = || {
        let start = Instant::now();
        round();
        start.elapsed()
    };
    let fastest = (0..ROUNDS).map(|_| once()).min().expect("there are rounds");
    fastest.as_nanos() as f64 / ITEMS_MAX as f64
}

/// A small turn: 256 bytes of state, one message in, one out.
fn turn() -> Turn {
    Turn {
        agent: agent(),
        epoch: Epoch(3),
        holder: Holder { node: NodeId(1), incarnation: Incarnation(40_000) },
        version: Version(1_000),
        turns: 1,
        turn: TurnId(u128::MAX / 3),
        state: Some(Bytes::from(vec![7; 256])),
        consumed: vec![MessageId { sender: Sender::Agent(agent()), generation: 9_000, seq: 1 << 20 }],
        buried: Vec::new(),
        replies: Vec::new(),
        finishes: Vec::new(),
        sends: vec![MessageBody { to: agent(), payload: Bytes::from(vec![7; 64]) }],
        enqueues: Vec::new(),
        timers: Vec::new(),
        appends: Vec::new(),
    }
}

fn enqueue() -> Enqueue {
    let policy = RetryPolicy { attempts_max: 5, attempt_ms_max: 30_000, backoff_ms: 100, backoff_ms_max: 10_000 };
    let task = NewTask {
        id: TaskId(u128::MAX / 5),
        agent: agent(),
        placement: Placement::Pool,
        node: None,
        input: Bytes::from(vec![7; 128]),
        priority: 100,
        delay_ms: 0,
        policy,
        idempotency: None,
        body: BodyHash([9; 16]),
        part_of: None,
    };
    Enqueue { task, assign: Some(Holder { node: NodeId(1), incarnation: Incarnation(40_000) }) }
}

fn finish() -> Finish {
    Finish {
        task: TaskId(u128::MAX / 5),
        token: FencingToken { index: 1_000_000, item: 17 },
        verdict: Verdict::Done(Bytes::from(vec![7; 128])),
        sends: Vec::new(),
        enqueues: Vec::new(),
        append: None,
    }
}

fn agent() -> AgentId {
    AgentId {
        namespace: Name::default_namespace(),
        name: Name::new("section").expect("a valid name"),
        key: Some(Key::new("src/main.rs").expect("a valid key")),
    }
}
