//! Rules of keyed agents: who holds one, which turns commit, what waits in its inbox.

use super::{
    Chain, Claim, DISMISSED_MAX, Dismiss, INBOX_MESSAGES_MAX, MessageBody, Outcome, PAYLOAD_BYTES_MAX, REPLY_KEPT_MS,
    Refusal, Release, Remember, SENDS_MAX, STATE_BYTES_MAX, Send, Sender, Stamp, Turn, node,
    row::{Agent, Message, MessageId, Phase, Reply, Rows, Write},
    session, task, timer,
};
use crate::id::{AgentId, Epoch, Holder, NodeId, TurnId, Version};

/// What a rule answers: the op goes on, or ends with this outcome.
pub(super) type Step<T = ()> = Result<T, Outcome>;

/// How many bits of a message's number count the sends of one commit; the rest is the sender's version.
const SEND_BITS: u32 = 10;
const _: () = assert!(SENDS_MAX < 1 << SEND_BITS);

/// Takes an agent. One compare-and-set on its epoch: of two claimants that read the same epoch one wins.
pub(super) fn claim<R: Rows>(now: Stamp, op: &Claim, rows: &R, writes: &mut Vec<Write>) -> Result<Outcome, R::Error> {
    if !node::is_live(op.holder, rows)? {
        return Ok(Outcome::Refused(Refusal::HolderGone(op.holder)));
    }
    let Some(row) = rows.agent(&op.agent)? else {
        if op.seen != Epoch(0) {
            return Ok(no_such_agent());
        }
        let agent = newborn(now, op);
        let claimed = Outcome::Claimed { epoch: agent.epoch, version: agent.version };
        writes.push(Write::Agent { agent, state: None });
        return Ok(claimed);
    };
    let holds = row.phase == Phase::Active && row.holder == op.holder;
    if holds && row.epoch == Epoch(op.seen.0 + 1) {
        return Ok(Outcome::Claimed { epoch: row.epoch, version: row.version });
    }
    let live = row.phase == Phase::Active && node::is_live(row.holder, rows)?;
    if row.epoch != op.seen || (live && !holds) {
        return Ok(fenced(&row, live));
    }
    let agent = Agent { epoch: Epoch(row.epoch.0 + 1), phase: Phase::Active, holder: op.holder, ..row };
    let claimed = Outcome::Claimed { epoch: agent.epoch, version: agent.version };
    writes.push(Write::Agent { agent, state: None });
    Ok(claimed)
}

fn newborn(now: Stamp, op: &Claim) -> Agent {
    Agent {
        id: op.agent.clone(),
        generation: now.index,
        epoch: Epoch(1),
        phase: Phase::Active,
        holder: op.holder,
        version: Version(0),
        last_turn: TurnId(0),
        chain: Chain::START,
    }
}

/// Commits turns, all of it or nothing.
pub(super) fn turn<R: Rows>(now: Stamp, op: &Turn, rows: &R, writes: &mut Vec<Write>) -> Result<Outcome, R::Error> {
    assert!(op.turns > 0, "a commit has at least one turn");
    let Some(row) = rows.agent(&op.agent)? else {
        return Ok(no_such_agent());
    };
    let after = Version(op.version.0 + op.turns);
    let holds = row.phase == Phase::Active && row.epoch == op.epoch && row.holder == op.holder;
    let holds = holds || cfg!(planted = "commit_without_epoch_check");
    if holds && row.version == after && row.last_turn == op.turn {
        return Ok(Outcome::Committed);
    }
    if !holds || row.version != op.version {
        return Ok(fenced(&row, node::is_live(row.holder, rows)?));
    }
    let agent = Agent { version: after, last_turn: op.turn, chain: row.chain.next(op), ..row };
    if let Err(refused) = turn_effects(now, &agent, op, rows, writes)? {
        return Ok(refused);
    }
    writes.push(Write::Agent { agent, state: op.state.clone() });
    Ok(Outcome::Committed)
}

