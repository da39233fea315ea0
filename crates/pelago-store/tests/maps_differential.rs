//! SQLite and the simulator's maps answer random traffic alike, and hold the same rows afterwards.

mod maps;

use std::collections::BTreeMap;

use bytes::Bytes;
use maps::Maps;
use pelago_core::{
    id::{MeshId, Name},
    record::{Node, Outcome, Phase, Task, TaskState},
    time::LogTime,
};
use pelago_sim::store::MapRows;
use pelago_store::{
    conformance::{Subject, Traffic},
    sqlite::{
        AgentFilter, Cursor, Entry, Error, Machine, NameFilter, Page, Reader, SessionFilter, TaskFilter, Totals, View,
    },
};

const SEEDS: u64 = 24;
const BATCHES: u64 = 250;
/// Entries of one transaction of the database, by seed: items follow those of other entries whose rows are written, or
/// wait to be.
const ENTRIES: [usize; 3] = [3, 20, BATCHES as usize];

#[test]
fn sqlite_and_the_maps_agree_on_random_traffic() {
    let mut seen = BTreeMap::new();
    for seed in 0..SEEDS {
        agree(seed, &mut seen);
    }
    // Traffic that never gets anywhere would agree on anything.
    for kind in KINDS {
        let often = seen.get(kind).copied().unwrap_or(0);
        assert!(often >= 20, "only {often} outcomes were {kind}: {seen:?}");
    }
}

const KINDS: [&str; 16] = [
    "Committed",
    "Registered",
    "Expired",
    "Claimed",
    "Enqueued",
    "Assigned",
    "Swept",
    "Existing",
    "Duplicate",
    "Fenced",
    "HolderGone",
    "StaleToken",
    "WrongState",
    "Conflict",
    "MessageGone",
    "TooEarly",
];

