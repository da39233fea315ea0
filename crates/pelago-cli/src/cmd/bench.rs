//! `pelago bench`: how fast a mesh answers, measured from another process; or, with `--same-node`, inside a node.
//!
//! Without `--rate` a closed loop (`closed`), with it an open one (`open`, `paced`), whose latencies count from the moment
//! at which something was due.

mod closed;
mod fanout;
mod figures;
mod latency;
mod machine;
mod open;
mod paced;
mod requests;
mod route;
mod same_node;
mod schedule;
mod target;
mod tell;

use std::{
    cell::{Cell, RefCell},
    mem,
    pin::pin,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use pelago_core::record::PAYLOAD_BYTES_MAX;
use serde::Serialize;

use self::{
    figures::{Figures, Measured},
    requests::Requests,
    schedule::Schedule,
    target::Target,
};
use super::request::{client_of, link_of};
use crate::{
    exit::Exit,
    output::{Error, Output},
    problem,
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  pelago bench task                                        # over a link with the node at the default URL
  pelago bench turn --in-flight 64 --seconds 10 --keys 64
  pelago bench propose --url 127.0.0.1:50051 -o json       # the node's mesh address
  pelago bench tell --bytes 16
  pelago bench ask --rate 100000 --bytes 64                # so many a second are due; latency counts from then
  pelago bench ask --same-node --bytes 64                  # an agent of the node asks another one there
  pelago bench fanout --in-flight 100 --bytes 64
  pelago bench fanout --rate 1000                          # latency counts until each of them has heard it
  pelago bench route                                       # what choosing a node costs; needs no mesh
  pelago bench task --http --in-flight 1                   # the same over HTTP";

/// Requests in flight unless said otherwise.
const IN_FLIGHT: u32 = 64;
/// The same with a rate: room for what is due while an answer is late.
const IN_FLIGHT_AT_A_RATE: u32 = 256;

/// As much as there is room for, or, with --rate, what is due. Requests go over a link, as those of programs do; `--url`
/// is the node's mesh address, or its HTTP address, which is then asked for the other one.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct BenchArgs {
    /// What to measure
    what: What,
    /// Requests in flight at all times; of `tell`, how many tell at a time; of `fanout`, how many subscribe; with --rate, in
    /// flight at most. Unless given 64, of `tell` 1, of requests with --rate 256
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    in_flight: Option<u32>,
    /// How many requests or messages are due a second, however long others take. Latency counts from the moment at which
    /// each was due; the client keeps a core busy to be on time
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=50_000_000))]
    rate: Option<u32>,
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
    /// Of `ask` and `tell`: an agent of the node asks, or tells, another agent of that node
    #[arg(long, conflicts_with_all = ["http", "rate", "in_flight"])]
    same_node: bool,
}

impl BenchArgs {
    fn in_flight(&self) -> u32 {
        let unless_given = match (self.what, self.rate) {
            (What::Tell, _) => 1,
            _ if self.same_node => 1,
            // Each of them hears all.
            (What::Fanout, _) => IN_FLIGHT,
            (_, Some(_)) => IN_FLIGHT_AT_A_RATE,
            (_, None) => IN_FLIGHT,
        };
        self.in_flight.unwrap_or(unless_given)
    }

