//! How values of the domain stand in columns.
//!
//! Ids of 128 bits are blobs of 16 bytes, most significant first, so that their order is that of the numbers. Numbers
//! of 64 bits keep their bits: SQLite's integers are signed, and a limit of `u64::MAX` shows as -1. Times are compared
//! in SQL, so a time that does not fit (292 million years from now) is cut to the latest that does.

use std::{error::Error, fmt::Write};

use bytes::Bytes;
use pelago_core::{
    connection::{Connection, NoFilter},
    id::{Address, AgentId, FencingToken, Holder, Incarnation, Invalid, Key, Name, NodeId, TaskId, TimerName},
    message::TraceContext,
    record::{IdempotencyKey, NodeState, PartOf, Phase, Placement, Sender, TaskSession, TaskState},
    time::LogTime,
};
use rusqlite::{Row, types::Type};

pub(super) fn wide(id: u128) -> [u8; 16] {
    id.to_be_bytes()
}

pub(super) fn number(n: u64) -> i64 {
    n.cast_signed()
}

pub(super) fn time(at: LogTime) -> i64 {
    i64::try_from(at.as_millis()).unwrap_or(i64::MAX)
}

pub(super) fn node_state(state: NodeState) -> &'static str {
    match state {
        NodeState::Up => "up",
        NodeState::Expired => "expired",
        NodeState::Left => "left",
    }
}

pub(super) fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Free => "free",
        Phase::Active => "active",
    }
}

pub(super) fn placement(placement: Placement) -> &'static str {
    match placement {
        Placement::Resident => "resident",
        Placement::Pool => "pool",
        Placement::Keyed => "keyed",
    }
}

/// How long a task is kept once it has ended.
pub(super) fn ended(keyed: bool) -> &'static str {
    if keyed { "keyed" } else { "plain" }
}

/// Writes a sender as `agent default/cart:alice`, `task 0123…` or `client 0123…`.
pub(super) fn sender(sender: &Sender, text: &mut String) {
    text.clear();
    let written = match sender {
        Sender::Agent(agent) => write!(text, "agent {}/{agent}", agent.namespace),
        Sender::Task(task) => write!(text, "task {task}"),
        Sender::Client(id) => write!(text, "client {id:032x}"),
        Sender::Timer(name) => write!(text, "timer {name}"),
    };
    written.expect("a string takes all that is written to it");
}

/// Reads the columns of one row from left to right.
pub(super) struct Columns<'r, 's> {
    row: &'r Row<'s>,
    next: usize,
}

type Read<T> = rusqlite::Result<T>;

impl<'r, 's> Columns<'r, 's> {
    pub(super) fn of(row: &'r Row<'s>) -> Self {
        Self { row, next: 0 }
    }

    fn take(&mut self) -> usize {
        self.next += 1;
        self.next - 1
    }

    fn wrong(&self, kind: Type, why: impl Into<Box<dyn Error + Send + Sync>>) -> rusqlite::Error {
        rusqlite::Error::FromSqlConversionFailure(self.next - 1, kind, why.into())
    }

    /// A connection: the namespace, where it leads within that, and its filter.
    pub(super) fn connection(&mut self) -> Read<Connection> {
        let namespace = self.name()?;
        let to = Address::parse(&namespace, self.text()?).map_err(|invalid| self.wrong(Type::Text, invalid))?;
        let at = self.take();
        let only = self.row.get::<_, Option<String>>(at)?.map(|filter| filter.parse());
        let only = only.transpose().map_err(|no_filter: NoFilter| self.wrong(Type::Text, no_filter))?;
        Ok(Connection { to, only })
    }

    pub(super) fn u64(&mut self) -> Read<u64> {
        let at = self.take();
        Ok(self.row.get::<_, i64>(at)?.cast_unsigned())
    }

    pub(super) fn u64_or_null(&mut self) -> Read<Option<u64>> {
        let at = self.take();
        Ok(self.row.get::<_, Option<i64>>(at)?.map(i64::cast_unsigned))
    }

