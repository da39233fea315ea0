//! How many messages a second those who subscribe to a topic hear, of one who publishes as fast as there is room, or what
//! is due.

use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, future::join_all};
use hdrhistogram::Histogram;
use pelago::{
    Mesh,
    mesh::{Published, Subscription},
};
use pelago_api::model::Document;
use serde::Serialize;
use tokio::time::{sleep_until, timeout};

use super::{
    BenchArgs,
    latency::{Latencies, record, record_times},
    machine::Machine,
    schedule::Schedule,
    tell::OnTime,
};
use crate::output::{Error, facts};

const TOPIC: &str = "pelago.bench";
/// How long nothing may come before all that will come has.
const QUIET: Duration = Duration::from_millis(500);
/// How many messages are published between two looks at the clock, and at what was heard.
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
    on_time: Option<OnTime>,
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

/// Messages that are due at a fixed rate, and how long after that they were heard.
struct Paced {
    schedule: Schedule,
    latencies: RefCell<Histogram<u64>>,
}

/// Publishes, and counts what the subscribers hear. All of them share one link.
pub(super) async fn run(mesh: &Mesh, args: &BenchArgs) -> Result<FanoutFigures, Error> {
    let mut subscriptions = Vec::new();
    for _ in 0..args.in_flight() {
        subscriptions.push(mesh.subscribe(TOPIC).await?);
    }
    let begun = Instant::now();
    let end = begun + Duration::from_secs(args.seconds.into());
    let paced = args
        .rate
        .map(|rate| Paced { schedule: Schedule::new(begun, rate), latencies: RefCell::new(Latencies::empty()) });
    let publishes = async {
        match &paced {
            Some(Paced { schedule, .. }) => publish_when_due(mesh, args, schedule, end).await,
            None => publish(mesh, args, end).await,
        }
    };
    let hear = |subscription| hear(subscription, end, paced.as_ref());
    let (published, heard) = tokio::join!(publishes, join_all(subscriptions.into_iter().map(hear)));
    let published = published?;
    let all = |count: fn(&Heard) -> u64| heard.iter().map(count).sum::<u64>();
    let last = heard.iter().filter_map(|heard| heard.last).max();
    let seconds = last.map_or(0.0, |last| last.duration_since(begun).as_secs_f64());
    let messages = all(|heard| heard.messages);
    Ok(FanoutFigures {
        what: "fanout",
        over: "link",
        subscribers: args.in_flight(),
        bytes: args.bytes,
        published,
        heard: messages,
        missed: all(|heard| heard.missed),
        seconds,
        per_second: messages as f64 / seconds.max(f64::EPSILON),
        on_time: args.rate.zip(paced).map(|(rate, paced)| paced.on_time(args, rate, published, end)),
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

/// What is due before `end`, each when it is due, or as soon after that as there is room.
async fn publish_when_due(mesh: &Mesh, args: &BenchArgs, schedule: &Schedule, end: Instant) -> Result<u64, Error> {
    let mut topic = mesh.recipient(&format!("#{TOPIC}")).await?;
    let payload = vec![b'1'; args.bytes as usize];
    let mut published = 0;
    loop {
        let now = Instant::now();
        if now >= end {
            return Ok(published);
        }
        let round = schedule.before(now).min(published + ROUND);
        while published < round {
            match topic.tell(&payload).now_or_never() {
                Some(done) => done?,
                // It waits for room, and so do those after it.
                None => break,
            }
            published += 1;
        }
        schedule.wait_for(published).await;
    }
}

async fn hear(mut subscription: Subscription, end: Instant, paced: Option<&Paced>) -> Heard {
    let mut heard = Heard::default();
    let count = |heard: &mut Heard, published: &Published| {
        let now = Instant::now();
        heard.missed += published.missed;
        if let Some(Paced { schedule, latencies }) = paced {
            // One publishes, so they come in order.
            let due = schedule.due(heard.messages + heard.missed);
            record(&mut latencies.borrow_mut(), now.saturating_duration_since(due));
        }
        heard.messages += 1;
        heard.last = Some(now);
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

impl Paced {
    fn on_time(self, args: &BenchArgs, rate: u32, published: u64, end: Instant) -> OnTime {
        let mut latencies = self.latencies.into_inner();
        let mut waited = Latencies::empty();
        let unsent = self.schedule.record_unsent(published, end, &mut waited);
        // Every subscriber would have heard it.
        for step in waited.iter_recorded() {
            let times = step.count_at_value() * u64::from(args.in_flight());
            record_times(&mut latencies, Duration::from_nanos(step.value_iterated_to()), times);
        }
        OnTime { rate, unsent, latencies: Latencies::of(&latencies) }
    }
}

impl FanoutFigures {
    pub(super) fn text(&self) -> String {
        let mut all = vec![
            ("heard", format!("{} in {:.2} s, {:.0} a second", self.heard, self.seconds, self.per_second)),
            ("published", self.published.to_string()),
            ("missed", self.missed.to_string()),
            ("subscribers", format!("{}, over {}, {} bytes each", self.subscribers, self.over, self.bytes)),
        ];
        if let Some(OnTime { rate, unsent, latencies }) = &self.on_time {
            all.push(("due", format!("{rate} a second; {unsent} never published")));
            all.extend(latencies.lines());
        }
        all.extend(self.machine.lines());
        facts(all)
    }
}