    /// Whether these go together.
    fn check(&self) -> Result<(), Error> {
        let refused =
            |detail: &str, hint: &str| Err(problem::usage(format!("{detail}: {hint}"), "pelago bench").into());
        let (what, rate) = (self.what, self.rate);
        let is_told = matches!(what, What::Tell | What::Fanout);
        if what == What::Route && (rate.is_some() || self.in_flight.is_some() || self.http) {
            return refused("route asks nobody anything", "leave --rate, --in-flight and --http out");
        }
        if what == What::Tell && rate.is_some() && self.in_flight() > 1 {
            return refused("at a fixed rate there is one who tells", "leave --in-flight out");
        }
        if is_told && self.http {
            return refused("what is told is measured over a link", "leave --http out");
        }
        if self.same_node && !matches!(what, What::Ask | What::Tell) {
            return refused("only ask and tell are measured inside a node", "leave --same-node out");
        }
        Ok(())
    }
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
    /// Messages of a topic, as fast as there is room for them or at a fixed rate: what those who subscribe to it hear.
    /// `--in-flight` is how many they are
    Fanout,
    /// A durable write that nobody acts on: a task that is due in an hour is enqueued, then cancelled, and so on. Each
    /// of the two counts as an answer, once a quorum has flushed it. None stays queued, not even after Ctrl-C, but
    /// for what is in doubt because a node was lost
    Propose,
    /// What it takes to choose one of 3, 16 and 64 nodes by each strategy, in nanoseconds. It needs no mesh, and takes as
    /// long as it takes
    Route,
}

pub(crate) async fn run(args: BenchArgs, urls: &[String], output: Output) -> Result<Exit, Error> {
    args.check()?;
    if args.what == What::Route {
        output.document(&route::run(), route::RouteFigures::text)?;
        return Ok(Exit::Done);
    }
    if matches!(args.what, What::Tell | What::Fanout) || args.same_node {
        tokio::select! {
            biased;
            shown = over_link(&args, urls, output) => return shown.map(|()| Exit::Done),
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Interrupted),
        }
    }
    let target = if args.http { Target::Http(client_of(urls)) } else { Target::Link(link_of(urls).await?) };
    let begun = Instant::now();
    let begin = begun + Duration::from_secs(args.warm_up.into());
    let end = Cell::new(begin + Duration::from_secs(args.seconds.into()));
    let all = RefCell::new(Measured::default());
    let mut requests: Vec<_> = (0..args.in_flight()).map(|n| Requests::new(&args, &target, n)).collect();
    let measured_and_settled = async {
        let measured = match args.rate {
            Some(rate) => open::ask(&mut requests, Schedule::new(begun, rate), begin, &end, &all).await,
            None => {
                let loops = requests.iter_mut().map(|requests| closed::ask(requests, begin, &end, &all));
                join_all(loops).await.into_iter().collect()
            }
        };
        (measured, join_all(requests.into_iter().map(Requests::settle)).await)
    };
    let mut measured_and_settled = pin!(measured_and_settled);
    let mut interrupted = false;
    let (measured, left) = loop {
        tokio::select! {
            biased;
            ended = &mut measured_and_settled => break ended,
            _ = tokio::signal::ctrl_c() => {}
        }
        // A second one does not wait for what is under way.
        if mem::replace(&mut interrupted, true) {
            return Ok(Exit::Interrupted);
        }
        end.set(Instant::now());
    };
    let left: u64 = left.into_iter().sum();
    if left > 0 {
        output.note(&format!("{left} tasks for echo may be left, due in an hour: pelago task ls --state queued"));
    }
    measured?;
    if interrupted {
        return Ok(Exit::Interrupted);
    }
    let figures = Figures::new(&args, target.name(), &all.borrow());
    output.document(&figures, Figures::text)?;
    figures.unreached().map_or(Ok(Exit::Done), |problem| Err(problem.into()))
}

/// Measures what has no answer, or has it inside a node.
async fn over_link(args: &BenchArgs, urls: &[String], output: Output) -> Result<(), Error> {
    let mesh = link_of(urls).await?;
    match (args.what, args.same_node) {
        (What::Fanout, _) => output.document(&fanout::run(&mesh, args).await?, fanout::FanoutFigures::text),
        (What::Ask, _) => output.document(&same_node::ask(&mesh, args).await?, Figures::text),
        (_, true) => output.document(&same_node::tell(&mesh, args).await?, tell::ToldFigures::text),
        (_, false) => output.document(&tell::run(&mesh, args).await?, tell::ToldFigures::text),
    }
}
