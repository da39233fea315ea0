//! Rows as structs: which columns, in which order, and what they mean.

use std::sync::Arc;

use pelago_core::{
    connection::Connection as Edge,
    id::{BootId, DirectoryId, Epoch, Incarnation, Name, NodeId, TaskId, TurnId, Version},
    record::{
        Agent, BodyHash, Chain, EventKind, IdempotencyKey, Message, MessageId, Node, Offer, Reply, RetryPolicy, Task,
        TaskEvent, Timer,
    },
};
use rusqlite::{Connection, Row};

use super::column::Columns;

type Read<T> = rusqlite::Result<T>;

macro_rules! agent_columns {
    () => {
        "namespace, name, key, generation, epoch, phase, holder_node, holder_incarnation, version, last_turn, chain"
    };
}
macro_rules! message_columns {
    () => {
        "namespace, name, key, sender, generation, seq, sent, buried, payload"
    };
}
macro_rules! timer_columns {
    () => {
        "namespace, name, key, timer, version, due, buried"
    };
}
macro_rules! reply_columns {
    () => {
        "namespace, key, expires, request, reply"
    };
}
macro_rules! task_columns {
    () => {
        "id, namespace, name, key, state, placement, node, priority, run_at, attempts_max, attempt_ms_max, backoff_ms, \
         backoff_ms_max, attempt, token_index, token_item, holder_node, holder_incarnation, idempotency_namespace, \
         idempotency_key, body, created, changed, events, notes, reason, trace, trace_state, session, \
         session_ttl_ms, affinity"
    };
}
macro_rules! event_columns {
    () => {
        "task, n, at, attempt, kind, node, reason, note"
    };
}
pub(super) use {agent_columns, event_columns, message_columns, reply_columns, task_columns, timer_columns};

/// All nodes, in the order of their ids.
pub(super) fn nodes(connection: &Connection) -> Read<Vec<Node>> {
    let sql = "SELECT id, name, directory, incarnation, boot, state, mesh_address, http_address, registered FROM nodes";
    let mut statement = connection.prepare_cached(sql)?;
    let mut nodes = statement.query_map([], node)?.collect::<Read<Vec<_>>>()?;
    for node in &mut nodes {
        labels(connection, node)?;
        offers(connection, node)?;
    }
    Ok(nodes)
}

fn node(row: &Row<'_>) -> Read<Node> {
    let mut c = Columns::of(row);
    Ok(Node {
        id: NodeId(c.u64()?),
        name: c.name()?,
        directory: DirectoryId(c.wide()?),
        incarnation: Incarnation(c.u64()?),
        boot: BootId(c.wide()?),
        state: c.node_state()?,
        mesh_address: c.text()?.to_owned(),
        http_address: c.text()?.to_owned(),
        registered: c.time()?,
        labels: Default::default(),
        offers: Default::default(),
    })
}

fn labels(connection: &Connection, node: &mut Node) -> Read<()> {
    let mut statement = connection.prepare_cached("SELECT label, value FROM node_labels WHERE node = ?1")?;
    let mut rows = statement.query([node.id.0.cast_signed()])?;
    while let Some(row) = rows.next()? {
        node.labels.insert(row.get(0)?, row.get(1)?);
    }
    Ok(())
}

fn offers(connection: &Connection, node: &mut Node) -> Read<()> {
    let sql = "SELECT agent, placement, tasks_max FROM node_offers WHERE node = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([node.id.0.cast_signed()])?;
    while let Some(row) = rows.next()? {
        let mut c = Columns::of(row);
        node.offers.insert(c.name()?, Offer::new(c.placement()?, c.u32()?));
    }
    let mut statement = connection.prepare_cached("SELECT agent, layer FROM offer_layers WHERE node = ?1")?;
    let mut rows = statement.query([node.id.0.cast_signed()])?;
    while let Some(row) = rows.next()? {
        let mut c = Columns::of(row);
        if let Some(offer) = node.offers.get_mut(&c.name()?) {
            offer.layer = Some(c.name()?);
        }
    }
    let sql = "SELECT agent, namespace, target, filter FROM offer_connections WHERE node = ?1 ORDER BY agent, n";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([node.id.0.cast_signed()])?;
    while let Some(row) = rows.next()? {
        let mut c = Columns::of(row);
        if let Some(offer) = node.offers.get_mut(&c.name()?) {
            offer.connections.push(c.connection()?);
        }
    }
    Ok(())
}

/// All connections that were added while the mesh runs, each with the agent that it leads on from.
pub(super) fn connections(connection: &Connection) -> Read<Vec<(Name, Edge)>> {
    let sql = "SELECT source, namespace, target, filter FROM connections ORDER BY namespace, source, target";
    let edge = |row: &Row<'_>| {
        let mut c = Columns::of(row);
        Ok((c.name()?, c.connection()?))
    };
    connection.prepare_cached(sql)?.query_map([], edge)?.collect()
}

/// All tasks that nodes work on, by incarnation.
pub(super) fn running(connection: &Connection) -> Read<Vec<Task>> {
    let sql = concat!(
        "SELECT ",
        task_columns!(),
        " FROM tasks WHERE holder_incarnation IS NOT NULL ORDER BY holder_incarnation, id"
    );
    connection.prepare_cached(sql)?.query_map([], task)?.collect()
}

