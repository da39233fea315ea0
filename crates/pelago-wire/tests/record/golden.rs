//! The bytes of each format, one file an op and an outcome.

use std::{collections::BTreeSet, fs, path::PathBuf};

use bytes::Bytes;
use pelago_core::record::Op;
use pelago_wire::record::{decode_batch, decode_entry, decode_outcomes, encode_batch, encode_entry, encode_outcomes};

use crate::samples;

const PREFIX: &str = "record_";
const BYTES_PER_LINE: usize = 32;

#[test]
fn ops_have_the_bytes_of_their_golden_files() {
    for (name, op) in all_ops() {
        check(&name, &encode_batch(std::slice::from_ref(&op)));
        assert_eq!(decode_batch(golden(&name)), Ok(vec![op]), "{name}");
    }
}

#[test]
fn outcomes_have_the_bytes_of_their_golden_files() {
    for (name, outcome) in samples::outcomes() {
        let name = format!("v1_outcome_{name}");
        check(&name, &encode_outcomes(std::slice::from_ref(&outcome)));
        assert_eq!(decode_outcomes(golden(&name)), Ok(vec![outcome]), "{name}");
    }
}

#[test]
fn entries_have_the_bytes_of_their_golden_files() {
    for (name, time, ops) in samples::entries() {
        let name = format!("v1_entry_{name}");
        check(&name, &encode_entry(time, &ops));
        assert_eq!(decode_entry(golden(&name)), Ok((time, ops)), "{name}");
    }
}

#[test]
fn every_kind_has_a_sample_and_every_file_a_test() {
    let ops: BTreeSet<_> = samples::ops().iter().map(|(_, op)| samples::kind_of_op(op)).collect();
    assert_eq!(ops, (0..samples::OP_KINDS).collect());
    let outcomes: BTreeSet<_> = samples::outcomes().iter().map(|(_, o)| samples::kind_of_outcome(o)).collect();
    assert_eq!(outcomes, (0..samples::OUTCOME_KINDS).collect());

    let op_names = all_ops().into_iter().map(|(name, _)| name);
    let outcome_names = samples::outcomes().into_iter().map(|(name, _)| format!("v1_outcome_{name}"));
    let entry_names = samples::entries().into_iter().map(|(name, ..)| format!("v1_entry_{name}"));
    let tested: BTreeSet<_> = op_names.chain(outcome_names).chain(entry_names).collect();
    if !blessing() {
        assert_eq!(files(), tested);
    }
}

/// Every op, by the name of its file: what the first format can say is written in it for ever.
fn all_ops() -> Vec<(String, Op)> {
    let of = |format: u8, ops: Vec<(&str, Op)>| {
        ops.into_iter().map(move |(name, op)| (format!("v{format}_op_{name}"), op)).collect::<Vec<_>>()
    };
    [of(1, samples::ops()), of(2, samples::ops_of_2())].concat()
}

/// Compares `bytes` with the golden file, or writes the file when told to.
fn check(name: &str, bytes: &[u8]) {
    if blessing() {
        fs::write(path(name), hex(bytes)).expect("a golden file can be written");
    }
    assert_eq!(hex(bytes), hex(&golden(name)), "the bytes of {name} changed: released formats stay as they are");
}

fn blessing() -> bool {
    std::env::var_os("PELAGO_BLESS").is_some_and(|value| value == "1")
}

fn path(name: &str) -> PathBuf {
    directory().join(format!("{PREFIX}{name}.hex"))
}

fn directory() -> PathBuf {
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the crate lies")).join("tests/golden")
}

fn files() -> BTreeSet<String> {
    let names = fs::read_dir(directory()).expect("the golden files are there").map(|file| {
        let name = file.expect("the golden files can be listed").file_name();
        name.into_string().expect("a golden file's name is text")
    });
    names.filter_map(|name| Some(name.strip_prefix(PREFIX)?.strip_suffix(".hex")?.to_owned())).collect()
}

fn golden(name: &str) -> Bytes {
    let path = path(name);
    let text = fs::read_to_string(&path)
        .unwrap_or_else(|e| panic!("the golden file {} is missing ({e}); PELAGO_BLESS=1 writes it", path.display()));
    let digits: Vec<_> = text.split_ascii_whitespace().collect::<String>().into_bytes();
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).expect("hexadecimal digits");
        u8::from_str_radix(pair, 16).expect("hexadecimal digits")
    };
    digits.chunks(2).map(byte).collect()
}

fn hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).chain(["\n".to_owned()]).collect::<String>();
    bytes.chunks(BYTES_PER_LINE).map(line).collect()
}
