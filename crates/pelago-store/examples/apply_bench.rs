//! How fast committed entries are applied:
//! `cargo run --release -p pelago-store --example apply_bench [SECONDS] [WORKLOAD]`.
//!
//! Prints one line of JSON a workload: cycles a second in entries of 256 items with payloads of 64 bytes, as the writer's
//! thread does them with a log that is never the limit. On a machine that others use too, look at the second of
//! processor time instead.

use std::{
    collections::BTreeMap,
    error::Error,
    io::{self, Write},
    sync::mpsc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use pelago_core::{
    id::{
        AgentId, BootId, DirectoryId, Epoch, FencingToken, Holder, Incarnation, Key, MeshId, Name, NodeId, TaskId,
        TurnId, Version,
    },
    record::{
        BodyHash, Claim, Enqueue, Finish, MessageBody, MessageId, NewTask, Offer, Op, Outcome, Placement, Register,
        RetryPolicy, Sender, Sweep, Turn, Verdict,
    },
    time::LogTime,
};
use pelago_store::sqlite::{Entry, Machine, Reader, Writer};

/// That of the binary.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ITEMS: u64 = 256;
const AGENTS: u64 = 256;
const PAYLOAD: &[u8] = &[7; 64];
const HOLDER: Holder = Holder { node: NodeId(1), incarnation: Incarnation(1) };
/// Entries between two checkpoints, as on a node under load.
const CHECKPOINT_ENTRIES: u64 = 500;
/// Ended tasks that are kept.
const TASKS_KEPT: u64 = 100_000;

fn main() -> Result<(), Box<dyn Error>> {
    let seconds = std::env::args().nth(1).map_or(Ok(10), |text| text.parse())?;
    let only = std::env::args().nth(2);
    let run = Duration::from_secs(seconds);
    let mut out = io::stdout().lock();
    for (name, items_a_cycle, work) in [("task", 2, tasks as Work), ("turn", 1, turns), ("message", 1, messages)] {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        let directory = tempfile::TempDir::new()?;
        let path = directory.path().join("machine.db");
        let mut log = Log { writer: Writer::start(Machine::open(&path, MeshId(1))?)?, index: 0 };
        let reader = Reader::open(&path, 1)?;
        reader.follow(&log.writer);
        log.apply(vec![register()])?;
        let mut work = work(&mut log)?;
        let (mut items, mut checkpoints) = (0, Duration::ZERO);
        let (begun, cpu) = (Instant::now(), cpu_seconds());
        while begun.elapsed() < run {
            items += log.apply(work())?;
            if log.index.is_multiple_of(CHECKPOINT_ENTRIES) {
                let begun = Instant::now();
                reader.checkpoint()?;
                checkpoints += begun.elapsed();
            }
        }
        let (seconds, cpu) = (begun.elapsed().as_secs_f64(), cpu_seconds() - cpu);
        let cycles = (items / items_a_cycle) as f64;
        let (per_second, per_cpu_second) = (cycles / seconds, cycles / cpu);
        let share = checkpoints.as_secs_f64() / seconds;
        writeln!(
            out,
            r#"{{"bench":"apply","workload":"{name}","cycles_per_second":{per_second:.0},"cycles_per_cpu_second":{per_cpu_second:.0},"checkpoint_share":{share:.2}}}"#
        )?;
    }
    Ok(())
}

/// Processor time of this process so far.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

struct Log {
    writer: Writer,
    index: u64,
}

/// Prepares a workload and returns what makes its batches.
type Work = fn(&mut Log) -> Result<Load, Box<dyn Error>>;

impl Log {
    /// Applies one entry, every item of which must succeed, and returns how many items it had.
    fn apply(&mut self, ops: Vec<Op>) -> Result<u64, Box<dyn Error>> {
        self.index += 1;
        let time = Some(LogTime::from_millis(1_800_000_000_000 + self.index));
        let log_id = Bytes::from_static(b"a log id of 24 bytes ...");
        let entry = Entry { index: self.index, log_id, time, ops, membership: None };
        let (told, applied) = mpsc::channel();
        self.writer.apply(vec![entry], Box::new(move |applied| told.send(applied).expect("the benchmark waits")));
        let applied = applied.recv()??;
        let refused = applied.outcomes.iter().flatten().find(|outcome| !outcome.is_success());
        assert_eq!(refused, None::<&Outcome>, "the workload must succeed");
        Ok(applied.outcomes.iter().map(Vec::len).sum::<usize>() as u64)
    }
}

/// Makes the next batch of a load.
type Load = Box<dyn FnMut() -> Vec<Op>>;

/// Tasks that are enqueued and assigned in one entry and done in the next; old ones are swept.
fn tasks(log: &mut Log) -> Result<Load, Box<dyn Error>> {
    let agent = agent("reader", None)?;
    let mut index = log.index;
    let mut finish_next = false;
    Ok(Box::new(move || {
        index += 1;
        finish_next = !finish_next;
        if finish_next {
            return (0..ITEMS).map(|n| enqueue(&agent, id(index, n))).collect();
        }
        let mut ops: Vec<_> = (0..ITEMS).map(|n| done(id(index - 1, n), index - 1, n)).collect();
        if (index / 2).is_multiple_of(8) {
            let before = LogTime::from_millis(1_800_000_000_000 + index.saturating_sub(2 * TASKS_KEPT / ITEMS));
            ops.push(Op::Sweep(Sweep { ended_before: before, keyed_ended_before: before, rows_max: 4_096 }));
        }
        ops
    }))
}

fn id(index: u64, n: u64) -> TaskId {
    TaskId(u128::from(index) << 64 | u128::from(n))
}

fn enqueue(agent: &AgentId, id: TaskId) -> Op {
    let task = NewTask {
        id,
        agent: agent.clone(),
        placement: Placement::Pool,
        node: None,
        input: Bytes::from_static(PAYLOAD),
        priority: 4,
        delay_ms: 0,
        policy: RetryPolicy { attempts_max: 5, attempt_ms_max: 60_000, backoff_ms: 100, backoff_ms_max: 10_000 },
        idempotency: None,
        body: BodyHash([7; 16]),
        part_of: None,
    };
    Op::Enqueue(Enqueue { task, assign: Some(HOLDER) })
}

fn done(task: TaskId, index: u64, item: u64) -> Op {
    let token = FencingToken { index, item: item as u32 };
    let verdict = Verdict::Done(Bytes::from_static(PAYLOAD));
    Op::Finish(Finish { task, token, verdict, sends: Vec::new(), enqueues: Vec::new(), append: None })
}

/// A turn of each of 256 keyed agents, with a new state.
fn turns(log: &mut Log) -> Result<Load, Box<dyn Error>> {
    let agents = claimed(log)?;
    let mut version = 0;
    Ok(Box::new(move || {
        version += 1;
        let state = Some(Bytes::from_static(PAYLOAD));
        agents.iter().map(|agent| Op::Turn(Turn { state: state.clone(), ..turn(agent, version - 1) })).collect()
    }))
}

/// A turn of each of 256 keyed agents that handles a message and sends one to the next agent.
fn messages(log: &mut Log) -> Result<Load, Box<dyn Error>> {
    let agents = claimed(log)?;
    let generation = log.index;
    let mut version = 0;
    Ok(Box::new(move || {
        version += 1;
        let all = agents.iter().enumerate().map(|(n, agent)| {
            let next = &agents[(n + 1) % agents.len()];
            let before = &agents[(n + agents.len() - 1) % agents.len()];
            let waiting = MessageId { sender: Sender::Agent(before.clone()), generation, seq: (version - 1) << 10 };
            let sends = vec![MessageBody { to: next.clone(), payload: Bytes::from_static(PAYLOAD) }];
            // The agent before has its turn earlier in the batch, so its latest message waits but for the first agent.
            let seq = if n == 0 { (version - 1) << 10 } else { version << 10 };
            let consumed = if n == 0 && version == 1 { vec![] } else { vec![MessageId { seq, ..waiting }] };
            Op::Turn(Turn { consumed, sends, ..turn(agent, version - 1) })
        });
        all.collect()
    }))
}

fn claimed(log: &mut Log) -> Result<Vec<AgentId>, Box<dyn Error>> {
    let agents = (0..AGENTS).map(|n| agent("cart", Some(n))).collect::<Result<Vec<_>, _>>()?;
    let claim = |agent: &AgentId| Op::Claim(Claim { agent: agent.clone(), seen: Epoch(0), holder: HOLDER });
    log.apply(agents.iter().map(claim).collect())?;
    Ok(agents)
}

fn turn(agent: &AgentId, version: u64) -> Turn {
    Turn {
        agent: agent.clone(),
        epoch: Epoch(1),
        holder: HOLDER,
        version: Version(version),
        turns: 1,
        turn: TurnId(u128::from(version) + 1),
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

fn agent(name: &str, key: Option<u64>) -> Result<AgentId, Box<dyn Error>> {
    let key = key.map(|key| Key::new(&format!("key-{key}"))).transpose()?;
    Ok(AgentId { namespace: Name::default_namespace(), name: name.parse()?, key })
}

fn register() -> Op {
    let offers = ["reader", "cart", "echo"].map(|name| {
        let name = name.parse().expect("a valid name");
        (name, Offer::new(Placement::Pool, 64))
    });
    Op::Register(Register {
        name: "n1".parse().expect("a valid name"),
        directory: DirectoryId(1),
        boot: BootId(1),
        mesh_address: "127.0.0.1:50051".into(),
        http_address: "127.0.0.1:8080".into(),
        labels: BTreeMap::from([("zone".into(), "a".into()), ("region".into(), "eu".into())]),
        offers: BTreeMap::from(offers),
        node: None,
        left: None,
    })
}
