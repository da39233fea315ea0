//! Cut, flipped, invented and hostile bytes, to the decoder and on to a machine: a refusal or a harmless value, never a
//! panic, and never more than the bounds.

use std::{fs, path::PathBuf, sync::Arc};

use bytes::Bytes;
use pelago_core::{
    id::Name,
    membership::{Effect, Input, Member, Membership, NODES_MAX, Packet, Profile, Record, Stage},
    time::Time,
};
use pelago_wire::gossip::{NoPacket, PACKET_BYTES_MAX, Protobuf, decode, encode};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng as _, SeedableRng as _},
};

use crate::{
    golden::unhex,
    samples::{identity, packets},
};

#[test]
fn the_corpus_is_refused_or_taken_as_its_files_say() {
    let mut machine = machine();
    let mut files: Vec<PathBuf> = fs::read_dir(directory())
        .expect("the corpus is there")
        .map(|file| file.expect("it can be listed").path())
        .collect();
    files.sort();
    assert!(files.len() >= 15, "{files:?}");
    for file in files {
        let name = file.file_name().and_then(|name| name.to_str()).expect("a name is text").to_owned();
        let bytes = unhex(&fs::read_to_string(&file).expect("it can be read"));
        let read = decode(bytes.clone());
        match name.split_once('_') {
            Some(("refused", _)) => assert!(read.is_err(), "{name}: {read:?}"),
            Some(("taken", _)) => assert!(read.is_ok(), "{name}: {read:?}"),
            _ => panic!("{name} says neither refused nor taken"),
        }
        feed(&mut machine, bytes);
    }
    still_works(&mut machine);
}

#[test]
fn a_packet_that_is_cut_anywhere_is_refused_or_another_packet() {
    let mut machine = machine();
    for (name, packet) in packets() {
        let whole = encode(&packet);
        for length in 0..whole.len() {
            let cut = whole.slice(..length);
            assert_ne!(decode(cut.clone()), Ok(packet.clone()), "{name} cut at {length}");
            feed(&mut machine, cut);
        }
    }
    still_works(&mut machine);
}

#[test]
fn a_flipped_bit_or_an_invented_byte_never_panics() {
    let mut machine = machine();
    let mut dice = ChaCha8Rng::seed_from_u64(1);
    let mut refused = 0;
    for (_, packet) in packets() {
        let whole = encode(&packet).to_vec();
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            refused += u32::from(decode(Bytes::from(flipped.clone())).is_err());
            feed(&mut machine, Bytes::from(flipped));
        }
        for _ in 0..200 {
            let mut damaged = whole.clone();
            for _ in 0..=dice.next_u32() % 6 {
                let at = dice.next_u32() as usize % damaged.len();
                damaged[at] = dice.next_u32() as u8;
            }
            feed(&mut machine, Bytes::from(damaged));
        }
    }
    assert!(refused > 0, "some damage shows");
    still_works(&mut machine);
}

#[test]
fn damaged_swim_within_a_whole_packet_never_panics() {
    let mut machine = machine();
    let mut dice = ChaCha8Rng::seed_from_u64(2);
    for (_, packet) in packets().into_iter().filter(|(_, packet)| !packet.swim.is_empty()) {
        for _ in 0..2_000 {
            let mut swim = packet.swim.to_vec();
            match dice.next_u32() % 3 {
                0 => swim.truncate(dice.next_u32() as usize % swim.len()),
                1 => swim.extend((0..dice.next_u32() % 9).map(|byte| byte as u8)),
                _ => {}
            }
            for _ in 0..dice.next_u32() % 4 {
                if let Some(at) = (dice.next_u32() as usize).checked_rem(swim.len()) {
                    swim[at] = dice.next_u32() as u8;
                }
            }
            feed(&mut machine, encode(&Packet { swim: Bytes::from(swim), ..Packet::default() }));
        }
    }
    assert!(machine.nodes().count() <= NODES_MAX + 500);
    still_works(&mut machine);
}

#[test]
fn what_is_larger_than_any_node_writes_is_refused_unread() {
    let large = Bytes::from(vec![0; PACKET_BYTES_MAX + 1]);
    assert_eq!(decode(large), Err(NoPacket::TooLarge { bytes: PACKET_BYTES_MAX + 1 }));
}

fn machine() -> Membership {
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
fn feed(machine: &mut Membership, bytes: Bytes) {
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
fn still_works(machine: &mut Membership) {
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

fn directory() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the crate lies");
    PathBuf::from(here).join("tests/corpus/gossip")
}
