//! Sessions: entries that are appended by whoever saw the one before, a bounded history, and an end.

use bytes::Bytes;
use pelago_core::{
    id::{Holder, SessionId, TurnId},
    record::{
        Append, EndSession, Finish, Op, Outcome, Refusal, SESSION_BYTES_MAX, SESSION_ENTRIES_MAX,
        SESSION_ENTRY_BYTES_MAX, SessionTurn, Sweep, TaskState, Turn, Verdict,
    },
    time::LogTime,
};

use super::{
    Subject, cases,
    world::{World, agent, finish, keyed_agent, message, name},
};

const TTL_MS: u64 = 60_000;

cases! {
    entries_are_appended_in_order_and_say_where_they_were_made,
    of_two_turns_that_saw_the_same_one_is_overtaken,
    an_entry_that_is_appended_twice_is_there_once,
    a_session_that_nobody_uses_ends_and_a_later_message_begins_another,
    a_turn_that_began_in_time_goes_on_with_its_session,
    a_session_keeps_its_latest_entries,
    an_entry_that_is_too_large_is_refused,
    what_a_turn_of_a_session_sends_leaves_with_its_entry,
    what_is_appended_again_after_its_session_was_ended_sends_anew,
    a_run_that_was_given_up_appends_nothing,
    a_result_and_its_entry_are_there_together_or_not_at_all,
    turns_of_a_keyed_agent_append_together_with_its_state,
    a_session_ends_when_it_is_told_to,
    sessions_are_swept_when_their_time_is_over,
}

fn session(text: &str) -> SessionId {
    SessionId { agent: agent("chat"), name: name(text) }
}

/// The next turn of a session, as whoever has just read it would append it.
fn next<S: Subject>(world: &mut World<S>, session: &SessionId, holder: Holder, said: &str) -> Append {
    let row = world.subject.session(session);
    let (seen, after) = row.map_or((0, TurnId(0)), |row| (row.entries, row.last));
    let turn = SessionTurn { session: session.clone(), id: TurnId(world.id()), seen, after, ttl_ms: TTL_MS };
    let (said, replied) = (Bytes::copy_from_slice(said.as_bytes()), Bytes::from_static(b"yes"));
    Append { turn, holder, said, replied, sends: Vec::new(), enqueues: Vec::new() }
}

/// A turn to which the session is new.
fn first<S: Subject>(world: &mut World<S>, session: &SessionId, holder: Holder, said: &str) -> Append {
    let append = next(world, session, holder, said);
    let turn = SessionTurn { seen: 0, after: TurnId(0), ..append.turn };
    Append { turn, ..append }
}

fn said<S: Subject>(world: &World<S>, session: &SessionId) -> Vec<Bytes> {
    world.subject.session_entries(session).into_iter().map(|entry| entry.said).collect()
}

fn entries_are_appended_in_order_and_say_where_they_were_made<S: Subject>(world: &mut World<S>) {
    let (n1, n2) = (world.join("n1"), world.join("n2"));
    let begun = world.now();
    for (holder, text) in [(n1, "one"), (n2, "two"), (n1, "three")] {
        let append = next(world, &session("s"), holder, text);
        world.commit(Op::Append(append));
        let append = next(world, &session("other"), holder, text);
        world.commit(Op::Append(append));
        world.wait_ms(10);
    }
    let entries = world.subject.session_entries(&session("s"));
    let told: Vec<_> = entries.iter().map(|entry| (entry.n, entry.node, &entry.said[..])).collect();
    assert_eq!(told, [(1, n1.node, &b"one"[..]), (2, n2.node, b"two"), (3, n1.node, b"three")]);
    assert!(entries.iter().all(|entry| entry.replied == "yes"));
    assert!(entries.windows(2).all(|pair| pair[0].at < pair[1].at));
    let row = world.subject.session(&session("s")).expect("it began");
    assert_eq!((row.created, row.used, row.holder), (begun, entries[2].at, n1));
    assert_eq!((row.entries, row.first, row.bytes, row.last), (3, 1, 11 + 9, entries[2].turn));
    assert_eq!(row.expires(), entries[2].at.plus_millis(TTL_MS));
}

