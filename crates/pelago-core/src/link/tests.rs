use super::*;
use crate::id::{BootId, Incarnation, MeshId, Name, NodeId};

const SECOND: Duration = Duration::from_secs(1);

fn name(text: &str) -> Name {
    Name::new(text).expect("a test's name is valid")
}

fn hello(node: &str) -> Hello {
    Hello {
        versions: Versions::HERE,
        mesh: Some(MeshId(7)),
        mesh_name: name("test"),
        node_name: name(node),
        node: NodeId(0),
        boot: BootId(node.bytes().map(u128::from).sum()),
        incarnation: Incarnation(0),
        role: Role::Main,
        features: 0,
        credit: PerLane::all(LANE_BYTES_MIN),
        requests_max: 2,
    }
}

fn at(seconds: u32) -> Time {
    Time::ZERO + SECOND * seconds
}

fn tell(link: &mut Link, now: Time, input: Input) -> Vec<Effect> {
    let mut effects = Vec::new();
    link.handle(now, input, &mut effects);
    effects
}

fn expire(link: &mut Link, now: Time) -> Vec<Effect> {
    let mut effects = Vec::new();
    link.expire(now, &mut effects);
    effects
}

fn part(link: &mut Link) -> Vec<Effect> {
    let mut effects = Vec::new();
    link.part(&mut effects);
    effects
}

/// The end of `a` of a link that `a` dialled.
fn dialled() -> Link {
    let mut effects = Vec::new();
    let link = Link::dialled(Config::default(), hello("a"), Time::ZERO, &mut effects);
    assert_eq!(effects, [Effect::Send(Control::Hello(Box::new(hello("a"))))]);
    link
}

fn up() -> Link {
    let mut link = dialled();
    tell(&mut link, Time::ZERO, Input::Hello(hello("b")));
    tell(&mut link, Time::ZERO, Input::Judged(Ok(())));
    assert!(link.is_up());
    link
}

#[test]
fn both_ends_agree_on_version_and_features_before_the_link_is_up() {
    let me = Hello { features: 0b110, ..hello("b") };
    let mut link = Link::accepted(Config::default(), me.clone(), Time::ZERO);
    let other =
        Hello { versions: Versions { oldest: 1, newest: 4 }, features: 0b011, role: Role::Consensus, ..hello("a") };
    let terms = Box::new(Terms { version: 1, features: 0b010, dialled: false, other: other.clone() });
    assert_eq!(tell(&mut link, Time::ZERO, Input::Hello(other)), [Effect::Judge(terms.clone())]);
    assert!(!link.is_up());
    // It answers in the role that the other end chose.
    let answer = Control::Hello(Box::new(Hello { role: Role::Consensus, ..me }));
    assert_eq!(tell(&mut link, Time::ZERO, Input::Judged(Ok(()))), [Effect::Send(answer), Effect::Up(terms)]);
    assert!(link.is_up());
}

#[test]
fn versions_have_the_newest_in_common_or_none() {
    let speaks = |oldest, newest| Versions { oldest, newest };
    assert_eq!(speaks(1, 3).common(speaks(2, 5)), Some(3));
    assert_eq!(speaks(2, 5).common(speaks(1, 3)), Some(3));
    assert_eq!(speaks(1, 3).common(speaks(4, 5)), None);
    assert_eq!(speaks(3, 1).common(speaks(1, 3)), None);
}

#[test]
fn a_verdict_against_the_link_is_told_to_the_other_end() {
    let mut link = dialled();
    tell(&mut link, Time::ZERO, Input::Hello(hello("b")));
    let refusal = Refusal::TooManyLinks { links_max: 3 };
    let effects = tell(&mut link, Time::ZERO, Input::Judged(Err(refusal.clone())));
    assert_eq!(effects, [Effect::Send(Control::Refuse(refusal.clone())), Effect::Down(Ended::RefusedHere(refusal))]);
}

#[test]
fn an_end_that_offers_too_little_is_refused() {
    let credit = PerLane([LANE_BYTES_MIN, LANE_BYTES_MIN - 1, LANE_BYTES_MIN]);
    for other in [Hello { credit, ..hello("b") }, Hello { requests_max: 0, ..hello("b") }] {
        let effects = tell(&mut dialled(), Time::ZERO, Input::Hello(other));
        assert_eq!(effects[1], Effect::Down(Ended::RefusedHere(Refusal::TooLittleCredit)));
    }
}