    pub(super) fn u32(&mut self) -> Read<u32> {
        let at = self.take();
        self.row.get(at)
    }

    pub(super) fn u8(&mut self) -> Read<u8> {
        let at = self.take();
        self.row.get(at)
    }

    pub(super) fn time(&mut self) -> Read<LogTime> {
        self.u64().map(LogTime::from_millis)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let at = self.take();
        self.row.get(at)
    }

    pub(super) fn wide(&mut self) -> Read<u128> {
        self.array().map(u128::from_be_bytes)
    }

    pub(super) fn bytes(&mut self) -> Read<Bytes> {
        Ok(Bytes::copy_from_slice(self.blob()?))
    }

    pub(super) fn bytes_or_null(&mut self) -> Read<Option<Bytes>> {
        let at = self.take();
        let blob = self.row.get_ref(at)?.as_blob_or_null();
        Ok(blob.map_err(|why| self.wrong(Type::Blob, why))?.map(Bytes::copy_from_slice))
    }

    fn blob(&mut self) -> Read<&'r [u8]> {
        let at = self.take();
        self.row.get_ref(at)?.as_blob().map_err(|why| self.wrong(Type::Blob, why))
    }

    pub(super) fn text(&mut self) -> Read<&'r str> {
        let at = self.take();
        self.row.get_ref(at)?.as_str().map_err(|why| self.wrong(Type::Text, why))
    }

    pub(super) fn text_or_null(&mut self) -> Read<Option<&'r str>> {
        let at = self.take();
        self.row.get_ref(at)?.as_str_or_null().map_err(|why| self.wrong(Type::Text, why))
    }

    pub(super) fn name(&mut self) -> Read<Name> {
        Name::new(self.text()?).map_err(|why| self.wrong(Type::Text, why))
    }

    pub(super) fn agent_id(&mut self) -> Read<AgentId> {
        let namespace = self.name()?;
        let name = self.name()?;
        let key = self.text()?;
        let key = if key.is_empty() { None } else { Some(Key::new(key).map_err(|why| self.wrong(Type::Text, why))?) };
        Ok(AgentId { namespace, name, key })
    }

    pub(super) fn timer_name(&mut self) -> Read<TimerName> {
        TimerName::new(self.text()?).map_err(|why| self.wrong(Type::Text, why))
    }

    pub(super) fn holder(&mut self) -> Read<Holder> {
        Ok(Holder { node: NodeId(self.u64()?), incarnation: Incarnation(self.u64()?) })
    }

    pub(super) fn holder_or_null(&mut self) -> Read<Option<Holder>> {
        let (node, incarnation) = (self.u64_or_null()?, self.u64_or_null()?);
        let both = node.zip(incarnation);
        Ok(both.map(|(node, incarnation)| Holder { node: NodeId(node), incarnation: Incarnation(incarnation) }))
    }

    pub(super) fn token_or_null(&mut self) -> Read<Option<FencingToken>> {
        let index = self.u64_or_null()?;
        let at = self.take();
        let item = self.row.get::<_, Option<u32>>(at)?;
        Ok(index.zip(item).map(|(index, item)| FencingToken { index, item }))
    }

    pub(super) fn idempotency_key_or_null(&mut self) -> Read<Option<IdempotencyKey>> {
        let namespace = self.text_or_null()?;
        let key = self.text_or_null()?;
        let Some((namespace, key)) = namespace.zip(key) else {
            return Ok(None);
        };
        let namespace = Name::new(namespace).map_err(|why| self.wrong(Type::Text, why))?;
        Ok(Some(IdempotencyKey { namespace, key: key.to_owned() }))
    }

    /// What a task is part of: a trace as `traceparent` and `tracestate` say it, a session, an affinity.
    pub(super) fn part_of_or_null(&mut self) -> Read<Option<PartOf>> {
        let trace = self.text_or_null()?.map(str::parse::<TraceContext>).transpose();
        let trace = trace.map_err(|why| self.wrong(Type::Text, why))?;
        let state = self.text_or_null()?;
        let session = self.text_or_null()?.map(Name::new).transpose().map_err(|why| self.wrong(Type::Text, why))?;
        let ttl_ms = self.u64_or_null()?;
        let part_of = PartOf {
            trace: trace.map(|trace| TraceContext { state: state.map(Into::into), ..trace }),
            session: session.map(|name| TaskSession { name, ttl_ms }),
            affinity: self.text_or_null()?.map(str::to_owned),
        };
        Ok((part_of != PartOf::default()).then_some(part_of))
    }

    pub(super) fn node_state(&mut self) -> Read<NodeState> {
        self.one_of(&[NodeState::Up, NodeState::Expired, NodeState::Left], node_state)
    }

    pub(super) fn phase(&mut self) -> Read<Phase> {
        self.one_of(&[Phase::Free, Phase::Active], phase)
    }

    pub(super) fn placement(&mut self) -> Read<Placement> {
        self.one_of(&[Placement::Resident, Placement::Pool, Placement::Keyed], placement)
    }

    pub(super) fn task_state(&mut self) -> Read<TaskState> {
        use TaskState as S;
        self.one_of(&[S::Queued, S::Running, S::Done, S::Dead, S::Cancelled], S::name)
    }

    fn one_of<T: Copy>(&mut self, values: &[T], text: fn(T) -> &'static str) -> Read<T> {
        let found = self.text()?;
        let value = values.iter().find(|value| text(**value) == found);
        value.copied().ok_or_else(|| self.unknown(found))
    }

    /// The error for a text that is none of those this release writes.
    pub(super) fn unknown(&self, found: &str) -> rusqlite::Error {
        self.wrong(Type::Text, format!("no such value: {found:?}"))
    }

    /// Passes over `columns`.
    pub(super) fn skip(&mut self, columns: usize) -> &mut Self {
        self.next += columns;
        self
    }

    pub(super) fn sender(&mut self) -> Read<Sender> {
        let text = self.text()?;
        parse_sender(text).map_err(|why| self.wrong(Type::Text, why))
    }
}

