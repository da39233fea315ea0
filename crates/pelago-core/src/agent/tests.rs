use std::{slice, sync::Arc};

use super::*;
use crate::{
    id::{Incarnation, Key, Name, NodeId, SessionId, TimerName},
    message::{Content, Headers, Priority},
    record::{
        self, Append, BodyHash, Chain, Finish, IdempotencyKey, MessageId, Sender, SessionTurn, TimerChange, Turn,
        Verdict,
    },
};

const ME: Holder = Holder { node: NodeId(1), incarnation: Incarnation(1) };
const OTHER: Holder = Holder { node: NodeId(2), incarnation: Incarnation(2) };

#[test]
fn an_ask_is_answered_only_after_its_commit() {
    let mut agent = Agent::unclaimed();
    assert_eq!(agent.effects(), [Effect::Load]);
    let ask = ask(1, "hello");
    assert_eq!(agent.handle(Input::Deliver(ask.clone())), []);

    let claim = Op::Claim(Claim { agent: id(), seen: Epoch(4), holder: ME });
    assert_eq!(agent.handle(loaded(4, 7, 0)), [propose(0, &claim)]);
    assert_eq!(agent.decided(0, claimed(5, 7)), [Effect::Run(ask.clone())]);

    let commit = Op::Turn(Turn { state: Some(Bytes::from("s1")), ..turn(5, 7, 1) });
    assert_eq!(agent.handle(ended("s1", "r1")), [propose(1, &commit)]);
    assert_eq!(agent.decided(1, Outcome::Committed), [answered(1, Ok("r1"))]);
}

#[test]
fn turns_that_ran_meanwhile_share_a_commit() {
    let mut agent = Agent::claimed(1, 0);
    agent.handle(Input::Deliver(ask(1, "a")));
    agent.handle(Input::Deliver(ask(2, "b")));
    assert_eq!(agent.handle(ended("s1", "r1")), [Effect::Run(ask(2, "b"))]);
    let commit = Op::Turn(Turn { turns: 2, state: Some(Bytes::from("s2")), ..turn(1, 0, 1) });
    assert_eq!(agent.handle(ended("s2", "r2")), [propose(1, &commit)]);
    assert_eq!(agent.decided(1, Outcome::Committed), [answered(1, Ok("r1")), answered(2, Ok("r2"))]);
}

#[test]
fn an_unanswered_commit_is_proposed_again_with_the_same_bytes() {
    let mut agent = Agent::committing(slice::from_ref(&ask(1, "a")));
    let first = agent.last_proposal();
    assert_eq!(agent.wait(Config::default().resend_after), slice::from_ref(&first));
    assert_eq!(agent.wait(Config::default().resend_after), [first]);
    assert_eq!(agent.decided(1, Outcome::Committed), [answered(1, Ok("reply"))]);
}

#[test]
fn a_late_answer_to_an_earlier_proposal_says_nothing_about_the_present_one() {
    let mut agent = Agent::committing(&[ask(1, "a")]);
    assert_eq!(agent.decided(0, claimed(1, 0)), []);
    assert_eq!(agent.decided(1, Outcome::Committed), [answered(1, Ok("reply"))]);
    assert_eq!(agent.decided(1, Outcome::Committed), []);
}

#[test]
fn a_commit_that_a_newer_owner_forestalled_can_be_asked_for_there() {
    let mut agent = Agent::committing(&[ask(1, "a")]);
    agent.handle(Input::Deliver(ask(2, "b")));
    let elsewhere = || Err(Failure::Elsewhere(OTHER));
    assert_eq!(agent.decided(1, fenced(OTHER, 0)), [answered(1, elsewhere()), answered(2, elsewhere()), Effect::Gone]);
}

#[test]
fn nobody_knows_what_became_of_a_commit_when_others_followed() {
    let mut agent = Agent::committing(&[ask(1, "a"), keyed_ask(2, "key"), message(3, 1)]);
    agent.handle(Input::Deliver(ask(4, "b")));
    let elsewhere = || Err(Failure::Elsewhere(OTHER));
    assert_eq!(
        agent.decided(1, fenced(OTHER, 1)),
        [
            // Sent elsewhere, a second one would not be recognised.
            answered(1, Err(Failure::Unknown)),
            answered(2, elsewhere()),
            answered(3, elsewhere()),
            answered(4, elsewhere()),
            Effect::Gone
        ]
    );
}