#[test]
fn an_end_that_has_joined_no_mesh_gets_a_link_by_the_name_of_the_mesh() {
    let joining = Hello { mesh: None, ..hello("b") };
    assert!(hello("a").agree(joining.clone(), true).is_ok());
    assert!(joining.agree(hello("a"), false).is_ok());
    let elsewhere = Hello { mesh_name: name("other"), ..joining };
    assert_eq!(hello("a").agree(elsewhere, true), Err(Refusal::OtherMesh { mesh_name: name("test") }));
}

#[test]
fn a_client_gets_a_link_with_whatever_mesh_it_dials() {
    let client = Hello { mesh: None, mesh_name: name("other"), role: Role::Client, ..hello("b") };
    assert!(hello("a").agree(client.clone(), false).is_ok());
    assert!(client.agree(hello("a"), true).is_ok());
}

#[test]
fn a_handshake_that_takes_too_long_is_given_up() {
    let mut link = dialled();
    assert_eq!(link.deadline(), Some(at(5)));
    assert_eq!(expire(&mut link, at(4)), []);
    assert_eq!(expire(&mut link, at(5)), [Effect::Down(Ended::NoHandshake)]);
    assert_eq!(link.deadline(), None);
}

#[test]
fn an_idle_link_is_asked_once_and_then_given_up() {
    let mut link = up();
    assert_eq!(link.deadline(), Some(at(2)));
    assert_eq!(expire(&mut link, at(2)), [Effect::Send(Control::Ping(2_000_000))]);
    assert_eq!(link.deadline(), Some(at(6)));
    assert_eq!(expire(&mut link, at(5)), []);
    link.heard(at(5));
    assert_eq!(link.deadline(), Some(at(7)));
    assert_eq!(expire(&mut link, at(7)).len(), 1);
    assert_eq!(expire(&mut link, at(11)), [Effect::Down(Ended::Silent)]);
}

#[test]
fn a_ping_is_answered_with_its_number() {
    assert_eq!(tell(&mut up(), at(1), Input::Ping(9)), [Effect::Send(Control::Pong(9))]);
}

#[test]
fn a_frame_has_no_place_before_the_handshake() {
    for input in [
        Input::Ping(1),
        Input::Pong(1),
        Input::Goodbye(Goodbye::Stopping),
        Input::Credit { lane: Lane::Bulk, bytes: 1 },
    ] {
        let effects = tell(&mut dialled(), Time::ZERO, input);
        let refuse = Effect::Send(Control::Refuse(Refusal::NotTheProtocol));
        assert_eq!(effects[0], refuse);
        assert!(matches!(effects[1], Effect::Down(Ended::Broken(_))));
    }
    assert_eq!(dialled().received(Lane::Bulk, 20), Err(Flaw::Unexpected));
    assert!(!dialled().charge(Lane::Bulk, 20));
}

#[test]
fn a_second_hello_breaks_the_link() {
    let effects = tell(&mut up(), at(1), Input::Hello(hello("b")));
    let goodbye = Effect::Send(Control::Goodbye(Goodbye::Broken));
    assert_eq!(effects, [goodbye, Effect::Down(Ended::Broken(Flaw::Unexpected))]);
}

#[test]
fn credit_is_used_up_returned_and_never_more_than_granted() {
    let mut link = up();
    assert!(link.charge(Lane::Bulk, LANE_BYTES_MIN - 10));
    assert!(!link.charge(Lane::Bulk, 11));
    assert!(link.charge(Lane::Requests, 11), "lanes do not share credit");
    assert!(link.charge(Lane::Bulk, 10));
    let back = Input::Credit { lane: Lane::Bulk, bytes: 100 };
    assert_eq!(tell(&mut link, at(1), back), [Effect::Credited(Lane::Bulk)]);
    assert!(link.charge(Lane::Bulk, 100));
    let too_much = Input::Credit { lane: Lane::Bulk, bytes: LANE_BYTES_MIN + 1 };
    assert_eq!(tell(&mut link, at(1), too_much)[1], Effect::Down(Ended::Broken(Flaw::Credit)));
}

#[test]
fn a_link_that_is_over_says_no_more() {
    let mut link = up();
    let ended = tell(&mut link, at(1), Input::Goodbye(Goodbye::Stopping));
    assert_eq!(ended.last(), Some(&Effect::Down(Ended::ClosedThere(Goodbye::Stopping))));
    // Frames of the same read are still told to it.
    let late = [
        Input::Credit { lane: Lane::Bulk, bytes: 0 },
        Input::Credit { lane: Lane::Bulk, bytes: u32::MAX },
        Input::Ping(1),
        Input::Pong(1),
        Input::Hello(hello("b")),
        Input::Refused(Refusal::Stopping),
        Input::Goodbye(Goodbye::Replaced),
        Input::Broken(Flaw::Malformed),
        Input::Lost,
    ];
    for input in late {
        assert_eq!(tell(&mut link, at(1), input.clone()), [], "{input:?}");
    }
}

