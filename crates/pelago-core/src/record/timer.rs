//! Rules of timers: what is set, cancelled and due. A timer is a message of an agent to itself, in a row of its own.

use std::collections::BTreeMap;

use super::{
    Outcome, PAYLOAD_BYTES_MAX, Refusal, Stamp, TIMERS_PER_AGENT_MAX,
    agent::{Step, fits},
    op::TimerChange,
    row::{Agent, Rows, Timer, Write},
    task,
};

/// Ends a timer: it was handled, or could not be for the given reason. `waiting` is its row, if it is still there.
pub(super) fn end(now: Stamp, position: u32, waiting: Option<Timer>, reason: Option<&String>) -> Step<Write> {
    let Some(timer) = waiting.filter(|timer| timer.buried.is_none()) else {
        return Err(Outcome::Refused(Refusal::MessageGone { position }));
    };
    if timer.due > now.time && !cfg!(planted = "timer_fires_early") {
        return Err(Outcome::Refused(Refusal::TooEarly));
    }
    let Timer { agent, name, .. } = timer;
    Ok(match reason {
        Some(reason) => Write::TimerBuried { agent, name, reason: task::short(reason) },
        None => Write::TimerGone { agent, name },
    })
}

/// Sets and cancels timers of an agent, whose row as of this commit is `agent`.
pub(super) fn change_all<R: Rows>(
    now: Stamp,
    agent: &Agent,
    changes: &[TimerChange],
    rows: &R,
    writes: &mut Vec<Write>,
) -> Result<Step, R::Error> {
    if let Err(refused) = fits("the timers of one commit", changes.len(), TIMERS_PER_AGENT_MAX) {
        return Ok(Err(refused));
    }
    let ended = writes.iter().filter(|write| write.is_end_of_timer()).count();
    let last: BTreeMap<_, _> = changes.iter().map(|change| (&change.name, change.set.as_ref())).collect();
    let (mut come, mut gone) = (0, ended);
    for (name, set) in last {
        // What this commit itself has ended is no more, and `rows` does not show that.
        let ended = writes.iter().any(|write| matches!(write, Write::TimerGone { name: gone, .. } if gone == name));
        let is_there = !ended && rows.timer(&agent.id, name)?.is_some();
        let (id, name) = (agent.id.clone(), name.clone());
        match set {
            Some(set) => {
                if let Err(refused) = fits("the timer's input", set.payload.len(), PAYLOAD_BYTES_MAX) {
                    return Ok(Err(refused));
                }
                come += usize::from(!is_there);
                let due = now.plus_millis(set.after_ms);
                let timer = Timer { agent: id, name, set: agent.version, due, buried: None };
                writes.push(Write::Timer { timer, payload: set.payload.clone() });
            }
            None if is_there => {
                gone += 1;
                writes.push(Write::TimerGone { agent: id, name });
            }
            None => {}
        }
    }
    if come == 0 {
        return Ok(Ok(()));
    }
    let before = usize::try_from(rows.timers_len(&agent.id)?).unwrap_or(usize::MAX);
    Ok(fits("the timers of one agent", (before + come).saturating_sub(gone), TIMERS_PER_AGENT_MAX))
}
