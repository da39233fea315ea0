//! Connections that are added while the mesh runs: one an address, none without a limit; and those that nodes offer.

use std::collections::BTreeMap;

use pelago_core::{
    connection::{CONNECTIONS_PER_AGENT_MAX, Connection},
    id::{Address, Name},
    record::{Connect, ConnectionChange, Offer, Op, Outcome, Placement, Refusal},
};

use super::{
    Subject, cases,
    world::{World, name},
};

cases! {
    a_connection_is_there_until_it_is_taken_away,
    a_connection_made_anew_has_the_new_filter,
    an_agent_has_a_limit_of_connections,
    what_a_node_offers_is_kept_with_its_connections,
}

fn to(text: &str) -> Address {
    Address::parse(&Name::default_namespace(), text).expect("cases use valid addresses")
}

fn connection(at: &str, only: Option<&str>) -> Connection {
    Connection { to: to(at), only: only.map(|filter| filter.parse().expect("cases use valid filters")) }
}

fn set(from: &str, at: &str, only: Option<&str>) -> Op {
    let Connection { to, only } = connection(at, only);
    Op::Connect(Connect { from: name(from), to, change: ConnectionChange::Set(only) })
}

fn gone(from: &str, at: &str) -> Op {
    Op::Connect(Connect { from: name(from), to: to(at), change: ConnectionChange::Gone })
}

fn a_connection_is_there_until_it_is_taken_away<S: Subject>(world: &mut World<S>) {
    world.commit(set("main", "one", None));
    world.commit(set("main", "n1/two:k/2", Some("kind=plan")));
    world.commit(set("one", "main", None));
    let all = [
        (name("main"), connection("n1/two:k/2", Some("kind=plan"))),
        (name("main"), connection("one", None)),
        (name("one"), connection("main", None)),
    ];
    assert_eq!(world.subject.connections(), all);
    assert_eq!(world.one(gone("main", "one")), Outcome::Swept { rows: 1 });
    assert_eq!(world.one(gone("main", "one")), Outcome::Swept { rows: 0 });
    assert_eq!(world.one(gone("main", "two:k/2")), Outcome::Swept { rows: 0 });
    assert_eq!(world.subject.connections(), [all[0].clone(), all[2].clone()]);
}

fn a_connection_made_anew_has_the_new_filter<S: Subject>(world: &mut World<S>) {
    for only in [Some("urgent*"), None, Some("a=b")] {
        world.commit(set("main", "one", only));
        assert_eq!(world.subject.connections(), [(name("main"), connection("one", only))]);
    }
}

fn an_agent_has_a_limit_of_connections<S: Subject>(world: &mut World<S>) {
    for n in 0..CONNECTIONS_PER_AGENT_MAX {
        world.commit(set("main", &format!("a{n}"), None));
    }
    let what = "the connections of one agent";
    let (bytes, bytes_max) = (CONNECTIONS_PER_AGENT_MAX as u64 + 1, CONNECTIONS_PER_AGENT_MAX as u64);
    assert_eq!(world.refused(set("main", "more", None)), Refusal::TooLarge { what, bytes, bytes_max });
    // Neither one that is there already, nor another agent's.
    world.commit(set("main", "a0", Some("b=c")));
    world.commit(set("other", "more", None));
    assert_eq!(world.one(gone("main", "a1")), Outcome::Swept { rows: 1 });
    world.commit(set("main", "more", None));
}

fn what_a_node_offers_is_kept_with_its_connections<S: Subject>(world: &mut World<S>) {
    let connections = vec![connection("b", None), connection("a:1", Some("x*"))];
    let offer = Offer { layer: Some(name("L4")), connections, ..Offer::new(Placement::Pool, 3) };
    let offers = BTreeMap::from([(name("main"), offer), (name("plain"), Offer::new(Placement::Keyed, 1))]);
    let holder = world.join_offering("n1", offers.clone());
    assert_eq!(world.subject.node(holder.node).map(|row| row.offers), Some(offers));
    let again = world.join_offering("n1", BTreeMap::new());
    assert_eq!(world.subject.node(again.node).map(|row| row.offers), Some(BTreeMap::new()));
}