fn of_two_turns_that_saw_the_same_one_is_overtaken<S: Subject>(world: &mut World<S>) {
    let (n1, n2) = (world.join("n1"), world.join("n2"));
    let overtaken = Refusal::Overtaken { position: 0 };
    let both = [first(world, &session("s"), n1, "a"), first(world, &session("s"), n2, "b")];
    let outcomes = world.batch(both.map(Op::Append).to_vec());
    assert_eq!(outcomes, [Outcome::Committed, Outcome::Refused(overtaken.clone())]);
    let (third, fourth) = (next(world, &session("s"), n1, "c"), next(world, &session("s"), n2, "d"));
    world.commit(Op::Append(fourth));
    assert_eq!(world.refused(Op::Append(third)), overtaken);
    assert_eq!(said(world, &session("s")), ["a", "d"]);
    // As many entries are not the same entries.
    world.one(Op::EndSession(EndSession { session: session("s") }));
    let early = next(world, &session("s"), n1, "e");
    world.commit(Op::Append(early.clone()));
    let late = next(world, &session("s"), n1, "f");
    world.one(Op::EndSession(EndSession { session: session("s") }));
    let anew = next(world, &session("s"), n2, "g");
    world.commit(Op::Append(anew));
    assert_eq!(world.refused(Op::Append(late)), overtaken);
    assert_eq!(said(world, &session("s")), ["g"]);
}

fn an_entry_that_is_appended_twice_is_there_once<S: Subject>(world: &mut World<S>) {
    let n1 = world.join("n1");
    let one = Append { sends: vec![message(&agent("cart"), "m")], ..next(world, &session("s"), n1, "one") };
    world.commit(Op::Append(one.clone()));
    let two = next(world, &session("s"), n1, "two");
    world.commit(Op::Append(two.clone()));
    for again in [one, two] {
        world.commit(Op::Append(again));
    }
    assert_eq!(said(world, &session("s")), ["one", "two"]);
    assert_eq!(world.inbox(&agent("cart")), ["m"]);
}

fn a_session_that_nobody_uses_ends_and_a_later_message_begins_another<S: Subject>(world: &mut World<S>) {
    let n1 = world.join("n1");
    let one = next(world, &session("s"), n1, "one");
    world.commit(Op::Append(one));
    world.wait_ms(TTL_MS - 1);
    let early = first(world, &session("s"), n1, "early");
    assert_eq!(world.refused(Op::Append(early)), Refusal::Overtaken { position: 0 });
    world.wait_ms(1);
    let anew = first(world, &session("s"), n1, "anew");
    world.commit(Op::Append(anew));
    assert_eq!(said(world, &session("s")), ["anew"]);
    let row = world.subject.session(&session("s")).expect("it began");
    assert_eq!((row.entries, row.created), (1, world.now()));
}

fn a_turn_that_began_in_time_goes_on_with_its_session<S: Subject>(world: &mut World<S>) {
    let n1 = world.join("n1");
    let one = next(world, &session("s"), n1, "one");
    world.commit(Op::Append(one));
    let long = next(world, &session("s"), n1, "two");
    world.wait_ms(2 * TTL_MS);
    world.commit(Op::Append(long));
    assert_eq!(said(world, &session("s")), ["one", "two"]);
}