#[test]
fn a_refused_commit_is_settled_only_under_the_next_epoch() {
    let refused = || Outcome::Refused(Refusal::MessageGone { position: 0 });

    let mut agent = Agent::committing(&[message(1, 1), ask(2, "a")]);
    assert_eq!(agent.decided(1, refused()), [Effect::Load]);
    agent.handle(loaded(1, 0, 0));
    assert_eq!(agent.decided(2, claimed(2, 0)), [answered(1, Ok("")), Effect::Run(ask(2, "a"))]);

    // A second delivery of the same bytes found the message in the inbox.
    let mut agent = Agent::committing(&[message(1, 1), ask(2, "a")]);
    agent.decided(1, refused());
    agent.handle(loaded(1, 2, 1));
    assert_eq!(agent.decided(2, claimed(2, 2)), [answered(1, Ok("reply")), answered(2, Ok("reply"))]);
}

#[test]
fn a_row_that_changed_between_reading_and_claiming_is_read_again() {
    let mut agent = Agent::unclaimed();
    agent.handle(loaded(4, 7, 0));
    assert_eq!(agent.decided(0, claimed(5, 8)), [Effect::Load]);
}

#[test]
fn where_the_refusal_names_nobody_turns_commit_one_by_one() {
    let mut agent = Agent::committing(&[ask(1, "a"), ask(2, "b")]);
    agent.decided(1, Outcome::Refused(Refusal::Full(id())));
    agent.handle(loaded(1, 0, 0));
    assert_eq!(agent.decided(2, claimed(2, 0)), [Effect::Run(ask(1, "a"))]);
    let alone = |version, n| Op::Turn(Turn { state: Some(Bytes::from("s")), ..turn(2, version, n) });
    assert_eq!(agent.handle(ended("s", "r")), [propose(3, &alone(0, 3))]);
    assert_eq!(agent.decided(3, Outcome::Committed), [answered(1, Ok("r")), Effect::Run(ask(2, "b"))]);
    assert_eq!(agent.handle(ended("s", "r")), [propose(4, &alone(1, 4))]);
    agent.decided(4, Outcome::Refused(Refusal::Full(id())));
    agent.handle(loaded(2, 1, 3));
    let full = Failure::Refused(Refusal::Full(id()));
    assert_eq!(agent.decided(5, claimed(3, 1)), [answered(2, Err(full))]);
}

#[test]
fn the_same_thing_is_never_in_one_commit_twice() {
    for (one, two) in [(message(1, 1), message(2, 1)), (keyed_ask(1, "k"), keyed_ask(2, "k")), (task(1, 5), task(2, 5))]
    {
        let mut agent = Agent::claimed(1, 0);
        agent.handle(Input::Deliver(one));
        agent.handle(Input::Deliver(two.clone()));
        let effects = agent.handle(ended("s", "r"));
        assert!(matches!(effects.as_slice(), [Effect::Propose { .. }]), "{effects:?}");
        assert_eq!(agent.decided(1, Outcome::Committed), [answered(1, Ok("r")), Effect::Run(two)]);
    }
}

#[test]
fn an_error_waits_for_the_turns_before_it() {
    let mut agent = Agent::claimed(1, 0);
    agent.handle(Input::Deliver(ask(1, "a")));
    agent.handle(Input::Deliver(ask(2, "b")));
    agent.handle(ended("s", "r"));
    let failure = Failure::Failed("only s is left".into());
    let commit = Op::Turn(Turn { state: Some(Bytes::from("s")), ..turn(1, 0, 1) });
    let effects = agent.handle(Input::TurnEnded(Err(failure.clone())));
    assert_eq!(effects, [Effect::RollBack, propose(1, &commit)]);
    assert_eq!(agent.decided(1, Outcome::Committed), [answered(1, Ok("r")), answered(2, Err(failure))]);
}

#[test]
fn a_message_that_always_fails_is_buried_even_if_its_first_burial_is_refused() {
    let mut agent = Agent::claimed(1, 0);
    let last = |ticket| with_attempts(message(ticket, 1), Config::default().message_attempts_max - 1);
    let fails = || Input::TurnEnded(Err(Failure::Failed("no".into())));
    agent.handle(Input::Deliver(last(1)));
    agent.handle(fails());
    agent.decided(1, Outcome::Refused(Refusal::Full(id())));
    agent.handle(loaded(1, 0, 0));
    // The store was full, which is not the message's fault: it comes again, and fails again.
    assert_eq!(agent.decided(2, claimed(2, 0)), [Effect::Again(last(1))]);
    agent.handle(Input::Deliver(last(1)));
    let burial = Op::Turn(Turn { buried: vec![(message_id(1), "no".into())], ..turn(2, 0, 3) });
    assert_eq!(agent.handle(fails()), [Effect::RollBack, propose(3, &burial)]);
    assert_eq!(agent.decided(3, Outcome::Committed), [answered(1, Ok(""))]);
}

