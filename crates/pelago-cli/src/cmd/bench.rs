//! `pelago bench`: how fast a mesh answers, measured from another process.
//!
//! A closed loop: so many requests are in flight at all times. Latency is from sending a request to having its answer,
//! so it says nothing about requests that a real client would have sent meanwhile.

mod figures;
mod target;

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hdrhistogram::Histogram;
use pelago_core::record::PAYLOAD_BYTES_MAX;
use serde::Serialize;

use self::{
    figures::{Figures, latencies},
    target::{Answer, Target},
};
use super::request::client_of;
use crate::{
    exit::Exit,
    output::{Error, Output},
};

pub(super) const EXAMPLES: &str = "\
Examples:
  pelago bench task                                        # over a link with the node at the default URL
  pelago bench turn --in-flight 64 --seconds 10 --keys 64
  pelago bench propose --url 127.0.0.1:50051 -o json       # the node's mesh address
  pelago bench task --http --in-flight 1                   # the same over HTTP";

/// How long to wait when the node takes no more for the moment.
const PAUSE: Duration = Duration::from_millis(1);

/// A closed loop: as soon as an answer is there, the next request is sent. Requests go over a link, as those of
/// programs do; `--url` is the node's mesh address, or its HTTP address, which is then asked for the other one.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct BenchArgs {
    /// What to measure
    what: What,
    /// Requests in flight at all times
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    in_flight: u32,
    /// How long to measure
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    seconds: u32,
    /// How many seconds to ask before that, so that all is warm
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=600))]
    warm_up: u32,
    /// How many agents take turns in `turn` and `propose`
    #[arg(long, default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    keys: u32,
    /// The size of each message of `propose`, in bytes
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=PAYLOAD_BYTES_MAX as i64))]
    bytes: u32,
    /// Ask over HTTP, not over a link
    #[arg(long)]
    http: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum What {
    /// A task for the pool agent `echo`: enqueued, and its result waited for
    Task,
    /// A durable turn of one keyed agent after the other: `counter:KEY` is asked
    Turn,
    /// The cheapest durable write a client can ask for: a message to one keyed agent after the other, acknowledged once
    /// a quorum has flushed it. The agents handle the messages meanwhile, which is not waited for, nor free
    Propose,
}

pub(super) async fn run(args: BenchArgs, urls: &[String], output: Output) -> Result<Exit, Error> {
    let http = || client_of(urls);
    let target = if args.http { Target::Http(http()) } else { Target::link(urls, http).await? };
    let begin = Instant::now() + Duration::from_secs(args.warm_up.into());
    let end = begin + Duration::from_secs(args.seconds.into());
    let loops = (0..args.in_flight).map(|n| measure(&args, n, &target, begin, end));
    let mut all = Measured::default();
    for measured in join_all(loops).await {
        let Measured { latencies, busy, in_doubt } = measured?;
        all.latencies.add(&latencies).expect("all histograms have the same range");
        all.busy += busy;
        all.in_doubt += in_doubt;
    }
    output.document(&Figures::new(&args, &target, &all), Figures::text)?;
    Ok(Exit::Done)
}

/// What one loop, or all of them, measured.
pub(super) struct Measured {
    latencies: Histogram<u64>,
    /// Requests that the node had no room for.
    busy: u64,
    /// Requests of which nobody knows what became of them: a node was lost.
    in_doubt: u64,
}

impl Default for Measured {
    fn default() -> Self {
        Self { latencies: latencies(), busy: 0, in_doubt: 0 }
    }
}

/// One request after the other until `end`; those that began after `begin` count.
async fn measure(args: &BenchArgs, n: u32, target: &Target, begin: Instant, end: Instant) -> Result<Measured, Error> {
    let mut measured = Measured::default();
    // Every loop has keys of its own, as long as there are enough.
    for key in (u64::from(n)..).step_by(args.in_flight as usize) {
        let sent = Instant::now();
        if sent >= end {
            break;
        }
        let answer = target.ask(args, key % u64::from(args.keys)).await?;
        match answer {
            Answer::Done if sent >= begin => {
                let micros = u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX);
                measured.latencies.saturating_record(micros);
            }
            Answer::Done => {}
            Answer::InDoubt => measured.in_doubt += 1,
            Answer::Busy => {
                measured.busy += 1;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    Ok(measured)
}
