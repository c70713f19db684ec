//! Generates the messages and services of `proto/`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tonic_prost_build::configure()
        .compile_protos(&["proto/csi.proto", "proto/pluginregistration.proto"], &["proto"])?;
    Ok(())
}