#[test]
fn a_failed_message_comes_again_later() {
    let mut agent = Agent::claimed(1, 0);
    agent.handle(Input::Deliver(message(1, 1)));
    let again = with_attempts(message(1, 1), 1);
    let effects = agent.handle(Input::TurnEnded(Err(Failure::Failed("no".into()))));
    assert_eq!(effects, [Effect::RollBack, Effect::Again(again)]);
}

#[test]
fn a_message_is_never_given_up_because_the_stored_state_cannot_be_read() {
    let mut agent = Agent::claimed(1, 0);
    let last = with_attempts(message(1, 1), Config::default().message_attempts_max - 1);
    for _ in 0..3 {
        agent.handle(Input::Deliver(last.clone()));
        let effects = agent.handle(Input::TurnEnded(Err(Failure::Unreadable("missing field".into()))));
        assert_eq!(effects, [Effect::RollBack, Effect::Again(last.clone())]);
    }
}

#[test]
fn whoever_comes_while_the_agent_is_put_away_takes_it_again() {
    let mut agent = Agent::claimed(1, 0);
    let release = Op::Release(Release { agent: id(), epoch: Epoch(1), holder: ME });
    assert_eq!(agent.wait(Config::default().idle_after), [propose(1, &release)]);
    assert_eq!(agent.handle(Input::Deliver(ask(1, "a"))), []);
    assert_eq!(agent.decided(1, Outcome::Committed), [Effect::Load]);
    agent.handle(loaded(1, 0, 0));
    assert_eq!(agent.decided(2, claimed(2, 0)), [Effect::Run(ask(1, "a"))]);
}

#[test]
fn a_drained_agent_commits_what_ran_and_sends_the_rest_away() {
    let mut agent = Agent::claimed(1, 0);
    agent.handle(Input::Deliver(ask(1, "a")));
    agent.handle(Input::Deliver(ask(2, "b")));
    assert_eq!(agent.handle(Input::Drain), []);
    agent.handle(ended("s", "r"));
    let release = Op::Release(Release { agent: id(), epoch: Epoch(1), holder: ME });
    assert_eq!(agent.decided(1, Outcome::Committed), [answered(1, Ok("r")), propose(2, &release)]);
    assert_eq!(agent.decided(2, Outcome::Committed), [answered(2, Err(Failure::Stopped)), Effect::Gone]);
}

#[test]
fn a_turn_past_its_limit_is_stopped() {
    let mut agent = Agent::claimed(1, 0);
    agent.handle(Input::Deliver(task(1, 5)));
    let timed_out = Failure::TimedOut { limit_ms: 1_000 };
    assert_eq!(agent.wait(Duration::from_secs(1)), [Effect::Abort, answered(1, Err(timed_out))]);
    assert_eq!(agent.handle(ended("late", "late")), []);
}

#[test]
fn an_attempt_that_was_taken_away_ends_at_once() {
    let mut agent = Agent::claimed(1, 0);
    agent.handle(Input::Deliver(task(1, 5)));
    agent.handle(Input::Deliver(task(2, 6)));
    let gone = |n| Failure::Refused(Refusal::StaleToken { task: TaskId(u128::from(n)), token: token(n) });
    let waiting = agent.handle(Input::TaskGone { task: TaskId(6), token: token(6) });
    assert_eq!(waiting, [answered(2, Err(gone(6)))]);
    let running = agent.handle(Input::TaskGone { task: TaskId(5), token: token(5) });
    assert_eq!(running, [Effect::Abort, answered(1, Err(gone(5)))]);
}

#[test]
fn an_entry_of_a_session_is_part_of_its_turn() {
    let mut agent = Agent::claimed(1, 0);
    agent.handle(Input::Deliver(said(1, 5)));
    let commit = Op::Turn(Turn { state: Some(Bytes::from("s")), appends: vec![append(5)], ..turn(1, 0, 1) });
    assert_eq!(agent.handle(ended("s", "reply")), [propose(1, &commit)]);
}

