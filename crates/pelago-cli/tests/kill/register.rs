//! Clients that append numbers to registers, and what their replies prove afterwards.
//!
//! A register replies with its length and with the hash of what it held before. A lost, doubled or forgotten write
//! breaks the chain of two replies, or makes the register shorter than what was acknowledged.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use pelago_api::client::Client;
use serde::Deserialize;
use tokio::task::JoinHandle;

/// How long one append may take to be answered.
const WAIT: Duration = Duration::from_secs(20);

/// Appends that go on until they are stopped.
pub(crate) struct Writers {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    running: Vec<JoinHandle<History>>,
}

/// What one writer saw of its register.
#[derive(Default)]
struct History {
    register: String,
    acknowledged: Vec<Acknowledged>,
    /// Numbers whose fate is not known.
    in_doubt: Vec<i64>,
}

struct Acknowledged {
    number: i64,
    reply: Appended,
}

#[derive(Deserialize)]
struct Appended {
    length: u64,
    before: String,
}

impl Writers {
    /// Two writers a register, so that replies of one prove the writes of the other. The registers are `NAME0`,
    /// `NAME1`, …
    pub(crate) fn start(clients: &[Client], name: &str, registers: usize) -> Self {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let numbers = Arc::new(AtomicI64::new(1));
        let writers = (0..2 * registers).map(|writer| {
            let (clients, stop) = (clients.to_vec(), Arc::clone(&stop));
            let (acknowledged, numbers) = (Arc::clone(&acknowledged), Arc::clone(&numbers));
            let register = format!("{name}{}", writer % registers);
            tokio::spawn(async move {
                let mut history = History { register, ..History::default() };
                for turn in writer.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let number = numbers.fetch_add(1, Ordering::Relaxed);
                    if history.append(&clients[turn % clients.len()], number).await {
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                }
                history
            })
        });
        Self { running: writers.collect(), stop, acknowledged }
    }

    /// Waits until `more` writes were acknowledged from now on.
    pub(crate) async fn acknowledge(&self, more: u64) {
        let wanted = self.acknowledged.load(Ordering::Relaxed) + more;
        let deadline = tokio::time::Instant::now() + super::mesh::PATIENCE;
        while self.acknowledged.load(Ordering::Relaxed) < wanted {
            assert!(tokio::time::Instant::now() < deadline, "writes are not acknowledged any more");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Stops the writers, reads the registers at `client` and proves that nothing was lost. Returns how many writes
    /// were acknowledged.
    pub(crate) async fn check(self, client: &Client) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let mut registers: BTreeMap<String, Vec<History>> = BTreeMap::new();
        for writer in self.running {
            let history = writer.await.expect("a writer does not panic");
            registers.entry(history.register.clone()).or_default().push(history);
        }
        let mut checked = 0;
        for (register, histories) in registers {
            let mut last = History { register: register.clone(), ..History::default() };
            assert!(last.append(client, 0).await, "{register} can be written at the end");
            checked += prove(&register, histories.into_iter().chain([last]));
        }
        checked
    }
}

impl History {
    /// Appends once. Whether it was acknowledged.
    async fn append(&mut self, client: &Client, number: i64) -> bool {
        let body = number.to_string();
        match client.ask(&self.register, body, Some(WAIT), None).await {
            Ok(reply) => {
                let reply = serde_json::from_str(reply.json()).expect("a register replies with its length");
                self.acknowledged.push(Acknowledged { number, reply });
                true
            }
            Err(_) => {
                self.in_doubt.push(number);
                // Whoever is down is asked again soon.
                tokio::time::sleep(Duration::from_millis(20)).await;
                false
            }
        }
    }
}

/// Proves that the acknowledged writes of a register stand in it, each once and in one order.
fn prove(register: &str, histories: impl Iterator<Item = History>) -> usize {
    let (mut by_length, mut in_doubt): (BTreeMap<u64, Acknowledged>, Vec<i64>) = Default::default();
    for history in histories {
        in_doubt.extend(history.in_doubt);
        for acknowledged in history.acknowledged {
            let (length, number) = (acknowledged.reply.length, acknowledged.number);
            let other = by_length.insert(length, acknowledged);
            assert!(other.is_none(), "{register}: two writes made it {length} long, one of them {number}");
        }
    }
    let (mut length, mut hash) = (0, String::new());
    for (next, Acknowledged { number, reply }) in &by_length {
        let missing = usize::try_from(next - length - 1).expect("registers are short");
        let fits = fill(&hash, &reply.before, missing, &mut in_doubt);
        assert!(fits, "{register}: what was acknowledged before {number} (length {next}) is not all there");
        (length, hash) = (*next, chain(&reply.before, *number));
    }
    by_length.len()
}

/// Whether `missing` writes whose fate was not known lead from one hash to the other. Takes those that do.
fn fill(from: &str, to: &str, missing: usize, in_doubt: &mut Vec<i64>) -> bool {
    if missing == 0 {
        return from == to;
    }
    for at in 0..in_doubt.len() {
        let number = in_doubt.remove(at);
        if fill(&chain(from, number), to, missing - 1, in_doubt) {
            return true;
        }
        in_doubt.insert(at, number);
    }
    false
}

fn chain(before: &str, number: i64) -> String {
    blake3::hash(format!("{before} {number}").as_bytes()).to_hex()[..32].to_owned()
}

#[test]
fn a_lost_write_is_found() {
    let write =
        |number, length, before: &str| Acknowledged { number, reply: Appended { length, before: before.into() } };
    let history =
        |acknowledged, in_doubt: &[i64]| History { register: "r".into(), acknowledged, in_doubt: in_doubt.to_vec() };
    let one = chain("", 1);
    let whole = history(vec![write(1, 1, ""), write(3, 3, &chain(&one, 2))], &[9, 2]);
    assert_eq!(prove("r", [whole].into_iter()), 2);
    let lost = history(vec![write(1, 1, ""), write(2, 2, &chain("", 7))], &[]);
    assert!(std::panic::catch_unwind(|| prove("r", [lost].into_iter())).is_err());
    let twice = history(vec![write(1, 1, ""), write(2, 1, "")], &[]);
    assert!(std::panic::catch_unwind(|| prove("r", [twice].into_iter())).is_err());
}
