//! Cut, flipped, invented and hostile bytes, to the decoder and on to a machine: a refusal or a harmless value, never a
//! panic, and never more than the bounds.

use bytes::Bytes;
use pelago_core::membership::{NODES_MAX, Packet};
use pelago_wire::gossip::{NoPacket, PACKET_BYTES_MAX, decode, encode};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng as _, SeedableRng as _},
};

use crate::{
    body::{self, feed, machine, still_works},
    replay::{corpus, replay},
    samples::packets,
};

#[test]
fn the_corpus_of_gossip_is_harmless_and_so_is_damage_to_it() {
    replay("gossip", 4_000, body::check);
}

#[test]
fn the_corpus_is_refused_or_taken_as_its_files_say() {
    let files = corpus("gossip");
    for (name, bytes) in &files {
        let read = decode(Bytes::copy_from_slice(bytes));
        match name.split_once('_') {
            Some(("refused", _)) => assert!(read.is_err(), "{name}: {read:?}"),
            Some(("taken", _)) => assert!(read.is_ok(), "{name}: {read:?}"),
            // What fuzzing has found.
            _ => {}
        }
    }
    assert!(files.iter().filter(|(name, _)| name.starts_with("refused_")).count() >= 15);
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
