//! Random values come back as they went; damaged bytes are refused or read as something else, and never panic.

use std::collections::BTreeSet;

use bytes::Bytes;
use pelago_core::record::{Op, Outcome};
use pelago_wire::record::{
    DecodeError, decode_batch, decode_entry, decode_outcomes, encode_batch, encode_entry, encode_outcomes,
};

use crate::{
    dice::Dice,
    samples::{self, OP_KINDS, OUTCOME_KINDS, kind_of_op, kind_of_outcome},
};

const SEEDS: u64 = 500;

#[test]
fn random_entries_come_back_as_they_went() {
    let mut kinds = BTreeSet::new();
    for seed in 0..SEEDS {
        let mut dice = Dice::new(seed);
        let time = dice.time();
        let ops: Vec<Op> = (0..dice.below(8)).map(|_| dice.op()).collect();
        kinds.extend(ops.iter().map(kind_of_op));
        assert_eq!(decode_entry(encode_entry(time, &ops)), Ok((time, ops)), "seed {seed}");
    }
    assert_eq!(kinds, (0..OP_KINDS).collect());
}

#[test]
fn random_outcomes_come_back_as_they_went() {
    let mut kinds = BTreeSet::new();
    for seed in 0..SEEDS {
        let mut dice = Dice::new(seed);
        let outcomes: Vec<Outcome> = (0..dice.below(8)).map(|_| dice.outcome()).collect();
        kinds.extend(outcomes.iter().map(kind_of_outcome));
        assert_eq!(decode_outcomes(encode_outcomes(&outcomes)), Ok(outcomes), "seed {seed}");
    }
    assert_eq!(kinds, (0..OUTCOME_KINDS).collect());
}

#[test]
fn payloads_are_slices_of_the_bytes_they_came_in() {
    let bytes = encode_batch(&samples::ops().into_iter().map(|(_, op)| op).collect::<Vec<_>>());
    let within = bytes.as_ptr_range();
    let ops = decode_batch(bytes.clone()).expect("whole bytes");
    let inputs = ops.iter().filter_map(|op| if let Op::Enqueue(op) = op { Some(&op.task.input) } else { None });
    let inputs: Vec<_> = inputs.filter(|input| !input.is_empty()).collect();
    assert!(!inputs.is_empty());
    assert!(inputs.iter().all(|input| within.contains(&input.as_ptr())));
}

#[test]
fn a_cut_entry_is_refused() {
    for (name, time, ops) in samples::entries() {
        let whole = encode_entry(time, &ops);
        for length in 0..whole.len() {
            let cut = decode_entry(whole.slice(..length));
            assert!(matches!(cut, Err(DecodeError::Malformed { .. })), "{name} cut to {length}: {cut:?}");
        }
    }
}

#[test]
fn a_cut_batch_is_refused_or_ends_with_a_whole_item() {
    let ops: Vec<Op> = samples::ops().into_iter().map(|(_, op)| op).collect();
    let whole = encode_batch(&ops);
    let mut read = 0;
    for length in 0..whole.len() {
        if let Ok(some) = decode_batch(whole.slice(..length)) {
            assert_eq!(some, ops[..some.len()]);
            read += 1;
        }
    }
    assert_eq!(read, ops.len(), "a batch can be cut only between its items");
}

#[test]
fn a_flipped_bit_never_panics() {
    let mut refused = 0;
    let mut flip_all = |whole: &Bytes, decode: &dyn Fn(Bytes) -> bool| {
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            refused += usize::from(!decode(bytes.into()));
        }
    };
    for (_, time, ops) in samples::entries() {
        flip_all(&encode_entry(time, &ops), &|bytes| decode_entry(bytes).is_ok());
    }
    for (_, outcome) in samples::outcomes() {
        flip_all(&encode_outcomes(&[outcome]), &|bytes| decode_outcomes(bytes).is_ok());
    }
    assert!(refused > 0, "some damage shows");
}

#[test]
fn random_damage_never_panics() {
    for seed in 0..SEEDS * 4 {
        let mut dice = Dice::new(seed);
        let mut bytes = encode_batch(&[dice.op(), dice.op()]).to_vec();
        for _ in 0..1 + dice.below(8) {
            let at = dice.below(bytes.len());
            bytes[at] = dice.below(256) as u8;
        }
        // What is read must be a value that can be written, and read again.
        if let Ok(ops) = decode_batch(bytes.into()) {
            assert_eq!(decode_batch(encode_batch(&ops)), Ok(ops), "seed {seed}");
        }
    }
}