#[test]
fn a_turn_of_a_session_is_interrupted_until_it_has_ended() {
    let mut agent = Agent::claimed(1, 0);
    agent.handle(Input::Deliver(said(1, 5)));
    agent.handle(Input::Deliver(said(2, 6)));
    let interrupted = || Err(Failure::Interrupted);
    assert_eq!(agent.handle(Input::Interrupt(TurnId(6))), [answered(2, interrupted())]);
    assert_eq!(agent.handle(Input::Interrupt(TurnId(5))), [Effect::Abort, answered(1, interrupted())]);
    agent.handle(Input::Deliver(said(3, 7)));
    agent.handle(ended("s", "reply"));
    assert_eq!(agent.handle(Input::Interrupt(TurnId(7))), [], "it is being committed");
    assert_eq!(agent.handle(Input::Interrupt(TurnId(5))), []);
}

#[test]
fn of_a_commit_only_the_turn_is_refused_that_was_overtaken() {
    let mut agent = Agent::claimed(1, 0);
    for (ticket, turn) in [(1, 5), (2, 6)] {
        agent.handle(Input::Deliver(said(ticket, turn)));
    }
    agent.handle(ended("a", "reply"));
    agent.handle(ended("b", "reply"));
    let overtaken = Refusal::Overtaken { position: 1 };
    let outcome = Outcome::Refused(overtaken.clone());
    assert_eq!(agent.decided(1, outcome), [Effect::Load]);
    agent.handle(loaded(1, 0, 0));
    let again = agent.decided(2, claimed(2, 0));
    assert_eq!(again, [answered(2, Err(Failure::Refused(overtaken))), Effect::Run(said(1, 5))]);
}

#[test]
fn an_attempts_result_is_part_of_its_turn() {
    let mut agent = Agent::claimed(1, 0);
    agent.handle(Input::Deliver(task(1, 5)));
    let verdict = Verdict::Done(Bytes::from("result"));
    let finish =
        Finish { task: TaskId(5), token: token(5), verdict, sends: Vec::new(), enqueues: Vec::new(), append: None };
    let commit = Op::Turn(Turn { state: Some(Bytes::from("s")), finishes: vec![finish], ..turn(1, 0, 1) });
    assert_eq!(agent.handle(ended("s", "result")), [propose(1, &commit)]);
}

#[test]
fn a_timer_that_is_cancelled_does_not_fire_after_that() {
    let mut agent = Agent::claimed(1, 7);
    agent.handle(Input::Deliver(ask(1, "stop")));
    agent.handle(Input::Deliver(timer(2, 3)));
    let produced = Produced { timers: vec![cancels_tick()], ..Produced::default() };
    // It is committed alone: the store could not tell that the timer fired after it was cancelled.
    let commit = Op::Turn(Turn { timers: vec![cancels_tick()], ..turn(1, 7, 1) });
    assert_eq!(agent.handle(Input::TurnEnded(Ok(produced))), [propose(1, &commit)]);
    // One that was set later than the commit began is another one.
    agent.handle(Input::Deliver(timer(3, 8)));
    let over = agent.decided(1, Outcome::Committed);
    assert_eq!(over, [answered(2, Ok("")), answered(1, Ok("")), Effect::Run(timer(3, 8))]);
}

#[test]
fn a_timer_that_comes_too_early_is_delivered_again_later() {
    let mut agent = Agent::committing(&[timer(1, 3)]);
    assert_eq!(agent.decided(1, Outcome::Refused(Refusal::TooEarly)), [Effect::Load]);
    agent.handle(loaded(1, 0, 0));
    assert_eq!(agent.decided(2, claimed(2, 0)), [Effect::Again(timer(1, 3))]);
}

#[test]
fn a_stopped_activation_answers_everybody_once() {
    let mut agent = Agent::committing(&[ask(1, "a")]);
    agent.handle(Input::Deliver(ask(2, "b")));
    let effects = agent.handle(Input::Stop);
    assert_eq!(effects, [answered(1, Err(Failure::Unknown)), answered(2, Err(Failure::Stopped)), Effect::Gone]);
    assert_eq!(agent.handle(Input::Stop), []);
    assert_eq!(agent.decided(1, Outcome::Committed), []);
    assert_eq!(agent.handle(Input::Deliver(ask(3, "c"))), [answered(3, Err(Failure::Stopped))]);
}

