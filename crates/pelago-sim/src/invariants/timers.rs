//! W6: each timer that is set fires in one committed turn and never early, unless it is cancelled or set anew before.

use std::collections::BTreeMap;

use bytes::Bytes;
use pelago_core::{
    id::{AgentId, TimerName},
    record::{MessageId, Op, Outcome, TimerChange, Turn, Write},
    time::LogTime,
};

use super::Violation;
use crate::{
    behaviour::{Request, numbers_of},
    ledger::Applied,
    store::MapRows,
};

const NAME: &str = "W6 (timers)";

#[derive(Debug, Default)]
pub(crate) struct Timers {
    waiting: BTreeMap<(AgentId, TimerName), Waiting>,
}

/// A timer that was set and has not fired.
#[derive(Debug)]
struct Waiting {
    id: MessageId,
    due: LogTime,
    payload: Bytes,
}

impl Timers {
    pub(crate) fn check(&mut self, change: &Applied) -> Result<(), Violation> {
        let Op::Turn(turn) = &change.op else { return check_untouched(change) };
        if change.outcome != Outcome::Committed || change.writes.is_empty() {
            return check_untouched(change);
        }
        for id in &turn.consumed {
            if let Some(fired) = self.fire(turn, id, change)? {
                check_effect(turn, &fired, change)?;
            }
        }
        for (id, _) in &turn.buried {
            self.fire(turn, id, change)?;
        }
        for TimerChange { name, set } in &turn.timers {
            let key = (turn.agent.clone(), name.clone());
            self.waiting.remove(&key);
            if let Some(set) = set {
                let id =
                    MessageId { seq: turn.version.0 + turn.turns, ..MessageId::of_timer(name.clone(), turn.version) };
                let due = change.stamp.time.plus_millis(set.after_ms);
                self.waiting.insert(key, Waiting { id, due, payload: set.payload.clone() });
            }
        }
        Ok(())
    }

    /// A timer had its turn: it must have waited, and be due.
    fn fire(&mut self, turn: &Turn, id: &MessageId, change: &Applied) -> Result<Option<Waiting>, Violation> {
        let Some(name) = id.timer() else { return Ok(None) };
        let agent = &turn.agent;
        let fired = self.waiting.remove(&(agent.clone(), name.clone())).filter(|waiting| waiting.id == *id);
        let Some(fired) = fired else {
            return violated(format!("{id:?} of {agent} fired, and it was not set, or not any more"));
        };
        if change.stamp.time < fired.due {
            return violated(format!("{id:?} of {agent} fired at {}, and was due at {}", change.stamp.time, fired.due));
        }
        Ok(Some(fired))
    }

    /// At the end none waits that could fire.
    pub(crate) fn check_end(&self, rows: &MapRows) -> Result<(), Violation> {
        if let Some((agent, waiting)) = self.waiting.iter().next() {
            return violated(format!("{waiting:?} of {} did not fire", agent.0));
        }
        if let Some((timer, _)) = rows.timers.values().find(|(timer, _)| timer.buried.is_none()) {
            return violated(format!("{timer:?} is in the store, and nobody set it"));
        }
        Ok(())
    }
}

/// What else is committed changes no timer.
fn check_untouched(change: &Applied) -> Result<(), Violation> {
    let is_timer =
        |write: &&Write| matches!(write, Write::Timer { .. } | Write::TimerGone { .. } | Write::TimerBuried { .. });
    match change.writes.iter().find(is_timer) {
        Some(write) => violated(format!("{:?} wrote {write:?}", change.op)),
        None => Ok(()),
    }
}

/// What a timer says is done in the commit that ends it.
fn check_effect(turn: &Turn, fired: &Waiting, change: &Applied) -> Result<(), Violation> {
    let number = Request::read(&fired.payload).number().expect("a timer appends a number");
    let appends =
        |write: &Write| matches!(write, Write::Agent { state: Some(state), .. } if numbers_of(state).contains(&number));
    if change.writes.iter().any(appends) {
        return Ok(());
    }
    violated(format!("{:?} of {} fired without appending {number}", fired.id, turn.agent))
}

fn violated<T>(what: String) -> Result<T, Violation> {
    Err(Violation::new(NAME, what))
}