#[test]
fn what_arrives_is_held_to_what_was_granted_and_returned_by_quarters() {
    let mut link = up();
    assert_eq!(link.received(Lane::Control, LANE_BYTES_MIN), Ok(()));
    assert_eq!(link.received(Lane::Control, 1), Err(Flaw::Credit));
    let quarter = LANE_BYTES_MIN / 4;
    assert_eq!(link.consumed(Lane::Control, quarter - 1), None);
    assert_eq!(link.consumed(Lane::Control, 1), Some(Control::Credit { lane: Lane::Control, bytes: quarter }));
    assert_eq!(link.received(Lane::Control, quarter + 1), Err(Flaw::Credit));
    assert_eq!(link.received(Lane::Control, quarter), Ok(()));
}

fn ask(link: &mut Link, ticket: u32, deadline: Time) -> Option<RequestId> {
    let id = link.next_request(Lane::Requests)?;
    link.ask(Lane::Requests, Ticket(ticket), deadline);
    Some(id)
}

#[test]
fn a_request_ends_once() {
    let mut link = up();
    let first = ask(&mut link, 1, at(1)).expect("there is room");
    let second = ask(&mut link, 2, at(1)).expect("there is room");
    assert_eq!(ask(&mut link, 3, at(1)), None);
    assert_eq!(link.replied(Lane::Requests, second), Ok(Some(Ticket(2))));
    assert_eq!(link.replied(Lane::Requests, second), Ok(None));
    assert_eq!(link.cancel(Lane::Requests, second), None);
    let cancel = Control::Cancel { lane: Lane::Requests, request: first };
    assert_eq!(link.cancel(Lane::Requests, first), Some((Ticket(1), cancel)));
    assert_eq!(link.replied(Lane::Requests, first), Ok(None));
    assert_eq!(link.replied(Lane::Requests, RequestId(3)), Err(Flaw::Unexpected));
    assert_eq!(link.replied(Lane::Bulk, first), Err(Flaw::Unexpected));
    assert_eq!(expire(&mut link, at(1)), []);
}

#[test]
fn a_deadline_ends_a_request_and_calls_it_off() {
    let mut link = up();
    let late = ask(&mut link, 1, at(2)).expect("there is room");
    let soon = ask(&mut link, 2, at(1)).expect("there is room");
    assert_eq!(link.deadline(), Some(at(1)));
    let ends = |ticket, request| {
        let cancel = Control::Cancel { lane: Lane::Requests, request };
        [Effect::Send(cancel), Effect::Unanswered { ticket, why: Unanswered::Deadline }]
    };
    assert_eq!(expire(&mut link, at(1)), ends(Ticket(2), soon));
    link.heard(at(1));
    assert_eq!(expire(&mut link, at(2)), ends(Ticket(1), late));
}

#[test]
fn the_end_of_a_link_ends_its_requests_in_order() {
    let mut link = up();
    ask(&mut link, 1, at(9)).expect("there is room");
    ask(&mut link, 2, at(8)).expect("there is room");
    let unanswered = |ticket| Effect::Unanswered { ticket: Ticket(ticket), why: Unanswered::LinkDown };
    assert_eq!(tell(&mut link, at(1), Input::Lost), [unanswered(1), unanswered(2), Effect::Down(Ended::Lost)]);
    assert_eq!(tell(&mut link, at(1), Input::Lost), []);
}

#[test]
fn requests_that_come_are_in_order_and_bounded() {
    let mut link = up();
    assert_eq!(link.asked(Lane::Control, RequestId(5)), Ok(()));
    assert_eq!(link.asked(Lane::Control, RequestId(5)), Err(Flaw::Order));
    assert_eq!(link.asked(Lane::Control, RequestId(6)), Ok(()));
    assert_eq!(link.asked(Lane::Control, RequestId(7)), Err(Flaw::TooManyRequests));
    assert_eq!(link.asked(Lane::Bulk, RequestId(1)), Ok(()));
    assert!(link.is_open(Lane::Control, RequestId(5)));
    assert!(link.answer(Lane::Control, RequestId(5)));
    assert!(!link.answer(Lane::Control, RequestId(5)));
    assert_eq!(link.called_off(Lane::Control, RequestId(5)), Ok(false));
    assert_eq!(link.called_off(Lane::Control, RequestId(6)), Ok(true));
    assert!(!link.answer(Lane::Control, RequestId(6)));
    assert_eq!(link.called_off(Lane::Control, RequestId(8)), Err(Flaw::Unexpected));
    assert_eq!(link.asked(Lane::Control, RequestId(0)), Err(Flaw::Order));
}