#[test]
fn a_full_mailbox_is_busy() {
    let mut agent = Agent::unclaimed();
    agent.core.config.mailbox_max = 1;
    agent.handle(Input::Deliver(ask(1, "a")));
    assert_eq!(agent.handle(Input::Deliver(ask(2, "b"))), [answered(2, Err(Failure::Busy))]);
}

#[test]
fn the_more_urgent_of_what_waits_comes_first_and_what_is_as_urgent_in_order() {
    let mut agent = Agent::claimed(1, 0);
    agent.handle(Input::Deliver(ask(1, "runs")));
    for (ticket, priority) in [(2, 4), (3, 9), (4, 4), (5, 0), (6, 0), (7, 3)] {
        let headers = Headers { priority: Priority::new(priority).expect("valid"), ..Headers::default() };
        let content = headers.of(Bytes::new());
        agent.handle(Input::Deliver(Envelope { content, ..ask(ticket, "") }));
    }
    let mut order = Vec::new();
    while let [Effect::Run(next)] = agent.handle(ended("s", "r")).as_slice() {
        order.push(next.ticket.0);
    }
    assert_eq!(order, [5, 6, 7, 2, 4, 3]);
}

#[test]
fn a_turn_that_nobody_wants_any_more_changes_nothing_and_holds_nobody_up() {
    let mut agent = Agent::claimed(1, 0);
    agent.handle(Input::Deliver(ask(1, "a")));
    agent.handle(Input::Deliver(ask(2, "b")));
    agent.handle(Input::Deliver(ask(3, "c")));
    assert_eq!(agent.handle(ended("s1", "r1")), [Effect::Run(ask(2, "b"))]);
    assert_eq!(agent.handle(Input::NotWanted), [answered(2, Err(Failure::Stopped)), Effect::Run(ask(3, "c"))]);
    let commit = Op::Turn(Turn { turns: 2, state: Some(Bytes::from("s2")), ..turn(1, 0, 1) });
    assert_eq!(agent.handle(ended("s2", "r3")), [propose(1, &commit)]);
    assert_eq!(agent.handle(Input::NotWanted), [], "no turn is under way");
    assert_eq!(agent.decided(1, Outcome::Committed), [answered(1, Ok("r1")), answered(3, Ok("r3"))]);
}

/// An activation and its clock.
struct Agent {
    core: Activation,
    now: Time,
    made: Vec<Effect>,
}

impl Agent {
    fn unclaimed() -> Self {
        let mut made = Vec::new();
        let core = Activation::new(Config::default(), id(), ME, &mut made);
        Self { core, now: Time::ZERO, made }
    }

    fn claimed(epoch: u64, version: u64) -> Self {
        let mut agent = Self::unclaimed();
        agent.handle(loaded(epoch - 1, version, 0));
        agent.decided(0, claimed(epoch, version));
        agent
    }

    /// At epoch 1 and version 0, with turns on their way that all replied "reply". The commit is proposal 1.
    fn committing(envelopes: &[Envelope]) -> Self {
        let mut agent = Self::claimed(1, 0);
        for envelope in envelopes {
            agent.handle(Input::Deliver(envelope.clone()));
        }
        for _ in envelopes {
            agent.handle(ended("state", "reply"));
        }
        agent
    }

    fn handle(&mut self, input: Input) -> Vec<Effect> {
        self.made.clear();
        self.core.handle(self.now, input, &mut self.made);
        self.made.clone()
    }

    fn decided(&mut self, proposal: u64, outcome: Outcome) -> Vec<Effect> {
        self.handle(Input::Decided { proposal: Proposal(proposal), outcome })
    }

    fn wait(&mut self, by: Duration) -> Vec<Effect> {
        self.now = self.now + by;
        self.made.clear();
        self.core.expire(self.now, &mut self.made);
        self.made.clone()
    }

    fn effects(&self) -> &[Effect] {
        &self.made
    }

    fn last_proposal(&self) -> Effect {
        self.made.last().expect("something was proposed").clone()
    }
}

fn id() -> AgentId {
    let key = Key::new("alice").expect("valid");
    AgentId { namespace: Name::default_namespace(), name: Name::new("cart").expect("valid"), key: Some(key) }
}

fn ask(ticket: u64, payload: &str) -> Envelope {
    let payload = Bytes::from(payload.to_owned());
    Envelope { ticket: Ticket(ticket), work: Work::Ask { remember: None, session: None }, content: payload.into() }
}

