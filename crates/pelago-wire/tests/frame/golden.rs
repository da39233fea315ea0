//! The bytes of version 1 of the link protocol, one file a frame.

use std::{collections::BTreeSet, fs, path::PathBuf};

use pelago_wire::frame::Cutter;

use crate::samples::{connection, encode, frames};

const PREFIX: &str = "frame_v1_";

#[test]
fn frames_have_the_bytes_of_their_golden_files() {
    for (name, frame) in frames() {
        let bytes = hex(&encode(&frame));
        if blessing() {
            fs::write(path(&name), &bytes).expect("a golden file can be written");
        }
        assert_eq!(bytes, golden(&name), "the bytes of {name} changed: released formats stay as they are");
        let cut = Cutter::new().cut(&mut connection(&unhex(&bytes)));
        assert_eq!(cut, Ok(Some(frame)), "{name}");
    }
}

#[test]
fn every_golden_file_has_a_test() {
    let tested: BTreeSet<_> = frames().into_iter().map(|(name, _)| name).collect();
    if !blessing() {
        assert_eq!(files(), tested);
    }
}

fn blessing() -> bool {
    std::env::var_os("PELAGO_BLESS").is_some_and(|value| value == "1")
}

fn directory() -> PathBuf {
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the crate lies")).join("tests/golden")
}

fn path(name: &str) -> PathBuf {
    directory().join(format!("{PREFIX}{name}.hex"))
}

fn files() -> BTreeSet<String> {
    let files = fs::read_dir(directory()).expect("the golden files are there");
    let names = files.map(|file| file.expect("they can be listed").file_name().into_string().expect("a name is text"));
    names.filter_map(|name| Some(name.strip_prefix(PREFIX)?.strip_suffix(".hex")?.to_owned())).collect()
}

fn golden(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|e| panic!("{name} is missing ({e}); PELAGO_BLESS=1 writes it"))
}

fn hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).chain(["\n".to_owned()]).collect::<String>();
    bytes.chunks(20).map(line).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("digits"), 16).expect("digits");
    digits.chunks(2).map(byte).collect()
}
