//! Compiles the service; needs `protoc`.

fn main() -> std::io::Result<()> {
    tonic_prost_build::configure().bytes(".").compile_protos(&["proto/load.proto"], &["proto"])
}