fn agree(seed: u64, seen: &mut BTreeMap<String, u64>) {
    let directory = tempfile::TempDir::new().expect("a temporary directory");
    let path = directory.path().join("machine.db");
    let mut machine = Machine::open(&path, MeshId(7)).expect("a new database");
    let reader = Reader::open(&path, 1).expect("the database is there");
    let mut maps = Maps::default();
    let mut traffic = Traffic::new(seed);
    let mut index = 0;
    while index < BATCHES {
        let (mut entries, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..ENTRIES[seed as usize % ENTRIES.len()] {
            index += 1;
            let (time, ops) = traffic.next(&maps);
            entries.push(entry(index, time, ops.clone()));
            let outcomes = maps.apply(index, time, ops);
            traffic.learn(&outcomes);
            outcomes.iter().for_each(|outcome| *seen.entry(kind(outcome)).or_default() += 1);
            expected.push(outcomes);
        }
        let found = machine.apply(&entries).expect("the database can be written").outcomes;
        assert_eq!(found, expected, "seed {seed}, entries up to {index}: {entries:#?}");
    }
    reader.view(|view| same_rows(view, &maps.0, &traffic)).expect("the database can be read");
}

fn entry(index: u64, time: LogTime, ops: Vec<pelago_core::record::Op>) -> Entry {
    Entry { index, log_id: Bytes::new(), time: Some(time), ops, membership: None }
}

/// The first word of what is printed for an outcome, or of its refusal.
fn kind(outcome: &Outcome) -> String {
    let text = format!("{outcome:?}").replace("Refused(", "");
    text.split([' ', '(', '{', ')']).next().expect("it begins with a word").to_owned()
}

fn same_rows(view: &View<'_>, maps: &MapRows, traffic: &Traffic) -> Result<(), Error> {
    assert_eq!(view.applied()?.time, maps.time);
    assert_eq!(view.nodes()?, maps.nodes.values().map(|node| Node::clone(node)).collect::<Vec<_>>());
    for id in Traffic::agents() {
        let whole = view.agent(&id)?;
        assert_eq!(whole.as_ref().map(|whole| &whole.agent), maps.agents.get(&id));
        assert_eq!(whole.and_then(|whole| whole.state).as_ref(), maps.states.get(&id));
        let mut inbox = view.inbox(&id, u32::MAX)?;
        assert!(inbox.is_sorted_by_key(|message| message.sent));
        inbox.sort_by(|a, b| (a.sent, &a.id).cmp(&(b.sent, &b.id)));
        assert_eq!(inbox.iter().collect::<Vec<_>>(), maps.inbox(&id));
        let timers = view.timers(&id)?;
        assert_eq!(timers, maps.timers_of(&id).map(|(timer, _)| timer.clone()).collect::<Vec<_>>());
        assert_eq!(view.timers_due(&id, maps.time, u32::MAX)?, maps.timers_due(&id, maps.time));
    }
    for id in traffic.tasks() {
        let whole = view.task(*id)?;
        assert_eq!(whole.as_ref().map(|whole| &whole.task), maps.tasks.get(id).map(AsRef::as_ref));
        assert_eq!(whole.as_ref().map(|whole| &whole.input), maps.inputs.get(id));
        assert_eq!(whole.and_then(|whole| whole.result).as_ref(), maps.results.get(id));
        let events: Vec<_> = maps.events.range((*id, 0)..=(*id, u64::MAX)).map(|(_, event)| event.clone()).collect();
        assert_eq!(view.events(*id, 0, u32::MAX)?, events);
    }
    for reply in maps.replies.values() {
        assert_eq!(view.reply(&reply.key)?.as_ref(), Some(reply));
    }
    assert_eq!(view.totals()?, totals(maps));
    same_lists(view, maps)
}

fn same_lists(view: &View<'_>, maps: &MapRows) -> Result<(), Error> {
    let namespace = Name::default_namespace();
    let tasks = || maps.tasks.values().map(AsRef::as_ref);
    let of_state = |state| tasks().filter(move |task: &&Task| task.state == state);

    let mut queued: Vec<_> = of_state(TaskState::Queued).collect();
    queued.sort_by_key(|task| (task.priority, task.run_at, task.id));
    assert_eq!(view.queued_tasks(None, u32::MAX)?.iter().collect::<Vec<_>>(), queued);
    queued.retain(|task| task.run_at <= maps.time);
    assert_eq!(view.queued_tasks(Some(maps.time), u32::MAX)?.iter().collect::<Vec<_>>(), queued);

    let mut running: Vec<_> = of_state(TaskState::Running).collect();
    running.sort_by_key(|task| (task.holder.map(|holder| holder.incarnation), task.id));
    assert_eq!(view.running_tasks()?.iter().collect::<Vec<_>>(), running);

    for state in [None, Some(TaskState::Done), Some(TaskState::Queued)] {
        for agent in [None, Some("cart")] {
            let agent = agent.map(|text| text.parse().expect("a name"));
            let filter = TaskFilter { namespace: namespace.clone(), state, agent: agent.clone(), ids: None };
            let wanted = |task: &&Task| {
                state.is_none_or(|state| task.state == state)
                    && agent.as_ref().is_none_or(|name| task.agent.name == *name)
            };
            let expected: Vec<_> = tasks().rev().filter(wanted).cloned().collect();
            assert_eq!(pages(|after| view.tasks(&filter, after, 7))?, expected);
        }
    }
    for name in [NameFilter::Any, NameFilter::Is("cart".parse().expect("a name")), NameFilter::StartsWith("c".into())] {
        let filter = AgentFilter { namespace: namespace.clone(), name: name.clone(), held_by: None };
        let all = matches!(name, NameFilter::Any);
        let wanted = |agent: &&pelago_core::record::Agent| all || agent.id.name.as_str() == "cart";
        let expected: Vec<_> = maps.agents.values().filter(wanted).cloned().collect();
        assert_eq!(pages(|after| view.agents(&filter, after, 2))?, expected);
    }
    for node in maps.nodes.keys() {
        let filter = AgentFilter { namespace: namespace.clone(), name: NameFilter::Any, held_by: Some(*node) };
        let held = |agent: &&pelago_core::record::Agent| agent.phase == Phase::Active && agent.holder.node == *node;
        let expected: Vec<_> = maps.agents.values().filter(held).cloned().collect();
        assert_eq!(pages(|after| view.agents(&filter, after, 1))?, expected);
    }
    let waiting = maps.messages.keys().map(|id| (id.clone(), maps.inbox(id).len() as u64)).filter(|(_, n)| *n > 0);
    assert_eq!(pages(|after| view.agents_with_inbox(after, 2))?, waiting.collect::<Vec<_>>());
    same_sessions(view, maps)?;
    same_timers(view, maps)
}

fn same_sessions(view: &View<'_>, maps: &MapRows) -> Result<(), Error> {
    for session in Traffic::sessions() {
        assert_eq!(view.session(&session)?.as_ref(), maps.sessions.get(&session));
        let entries = maps.session_entries.range((session.clone(), 0)..=(session.clone(), u64::MAX));
        let entries: Vec<_> = entries.map(|(_, entry)| entry.clone()).collect();
        assert_eq!(view.session_entries(&session, 0, u32::MAX)?, entries);
    }
    let filter = SessionFilter { namespace: Name::default_namespace(), agent: None };
    let all: Vec<_> = maps.sessions.values().cloned().collect();
    assert_eq!(pages(|after| view.sessions(&filter, after, 1))?, all);
    for agent in Traffic::agents() {
        let of: Vec<_> = all.iter().filter(|session| session.id.agent == agent).cloned().collect();
        let filter = SessionFilter { namespace: Name::default_namespace(), agent: Some(agent) };
        assert_eq!(pages(|after| view.sessions(&filter, after, 1))?, of);
    }
    Ok(())
}

fn same_timers(view: &View<'_>, maps: &MapRows) -> Result<(), Error> {
    let waiting = || maps.timers.values().map(|(timer, _)| timer).filter(|timer| timer.buried.is_none());
    let next = waiting().map(|timer| timer.due).filter(|due| *due > maps.time).min();
    assert_eq!(view.next_timer(maps.time)?, next);
    let mut due = Vec::new();
    view.agents_with_timers_due(LogTime::ZERO, maps.time, |agent, _| {
        due.push(agent);
        Ok(true)
    })?;
    due.sort_unstable();
    let expected = waiting().filter(|timer| timer.due <= maps.time).map(|timer| timer.agent.clone());
    assert_eq!(due, expected.collect::<Vec<_>>());
    Ok(())
}

/// A whole list, page by page, with each cursor carried as text.
fn pages<T>(mut page: impl FnMut(Option<&Cursor>) -> Result<Page<T>, Error>) -> Result<Vec<T>, Error> {
    let mut rows = Vec::new();
    let mut after: Option<Cursor> = None;
    loop {
        let Page { rows: more, next } = page(after.as_ref())?;
        rows.extend(more);
        match next {
            Some(next) => after = Some(next.to_string().parse()?),
            None => return Ok(rows),
        }
    }
}

fn totals(maps: &MapRows) -> Totals {
    let tasks = |state| maps.tasks.values().filter(|task| task.state == state).count() as u64;
    let agents = |phase| maps.agents.values().filter(|agent| agent.phase == phase).count() as u64;
    let messages = maps.messages.values().flat_map(BTreeMap::values);
    let buried = messages.clone().filter(|message| message.buried.is_some()).count() as u64;
    Totals {
        tasks_queued: tasks(TaskState::Queued),
        tasks_running: tasks(TaskState::Running),
        tasks_done: tasks(TaskState::Done),
        tasks_dead: tasks(TaskState::Dead),
        tasks_cancelled: tasks(TaskState::Cancelled),
        agents_free: agents(Phase::Free),
        agents_active: agents(Phase::Active),
        messages_waiting: messages.count() as u64 - buried,
        messages_buried: buried,
        turns: maps.agents.values().map(|agent| agent.version.0).sum(),
    }
}
