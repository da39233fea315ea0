//! What an asker may believe of a candidate: the rules of `core::route`, written down once more.

use std::{collections::BTreeMap, time::Duration};

use pelago_core::{
    id::Holder,
    route::{Change, Choice, FAILURES_MAX, NoChoice, Outcome, Reason, SUCCESSES_MIN},
    time::Time,
};

use super::violated;
use crate::Violation;

/// How long a candidate is left alone that was taken out, the first time, and at most.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(32);

#[derive(Debug, Default)]
pub(super) struct Expected {
    pub(super) capacity: u32,
    in_flight: u32,
    away_until: Time,
    /// In a row, while it is not out.
    failures: u8,
    out: Option<Out>,
}

#[derive(Debug)]
struct Out {
    /// Of probes, in a row.
    successes: u8,
    pause: Duration,
    probe_at: Time,
    is_probed: bool,
}

impl Out {
    fn since(now: Time, pause: Duration) -> Self {
        Self { successes: 0, pause, probe_at: now + pause, is_probed: false }
    }
}

impl Expected {
    pub(super) fn is_open(&self) -> bool {
        self.out.is_some()
    }

    fn has_room(&self, now: Time) -> bool {
        self.out.is_none() && self.away_until <= now && self.in_flight < self.capacity
    }

    fn is_probe_due(&self, now: Time) -> bool {
        self.away_until <= now && self.out.as_ref().is_some_and(|out| !out.is_probed && out.probe_at <= now)
    }

    pub(super) fn begin(&mut self, is_probe: bool) {
        self.in_flight += 1;
        if let Some(out) = self.out.as_mut().filter(|_| is_probe) {
            out.is_probed = true;
        }
    }

    /// A request has ended. What that must change.
    pub(super) fn end(&mut self, now: Time, was_probe: bool, outcome: Outcome) -> Option<Change> {
        // One that was no candidate for a while has begun to count anew.
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Outcome::Away(rest) = outcome {
            self.away_until = now + rest;
        }
        match outcome {
            Outcome::Answered { .. } | Outcome::Refused => {
                if matches!(outcome, Outcome::Answered { .. }) {
                    self.away_until = Time::ZERO;
                }
                self.failures = 0;
                let out = self.out.as_mut().filter(|_| was_probe)?;
                (out.successes, out.probe_at, out.is_probed) = (out.successes + 1, now, false);
                if out.successes < SUCCESSES_MIN {
                    return None;
                }
                self.out = None;
                Some(Change::Closed)
            }
            Outcome::Failed => match &mut self.out {
                None => {
                    self.failures += 1;
                    if self.failures < FAILURES_MAX {
                        return None;
                    }
                    (self.failures, self.out) = (0, Some(Out::since(now, PAUSE)));
                    Some(Change::Opened)
                }
                Some(out) => {
                    if was_probe {
                        *out = Out::since(now, (out.pause * 2).min(PAUSE_MAX));
                    }
                    None
                }
            },
            Outcome::Away(_) | Outcome::GivenUp(_) | Outcome::HandedOver => {
                if let Some(out) = self.out.as_mut().filter(|_| was_probe) {
                    out.is_probed = false;
                }
                None
            }
        }
    }
}

/// Whether the choice is right, as far as `all` go.
pub(super) fn check(
    chosen: &Result<Choice, NoChoice>,
    all: &BTreeMap<Holder, Expected>,
    now: Time,
) -> Result<(), Violation> {
    let Choice { holder, reason, .. } = match chosen {
        Ok(choice) => choice,
        Err(NoChoice::Nobody) if all.is_empty() => return Ok(()),
        Err(NoChoice::AllOpen { .. }) if all.values().all(|one| one.is_open() && !one.is_probe_due(now)) => {
            return Ok(());
        }
        Err(none) => return violated("R1 (somebody is chosen)", format!("{none:?} of {all:?}")),
    };
    let Some(one) = all.get(holder) else {
        return violated("R1 (somebody is chosen)", format!("{holder} is no candidate"));
    };
    let somebody_has_room = all.values().any(|one| one.has_room(now));
    match reason {
        Reason::Strategy | Reason::Farther if one.is_open() => {
            violated("R3 (breaker)", format!("{holder} is out, and chosen: {one:?}"))
        }
        Reason::Strategy | Reason::Farther if !one.has_room(now) => {
            violated("R2 (room)", format!("{holder} has no room: {one:?}"))
        }
        Reason::Probe if !one.is_probe_due(now) => {
            violated("R3 (breaker)", format!("{holder} is probed too soon, or twice at once: {one:?}"))
        }
        Reason::LastResort if one.is_open() || somebody_has_room => {
            violated("R2 (room)", format!("{holder} is the last resort of {all:?}"))
        }
        Reason::Strategy | Reason::Farther | Reason::Probe | Reason::LastResort => Ok(()),
    }
}
