//! One of each sort.

use std::collections::BTreeMap;

use bytes::Bytes;
use pelago_core::{
    id::Name,
    membership::{
        Codec as _, Header, Hosting, Identity, Load, Member, MemberState, Message, News, Packet, Record, Rumour, Stage,
    },
    record::Placement,
};
use pelago_wire::gossip::Protobuf;

use crate::body::identity;

pub(crate) fn headers() -> Vec<(&'static str, Header<Identity>)> {
    let messages = [
        ("ping", Message::Ping(7)),
        ("ack", Message::Ack(255)),
        ("ping_request", Message::PingReq { target: identity(3), probe_number: 1 }),
        ("indirect_ping", Message::IndirectPing { origin: identity(3), probe_number: 1 }),
        ("indirect_ack", Message::IndirectAck { target: identity(3), probe_number: 1 }),
        ("forwarded_ack", Message::ForwardedAck { origin: identity(3), probe_number: 1 }),
        ("announce", Message::Announce),
        ("feed", Message::Feed),
        ("gossip", Message::Gossip),
        ("turn_undead", Message::TurnUndead),
        ("broadcast", Message::Broadcast),
    ];
    let header = |message| Header { src: identity(1), src_incarnation: 4, dst: identity(2), message };
    messages.into_iter().map(|(name, message)| (name, header(message))).collect()
}

pub(crate) fn members() -> Vec<(&'static str, Member<Identity>)> {
    let states = [("alive", MemberState::Alive), ("suspect", MemberState::Suspect), ("down", MemberState::Down)];
    states.into_iter().map(|(name, state)| (name, Member::new(identity(3), 9, state))).collect()
}

pub(crate) fn rumours() -> Vec<(&'static str, Rumour)> {
    let about = identity(1).holder;
    let record =
        |stage| Record { stage, http_address: String::new(), labels: BTreeMap::new(), offers: BTreeMap::new() };
    let offers = [("here", Placement::Resident), ("echo", Placement::Pool), ("cart", Placement::Keyed)];
    let offers = offers.map(|(name, placement)| (Name::new(name).expect("valid"), Hosting { placement, tasks_max: 4 }));
    let full = Record {
        http_address: "127.0.0.1:8080".into(),
        labels: BTreeMap::from([("zone".into(), "west".into()), ("gpu".into(), "yes".into())]),
        offers: offers.into(),
        ..record(Stage::Up)
    };
    let load = Load {
        cpu: Some(1_000),
        memory: Some(0),
        network: Some(17),
        network_bytes: Some(1 << 40),
        queued: 3,
        messages: 250_000,
    };
    let news = [
        ("record_joining", News::Record(record(Stage::Joining))),
        ("record_up", News::Record(full)),
        ("record_draining", News::Record(record(Stage::Draining))),
        ("record_left", News::Record(record(Stage::Left))),
        ("load", News::Load(load)),
        ("load_unknown", News::Load(Load::default())),
    ];
    news.into_iter().map(|(name, news)| (name, Rumour { about, version: 3, news })).collect()
}

pub(crate) fn packets() -> Vec<(String, Packet)> {
    let swim = headers().into_iter().map(|(name, header)| {
        let mut swim = Vec::new();
        Protobuf.put_header(&header, &mut swim);
        if !matches!(header.message, Message::Announce | Message::TurnUndead | Message::Broadcast) {
            swim.extend([0, 1]);
            Protobuf.put_member(&members()[1].1, &mut swim);
        }
        (format!("swim_{name}"), Packet { swim: Bytes::from(swim), ..Packet::default() })
    });
    let members = members()
        .into_iter()
        .map(|(name, member)| (format!("member_{name}"), Packet { members: vec![member], ..Packet::default() }));
    let rumours = rumours()
        .into_iter()
        .map(|(name, rumour)| (name.to_owned(), Packet { rumours: vec![rumour], ..Packet::default() }));
    let answer = ("answer_wanted".to_owned(), Packet { answer: true, ..Packet::default() });
    swim.chain(members).chain(rumours).chain([answer]).collect()
}
