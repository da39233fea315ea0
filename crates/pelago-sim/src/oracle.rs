//! What each register should hold, and what its clients may be told.
//!
//! A reply names one point of its register's history (length and hash), so each is checked at once and without search:
//! the point must be in the committed history (nothing is told before it is durable), and not before any point that
//! anybody was told of before the request began (linearizable).

use std::collections::{BTreeMap, BTreeSet};

use pelago_core::{
    id::AgentId,
    record::{IdempotencyKey, MessageBody, Reply, Task, TaskState, Write},
};

use crate::{
    behaviour::{Glimpse, Request, numbers_of},
    invariants::Violation,
    ledger::Applied,
    store::MapRows,
};

const TOLD: &str = "I3 (acknowledged is durable)";
const ONCE: &str = "I6 (at most once)";
const ORDER: &str = "linearizability";
const LOST: &str = "I3 (nothing acknowledged is lost)";

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    registers: BTreeMap<AgentId, History>,
    positions: BTreeMap<u64, usize>,
    /// Numbers whose client was told that nothing happened.
    refuted: BTreeSet<u64>,
    /// Numbers that may come more than once: sent without a key, or asked for after the row that remembered them had
    /// expired.
    repeatable: BTreeSet<u64>,
    /// What was asked for under each key.
    keyed: BTreeMap<IdempotencyKey, Request>,
    /// Numbers of tasks that were swept. One that comes again is judged by its own attempts alone.
    swept: BTreeSet<u64>,
    /// Numbers that must be there at the end.
    owed: BTreeMap<u64, AgentId>,
}

#[derive(Debug)]
struct History {
    numbers: Vec<u64>,
    /// The hash before each number, and one more after the last.
    hashes: Vec<u64>,
    /// The furthest point that anybody was told of.
    told: usize,
}

impl Default for History {
    fn default() -> Self {
        Self { numbers: Vec::new(), hashes: vec![Glimpse::EMPTY], told: 0 }
    }
}

impl Oracle {
    /// Takes note of what an item commits.
    pub(crate) fn check(&mut self, change: &Applied, before: &MapRows) -> Result<(), Violation> {
        for write in &change.writes {
            // A reply that takes the place of another one, which has expired, or one that is swept.
            if let Write::Reply(Reply { key, .. }) | Write::ReplyGone(key) = write
                && before.replies.contains_key(key)
            {
                self.repeatable.extend(self.keyed.get(key).into_iter().flat_map(Request::numbers));
            }
        }
        for write in &change.writes {
            if let Write::Agent { agent, state: Some(state) } = write {
                self.committed(&agent.id, &numbers_of(state))?;
            } else if let Write::Message(message) = write
                && message.buried.is_none()
            {
                self.sent(&message.to, &message.payload);
            } else if let Write::TaskGone(id) = write
                && let Some(task) = before.tasks.get(id)
            {
                self.check_task(task, before)?;
                let request = request_of(task, before);
                self.swept.extend(request.number());
                self.repeatable.extend(request.numbers());
            }
        }
        Ok(())
    }

    fn sent(&mut self, to: &AgentId, payload: &[u8]) {
        if let Request::Append { number } = Request::read(payload) {
            self.owed.insert(number, to.clone());
        }
    }

    fn committed(&mut self, agent: &AgentId, numbers: &[u64]) -> Result<(), Violation> {
        let history = self.registers.entry(agent.clone()).or_default();
        let known = history.numbers.len();
        if numbers.len() < known || numbers[..known] != history.numbers {
            return Err(Violation::new(LOST, format!("{agent} does not hold any more what it held")));
        }
        for number in &numbers[known..] {
            let before = self.positions.insert(*number, history.numbers.len());
            if before.is_some() && !self.repeatable.contains(number) {
                return Err(Violation::new(ONCE, format!("{number} was appended to {agent} twice")));
            }
            if self.refuted.contains(number) {
                return Err(Violation::new(
                    TOLD,
                    format!("{number} was appended to {agent} after its client was told that nothing happened"),
                ));
            }
            let hash = Glimpse::next(history.hashes[history.numbers.len()], *number);
            history.numbers.push(*number);
            history.hashes.push(hash);
        }
        Ok(())
    }

