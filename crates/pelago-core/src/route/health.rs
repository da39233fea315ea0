//! The circuit breaker of one candidate.
//!
//! ```text
//!           FAILURES_MAX in a row                       a probe fails: the pause doubles
//! closed ─────────────────────────► open ──pause──► probe ─────────────────────────────► open
//!   ▲                                                 │ succeeds: the next one follows at once
//!   └──────────── SUCCESSES_MIN in a row ─────────────┘
//! ```

use std::time::Duration;

use crate::time::Time;

/// So many failures in a row take a candidate out.
pub const FAILURES_MAX: u8 = 3;
/// So many successes in a row bring it back, and not fewer.
pub const SUCCESSES_MIN: u8 = 5;
/// How long a candidate is left alone before it is tried again, the first time.
const PAUSE: Duration = Duration::from_secs(1);
/// How often that pause doubles: up to 32 s.
const DOUBLINGS_MAX: u8 = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Health {
    /// In a row, while closed.
    failures: u8,
    open: Option<Open>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Open {
    /// Of probes, in a row.
    successes: u8,
    doublings: u8,
    probe_at: Time,
    /// A probe is under way: there is one at a time.
    probing: bool,
}

impl Health {
    pub(super) fn is_closed(&self) -> bool {
        self.open.is_none()
    }

    /// When a probe may be sent. `None` if it is closed, or while there is one.
    pub(super) fn probe_at(&self) -> Option<Time> {
        self.open.filter(|open| !open.probing).map(|open| open.probe_at)
    }

    /// A probe is sent.
    pub(super) fn probe(&mut self) {
        if let Some(open) = &mut self.open {
            open.probing = true;
        }
    }

    pub(super) fn succeeded(&mut self, now: Time, was_probe: bool) {
        if !cfg!(planted = "failures_need_no_row") {
            self.failures = 0;
        }
        // What was sent before it opened says nothing about how it is since.
        let Some(open) = self.open.as_mut().filter(|_| was_probe) else { return };
        open.probing = false;
        open.probe_at = now;
        open.successes += 1;
        if open.successes >= SUCCESSES_MIN {
            self.open = None;
        }
    }

    pub(super) fn failed(&mut self, now: Time, was_probe: bool) {
        match &mut self.open {
            None => {
                self.failures += 1;
                if self.failures >= FAILURES_MAX {
                    *self = Self { failures: 0, open: Some(Open::since(now, 0)) };
                }
            }
            Some(open) if was_probe => *open = Open::since(now, (open.doublings + 1).min(DOUBLINGS_MAX)),
            Some(_) => {}
        }
    }

    /// Nobody knows what became of a request.
    pub(super) fn unknown(&mut self, was_probe: bool) {
        if let Some(open) = self.open.as_mut().filter(|_| was_probe) {
            open.probing = false;
        }
    }
}

impl Open {
    fn since(now: Time, doublings: u8) -> Self {
        Self { successes: 0, doublings, probe_at: now + PAUSE * (1 << doublings), probing: false }
    }
}
