//! Compiles the .proto files; no protoc needed.
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let files = ["proto/common.proto", "proto/handover.proto", "proto/admin.proto", "proto/record.proto"];
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(files, ["proto"])?;
    let mut config = prost_build::Config::new();
    config.type_attribute(".", "#[derive(serde::Serialize, serde::Deserialize)]");
    // lines of an index that an older version wrote lack the newer fields
    config.message_attribute(".", "#[serde(default)]");
    config.compile_fds(descriptors)?;
    Ok(())
}
