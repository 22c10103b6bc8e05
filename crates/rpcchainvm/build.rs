//! Makes the stubs from the `.proto` files beside it.

use std::path::Path;

const PROTOS: &[&str] = &[
    "appsender/appsender.proto",
    "grpc/health/v1/health.proto",
    "http/http.proto",
    "http/responsewriter/responsewriter.proto",
    "io/prometheus/client/metrics.proto",
    "io/reader/reader.proto",
    "net/conn/conn.proto",
    "rpcdb/rpcdb.proto",
    "validatorstate/validator_state.proto",
    "vm/runtime/runtime.proto",
    "vm/vm.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Path::new("proto");
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(PROTOS, [folder])?;
    tonic_prost_build::configure()
        .bytes(".")
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)?;
    Ok(())
}
