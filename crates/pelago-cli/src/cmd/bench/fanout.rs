//! How many messages a second those who subscribe to a topic hear, of one who publishes as fast as there is room.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use pelago::{
    Mesh,
    mesh::{Published, Subscription},
};
use pelago_api::model::Document;
use serde::Serialize;
use tokio::time::{sleep_until, timeout};

use super::{BenchArgs, machine::Machine};
use crate::output::{Error, facts};

const TOPIC: &str = "pelago.bench";
/// How long nothing may come before all that will come has.
const QUIET: Duration = Duration::from_millis(500);
/// How many messages are published between two looks at the clock.
const ROUND: u64 = 64;

/// The figures of one run.
#[derive(Debug, Serialize)]
pub(super) struct FanoutFigures {
    what: &'static str,
    over: &'static str,
    subscribers: u32,
    bytes: u32,
    published: u64,
    heard: u64,
    /// What subscribers were too slow for, as they were told.
    missed: u64,
    seconds: f64,
    /// Heard, by all subscribers together.
    per_second: f64,
    #[serde(flatten)]
    machine: Machine,
}

impl Document for FanoutFigures {
    const KIND: &'static str = "BenchFanout";
}

#[derive(Default)]
struct Heard {
    messages: u64,
    missed: u64,
    last: Option<Instant>,
}

/// Publishes, and counts what the subscribers hear. All of them share one link.
pub(super) async fn run(mesh: &Mesh, args: &BenchArgs) -> Result<FanoutFigures, Error> {
    let mut subscriptions = Vec::new();
    for _ in 0..args.in_flight() {
        subscriptions.push(mesh.subscribe(TOPIC).await?);
    }
    let begun = Instant::now();
    let end = begun + Duration::from_secs(args.seconds.into());
    let (published, heard) =
        tokio::join!(publish(mesh, args, end), join_all(subscriptions.into_iter().map(|one| hear(one, end))));
    let all = |count: fn(&Heard) -> u64| heard.iter().map(count).sum::<u64>();
    let last = heard.iter().filter_map(|heard| heard.last).max();
    let seconds = last.map_or(0.0, |last| last.duration_since(begun).as_secs_f64());
    let messages = all(|heard| heard.messages);
    Ok(FanoutFigures {
        what: "fanout",
        over: "link",
        subscribers: args.in_flight(),
        bytes: args.bytes,
        published: published?,
        heard: messages,
        missed: all(|heard| heard.missed),
        seconds,
        per_second: messages as f64 / seconds.max(f64::EPSILON),
        machine: Machine::here(),
    })
}

async fn publish(mesh: &Mesh, args: &BenchArgs, end: Instant) -> Result<u64, Error> {
    let mut topic = mesh.recipient(&format!("#{TOPIC}")).await?;
    let payload = vec![b'1'; args.bytes as usize];
    let mut published = 0;
    while Instant::now() < end {
        for _ in 0..ROUND {
            topic.tell(&payload).await?;
        }
        published += ROUND;
        tokio::task::yield_now().await;
    }
    Ok(published)
}

async fn hear(mut subscription: Subscription, end: Instant) -> Heard {
    let mut heard = Heard::default();
    let count = |heard: &mut Heard, published: &Published| {
        heard.messages += 1;
        heard.missed += published.missed;
        heard.last = Some(Instant::now());
    };
    let until_end = async {
        while let Ok(published) = subscription.next().await {
            count(&mut heard, &published);
        }
    };
    tokio::select! {
        () = until_end => {}
        () = sleep_until(end.into()) => {}
    }
    while let Ok(Ok(published)) = timeout(QUIET, subscription.next()).await {
        count(&mut heard, &published);
    }
    heard
}

impl FanoutFigures {
    pub(super) fn text(&self) -> String {
        let mut all = vec![
            ("heard", format!("{} in {:.2} s, {:.0} a second", self.heard, self.seconds, self.per_second)),
            ("published", self.published.to_string()),
            ("missed", self.missed.to_string()),
            ("subscribers", format!("{}, over {}, {} bytes each", self.subscribers, self.over, self.bytes)),
        ];
        all.extend(self.machine.lines());
        facts(all)
    }
}