fn a_session_keeps_its_latest_entries<S: Subject>(world: &mut World<S>) {
    let n1 = world.join("n1");
    for n in 1..=SESSION_ENTRIES_MAX + 3 {
        let append = next(world, &session("many"), n1, &n.to_string());
        world.commit(Op::Append(append));
    }
    let entries = world.subject.session_entries(&session("many"));
    let row = world.subject.session(&session("many")).expect("it began");
    assert_eq!((row.entries, row.first), (SESSION_ENTRIES_MAX + 3, 4));
    assert_eq!(entries.first().map(|entry| entry.n), Some(4));
    assert_eq!(entries.len() as u64, SESSION_ENTRIES_MAX);
    let bytes: usize = entries.iter().map(|entry| entry.said.len() + entry.replied.len()).sum();
    assert_eq!(row.bytes, bytes as u64);

    let text = "x".repeat(SESSION_ENTRY_BYTES_MAX - 3);
    let fit = SESSION_BYTES_MAX / SESSION_ENTRY_BYTES_MAX as u64;
    for _ in 0..fit + 2 {
        let append = next(world, &session("large"), n1, &text);
        world.commit(Op::Append(append));
    }
    let row = world.subject.session(&session("large")).expect("it began");
    assert_eq!((row.entries, row.first, row.bytes), (fit + 2, 3, SESSION_BYTES_MAX));
    assert_eq!(said(world, &session("large")).len() as u64, fit);
}

fn an_entry_that_is_too_large_is_refused<S: Subject>(world: &mut World<S>) {
    let n1 = world.join("n1");
    let append = next(world, &session("s"), n1, &"x".repeat(SESSION_ENTRY_BYTES_MAX - 2));
    let (bytes_max, what) = (SESSION_ENTRY_BYTES_MAX as u64, "the session's entry");
    assert_eq!(world.refused(Op::Append(append)), Refusal::TooLarge { what, bytes: bytes_max + 1, bytes_max });
    assert_eq!(world.subject.session(&session("s")), None);
}

fn what_a_turn_of_a_session_sends_leaves_with_its_entry<S: Subject>(world: &mut World<S>) {
    let n1 = world.join("n1");
    let (sends, task) = (vec![message(&agent("cart"), "sent")], world.new_task("input"));
    let id = task.id;
    let sending = |append| Append { sends: sends.clone(), enqueues: vec![task.clone()], ..append };
    let (one, two) = (next(world, &session("s"), n1, "one"), next(world, &session("s"), n1, "two"));
    world.commit(Op::Append(one));
    assert_eq!(world.refused(Op::Append(sending(two))), Refusal::Overtaken { position: 0 });
    assert!(world.inbox(&agent("cart")).is_empty() && world.subject.task(id).is_none());
    let three = next(world, &session("s"), n1, "three");
    world.commit(Op::Append(sending(three)));
    assert_eq!(world.inbox(&agent("cart")), ["sent"]);
    assert!(world.subject.task(id).is_some());
}

fn what_is_appended_again_after_its_session_was_ended_sends_anew<S: Subject>(world: &mut World<S>) {
    let n1 = world.join("n1");
    let one = Append { sends: vec![message(&agent("cart"), "m")], ..next(world, &session("s"), n1, "one") };
    let (append, end) = (Op::Append(one), Op::EndSession(EndSession { session: session("s") }));
    world.commit(append.clone());
    let outcomes = world.batch(vec![end.clone(), append.clone(), end, append]);
    assert_eq!(outcomes[1..], [Outcome::Committed, Outcome::Swept { rows: 1 }, Outcome::Committed]);
    assert_eq!((said(world, &session("s")), world.inbox(&agent("cart"))), (vec!["one".into()], vec!["m".into(); 3]));
}

fn a_run_that_was_given_up_appends_nothing<S: Subject>(world: &mut World<S>) {
    let n1 = world.join("n1");
    let append = next(world, &session("s"), n1, "one");
    world.expire(n1);
    assert_eq!(world.refused(Op::Append(append)), Refusal::HolderGone(n1));
}

