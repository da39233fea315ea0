//! What was committed: a sequence of batches, each item decided by the production rules over the rows of a map.
//!
//! The rows exist once, although each voter of a mesh has its own: they follow from the batches, and that all voters
//! apply the same ones is what is checked here, whenever one leads and whenever one applies.

use std::rc::Rc;

use pelago_core::{
    id::{FencingToken, Holder, TaskId},
    record::{self, Op, Outcome, Refusal, Stamp, Verdict, Write},
};

use crate::{
    invariants::{Invariants, Violation},
    leader::FORLORN,
    log::{Entry, Log, Position},
    store::MapRows,
};

const LOST: &str = "I3 (acknowledged is durable)";
const MINORITY: &str = "I9 (a minority acknowledges nothing)";

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) rows: MapRows,
    committed: Vec<Committed>,
}

#[derive(Debug)]
struct Committed {
    term: u64,
    /// The term of the leader that acknowledged it.
    in_term: u64,
    /// Whether a majority had written it down when its leader acknowledged it.
    by_majority: bool,
    items: Rc<[Applied]>,
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
            (Op::Turn(_), Outcome::Refused(Refusal::TooEarly)) => Some("timer came too early"),
            (Op::Turn(turn), Outcome::Committed) if turn.buried.iter().any(|(id, _)| id.timer().is_some()) => {
                Some("timer buried")
            }
            (Op::Turn(turn), Outcome::Committed) if !turn.buried.is_empty() => Some("message buried"),
            (Op::Turn(turn), Outcome::Committed) if turn.consumed.iter().any(|id| id.timer().is_some()) => {
                Some(if turn.timers.is_empty() { "timer fired" } else { "timer fired and set again" })
            }
            (Op::Turn(turn), Outcome::Committed) if turn.timers.iter().any(|timer| timer.set.is_none()) => {
                Some("timer cancelled")
            }
            (Op::Turn(_) | Op::Finish(_), Outcome::Refused(Refusal::StaleToken { .. })) => Some("late result refused"),
            (Op::Claim(_), Outcome::Refused(Refusal::Fenced { .. })) => Some("claim lost to another"),
            (Op::Claim(_), Outcome::Refused(Refusal::HolderGone(_))) => Some("claim of a lost node refused"),
            (Op::Enqueue(_), Outcome::Existing { .. }) => Some("task under a known key enqueued again"),
            (Op::Expire(expire), Outcome::Expired { freed }) if !freed.is_empty() => {
                Some(if expire.left { "tasks of a node that left freed" } else { "tasks of a lost node freed" })
            }
            (Op::Progress(_), Outcome::Committed) if self.writes.len() > 1 => Some("progress told"),
            (Op::Progress(_), Outcome::Committed) => Some("progress recognised the second time"),
            (Op::Progress(_), Outcome::Refused(Refusal::StaleToken { .. })) => Some("late progress refused"),
            (Op::Finish(finish), Outcome::Committed) if is_hopeless(&finish.verdict) => Some("attempt was hopeless"),
            (Op::Expire(_), _) if !self.writes.is_empty() => Some("run given up"),
            (Op::Finish(finish), Outcome::Committed) if matches!(finish.verdict, Verdict::Returned(_)) => {
                Some("task returned")
            }
            (Op::Remove(_), Outcome::Committed) if !self.writes.is_empty() => Some("node removed"),
            (Op::Cancel(cancel), Outcome::Committed) if cancel.reason == FORLORN => {
                Some("task of a removed node called off")
            }
            (Op::TimeOut(_), Outcome::Committed) => Some("attempt timed out"),
            (Op::Sweep(_), Outcome::Swept { .. }) if self.has(|write| matches!(write, Write::ReplyGone(_))) => {
                Some("replies swept")
            }
            (Op::Sweep(_), Outcome::Swept { .. }) if !self.writes.is_empty() => Some("tasks swept"),
            _ => None,
        }
    }

    fn has(&self, what: impl Fn(&Write) -> bool) -> bool {
        self.writes.iter().any(what)
    }
}

fn is_hopeless(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Hopeless { .. })
}

/// An attempt that was taken away from its node.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) task: TaskId,
    pub(crate) holder: Holder,
    pub(crate) token: FencingToken,
}

impl Ledger {
    /// How many entries were committed.
    pub(crate) fn len(&self) -> usize {
        self.committed.len()
    }

    /// Who leads in a term must hold all that was acknowledged in earlier ones. Returns how much that is.
    pub(crate) fn check_leader(&self, term: u64, log: &Log) -> Result<usize, Violation> {
        let earlier = self.committed.iter().take_while(|committed| committed.in_term < term);
        earlier.zip(1..).try_fold(0, |_, (committed, index)| committed.check(index, log).map(|()| index))
    }

    /// A leader applies an entry. The first to do so decides its items, each of which is shown to the invariants before
    /// anybody can read what it wrote. The log's time never goes back, whatever the leader's clock says.
    pub(crate) fn apply(
        &mut self,
        index: usize,
        in_term: u64,
        log: &Log,
        by_majority: bool,
        invariants: &mut Invariants,
    ) -> Result<Rc<[Applied]>, Violation> {
        if let Some(committed) = self.committed.get(index - 1) {
            committed.check(index, log)?;
            return Ok(Rc::clone(&committed.items));
        }
        let Entry { term, clock, ops } = log.entry(index).expect("what is committed is in the leader's log").clone();
        self.rows.time = self.rows.time.max(clock);
        let time = self.rows.time;
        let stamps = (0..).map(|item| Stamp { index: index as u64, item, time });
        let items = stamps.zip(ops.iter()).map(|(stamp, op)| self.decide(stamp, op.clone(), invariants));
        let items: Rc<[Applied]> = items.collect::<Result<Vec<_>, _>>()?.into();
        self.committed.push(Committed { term, in_term, by_majority, items: Rc::clone(&items) });
        Ok(items)
    }

    fn decide(&mut self, stamp: Stamp, op: Op, invariants: &mut Invariants) -> Result<Applied, Violation> {
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

impl Committed {
    fn check(&self, index: usize, log: &Log) -> Result<(), Violation> {
        let at = Position { term: self.term, index };
        if log.holds(at) {
            return Ok(());
        }
        let invariant = if self.by_majority { LOST } else { MINORITY };
        let now = log.entry(index).map(|entry| entry.term);
        let what = format!("entry {index} of term {} was acknowledged and is lost: there stands {now:?}", self.term);
        Err(Violation::new(invariant, what))
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