fn turn_effects<R: Rows>(
    now: Stamp,
    agent: &Agent,
    op: &Turn,
    rows: &R,
    writes: &mut Vec<Write>,
) -> Result<Step, R::Error> {
    if let Some(state) = &op.state
        && let Err(refused) = fits("the agent's state", state.len(), STATE_BYTES_MAX)
    {
        return Ok(Err(refused));
    }
    if let Err(refused) = consume(now, op, rows, writes)? {
        return Ok(Err(refused));
    }
    if let Err(refused) = remember_all(now, &op.replies, rows, writes)? {
        return Ok(Err(refused));
    }
    for finish in &op.finishes {
        if let Err(refused) = task::end_attempt(now, finish, rows, writes)? {
            return Ok(Err(refused));
        }
    }
    if let Err(refused) = session::append_all(now, &op.appends, rows, writes)? {
        return Ok(Err(refused));
    }
    let from = From { sender: Sender::Agent(op.agent.clone()), generation: agent.generation, version: agent.version };
    if let Err(refused) = send_all(now, &from, &op.sends, rows, writes)? {
        return Ok(Err(refused));
    }
    if let Err(refused) = task::enqueue_all(now, &op.enqueues, rows, writes)? {
        return Ok(Err(refused));
    }
    timer::change_all(now, agent, &op.timers, rows, writes)
}

/// Takes messages out of the inbox, and timers that are due. One that is not there was handled before: the whole commit
/// is refused, so that no message has its effect twice.
fn consume<R: Rows>(now: Stamp, op: &Turn, rows: &R, writes: &mut Vec<Write>) -> Result<Step, R::Error> {
    let buried = op.buried.iter().map(|(id, reason)| (id, Some(reason)));
    let all = op.consumed.iter().map(|id| (id, None)).chain(buried);
    for (position, (id, reason)) in (0..).zip(all) {
        // `rows` does not show what this very op writes.
        let taken = writes.iter().any(|write| write.takes_message(id));
        if let Sender::Timer(name) = &id.sender {
            let waiting = rows.timer(&op.agent, name)?.filter(|timer| timer.set.0 == id.seq && !taken);
            match timer::end(now, position, waiting, reason) {
                Ok(write) => writes.push(write),
                Err(refused) => return Ok(Err(refused)),
            }
            continue;
        }
        let waiting = rows.message(&op.agent, id)?.filter(|message| message.buried.is_none() && !taken);
        match (waiting, reason) {
            (Some(message), Some(reason)) => {
                writes.push(Write::Message(Message { buried: Some(task::short(reason)), ..message }));
            }
            (Some(message), None) => writes.push(Write::MessageGone { to: message.to, id: message.id }),
            (None, _) if cfg!(planted = "dedupe_dropped_on_redelivery") => {}
            (None, _) => return Ok(Err(Outcome::Refused(Refusal::MessageGone { position }))),
        }
    }
    Ok(Ok(()))
}

fn remember_all<R: Rows>(
    now: Stamp,
    replies: &[Remember],
    rows: &R,
    writes: &mut Vec<Write>,
) -> Result<Step, R::Error> {
    for (position, reply) in (0..).zip(replies) {
        if let Err(refused) = remember(now, position, reply, rows, writes)? {
            return Ok(Err(refused));
        }
    }
    Ok(Ok(()))
}

fn remember<R: Rows>(
    now: Stamp,
    position: u32,
    op: &Remember,
    rows: &R,
    writes: &mut Vec<Write>,
) -> Result<Step, R::Error> {
    if let Err(refused) = fits("the reply", op.reply.len(), PAYLOAD_BYTES_MAX) {
        return Ok(Err(refused));
    }
    if writes.iter().any(|write| write.is_reply_to(&op.key)) {
        return Ok(Err(Outcome::Refused(Refusal::Conflict { key: op.key.key.clone() })));
    }
    if let Some(row) = rows.reply(&op.key)?.filter(|row| row.expires > now.time) {
        return Ok(Err(if row.request == op.request {
            Outcome::Duplicate { position, reply: row.reply }
        } else {
            Outcome::Refused(Refusal::Conflict { key: op.key.key.clone() })
        }));
    }
    writes.push(Write::Reply(Reply {
        key: op.key.clone(),
        request: op.request,
        reply: op.reply.clone(),
        expires: now.plus_millis(REPLY_KEPT_MS),
    }));
    Ok(Ok(()))
}