fn a_result_and_its_entry_are_there_together_or_not_at_all<S: Subject>(world: &mut World<S>) {
    let n1 = world.join("n1");
    let (id, token) = world.running(n1);
    let result = |append: Append| {
        let done = Verdict::Done(append.replied.clone());
        let sends = vec![message(&agent("cart"), "sent")];
        Op::Finish(Finish { sends, append: Some(Box::new(append)), ..finish(id, token, done) })
    };
    let late = first(world, &session("s"), n1, "input");
    let before = next(world, &session("s"), n1, "a question");
    world.commit(Op::Append(before));
    assert_eq!(world.refused(result(late)), Refusal::Overtaken { position: 0 });
    assert_eq!((world.state(id), world.inbox(&agent("cart")).len()), (TaskState::Running, 0));
    let op = result(next(world, &session("s"), n1, "input"));
    world.commit(op.clone());
    world.commit(op);
    assert_eq!((world.state(id), world.subject.result(id)), (TaskState::Done, Some("yes".into())));
    assert_eq!(said(world, &session("s")), ["a question", "input"]);
    assert_eq!(world.inbox(&agent("cart")), ["sent"]);
    let stale = result(next(world, &session("s"), n1, "again"));
    world.commit(stale);
    assert_eq!(said(world, &session("s")).len(), 2, "an attempt that has ended adds nothing");
}

fn turns_of_a_keyed_agent_append_together_with_its_state<S: Subject>(world: &mut World<S>) {
    let (n1, id) = (world.join("n1"), keyed_agent("chat", "k"));
    world.claim(&id, 0, n1);
    let of = |text: &str| SessionId { agent: id.clone(), name: name(text) };
    let appends = vec![next(world, &of("a"), n1, "to a"), next(world, &of("b"), n1, "to b")];
    let turn = Turn { turns: 2, state: Some(Bytes::from_static(b"1")), appends, ..world.turn(&id) };
    world.commit(Op::Turn(turn));
    assert_eq!((said(world, &of("a")), said(world, &of("b"))), (vec!["to a".into()], vec!["to b".into()]));
    let appends = vec![next(world, &of("a"), n1, "again to a"), first(world, &of("b"), n1, "too late")];
    let refused = Turn { turns: 2, state: Some(Bytes::from_static(b"2")), appends, ..world.turn(&id) };
    assert_eq!(world.refused(Op::Turn(refused)), Refusal::Overtaken { position: 1 });
    let appends = vec![next(world, &of("a"), n1, "twice"), next(world, &of("a"), n1, "in one")];
    let twice = Turn { turns: 2, appends, ..world.turn(&id) };
    assert_eq!(world.refused(Op::Turn(twice)), Refusal::Overtaken { position: 1 });
    assert_eq!((said(world, &of("a")).len(), world.subject.state(&id)), (1, Some(Bytes::from_static(b"1"))));
}

fn a_session_ends_when_it_is_told_to<S: Subject>(world: &mut World<S>) {
    let n1 = world.join("n1");
    let one = next(world, &session("s"), n1, "one");
    world.commit(Op::Append(one));
    let end = || Op::EndSession(EndSession { session: session("s") });
    assert_eq!(world.one(end()), Outcome::Swept { rows: 1 });
    assert_eq!(world.one(end()), Outcome::Swept { rows: 0 });
    assert_eq!((world.subject.session(&session("s")), said(world, &session("s"))), (None, Vec::new()));
}

fn sessions_are_swept_when_their_time_is_over<S: Subject>(world: &mut World<S>) {
    let n1 = world.join("n1");
    let names = ["a", "b", "c", "d"];
    for text in names {
        for _ in 0..2 {
            let append = next(world, &session(text), n1, text);
            world.commit(Op::Append(append));
        }
        world.wait_ms(1_000);
    }
    let sweep =
        |rows_max| Op::Sweep(Sweep { ended_before: LogTime::ZERO, keyed_ended_before: LogTime::ZERO, rows_max });
    let left = |world: &World<S>| names.map(|text| world.subject.session(&session(text)).is_some());
    assert_eq!(world.one(sweep(100)), Outcome::Swept { rows: 0 });
    world.wait_ms(TTL_MS - 1_500);
    // Those of "a", "b" and "c" are over; each has three rows.
    assert_eq!(world.one(sweep(4)), Outcome::Swept { rows: 6 });
    assert_eq!(left(world), [false, false, true, true]);
    assert_eq!(world.one(sweep(4)), Outcome::Swept { rows: 3 });
    assert_eq!(left(world), [false, false, false, true]);
    assert!(said(world, &session("a")).is_empty());
}