/// A question of a session; `turn` names it.
fn said(ticket: u64, turn: u128) -> Envelope {
    let work = Work::Ask { remember: None, session: Some(Arc::new(append(turn).turn)) };
    Envelope { ticket: Ticket(ticket), work, content: Bytes::from("said").into() }
}

fn append(turn: u128) -> Append {
    let session = SessionId { agent: id(), name: Name::new("s").expect("valid") };
    Append {
        turn: SessionTurn { session, id: TurnId(turn), seen: 3, after: TurnId(1), ttl_ms: 1_000 },
        holder: ME,
        said: Bytes::from("said"),
        replied: Bytes::from("reply"),
        sends: Vec::new(),
        enqueues: Vec::new(),
    }
}

fn keyed_ask(ticket: u64, key: &str) -> Envelope {
    let key = IdempotencyKey { namespace: Name::default_namespace(), key: key.into() };
    let remember = Some((key, BodyHash::of(&id(), b"a")));
    Envelope { ticket: Ticket(ticket), work: Work::Ask { remember, session: None }, content: Content::default() }
}

fn message_id(seq: u64) -> MessageId {
    MessageId { sender: Sender::Client(9), generation: 0, seq }
}

fn message(ticket: u64, seq: u64) -> Envelope {
    let work = Work::Message { id: message_id(seq), attempts: 0 };
    Envelope { ticket: Ticket(ticket), work, content: Content::default() }
}

fn with_attempts(envelope: Envelope, tried: u32) -> Envelope {
    let Work::Message { id, .. } = envelope.work else { unreachable!("only messages are tried again") };
    Envelope { work: Work::Message { id, attempts: tried }, ..envelope }
}

fn task(ticket: u64, n: u64) -> Envelope {
    let work =
        Work::Task { task: TaskId(u128::from(n)), token: token(n), limit: Duration::from_secs(1), session: None };
    Envelope { ticket: Ticket(ticket), work, content: Content::default() }
}

fn token(n: u64) -> FencingToken {
    FencingToken { index: n, item: 0 }
}

fn ended(state: &'static str, reply: &'static str) -> Input {
    let (state, reply) = (Some(Bytes::from(state)), Bytes::from(reply));
    Input::TurnEnded(Ok(Produced { state, reply, ..Produced::default() }))
}

/// A free agent's row; `turn` is the number of the proposal that committed last.
fn loaded(epoch: u64, version: u64, turn: u64) -> Input {
    let row = record::Agent {
        id: id(),
        generation: 1,
        epoch: Epoch(epoch),
        phase: record::Phase::Free,
        holder: ME,
        version: Version(version),
        last_turn: turn_id(epoch, turn),
        chain: Chain::START,
    };
    Input::Loaded(Some(Loaded { row, held_elsewhere: false }))
}

fn turn_id(epoch: u64, proposal: u64) -> TurnId {
    TurnId((u128::from(epoch) << 64) | u128::from(proposal))
}

fn turn(epoch: u64, version: u64, proposal: u64) -> Turn {
    Turn {
        agent: id(),
        epoch: Epoch(epoch),
        holder: ME,
        version: Version(version),
        turns: 1,
        turn: turn_id(epoch, proposal),
        state: None,
        consumed: Vec::new(),
        buried: Vec::new(),
        replies: Vec::new(),
        finishes: Vec::new(),
        sends: Vec::new(),
        enqueues: Vec::new(),
        timers: Vec::new(),
        appends: Vec::new(),
    }
}

fn timer(ticket: u64, set: u64) -> Envelope {
    let work = Work::Message { id: MessageId::of_timer(tick(), Version(set)), attempts: 0 };
    Envelope { ticket: Ticket(ticket), work, content: Content::default() }
}

fn tick() -> TimerName {
    TimerName::new("tick").expect("valid")
}

fn cancels_tick() -> TimerChange {
    TimerChange { name: tick(), set: None }
}

fn propose(proposal: u64, op: &Op) -> Effect {
    Effect::Propose { proposal: Proposal(proposal), op: op.clone() }
}

fn answered(ticket: u64, answer: Result<&'static str, Failure>) -> Effect {
    Effect::Answer { ticket: Ticket(ticket), answer: answer.map(Bytes::from) }
}

fn claimed(epoch: u64, version: u64) -> Outcome {
    Outcome::Claimed { epoch: Epoch(epoch), version: Version(version) }
}

fn fenced(holder: Holder, version: u64) -> Outcome {
    Outcome::Refused(Refusal::Fenced { epoch: Epoch(9), version: Version(version), holder, live: true })
}
