//! The bytes of version 1 of gossip, one file a packet.

use std::{collections::BTreeSet, fs, path::PathBuf};

use bytes::Bytes;
use pelago_core::membership::Codec as _;
use pelago_wire::gossip::{Protobuf, decode, encode};

use crate::samples::{headers, members, packets};

const PREFIX: &str = "gossip_v1_";

#[test]
fn packets_have_the_bytes_of_their_golden_files() {
    for (name, packet) in packets() {
        let bytes = hex(&encode(&packet));
        if blessing() {
            fs::write(path(&name), &bytes).expect("a golden file can be written");
        }
        assert_eq!(bytes, golden(&name), "the bytes of {name} changed: released formats stay as they are");
        assert_eq!(decode(unhex(&bytes)), Ok(packet), "{name}");
    }
}

#[test]
fn every_golden_file_has_a_test() {
    let tested: BTreeSet<_> = packets().into_iter().map(|(name, _)| name).collect();
    if !blessing() {
        assert_eq!(files(), tested);
    }
}

#[test]
fn heads_and_members_come_back_as_they_went_and_leave_what_follows() {
    for (name, header) in headers() {
        let mut bytes = Vec::new();
        Protobuf.put_header(&header, &mut bytes);
        bytes.extend(b"rest");
        let mut left = bytes.as_slice();
        assert_eq!(Protobuf.header(&mut left), Ok(header), "{name}");
        assert_eq!(left, b"rest");
    }
    for (name, member) in members() {
        let mut bytes = Vec::new();
        Protobuf.put_member(&member, &mut bytes);
        bytes.extend(b"rest");
        let mut left = bytes.as_slice();
        assert_eq!(Protobuf.member(&mut left), Ok(member), "{name}");
        assert_eq!(left, b"rest");
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
    bytes.chunks(32).map(line).collect()
}

fn unhex(text: &str) -> Bytes {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("digits"), 16).expect("digits");
    digits.chunks(2).map(byte).collect()
}