#[test]
fn a_goodbye_is_answered_and_its_sender_waits_for_that() {
    let goodbye = [Effect::Send(Control::Goodbye(Goodbye::Stopping)), Effect::Closing];
    let mut closing = up();
    assert_eq!(tell(&mut closing, at(1), Input::Close(Goodbye::Stopping)), goodbye);
    assert!(!closing.charge(Lane::Bulk, 1));
    assert_eq!(closing.received(Lane::Bulk, 100), Ok(()), "what was on its way counts");
    assert_eq!(part(&mut closing), []);
    let closed = Effect::Down(Ended::ClosedHere(Goodbye::Stopping));
    let mut other = up();
    let answered = tell(&mut other, at(1), Input::Goodbye(Goodbye::Stopping));
    assert_eq!(answered[..2], goodbye);
    assert_eq!(answered[2..], [Effect::Down(Ended::ClosedThere(Goodbye::Stopping))]);
    assert_eq!(tell(&mut closing, at(1), Input::Goodbye(Goodbye::Stopping)), std::slice::from_ref(&closed));

    let mut unheard = up();
    tell(&mut unheard, at(1), Input::Close(Goodbye::Stopping));
    assert_eq!(unheard.deadline(), Some(at(3)));
    assert_eq!(expire(&mut unheard, at(3)), [closed]);
}

#[test]
fn a_link_that_both_ends_close_waits_for_what_is_unanswered_either_way() {
    let closed = Effect::Down(Ended::ClosedThere(Goodbye::Replaced));
    let under_way = || {
        let mut link = up();
        link.ask(Lane::Requests, Ticket(1), at(60));
        assert_eq!(link.asked(Lane::Control, RequestId(1)), Ok(()));
        let said = tell(&mut link, at(1), Input::Goodbye(Goodbye::Replaced));
        assert_eq!(said, [Effect::Send(Control::Goodbye(Goodbye::Replaced)), Effect::Closing]);
        assert!(!link.is_up());
        link
    };
    let mut link = under_way();
    assert!(link.charge_reply(Lane::Control, 1) && !link.charge(Lane::Control, 1));
    assert!(link.answer(Lane::Control, RequestId(1)));
    assert_eq!(part(&mut link), []);
    assert_eq!(link.replied(Lane::Requests, RequestId(1)), Ok(Some(Ticket(1))));
    assert_eq!(part(&mut link), std::slice::from_ref(&closed));

    let late = Effect::Unanswered { ticket: Ticket(1), why: Unanswered::LinkDown };
    assert_eq!(expire(&mut under_way(), at(3)), [late.clone(), closed.clone()]);
    // Whoever says so has ended the link.
    assert_eq!(tell(&mut under_way(), at(2), Input::Goodbye(Goodbye::Broken)), [late, closed]);
}

/// Both nodes dial; every order in which the two hellos of the two connections can arrive is tried.
#[test]
fn of_two_connections_the_same_one_stays_in_whatever_order_hellos_arrive() {
    // Connection 1 is dialled by a, connection 2 by b. A node judges a connection when the other's hello arrives; the
    // end that dialled hears only after the other one has judged in favour.
    let orders: Vec<[(char, u64); 4]> = permutations()
        .into_iter()
        .filter(|order| {
            let place = |event| order.iter().position(|&e| e == event).expect("each is there");
            place(('b', 1)) < place(('a', 1)) && place(('a', 2)) < place(('b', 2))
        })
        .collect();
    assert_eq!(orders.len(), 6);
    for order in orders {
        let mut tables = [Table::new(9), Table::new(9)];
        let mut refused = Vec::new();
        for (node, connection) in order {
            if refused.contains(&connection) {
                continue;
            }
            let (me, other, table) = match node {
                'a' => (hello("a"), hello("b"), &mut tables[0]),
                _ => (hello("b"), hello("a"), &mut tables[1]),
            };
            let is_dialler = (node == 'a') == (connection == 1);
            let terms = me.agree(other, is_dialler).expect("they agree");
            if table.enter(&me, &terms, LinkId(connection)).is_err() {
                refused.push(connection);
            }
        }
        let stays = [tables[0].find(&name("b"), Role::Main), tables[1].find(&name("a"), Role::Main)];
        assert_eq!(stays, [Some(LinkId(1)); 2], "{order:?}");
        assert!(!refused.contains(&1), "{order:?}");
    }
}

