//! `pelago bench`: how fast a mesh answers, measured from another process.
//!
//! A closed loop: so many requests are in flight at all times. Latency is from sending a request to having its answer,
//! so it says nothing about requests that a real client would have sent meanwhile.

mod fanout;
mod figures;
mod requests;
mod target;
mod tell;

use std::{
    cell::Cell,
    mem,
    pin::pin,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use hdrhistogram::Histogram;
use pelago_api::problem::{Code, Problem};
use pelago_core::record::PAYLOAD_BYTES_MAX;
use serde::Serialize;

use self::{
    figures::{Figures, latencies},
    requests::{Answer, Requests},
    target::Target,
};
use super::request::{client_of, link_of};
use crate::{
    exit::Exit,
    output::{Error, Output},
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  pelago bench task                                        # over a link with the node at the default URL
  pelago bench turn --in-flight 64 --seconds 10 --keys 64
  pelago bench propose --url 127.0.0.1:50051 -o json       # the node's mesh address
  pelago bench tell --in-flight 1 --bytes 16
  pelago bench fanout --in-flight 100 --bytes 64
  pelago bench task --http --in-flight 1                   # the same over HTTP";

/// How long to wait when the node takes no more for the moment.
const PAUSE: Duration = Duration::from_millis(1);

/// A closed loop: as soon as an answer is there, the next request is sent. Requests go over a link, as those of
/// programs do; `--url` is the node's mesh address, or its HTTP address, which is then asked for the other one.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct BenchArgs {
    /// What to measure
    what: What,
    /// Requests in flight at all times; of `tell`, how many tell at a time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    in_flight: u32,
    /// How long to measure
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    seconds: u32,
    /// How many seconds to ask before that, so that all is warm
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=600))]
    warm_up: u32,
    /// How many agents take turns in `turn`
    #[arg(long, default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    keys: u32,
    /// The input of each task of `propose`, each question of `ask`, each message of `tell`, `broadcast` and `fanout`, in
    /// bytes
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
    /// A durable turn of one keyed agent after the other: `counter:KEY` is asked. The agents stay, with their count
    Turn,
    /// A question to the pool agent `echo`, in memory only
    Ask,
    /// Messages that nobody answers, to the resident agent `tally`, as fast as there is room for them: what it counts
    Tell,
    /// Messages to all agents of the name `tally`, one on each node: an answer says whom it reached
    Broadcast,
    /// Messages of a topic, as fast as there is room for them: what those who subscribe to it hear. `--in-flight` is how
    /// many they are
    Fanout,
    /// A durable write that nobody acts on: a task that is due in an hour is enqueued, then cancelled, and so on. Each
    /// of the two counts as an answer, once a quorum has flushed it. None stays queued, not even after Ctrl-C, but
    /// for what is in doubt because a node was lost
    Propose,
}

pub(crate) async fn run(args: BenchArgs, urls: &[String], output: Output) -> Result<Exit, Error> {
    let target = if args.http { Target::Http(client_of(urls)) } else { Target::Link(link_of(urls).await?) };
    if matches!(args.what, What::Tell | What::Fanout) {
        return one_way(&target, &args, output).await;
    }
    let begin = Instant::now() + Duration::from_secs(args.warm_up.into());
    let end = Cell::new(begin + Duration::from_secs(args.seconds.into()));
    let requests = |n| Requests::new(&args, &target, n);
    let mut loops = pin!(join_all((0..args.in_flight).map(|n| measure(requests(n), begin, &end))));
    let mut interrupted = false;
    let ended = loop {
        tokio::select! {
            biased;
            ended = &mut loops => break ended,
            _ = tokio::signal::ctrl_c() => {}
        }
        // A second one does not wait for what is under way.
        if mem::replace(&mut interrupted, true) {
            return Ok(Exit::Interrupted);
        }
        end.set(Instant::now());
    };
    let left: u64 = ended.iter().map(|(_, left)| left).sum();
    if left > 0 {
        output.note(&format!("{left} tasks for echo may be left, due in an hour: pelago task ls --state queued"));
    }
    let mut all = Measured::default();
    for (measured, _) in ended {
        let Measured { latencies, busy, in_doubt } = measured?;
        all.latencies.add(&latencies).expect("all histograms have the same range");
        all.busy += busy;
        all.in_doubt += in_doubt;
    }
    if interrupted {
        return Ok(Exit::Interrupted);
    }
    output.document(&Figures::new(&args, &target, &all), Figures::text)?;
    Ok(Exit::Done)
}

/// Measures what has no answer.
async fn one_way(target: &Target, args: &BenchArgs, output: Output) -> Result<Exit, Error> {
    let Target::Link(mesh) = target else {
        let detail = "what is told is measured over a link";
        return Err(Problem::new(Code::BadParameter, detail, "leave --http out").into());
    };
    let measured = async {
        if args.what == What::Fanout {
            output.document(&fanout::run(mesh, args).await?, fanout::FanoutFigures::text)
        } else {
            output.document(&tell::run(mesh, args).await?, tell::ToldFigures::text)
        }
    };
    tokio::select! {
        biased;
        shown = measured => shown.map(|()| Exit::Done),
        _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
    }
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

/// Measures until `end`; says too how many tasks may be left behind.
async fn measure(mut requests: Requests<'_>, begin: Instant, end: &Cell<Instant>) -> (Result<Measured, Error>, u64) {
    let measured = ask(&mut requests, begin, end).await;
    (measured, requests.settle().await)
}

/// One request after the other until `end`; those that began after `begin` count.
async fn ask(requests: &mut Requests<'_>, begin: Instant, end: &Cell<Instant>) -> Result<Measured, Error> {
    let mut measured = Measured::default();
    loop {
        let sent = Instant::now();
        if sent >= end.get() {
            return Ok(measured);
        }
        match requests.ask().await? {
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
}