    /// How far a request that begins now must at least see.
    pub(crate) fn floor(&self, agent: &AgentId) -> usize {
        self.registers.get(agent).map_or(0, |history| history.told)
    }

    /// A number that may be appended more than once.
    pub(crate) fn may_repeat(&mut self, number: u64) {
        self.repeatable.insert(number);
    }

    /// A client asks for something under a key.
    pub(crate) fn asked(&mut self, key: &IdempotencyKey, request: Request) {
        self.keyed.insert(key.clone(), request);
    }

    /// A client was told that its message is in the store.
    pub(crate) fn sent_by_client(&self, message: &MessageBody) -> Result<(), Violation> {
        if let Request::Append { number } = Request::read(&message.payload)
            && !self.owed.contains_key(&number)
        {
            return Err(Violation::new(TOLD, format!("a client was told that {number} was sent, and it was not")));
        }
        Ok(())
    }

    /// A client was told what a register held before `appended`, having asked when `floor` was known.
    pub(crate) fn told(
        &mut self,
        agent: &AgentId,
        glimpse: Glimpse,
        floor: usize,
        appended: Option<u64>,
    ) -> Result<(), Violation> {
        let history = self.registers.entry(agent.clone()).or_default();
        if history.hashes.get(glimpse.length) != Some(&glimpse.hash) {
            return Err(Violation::new(TOLD, format!("a client was told of {glimpse}, which {agent} never held")));
        }
        if let Some(number) = appended
            && history.numbers.get(glimpse.length) != Some(&number)
        {
            return Err(Violation::new(TOLD, format!("{number} is not at {} of {agent}", glimpse.length)));
        }
        if glimpse.length < floor {
            let what = format!("{agent} was seen at {} after somebody had been told of {floor}", glimpse.length);
            return Err(Violation::new(ORDER, what));
        }
        history.told = history.told.max(glimpse.length + usize::from(appended.is_some()));
        Ok(())
    }

    /// A client was told that its request had no effect.
    pub(crate) fn refuted(&mut self, number: u64) -> Result<(), Violation> {
        if self.positions.contains_key(&number) {
            return Err(Violation::new(TOLD, format!("a client was told that {number} was not appended, and it was")));
        }
        self.refuted.insert(number);
        Ok(())
    }

    /// Compares what is durable at the end with what should be.
    pub(crate) fn check_end(&self, rows: &MapRows) -> Result<(), Violation> {
        for (agent, history) in &self.registers {
            let held = rows.states.get(agent).map_or_else(Vec::new, |state| numbers_of(state));
            if held != history.numbers {
                return Err(Violation::new(
                    LOST,
                    format!("{agent} holds {} numbers, not {}", held.len(), history.numbers.len()),
                ));
            }
        }
        for (number, agent) in &self.owed {
            if !self.positions.contains_key(number) {
                return Err(Violation::new(LOST, format!("{number} was sent to {agent} and never arrived")));
            }
        }
        rows.tasks.values().try_for_each(|task| self.check_task(task, rows))
    }

    /// What a task of a register appends is there if the task is done, and only then.
    fn check_task(&self, task: &Task, rows: &MapRows) -> Result<(), Violation> {
        if task.agent.key.is_none() {
            return Ok(());
        }
        let number = request_of(task, rows).number().expect("a task's request has a number");
        let (is_there, is_done) = (self.positions.contains_key(&number), task.state == TaskState::Done);
        if is_there == is_done || is_there && self.swept.contains(&number) {
            return Ok(());
        }
        let what = format!("task {} is {}, its number is not as that says", task.id, task.state.name());
        Err(Violation::new(ONCE, what))
    }
}

fn request_of(task: &Task, rows: &MapRows) -> Request {
    Request::read(rows.inputs.get(&task.id).expect("a task has an input"))
}