fn parse_sender(text: &str) -> Result<Sender, Box<dyn Error + Send + Sync>> {
    let (kind, rest) = text.split_once(' ').ok_or("a sender has a kind")?;
    match kind {
        "agent" => Ok(Sender::Agent(parse_agent(rest)?)),
        "task" => Ok(Sender::Task(rest.parse()?)),
        "client" => Ok(Sender::Client(rest.parse::<TaskId>()?.0)),
        "timer" => Ok(Sender::Timer(TimerName::new(rest)?)),
        _ => Err("a sender is an agent, a task, a client or a timer".into()),
    }
}

fn parse_agent(text: &str) -> Result<AgentId, Box<dyn Error + Send + Sync>> {
    // Neither a namespace nor a name holds '/' or ':', while a key may hold both.
    let (namespace, agent) = text.split_once('/').ok_or("an agent has a namespace")?;
    let (name, key) = match agent.split_once(':') {
        Some((name, key)) => (name, Some(Key::new(key))),
        None => (agent, None),
    };
    let key: Result<Option<Key>, Invalid> = key.transpose();
    Ok(AgentId { namespace: Name::new(namespace)?, name: Name::new(name)?, key: key? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_survives_its_column() {
        let agent =
            |key| AgentId { namespace: Name::default_namespace(), name: Name::new("a.b").expect("a name"), key };
        let key = Some(Key::new("x/y:z w").expect("a key"));
        let senders = [
            Sender::Agent(agent(None)),
            Sender::Agent(agent(key)),
            Sender::Task(TaskId(7)),
            Sender::Client(u128::MAX),
            Sender::Timer(TimerName::new("at noon").expect("a timer's name")),
        ];
        let mut text = String::new();
        for original in senders {
            sender(&original, &mut text);
            assert_eq!(parse_sender(&text).expect("it was just written"), original, "{text}");
        }
    }
}
