//! Rules of sessions: what is appended to a conversation, what is dropped from its beginning, and when it ends.
//!
//! An entry is appended by a turn that saw the entry before it. Of two turns that saw the same one wins, whatever their
//! nodes believe, and the other is told that it was overtaken. An entry is never rewritten.

use super::{
    EndSession, Outcome, Refusal, Stamp,
    agent::{From, Step, fits, send_all},
    node,
    op::{Append, Sender, SessionTurn},
    row::{Rows, Session, SessionEntry, Write},
    task,
};
use crate::id::{TurnId, Version};

/// The most bytes of one entry: what was said and what was replied, together.
pub const SESSION_ENTRY_BYTES_MAX: usize = 64 << 10;
/// The most bytes that a session keeps; of more, the oldest entries go.
pub const SESSION_BYTES_MAX: u64 = 1 << 20;
/// The most entries that a session keeps; of more, the oldest go.
pub const SESSION_ENTRIES_MAX: u64 = 1_000;
/// The most sessions of the mesh.
pub const SESSIONS_MAX: u64 = 100_000;
/// How long a session may at most be kept that nobody uses, in milliseconds: 30 days.
pub const SESSION_TTL_MS_MAX: u64 = 30 * 24 * 60 * 60 * 1_000;

/// Appends the entry of a turn that has no other commit, with what that turn sends and enqueues.
pub(super) fn append<R: Rows>(now: Stamp, op: &Append, rows: &R, writes: &mut Vec<Write>) -> Result<Outcome, R::Error> {
    if rows.session_entry(&op.turn.session, op.turn.seen + 1)?.is_some_and(|entry| entry.turn == op.turn.id) {
        return Ok(Outcome::Committed);
    }
    if !node::is_live(op.holder, rows)? {
        return Ok(Outcome::Refused(Refusal::HolderGone(op.holder)));
    }
    if let Err(refused) = append_entry(now, 0, op, rows, writes)? {
        return Ok(refused);
    }
    // The same op may append again once its session was ended, while what it sent the first time still waits.
    let from = From { sender: Sender::Client(op.turn.id.0), generation: now.index, version: Version(now.item.into()) };
    if let Err(refused) = send_all(now, &from, &op.sends, rows, writes)? {
        return Ok(refused);
    }
    Ok(match task::enqueue_all(now, &op.enqueues, rows, writes)? {
        Ok(()) => Outcome::Committed,
        Err(refused) => refused,
    })
}

/// Appends the entries of turns of a keyed agent.
pub(super) fn append_all<R: Rows>(
    now: Stamp,
    appends: &[Append],
    rows: &R,
    writes: &mut Vec<Write>,
) -> Result<Step, R::Error> {
    for (position, append) in (0..).zip(appends) {
        if let Err(refused) = append_entry(now, position, append, rows, writes)? {
            return Ok(Err(refused));
        }
    }
    Ok(Ok(()))
}

/// Appends one entry, the `position`th of its op.
pub(super) fn append_entry<R: Rows>(
    now: Stamp,
    position: u32,
    op: &Append,
    rows: &R,
    writes: &mut Vec<Write>,
) -> Result<Step, R::Error> {
    let SessionTurn { session: id, id: turn, seen, after, ttl_ms } = &op.turn;
    let bytes = op.said.len() + op.replied.len();
    if let Err(refused) = fits("the session's entry", bytes, SESSION_ENTRY_BYTES_MAX) {
        return Ok(Err(refused));
    }
    // `rows` does not show what this very op writes.
    let twice = writes.iter().any(|write| matches!(write, Write::Session(session) if session.id == *id));
    let row = rows.session(id)?;
    let last = row.as_ref().map_or((0, TurnId(0)), |row| (row.entries, row.last));
    let follows = last == (*seen, *after) && *seen > 0;
    let begins = *seen == 0 && row.as_ref().is_none_or(|row| row.has_ended(now.time));
    if twice || !(follows || begins) {
        return Ok(Err(Outcome::Refused(Refusal::Overtaken { position })));
    }
    let before = match row {
        Some(row) if begins => {
            writes.push(Write::SessionGone(row.id));
            None
        }
        // Unused for long, but not by this turn, which began before.
        row => row,
    };
    if before.is_none() && rows.sessions_len()? >= SESSIONS_MAX {
        return Ok(Err(Outcome::Refused(Refusal::TooLarge {
            what: "the sessions of the mesh",
            bytes: SESSIONS_MAX + 1,
            bytes_max: SESSIONS_MAX,
        })));
    }
    let mut session = before.unwrap_or_else(|| newborn(now, op));
    session.entries += 1;
    session.bytes += bytes as u64;
    let first = session.first;
    while session.bytes > SESSION_BYTES_MAX || session.entries + 1 - session.first > SESSION_ENTRIES_MAX {
        session.bytes -= rows.session_entry(id, session.first)?.map_or(0, |entry| entry.bytes());
        session.first += 1;
    }
    if session.first > first {
        writes.push(Write::SessionEntriesGone { session: id.clone(), before: session.first });
    }
    writes.push(Write::SessionEntry(SessionEntry {
        session: id.clone(),
        n: session.entries,
        turn: *turn,
        at: now.time,
        node: op.holder.node,
        said: op.said.clone(),
        replied: op.replied.clone(),
    }));
    (session.used, session.ttl_ms, session.holder, session.last) = (now.time, *ttl_ms, op.holder, *turn);
    writes.push(Write::Session(session));
    Ok(Ok(()))
}

fn newborn(now: Stamp, op: &Append) -> Session {
    Session {
        id: op.turn.session.clone(),
        created: now.time,
        used: now.time,
        ttl_ms: op.turn.ttl_ms,
        entries: 0,
        first: 1,
        bytes: 0,
        last: op.turn.id,
        holder: op.holder,
    }
}

/// Ends a session, and forgets its entries.
pub(super) fn end<R: Rows>(op: &EndSession, rows: &R, writes: &mut Vec<Write>) -> Result<Outcome, R::Error> {
    let row = rows.session(&op.session)?;
    let ended = u64::from(row.is_some());
    writes.extend(row.map(|row| Write::SessionGone(row.id)));
    Ok(Outcome::Swept { rows: ended })
}

/// Forgets sessions that nobody used for too long, until there are `rows_max` rows or more. Says how many entries they
/// had.
pub(super) fn sweep<R: Rows>(now: Stamp, rows_max: u32, rows: &R, writes: &mut Vec<Write>) -> Result<u64, R::Error> {
    let (mut entries, mut sessions) = (0, 0);
    for session in rows.sessions_ended(now.time, rows_max)? {
        if entries + sessions >= u64::from(rows_max) {
            break;
        }
        entries += session.entries + 1 - session.first;
        sessions += 1;
        writes.push(Write::SessionGone(session.id));
    }
    Ok(entries)
}
