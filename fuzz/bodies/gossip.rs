//! Packets of gossip, over any bytes, to the decoder and on to a machine: a refusal or a harmless value; never a panic,
//! and never more than the bounds.

use std::sync::Arc;

use bytes::Bytes;
use pelago_core::{
    id::{Holder, Incarnation, Name, NodeId},
    membership::{Effect, Identity, Input, Member, Membership, NODES_MAX, Packet, Profile, Record, Stage},
    time::Time,
};
use pelago_wire::gossip::{Protobuf, decode, encode};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng as _};

pub(crate) fn check(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let mut machine = machine();
    if let Ok(packet) = decode(bytes.clone()) {
        assert_eq!(decode(encode(&packet)), Ok(packet), "what is read cannot be written");
    }
    feed(&mut machine, bytes.clone());
    // The same as the packet of SWIM within one that is whole.
    feed(&mut machine, encode(&Packet { swim: bytes, ..Packet::default() }));
    assert!(machine.nodes().count() <= NODES_MAX + 500, "{} nodes", machine.nodes().count());
    still_works(&mut machine);
}

pub(crate) fn machine() -> Membership {
    let record = Record {
        stage: Stage::Up,
        http_address: String::new(),
        labels: Default::default(),
        offers: Default::default(),
    };
    let dice = Box::new(ChaCha8Rng::seed_from_u64(3));
    Membership::new(Time::ZERO, identity(2), record, Profile::Lan.config(), Arc::new(Protobuf), dice)
}

/// What a link brings, as the node treats it; and what follows for the time after.
pub(crate) fn feed(machine: &mut Membership, bytes: Bytes) {
    let mut effects = Vec::new();
    if let Ok(packet) = decode(bytes) {
        let from = Name::new("node-1").expect("valid");
        machine.handle(Time::ZERO, Input::Packet { from, packet }, &mut effects);
    }
    for effect in effects {
        if let Effect::Send { packet, .. } = effect {
            assert_eq!(decode(encode(&packet)), Ok(packet), "what is written is read");
        }
    }
}

/// A newcomer is seen, and what is due is done.
pub(crate) fn still_works(machine: &mut Membership) {
    let (packet, from) = (
        Packet { members: vec![Member::alive(identity(7))], ..Packet::default() },
        Name::new("node-7").expect("valid"),
    );
    let mut effects = Vec::new();
    machine.handle(Time::ZERO, Input::Packet { from, packet }, &mut effects);
    for _ in 0..200 {
        let Some(deadline) = machine.deadline() else { break };
        machine.expire(deadline, &mut effects);
    }
    assert!(machine.nodes().any(|node| node.identity.name.as_str() == "node-7"), "{machine:?}");
}

/// A node as it tells of itself.
pub(crate) fn identity(node: u64) -> Identity {
    let holder = Holder { node: NodeId(node), incarnation: Incarnation(node + 100) };
    let name = Name::new(&format!("node-{node}")).expect("valid");
    Identity { holder, renewal: 2, name, mesh_address: format!("127.0.0.1:5005{node}") }
}
