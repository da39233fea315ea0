//! A process that is told to stop: it takes no more work, lets attempts end, puts its agents away, and takes leave of
//! the mesh. The steps and their order are a real node's; only the limits are shorter.

use std::time::Duration;

use pelago_core::{
    agent::Input,
    id::Holder,
    record::{Expire, Op},
    time::Time,
};

use super::{Context, Due, Out, Process};

/// How long attempts and turns may take to end.
const DRAIN_MAX: Duration = Duration::from_secs(4);
/// How long the mesh may take to hear that the node leaves.
const LEAVE_MAX: Duration = Duration::from_secs(2);
/// How often the process looks whether it has come further.
const LOOK: Duration = Duration::from_millis(50);

/// How far a process has come that was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopping {
    /// It asks for no more tasks, and those that it has come to an end.
    Ending { until: Time },
    /// Nothing is delivered any more. Turns under way are committed, and agents released.
    PuttingAway { until: Time },
    /// It says that this run is over.
    Leaving { until: Time },
}

impl Process {
    /// Begins to stop.
    pub(crate) fn stop(&mut self, cx: &mut Context<'_>) {
        self.stopping = Some(Stopping::Ending { until: cx.now + DRAIN_MAX });
        if let Some(holder) = self.holder {
            self.beat(holder, cx);
        }
        self.go_on_stopping(cx);
    }

    pub(super) fn go_on_stopping(&mut self, cx: &mut Context<'_>) {
        let (Some(stopping), Some(holder)) = (self.stopping, self.holder) else {
            // It has begun nothing yet.
            return cx.out.push(Out::Exit);
        };
        match stopping {
            Stopping::Ending { until } if until <= cx.now || self.attempts.is_empty() && self.ops.is_empty() => {
                self.put_away(until, cx);
            }
            Stopping::PuttingAway { until } if until <= cx.now || self.activations.is_empty() => {
                self.leave(holder, cx);
            }
            Stopping::Leaving { until } if until <= cx.now => cx.out.push(Out::Exit),
            Stopping::Ending { .. } | Stopping::PuttingAway { .. } | Stopping::Leaving { .. } => {}
        }
        cx.after(LOOK, Due::GoOnStopping);
    }

    fn put_away(&mut self, until: Time, cx: &mut Context<'_>) {
        self.stopping = Some(Stopping::PuttingAway { until });
        let all: Vec<u64> = self.activations.keys().copied().collect();
        for activation in all {
            self.advance(activation, Input::Drain, cx);
        }
    }

    fn leave(&mut self, holder: Holder, cx: &mut Context<'_>) {
        self.stopping = Some(Stopping::Leaving { until: cx.now + LEAVE_MAX });
        if self.nodes.iter().any(|(other, _)| other.node != holder.node) {
            self.own(Op::Expire(Expire { holder, left: true }), cx);
        } else {
            cx.out.push(Out::Exit);
        }
    }

    /// Whether agents take what is delivered to them here.
    pub(super) fn delivers(&self) -> bool {
        matches!(self.stopping, None | Some(Stopping::Ending { .. }))
    }

    pub(super) fn is_leaving(&self) -> bool {
        matches!(self.stopping, Some(Stopping::Leaving { .. }))
    }
}