fn permutations() -> Vec<[(char, u64); 4]> {
    let events = [('a', 1), ('a', 2), ('b', 1), ('b', 2)];
    let mut all = Vec::new();
    for a in 0..4 {
        for b in 0..4 {
            for c in 0..4 {
                for d in 0..4 {
                    let order = [events[a], events[b], events[c], events[d]];
                    if events.iter().all(|event| order.contains(event)) {
                        all.push(order);
                    }
                }
            }
        }
    }
    all
}

fn terms(other: Hello, dialled: bool) -> Terms {
    Terms { version: VERSION, features: 0, dialled, other }
}

#[test]
fn a_new_run_of_a_node_takes_the_place_of_the_old_one_and_never_the_other_way_round() {
    let me = hello("a");
    let mut table = Table::new(9);
    let run = |boot, incarnation| Hello { boot: BootId(boot), incarnation: Incarnation(incarnation), ..hello("b") };
    assert_eq!(table.enter(&me, &terms(run(1, 10), true), LinkId(1)), Ok(None));
    assert_eq!(table.enter(&me, &terms(run(2, 20), false), LinkId(2)), Ok(Some(LinkId(1))));
    assert_eq!(table.enter(&me, &terms(run(1, 10), false), LinkId(3)), Err(Refusal::OldRun { at: String::new() }));
    assert_eq!(table.enter(&me, &terms(run(3, 0), false), LinkId(4)), Err(Refusal::Running));
    table.leave(LinkId(2));
    assert_eq!(table.enter(&me, &terms(run(3, 0), false), LinkId(4)), Ok(None));
    assert_eq!(table.enter(&me, &terms(run(2, 20), false), LinkId(5)), Ok(Some(LinkId(4))), "which has not registered");
    assert_eq!(table.enter(&me, &terms(run(3, 30), false), LinkId(4)), Ok(Some(LinkId(5))));
    table.leave(LinkId(5));
    assert_eq!(table.find(&name("b"), Role::Main), Some(LinkId(4)), "one that was replaced is out already");
    table.leave(LinkId(4));
    assert_eq!(table.find(&name("b"), Role::Main), None);
}

#[test]
fn a_table_is_bounded_and_refuses_all_when_it_stops() {
    let me = hello("a");
    let mut table = Table::new(1);
    assert_eq!(table.enter(&me, &terms(hello("b"), false), LinkId(1)), Ok(None));
    let full = Err(Refusal::TooManyLinks { links_max: 1 });
    assert_eq!(table.enter(&me, &terms(hello("c"), false), LinkId(2)), full);
    assert_eq!(table.enter(&me, &terms(hello("b"), false), LinkId(3)), Ok(Some(LinkId(1))), "a link may be replaced");
    table.stop();
    assert_eq!(table.enter(&me, &terms(hello("b"), false), LinkId(4)), Err(Refusal::Stopping));
}

#[test]
fn clients_leave_places_for_nodes() {
    let me = hello("a");
    let client = |name: &str| terms(Hello { role: Role::Client, ..hello(name) }, false);
    let mut table = Table::new(4);
    assert_eq!(table.enter(&me, &client("b"), LinkId(1)), Ok(None));
    assert_eq!(table.enter(&me, &client("c"), LinkId(2)), Ok(None));
    let full = |links_max| Err(Refusal::TooManyLinks { links_max });
    assert_eq!(table.enter(&me, &client("d"), LinkId(3)), full(2));
    for (role, id) in [(Role::Main, 4), (Role::Consensus, 5)] {
        assert_eq!(table.enter(&me, &terms(Hello { role, ..hello("e") }, false), LinkId(id)), Ok(None));
    }
    assert_eq!(table.enter(&me, &terms(hello("f"), false), LinkId(6)), full(4));
    table.leave(LinkId(1));
    assert_eq!(table.enter(&me, &client("d"), LinkId(7)), Ok(None));
    let mut table = Table::new(1_000);
    let entered = (0..1_000).filter(|n| table.enter(&me, &client(&format!("c{n}")), LinkId(*n)).is_ok()).count();
    assert_eq!(entered, 1_000 - PLACES_OF_NODES as usize);
}