/// Puts an idle agent away.
pub(super) fn release<R: Rows>(op: &Release, rows: &R, writes: &mut Vec<Write>) -> Result<Outcome, R::Error> {
    let Some(row) = rows.agent(&op.agent)? else {
        return Ok(no_such_agent());
    };
    if row.epoch != op.epoch || row.holder != op.holder {
        return Ok(fenced(&row, node::is_live(row.holder, rows)?));
    }
    if row.phase == Phase::Active {
        writes.push(Write::Agent { agent: Agent { phase: Phase::Free, ..row }, state: None });
    }
    Ok(Outcome::Committed)
}

/// Forgets messages that an agent could not handle.
pub(super) fn dismiss<R: Rows>(op: &Dismiss, rows: &R, writes: &mut Vec<Write>) -> Result<Outcome, R::Error> {
    let buried = rows.messages_buried(&op.agent, DISMISSED_MAX)?;
    let forgotten = buried.len() as u64;
    writes.extend(buried.into_iter().map(|id| Write::MessageGone { to: op.agent.clone(), id }));
    Ok(Outcome::Swept { rows: forgotten })
}

/// Puts a client's message into an inbox.
pub(super) fn send<R: Rows>(now: Stamp, op: &Send, rows: &R, writes: &mut Vec<Write>) -> Result<Outcome, R::Error> {
    let from = From { sender: Sender::Client(op.id), generation: 0, version: Version(0) };
    if rows.message(&op.body.to, &from.message_id(0))?.is_some() {
        return Ok(Outcome::Committed);
    }
    if let Some((key, request)) = &op.idempotency {
        let seen = Remember { key: key.clone(), request: *request, reply: bytes::Bytes::new() };
        if let Err(known) = remember(now, 0, &seen, rows, writes)? {
            return Ok(known);
        }
    }
    Ok(match send_all(now, &from, std::slice::from_ref(&op.body), rows, writes)? {
        Ok(()) => Outcome::Committed,
        Err(refused) => refused,
    })
}

/// Who sends: what a message's id is made of.
pub(super) struct From {
    pub(super) sender: Sender,
    pub(super) generation: u64,
    /// The sender's version after the commit, so that a commit's messages follow those of the commit before.
    pub(super) version: Version,
}

impl From {
    fn message_id(&self, n: u64) -> MessageId {
        let seq = (self.version.0 << SEND_BITS) | n;
        MessageId { sender: self.sender.clone(), generation: self.generation, seq }
    }
}

/// Puts messages into inboxes, in order.
pub(super) fn send_all<R: Rows>(
    now: Stamp,
    from: &From,
    sends: &[MessageBody],
    rows: &R,
    writes: &mut Vec<Write>,
) -> Result<Step, R::Error> {
    if let Err(refused) = fits("the durable sends of one commit", sends.len(), SENDS_MAX) {
        return Ok(Err(refused));
    }
    for (n, MessageBody { to, payload }) in (0..).zip(sends) {
        if let Err(refused) = fits("the message", payload.len(), PAYLOAD_BYTES_MAX) {
            return Ok(Err(refused));
        }
        if rows.inbox_len(to)? + sent_to(to, writes) >= INBOX_MESSAGES_MAX {
            return Ok(Err(Outcome::Refused(Refusal::Full(to.clone()))));
        }
        writes.push(Write::Message(Message {
            to: to.clone(),
            id: from.message_id(n),
            payload: payload.clone(),
            sent: now.time,
            buried: None,
        }));
    }
    Ok(Ok(()))
}

/// How many messages this op itself already put into an inbox: `rows` does not show them.
fn sent_to(to: &AgentId, writes: &[Write]) -> u64 {
    let to_it =
        |write: &&Write| matches!(write, Write::Message(message) if message.to == *to && message.buried.is_none());
    writes.iter().filter(to_it).count() as u64
}

/// Refuses what is larger than its limit: of bytes, or of how many.
pub(super) fn fits(what: &'static str, n: usize, n_max: usize) -> Step {
    if n > n_max {
        return Err(Outcome::Refused(Refusal::TooLarge { what, bytes: n as u64, bytes_max: n_max as u64 }));
    }
    Ok(())
}

fn fenced(row: &Agent, live: bool) -> Outcome {
    Outcome::Refused(Refusal::Fenced { epoch: row.epoch, version: row.version, holder: row.holder, live })
}

fn no_such_agent() -> Outcome {
    let nobody = Holder { node: NodeId(0), incarnation: crate::id::Incarnation(0) };
    Outcome::Refused(Refusal::Fenced { epoch: Epoch(0), version: Version(0), holder: nobody, live: false })
}
