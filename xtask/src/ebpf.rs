//! The kernel programs: another target, another compiler, beside the workspace.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::shell::{Result, quietly};
use crate::workspace::{Workspace, cargo};

/// Debian's compiler of the package rustc-web, whose standard library comes as source (rust-web-src): rustup's stable
/// has none that `-Zbuild-std` would take, and a nightly would be a second toolchain to keep.
const RUSTC: &str = "/usr/bin/rustc";

const TARGET: &str = "bpfel-unknown-none";

/// Flags of the compiler, and why.
const FLAGS: [&str; 4] = [
    // aya-ebpf chooses the layout of pt_regs by it
    "--cfg=bpf_target_arch=\"x86_64\"",
    // types of maps and functions, which the kernel and `bpftool` show
    "-Cdebuginfo=2",
    "-Clink-arg=--btf",
    // an expanded memcpy reads backwards and in odd sizes, which the verifier refuses for contexts
    "-Clink-arg=--disable-expand-memcpy-in-order",
];

/// What the loader looks for beside its own binary.
const OBJECT: &str = "sluice-ebpf.o";

/// Builds the programs and puts them into `beside`.
pub(crate) fn build(workspace: &Workspace, beside: &Path) -> Result<()> {
    let target = workspace.target_directory.join("ebpf");
    let path = std::env::var("PATH").unwrap_or_default();
    // `cargo install` puts bpf-linker where PATH may not lead yet
    let tools = format!("{}/.cargo/bin", std::env::var("HOME").unwrap_or_default());
    let mut command = Command::new(cargo());
    command
        .args(["build", "--release", "--locked", "--target", TARGET, "-Zbuild-std=core"])
        .current_dir(workspace.workspace_root.join("agent-ebpf"))
        .env("PATH", format!("{path}:{tools}"))
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTC", RUSTC)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"))
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTUP_TOOLCHAIN");
    quietly("kernel programs", &mut command)?;
    let built = target.join(TARGET).join("release/sluice-ebpf");
    let object = beside.join(OBJECT);
    fs::create_dir_all(beside).map_err(|e| format!("creating {}: {e}", beside.display()))?;
    fs::copy(&built, &object)
        .map(drop)
        .map_err(|e| format!("copying {} to {}: {e}", built.display(), object.display()))
}
