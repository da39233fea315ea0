//! `pelago bench`: how fast a node answers, measured from another process.
//!
//! A closed loop: so many requests are in flight at all times. Latency is from sending a request to having its answer,
//! so it says nothing about requests that a real client would have sent meanwhile.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hdrhistogram::Histogram;
use pelago_api::{
    client::{self, Client},
    model::{Document, NewTask},
};
use serde::Serialize;

use crate::{
    exit::Exit,
    output::{Error, Output, facts},
};

pub(super) const EXAMPLES: &str = "\
Examples:
  pelago bench task                             # tasks, from created to result
  pelago bench turn --in-flight 64 --seconds 10
  pelago bench task --in-flight 1 -o json";

/// The longest latency that is told apart, in microseconds: a minute.
const LATENCY_MAX: u64 = 60_000_000;
/// How long one task may take.
const TASK_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct BenchArgs {
    /// What to measure
    what: What,
    /// Requests in flight at all times
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    in_flight: u32,
    /// How long to measure, after a second to warm up
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    seconds: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
enum What {
    /// A task of a pool agent, from created to result
    Task,
    /// A durable turn of a keyed agent, each request to an agent of its own
    Turn,
}

/// What was measured, and where.
#[derive(Debug, Serialize)]
struct Bench {
    what: What,
    /// How the requests travelled.
    over: &'static str,
    in_flight: u32,
    seconds: f64,
    answers: u64,
    per_second: f64,
    p50_us: u64,
    p90_us: u64,
    p99_us: u64,
    p999_us: u64,
    max_us: u64,
    version: &'static str,
    cores: usize,
}

impl Document for Bench {
    const KIND: &'static str = "Bench";
}

pub(super) async fn run(args: BenchArgs, client: &Client, output: Output) -> Result<Exit, Error> {
    let begin = Instant::now() + Duration::from_secs(1);
    let end = begin + Duration::from_secs(args.seconds.into());
    let loops = (0..args.in_flight).map(|n| measure(args.what, n, client, begin, end));
    let mut all = new_histogram();
    for measured in join_all(loops).await {
        all.add(measured?).expect("all histograms have the same range");
    }
    output.document(&bench(&args, &all), text)?;
    Ok(Exit::Done)
}

/// One request after the other until `end`; those that began after `begin` count.
async fn measure(
    what: What,
    n: u32,
    client: &Client,
    begin: Instant,
    end: Instant,
) -> Result<Histogram<u64>, client::Error> {
    let mut latencies = new_histogram();
    let agent = format!("counter:bench-{n}");
    loop {
        let sent = Instant::now();
        if sent >= end {
            return Ok(latencies);
        }
        match what {
            What::Task => task(client).await?,
            What::Turn => {
                client.ask(&agent, "1", None, None).await?;
            }
        }
        if sent >= begin {
            let micros = u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX);
            latencies.saturating_record(micros);
        }
    }
}

async fn task(client: &Client) -> Result<(), client::Error> {
    let new = NewTask { agent: "echo".into(), prompt: Some("bench".into()), ..NewTask::default() };
    let enqueued = client.enqueue(&new, None).await?;
    client.task(enqueued.id, Some(TASK_MAX)).await?;
    Ok(())
}

fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX, 3).expect("the bounds are in order")
}

fn bench(args: &BenchArgs, latencies: &Histogram<u64>) -> Bench {
    let BenchArgs { what, in_flight, seconds } = *args;
    Bench {
        what,
        over: "http",
        in_flight,
        seconds: seconds.into(),
        answers: latencies.len(),
        per_second: latencies.len() as f64 / f64::from(seconds),
        p50_us: latencies.value_at_quantile(0.5),
        p90_us: latencies.value_at_quantile(0.9),
        p99_us: latencies.value_at_quantile(0.99),
        p999_us: latencies.value_at_quantile(0.999),
        max_us: latencies.max(),
        version: env!("CARGO_PKG_VERSION"),
        cores: std::thread::available_parallelism().map_or(0, usize::from),
    }
}

fn text(bench: &Bench) -> String {
    let millis = |micros: u64| format!("{:.2} ms", micros as f64 / 1_000.0);
    facts([
        ("answers", format!("{} in {} s, {:.0} a second", bench.answers, bench.seconds, bench.per_second)),
        ("in flight", bench.in_flight.to_string()),
        ("p50", millis(bench.p50_us)),
        ("p90", millis(bench.p90_us)),
        ("p99", millis(bench.p99_us)),
        ("p99.9", millis(bench.p999_us)),
        ("slowest", millis(bench.max_us)),
    ])
}
