//! One frame of each sort.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pelago_core::{
    id::{BootId, Incarnation, MeshId, Name, NodeId},
    link::{
        Control, Goodbye, Hello, LANE_BYTES_MIN, Lane, NoReply, PerLane, Refusal, RequestId, Role, Settled, Versions,
    },
};
use pelago_wire::frame::{Form, Frame, HEADER_BYTES, PREFACE, charge_of, put_control, put_data, put_no_reply};

pub(crate) fn frames() -> Vec<(String, Frame)> {
    let named = |(name, frame): (&str, Frame)| (name.to_owned(), frame);
    let plain = plain().into_iter().map(named);
    let refusals = refusals()
        .into_iter()
        .map(|(name, refusal)| (format!("refuse_{name}"), Frame::Control(Control::Refuse(refusal))));
    plain.chain(refusals).collect()
}

fn plain() -> Vec<(&'static str, Frame)> {
    let id = RequestId(0x0102_0304_0506_0708);
    let control = Frame::Control;
    vec![
        ("hello", control(Control::Hello(Box::new(hello())))),
        ("hello_joining", control(Control::Hello(Box::new(joining())))),
        ("goodbye_stopping", control(Control::Goodbye(Goodbye::Stopping))),
        ("goodbye_replaced", control(Control::Goodbye(Goodbye::Replaced))),
        ("goodbye_broken", control(Control::Goodbye(Goodbye::Broken))),
        ("ping", control(Control::Ping(7))),
        ("pong", control(Control::Pong(7))),
        ("credit", control(Control::Credit { lane: Lane::Bulk, bytes: 524_288 })),
        ("settled", control(Control::Settled { lane: Lane::Bulk, settled: settled() })),
        ("cancel", control(Control::Cancel { lane: Lane::Requests, request: id })),
        ("one_way", data(Lane::Bulk, Form::OneWay { number: 0 }, 0x0203, b"payload")),
        ("one_way_numbered", data(Lane::Requests, Form::OneWay { number: 0x0102_0304 }, 0x0081, b"payload")),
        ("one_way_empty", data(Lane::Control, Form::OneWay { number: 0 }, 1, b"")),
        ("request", data(Lane::Requests, Form::Request { id, wait: Duration::from_millis(1_500) }, 2, b"question")),
        ("reply", data(Lane::Requests, Form::Reply(id), 0, b"answer")),
        ("no_reply_dropped", Frame::NoReply { lane: Lane::Bulk, request: id, why: NoReply::Dropped }),
        ("no_reply_busy", Frame::NoReply { lane: Lane::Bulk, request: id, why: NoReply::Busy }),
        ("no_reply_unknown_kind", Frame::NoReply { lane: Lane::Bulk, request: id, why: NoReply::UnknownKind }),
    ]
}

fn settled() -> Settled {
    Settled { number: 0x0102_0304, before: 5, bytes: 6_000, handled: 7, lost: 8 }
}

fn refusals() -> Vec<(&'static str, Refusal)> {
    vec![
        ("other_mesh", Refusal::OtherMesh { mesh_name: name("prod") }),
        ("same_node", Refusal::SameNode),
        ("name_taken", Refusal::NameTaken { name: name("n1") }),
        ("unknown_version", Refusal::UnknownVersion { oldest: 1, newest: 3 }),
        ("too_many_links", Refusal::TooManyLinks { links_max: 256 }),
        ("duplicate", Refusal::Duplicate { here: name("n1"), there: name("n2") }),
        ("old_run", Refusal::OldRun { at: String::new() }),
        ("old_run_at", Refusal::OldRun { at: "127.0.0.1:50052".into() }),
        ("removed", Refusal::Removed),
        ("running", Refusal::Running),
        ("stopping", Refusal::Stopping),
        ("too_little_credit", Refusal::TooLittleCredit),
        ("not_the_protocol", Refusal::NotTheProtocol),
    ]
}

fn data(lane: Lane, form: Form, kind: u16, payload: &'static [u8]) -> Frame {
    let bytes = charge_of(form, u32::try_from(payload.len()).expect("a sample is small"));
    Frame::Data { lane, form, kind, payload: Bytes::from_static(payload), bytes }
}

pub(crate) fn hello() -> Hello {
    Hello {
        versions: Versions { oldest: 1, newest: 2 },
        mesh: Some(MeshId(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff)),
        mesh_name: name("prod.ml"),
        node_name: name("n1"),
        node: NodeId(12),
        boot: BootId(u128::MAX - 1),
        incarnation: Incarnation(345),
        role: Role::Consensus,
        features: 0b101,
        credit: PerLane([LANE_BYTES_MIN, LANE_BYTES_MIN + 1, LANE_BYTES_MIN + 2]),
        requests_max: 65_536,
    }
}

fn joining() -> Hello {
    Hello { mesh: None, node: NodeId(0), incarnation: Incarnation(0), role: Role::Client, features: 0, ..hello() }
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a sample's name is valid")
}

pub(crate) fn encode(frame: &Frame) -> BytesMut {
    let mut bytes = BytesMut::new();
    match frame {
        Frame::Data { lane, form, kind, payload, .. } => put_data(&mut bytes, *lane, *form, *kind, payload),
        Frame::Control(control) => put_control(&mut bytes, control),
        Frame::NoReply { lane, request, why } => put_no_reply(&mut bytes, *lane, *request, *why),
    }
    assert!(bytes.len() >= HEADER_BYTES as usize);
    bytes
}

/// The start of a connection whose first frame is `frame`.
pub(crate) fn connection(frame: &[u8]) -> BytesMut {
    let mut bytes = BytesMut::from(&PREFACE[..]);
    bytes.extend_from_slice(frame);
    bytes
}
