//! How many messages a second an agent counts that it was told from another process.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use pelago::Mesh;
use pelago_api::{
    model::Document,
    problem::{Code, Problem},
};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::{BenchArgs, latency::Latencies, machine::Machine, paced};
use crate::output::{Error, facts};

/// Who counts.
pub(super) const AGENT: &str = "tally";
/// How long to wait for its answers.
const WAIT: Duration = Duration::from_secs(30);
/// How long it may count on when nothing more is told.
const COUNTED_MAX: Duration = Duration::from_secs(10);
/// How many messages are told between two looks at the clock, and at whoever else wants to be told something.
const ROUND: u64 = 256;

/// The figures of one run.
#[derive(Debug, Serialize)]
pub(super) struct ToldFigures {
    what: &'static str,
    over: &'static str,
    senders: u32,
    bytes: u32,
    told: u64,
    /// Those that the agent never counted.
    lost: u64,
    seconds: f64,
    /// Counted, from the first until the last.
    per_second: f64,
    #[serde(flatten)]
    on_time: Option<OnTime>,
    #[serde(flatten)]
    machine: Machine,
}

/// Of messages that were due at a fixed rate.
#[derive(Debug, Serialize)]
pub(super) struct OnTime {
    /// How many were due a second.
    pub(super) rate: u32,
    /// Those that were due and not told before the end, since there was no room. They count among the latencies with how
    /// long they had waited by then.
    pub(super) unsent: u64,
    /// From the moment at which a message was due until whoever told it has heard that the agent has handled it; of
    /// `fanout` until a subscriber has heard it.
    #[serde(flatten)]
    pub(super) latencies: Latencies,
}

impl Document for ToldFigures {
    const KIND: &'static str = "BenchTell";
}

/// What the agent replies.
#[derive(Debug, Deserialize)]
struct Counted {
    messages: u64,
}

/// Tells as much as there is room for, or as is due, and waits until all of it is counted.
pub(super) async fn run(mesh: &Mesh, args: &BenchArgs) -> Result<ToldFigures, Error> {
    let Some(rate) = args.rate else {
        return count(mesh, args, "link", async |seconds| tell_for(mesh, args, seconds).await).await;
    };
    let mut on_time = None;
    let mut figures = count(mesh, args, "link", async |seconds| {
        let (told, measured) = paced::tell(mesh, args, rate, seconds).await?;
        on_time = Some(measured);
        Ok(told)
    })
    .await?;
    figures.on_time = on_time;
    Ok(figures)
}

/// Warms up, tells by `tell`, which is given seconds and says how many messages it told, and counts.
pub(super) async fn count(
    mesh: &Mesh,
    args: &BenchArgs,
    over: &'static str,
    mut tell: impl AsyncFnMut(u32) -> Result<u64, Error>,
) -> Result<ToldFigures, Error> {
    let warm = counted(mesh).await? + tell(args.warm_up).await?;
    let before = settle(mesh, warm).await?;
    let begun = Instant::now();
    let told = tell(args.seconds).await?;
    let after = settle(mesh, before + told).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let done = after - before;
    Ok(ToldFigures {
        what: "tell",
        over,
        senders: args.in_flight(),
        bytes: args.bytes,
        told,
        lost: told.saturating_sub(done),
        seconds,
        per_second: done as f64 / seconds,
        on_time: None,
        machine: Machine::here(),
    })
}

async fn tell_for(mesh: &Mesh, args: &BenchArgs, seconds: u32) -> Result<u64, Error> {
    let end = Instant::now() + Duration::from_secs(seconds.into());
    let payload = vec![b'1'; args.bytes as usize];
    let senders = (0..args.in_flight()).map(async |_| {
        let mut recipient = mesh.recipient(AGENT).await?;
        let mut told = 0;
        while Instant::now() < end {
            for _ in 0..ROUND {
                recipient.tell(&payload).await?;
            }
            told += ROUND;
            tokio::task::yield_now().await;
        }
        Ok::<_, Error>(told)
    });
    Ok(try_join_all(senders).await?.into_iter().sum())
}

/// Waits until the agent has counted so many, or counts no more. Returns how many it has.
async fn settle(mesh: &Mesh, wanted: u64) -> Result<u64, Error> {
    let end = Instant::now() + COUNTED_MAX;
    let mut last = counted(mesh).await?;
    while last < wanted && Instant::now() < end {
        sleep(Duration::from_millis(1)).await;
        last = counted(mesh).await?;
    }
    Ok(last)
}

async fn counted(mesh: &Mesh) -> Result<u64, Error> {
    let reply = mesh.ask(AGENT, "null", WAIT).await?;
    let unread = |error: serde_json::Error| {
        let detail = format!("the agent {AGENT} of this mesh counts nothing: {error}");
        Problem::new(Code::BadAnswer, detail, "measure a mesh whose nodes have the built-in agents")
    };
    Ok(serde_json::from_slice::<Counted>(&reply).map_err(unread)?.messages)
}

impl ToldFigures {
    pub(super) fn text(&self) -> String {
        let counted = self.told - self.lost;
        let mut all = vec![
            ("counted", format!("{counted} in {:.2} s, {:.0} a second", self.seconds, self.per_second)),
            ("lost", self.lost.to_string()),
            ("senders", format!("{}, over {}, {} bytes each", self.senders, self.over, self.bytes)),
        ];
        if let Some(OnTime { rate, unsent, latencies }) = &self.on_time {
            all.push(("due", format!("{rate} a second; {unsent} never told")));
            all.extend(latencies.lines());
        }
        all.extend(self.machine.lines());
        facts(all)
    }
}
