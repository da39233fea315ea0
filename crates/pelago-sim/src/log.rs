//! The store as one authority: a log of batches, each item decided by the production rules over the rows of a map.
//!
//! It neither loses nor reorders what it applied. What may be lost is everything around it: a batch before it is
//! applied, and the answers after.

use pelago_core::{
    id::{FencingToken, Holder, TaskId},
    record::{self, Op, Outcome, Refusal, Stamp, Write},
    time::LogTime,
};

use crate::{
    invariants::{Invariants, Violation},
    store::MapRows,
};

#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) rows: MapRows,
    index: u64,
}

/// An item that was decided.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) stamp: Stamp,
    pub(crate) op: Op,
    pub(crate) outcome: Outcome,
    pub(crate) writes: Vec<Write>,
    pub(crate) taken: Vec<Taken>,
}

impl Applied {
    /// What this item shows to have happened, if it is one of those things that a run is made for.
    pub(crate) fn sighting(&self) -> Option<&'static str> {
        match (&self.op, &self.outcome) {
            (Op::Turn(_), Outcome::Refused(Refusal::Fenced { .. })) => Some("turn of an older epoch refused"),
            (Op::Turn(_), Outcome::Committed) if self.writes.is_empty() => Some("turn recognised the second time"),
            (Op::Turn(_), Outcome::Duplicate { .. }) => Some("ask under a known key answered again"),
            (Op::Turn(_), Outcome::Refused(Refusal::MessageGone { .. })) => Some("message handled before"),
            (Op::Turn(turn), Outcome::Committed) if !turn.buried.is_empty() => Some("message buried"),
            (Op::Turn(_) | Op::Finish(_), Outcome::Refused(Refusal::StaleToken { .. })) => Some("late result refused"),
            (Op::Claim(_), Outcome::Refused(Refusal::Fenced { .. })) => Some("claim lost to another"),
            (Op::Claim(_), Outcome::Refused(Refusal::HolderGone(_))) => Some("claim of a lost node refused"),
            (Op::Enqueue(_), Outcome::Existing { .. }) => Some("task under a known key enqueued again"),
            (Op::Expire(_), Outcome::Expired { freed }) if !freed.is_empty() => Some("tasks of a lost node freed"),
            (Op::TimeOut(_), Outcome::Committed) => Some("attempt timed out"),
            _ => None,
        }
    }
}

/// An attempt that was taken away from its node.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) task: TaskId,
    pub(crate) holder: Holder,
    pub(crate) token: FencingToken,
}

impl Log {
    /// Applies one batch as an entry of the log. Each item is shown to the invariants before anybody can read what it
    /// wrote. The log's time never goes back, whatever the leader's clock says.
    pub(crate) fn append(
        &mut self,
        clock: LogTime,
        batch: Vec<Op>,
        invariants: &mut Invariants,
    ) -> Result<Vec<Applied>, Violation> {
        self.index += 1;
        self.rows.time = self.rows.time.max(clock);
        let (index, time) = (self.index, self.rows.time);
        let stamps = (0..).map(|item| Stamp { index, item, time });
        stamps.zip(batch).map(|(stamp, op)| self.apply(stamp, op, invariants)).collect()
    }

    fn apply(&mut self, stamp: Stamp, op: Op, invariants: &mut Invariants) -> Result<Applied, Violation> {
        let mut writes = Vec::new();
        let Ok(outcome) = record::decide(stamp, &op, &self.rows, &mut writes);
        let taken = taken(&op, &writes, &self.rows);
        let applied = Applied { stamp, op, outcome, writes, taken };
        invariants.check(&applied, &self.rows)?;
        for write in &applied.writes {
            self.rows.apply_write(write.clone());
        }
        Ok(applied)
    }
}

/// The attempts that end with `op` and not by themselves.
fn taken(op: &Op, writes: &[Write], before: &MapRows) -> Vec<Taken> {
    if matches!(op, Op::Turn(_) | Op::Finish(_)) {
        return Vec::new();
    }
    let ended = |write: &Write| {
        let Write::Task { task, .. } = write else { return None };
        let before = before.tasks.get(&task.id)?;
        let (holder, token) = (before.holder?, before.token?);
        (task.holder.is_none()).then_some(Taken { task: task.id, holder, token })
    };
    writes.iter().filter_map(ended).collect()
}