/// The greatest id of a task; 0 if there is none.
pub(super) fn greatest_task(connection: &Connection) -> Read<TaskId> {
    let greatest = connection.query_row("SELECT max(id) FROM tasks", [], |row| row.get::<_, Option<[u8; 16]>>(0))?;
    Ok(TaskId(greatest.map_or(0, u128::from_be_bytes)))
}

pub(super) fn agent(row: &Row<'_>) -> Read<Agent> {
    agent_from(&mut Columns::of(row))
}

pub(super) fn agent_from(c: &mut Columns<'_, '_>) -> Read<Agent> {
    Ok(Agent {
        id: c.agent_id()?,
        generation: c.u64()?,
        epoch: Epoch(c.u64()?),
        phase: c.phase()?,
        holder: c.holder()?,
        version: Version(c.u64()?),
        last_turn: TurnId(c.wide()?),
        chain: Chain(c.array()?),
    })
}

pub(super) fn message(row: &Row<'_>) -> Read<Message> {
    let mut c = Columns::of(row);
    Ok(Message {
        to: c.agent_id()?,
        id: MessageId { sender: c.sender()?, generation: c.u64()?, seq: c.u64()? },
        sent: c.time()?,
        buried: c.text_or_null()?.map(str::to_owned),
        payload: c.bytes()?,
    })
}

pub(super) fn timer(row: &Row<'_>) -> Read<Timer> {
    timer_from(&mut Columns::of(row))
}

pub(super) fn timer_from(c: &mut Columns<'_, '_>) -> Read<Timer> {
    Ok(Timer {
        agent: c.agent_id()?,
        name: c.timer_name()?,
        set: Version(c.u64()?),
        due: c.time()?,
        buried: c.text_or_null()?.map(str::to_owned),
    })
}

pub(super) fn reply(row: &Row<'_>) -> Read<Reply> {
    let mut c = Columns::of(row);
    Ok(Reply {
        key: IdempotencyKey { namespace: c.name()?, key: c.text()?.to_owned() },
        expires: c.time()?,
        request: BodyHash(c.array()?),
        reply: c.bytes()?,
    })
}

pub(super) fn task(row: &Row<'_>) -> Read<Task> {
    task_from(&mut Columns::of(row))
}

pub(super) fn task_from(c: &mut Columns<'_, '_>) -> Read<Task> {
    Ok(Task {
        id: TaskId(c.wide()?),
        agent: c.agent_id()?,
        state: c.task_state()?,
        placement: c.placement()?,
        node: c.u64_or_null()?.map(NodeId),
        priority: c.u8()?,
        run_at: c.time()?,
        policy: RetryPolicy {
            attempts_max: c.u32()?,
            attempt_ms_max: c.u64()?,
            backoff_ms: c.u64()?,
            backoff_ms_max: c.u64()?,
        },
        attempt: c.u32()?,
        token: c.token_or_null()?,
        holder: c.holder_or_null()?,
        idempotency: c.idempotency_key_or_null()?,
        body: BodyHash(c.array()?),
        created: c.time()?,
        changed: c.time()?,
        events: c.u64()?,
        notes: c.u64()?,
        reason: c.text_or_null()?.map(str::to_owned),
        part_of: c.part_of_or_null()?.map(Arc::new),
    })
}

/// The columns of an event that depend on its kind.
pub(super) struct EventColumns<'a> {
    pub(super) kind: &'static str,
    pub(super) node: Option<i64>,
    pub(super) reason: Option<&'a str>,
    pub(super) note: Option<&'a [u8]>,
}

impl<'a> EventColumns<'a> {
    pub(super) fn of(kind: &'a EventKind) -> Self {
        let plain = |kind| Self { kind, node: None, reason: None, note: None };
        match kind {
            EventKind::Queued => plain("queued"),
            EventKind::Running { node } => Self { node: Some(node.0.cast_signed()), ..plain("running") },
            EventKind::Progress(note) => Self { note: Some(note), ..plain("progress") },
            EventKind::Retried { reason } => Self { reason: Some(reason), ..plain("retried") },
            EventKind::Done => plain("done"),
            EventKind::Dead { reason } => Self { reason: Some(reason), ..plain("dead") },
            EventKind::Cancelled { reason } => Self { reason: Some(reason), ..plain("cancelled") },
        }
    }
}

pub(super) fn event(row: &Row<'_>) -> Read<TaskEvent> {
    let mut c = Columns::of(row);
    let (task, n, at, attempt) = (TaskId(c.wide()?), c.u64()?, c.time()?, c.u32()?);
    let kind = match c.text()? {
        "queued" => EventKind::Queued,
        "running" => EventKind::Running { node: NodeId(c.u64()?) },
        "progress" => EventKind::Progress(c.skip(2).bytes()?),
        "retried" => EventKind::Retried { reason: c.skip(1).text()?.to_owned() },
        "done" => EventKind::Done,
        "dead" => EventKind::Dead { reason: c.skip(1).text()?.to_owned() },
        "cancelled" => EventKind::Cancelled { reason: c.skip(1).text()?.to_owned() },
        other => return Err(c.unknown(other)),
    };
    Ok(TaskEvent { task, n, at, attempt, kind })
}
