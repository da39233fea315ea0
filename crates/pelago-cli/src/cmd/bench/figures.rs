//! What was measured, and where.

use hdrhistogram::Histogram;
use pelago_api::model::Document;
use serde::Serialize;

use super::{BenchArgs, Measured, Target, What};
use crate::output::facts;

/// The longest latency that is told apart, in microseconds: a minute.
const LATENCY_MAX: u64 = 60_000_000;

/// The figures of one run.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    what: What,
    /// How the requests travelled.
    over: &'static str,
    in_flight: u32,
    seconds: u32,
    /// Only of `turn`.
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<u32>,
    /// Only of `propose`, `ask` and `broadcast`.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u32>,
    answers: u64,
    /// Requests that the node had no room for; the next of their loop followed after a pause.
    busy: u64,
    /// Requests of which nobody knows what became of them, since a node was lost. Only cancels of `propose` were repeated.
    in_doubt: u64,
    per_second: f64,
    p50_us: u64,
    p90_us: u64,
    p95_us: u64,
    p99_us: u64,
    p999_us: u64,
    max_us: u64,
    #[serde(flatten)]
    machine: Machine,
}

/// What was measured with, and on.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    version: &'static str,
    /// The commit the program was built from, if whoever built it said so.
    commit: &'static str,
    build: &'static str,
    cores: usize,
    kernel: String,
}

impl Machine {
    pub(super) fn here() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            commit: option_env!("PELAGO_COMMIT").unwrap_or("unknown"),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        }
    }

    pub(super) fn lines(&self) -> [(&'static str, String); 2] {
        [
            ("build", format!("{} {} ({})", self.version, self.build, self.commit)),
            ("machine", format!("{} cores, {}", self.cores, self.kernel)),
        ]
    }
}

impl Document for Figures {
    const KIND: &'static str = "Bench";
}

/// An empty histogram of latencies in microseconds.
pub(super) fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX, 3).expect("the bounds are in order")
}

impl Figures {
    pub(super) fn new(args: &BenchArgs, target: &Target, measured: &Measured) -> Self {
        let BenchArgs { what, in_flight, seconds, warm_up: _, keys, bytes, http: _ } = *args;
        let Measured { latencies, busy, in_doubt } = measured;
        Self {
            what,
            over: target.name(),
            in_flight,
            seconds,
            keys: (what == What::Turn).then_some(keys),
            bytes: matches!(what, What::Propose | What::Ask | What::Broadcast).then_some(bytes),
            answers: latencies.len(),
            busy: *busy,
            in_doubt: *in_doubt,
            per_second: latencies.len() as f64 / f64::from(seconds),
            p50_us: latencies.value_at_quantile(0.5),
            p90_us: latencies.value_at_quantile(0.9),
            p95_us: latencies.value_at_quantile(0.95),
            p99_us: latencies.value_at_quantile(0.99),
            p999_us: latencies.value_at_quantile(0.999),
            max_us: latencies.max(),
            machine: Machine::here(),
        }
    }

    pub(super) fn text(&self) -> String {
        let millis = |micros: u64| format!("{:.2} ms", micros as f64 / 1_000.0);
        let mut all = vec![
            ("answers", format!("{} in {} s, {:.0} a second", self.answers, self.seconds, self.per_second)),
            ("in flight", format!("{}, over {}", self.in_flight, self.over)),
            ("busy", self.busy.to_string()),
            ("in doubt", self.in_doubt.to_string()),
            ("p50", millis(self.p50_us)),
            ("p90", millis(self.p90_us)),
            ("p95", millis(self.p95_us)),
            ("p99", millis(self.p99_us)),
            ("p99.9", millis(self.p999_us)),
            ("slowest", millis(self.max_us)),
        ];
        all.extend(self.machine.lines());
        facts(all)
    }
}
