//! What was measured of requests, one after the other or when they were due.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;
use pelago_api::{model::Document, problem::Problem};
use serde::Serialize;

use super::{
    BenchArgs, What,
    latency::{Latencies, record},
    machine::Machine,
};
use crate::{output::facts, problem};

/// What was measured, of all requests.
pub(super) struct Measured {
    /// In nanoseconds.
    pub(super) latencies: Histogram<u64>,
    /// Requests that the node had no room for.
    pub(super) busy: u64,
    /// Requests of which nobody knows what became of them: a node was lost.
    pub(super) in_doubt: u64,
    /// How late requests were sent that were due, in nanoseconds.
    pub(super) late: Histogram<u64>,
    /// Requests that were due and not sent before the end.
    pub(super) unsent: u64,
    /// Of broadcasts: how many each node gave no word of.
    pub(super) missed: BTreeMap<String, u64>,
}

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
    #[serde(flatten)]
    on_time: Option<OnTime>,
    answers: u64,
    /// Requests that the node had no room for; without a rate the next of their loop followed after a pause.
    busy: u64,
    /// Requests of which nobody knows what became of them, since a node was lost. Only cancels of `propose` were repeated.
    in_doubt: u64,
    /// Only of `broadcast`: how many each node gave no word of; they count among the answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    missed: Option<BTreeMap<String, u64>>,
    per_second: f64,
    #[serde(flatten)]
    latencies: Latencies,
    #[serde(flatten)]
    machine: Machine,
}

/// Of requests that were due at a fixed rate.
#[derive(Debug, Serialize)]
struct OnTime {
    /// How many were due a second.
    rate: u32,
    /// Those that were due and not sent before the end, since too many were in flight. They count among the latencies
    /// with how long they had waited by then.
    unsent: u64,
    /// How late 99 of 100 were sent at most, in microseconds. It is part of their latency.
    late_p99_us: f64,
}

impl Document for Figures {
    const KIND: &'static str = "Bench";
}

impl Default for Measured {
    fn default() -> Self {
        Self {
            latencies: Latencies::empty(),
            busy: 0,
            in_doubt: 0,
            late: Latencies::empty(),
            unsent: 0,
            missed: BTreeMap::new(),
        }
    }
}

impl Measured {
    /// An answer was there after so long; `missed` gave no word.
    pub(super) fn done(&mut self, took: Duration, missed: Vec<String>) {
        record(&mut self.latencies, took);
        for node in missed {
            *self.missed.entry(node).or_default() += 1;
        }
    }
}

impl Figures {
    pub(super) fn new(args: &BenchArgs, over: &'static str, measured: &Measured) -> Self {
        let BenchArgs { what, seconds, keys, bytes, rate, .. } = *args;
        let Measured { latencies, busy, in_doubt, late, unsent, missed } = measured;
        let on_time = rate.map(|rate| OnTime { rate, unsent: *unsent, late_p99_us: Latencies::of(late).p99_us });
        let answers = latencies.len() - unsent;
        Self {
            what,
            over,
            in_flight: args.in_flight(),
            seconds,
            keys: (what == What::Turn).then_some(keys),
            bytes: matches!(what, What::Propose | What::Ask | What::Broadcast).then_some(bytes),
            on_time,
            answers,
            busy: *busy,
            in_doubt: *in_doubt,
            missed: (what == What::Broadcast).then(|| missed.clone()),
            per_second: answers as f64 / f64::from(seconds),
            latencies: Latencies::of(latencies),
            machine: Machine::here(),
        }
    }

    /// Of broadcasts that did not reach all whom they were for.
    pub(super) fn unreached(&self) -> Option<Problem> {
        let missed = self.missed.as_ref().filter(|missed| !missed.is_empty())?;
        Some(problem::unreached(self.answers, missed))
    }

    pub(super) fn text(&self) -> String {
        let mut all = vec![
            ("answers", format!("{} in {} s, {:.0} a second", self.answers, self.seconds, self.per_second)),
            ("in flight", format!("{}, over {}", self.in_flight, self.over)),
            ("busy", self.busy.to_string()),
            ("in doubt", self.in_doubt.to_string()),
        ];
        for (node, broadcasts) in self.missed.iter().flatten() {
            all.push(("missed", format!("{broadcasts} by {node}")));
        }
        if let Some(OnTime { rate, unsent, late_p99_us }) = self.on_time {
            all.push(("due", format!("{rate} a second, sent {late_p99_us:.1} us late at p99; {unsent} never sent")));
        }
        all.extend(self.latencies.lines());
        all.extend(self.machine.lines());
        facts(all)
    }
}
