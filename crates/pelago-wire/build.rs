//! Compiles the protobuf schema without a system `protoc`.

use std::{
    error::Error,
    io::{self, Write},
};

const DIRECTORY: &str = "../../proto";
/// What messages of several of those files have as a field: generated once.
const SHARED: &str = "../../proto/pelago/message/v1/message.proto";
const FILES: [&str; 6] = [
    "../../proto/pelago/client/v1/client.proto",
    "../../proto/pelago/gossip/v1/gossip.proto",
    "../../proto/pelago/link/v1/link.proto",
    "../../proto/pelago/mesh/v1/mesh.proto",
    "../../proto/pelago/raft/v1/raft.proto",
    "../../proto/pelago/record/v1/record.proto",
];
/// Messages that `record::list` writes and reads by hand. Tests compare what it does with what is generated.
const BY_HAND: [&str; 3] = [".pelago.record.v1.Entry", ".pelago.record.v1.Batch", ".pelago.record.v1.Outcomes"];

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES.into_iter().chain([SHARED]) {
        writeln!(io::stdout(), "cargo::rerun-if-changed={file}")?;
    }
    let schema = protox::compile(FILES, [DIRECTORY])?;
    prost_build::Config::new().bytes(["."]).compile_fds(protox::compile([SHARED], [DIRECTORY])?)?;
    let mut config = prost_build::Config::new();
    for message in BY_HAND {
        config.message_attribute(message, "#[cfg(test)]");
    }
    config
        // Payloads are slices of the buffer they came in.
        .bytes(["."])
        // A value always has the same bytes, whatever the order of a hash map.
        .btree_map(["."])
        .extern_path(".pelago.message.v1", "crate::headers::proto")
        .compile_fds(schema)?;
    Ok(())
}
