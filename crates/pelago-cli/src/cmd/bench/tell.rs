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

use super::{BenchArgs, figures::Machine};
use crate::output::{Error, facts};

/// Who counts.
const AGENT: &str = "tally";
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
    machine: Machine,
}

impl Document for ToldFigures {
    const KIND: &'static str = "BenchTell";
}

/// What the agent replies.
#[derive(Debug, Deserialize)]
struct Counted {
    messages: u64,
}

/// Tells as much as there is room for, and waits until all of it is counted.
pub(super) async fn run(mesh: &Mesh, args: &BenchArgs) -> Result<ToldFigures, Error> {
    tell_for(mesh, args, args.warm_up).await?;
    settle(mesh, 0).await?;
    let before = counted(mesh).await?;
    let begun = Instant::now();
    let told = tell_for(mesh, args, args.seconds).await?;
    let after = settle(mesh, before + told).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let done = after - before;
    Ok(ToldFigures {
        what: "tell",
        over: "link",
        senders: args.in_flight,
        bytes: args.bytes,
        told,
        lost: told.saturating_sub(done),
        seconds,
        per_second: done as f64 / seconds,
        machine: Machine::here(),
    })
}

async fn tell_for(mesh: &Mesh, args: &BenchArgs, seconds: u32) -> Result<u64, Error> {
    let end = Instant::now() + Duration::from_secs(seconds.into());
    let payload = vec![b'1'; args.bytes as usize];
    let senders = (0..args.in_flight).map(async |_| {
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
        all.extend(self.machine.lines());
        facts(all)
    }
}
