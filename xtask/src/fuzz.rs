//! `cargo xtask fuzz`: builds the targets of tests/fuzz with coverage instrumentation and runs each for a while.
//!
//! libFuzzer comes as source with the crate libfuzzer-sys and is built by the C++ compiler at hand; the
//! instrumentation is LLVM's, switched on by stable code-generation options. No nightly and no cargo-fuzz is needed.

use std::path::Path;
use std::process::{Command, Stdio};

/// What LLVM needs to be told so that libFuzzer sees which branches an input took.
const INSTRUMENTATION: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];

/// The targets, as in tests/fuzz/Cargo.toml.
pub(crate) const TARGETS: &[&str] = &[
    "startup",
    "frontend",
    "backend",
    "sql",
    "recording",
    "config",
    "messages",
    "masking",
    "detect",
    "command",
    "sftp",
    "scp",
];

/// Runs every target for `seconds`, two at a time; the names of those that failed.
///
/// # Errors
/// In words, when the targets could not be built or started.
pub(crate) fn run(root: &Path, seconds: u32, only: Option<&str>) -> Result<Vec<&'static str>, String> {
    let out = root.join("target/fuzz");
    let status = Command::new("cargo")
        .args(["build", "--release", "--quiet", "--target", &host()?, "--manifest-path"])
        .arg(root.join("tests/fuzz/Cargo.toml"))
        .arg("--target-dir")
        .arg(&out)
        // an explicit --target keeps build scripts and macros free of the instrumentation
        .env("CARGO_ENCODED_RUSTFLAGS", INSTRUMENTATION.join("\u{1f}"))
        .status()
        .map_err(|e| format!("cargo could not be started: {e}"))?;
    if !status.success() {
        return Err("the fuzz targets do not build".into());
    }
    let binaries = out.join(host()?).join("release");
    let picked: Vec<_> = TARGETS.iter().copied().filter(|t| only.is_none_or(|o| o == *t)).collect();
    if picked.is_empty() {
        return Err(format!("there is no such target; there are {}", TARGETS.join(", ")));
    }
    let mut failed = Vec::new();
    for pair in picked.chunks(2) {
        let mut running = Vec::new();
        for target in pair {
            running.push((*target, start(root, &binaries, target, seconds)?));
        }
        for (target, (mut child, log)) in running {
            let status = child.wait().map_err(|e| format!("waiting for {target} failed: {e}"))?;
            if status.success() {
                println!("fuzz {target}: {seconds} s without a crash");
            } else {
                let text = std::fs::read_to_string(&log).unwrap_or_default();
                eprintln!("fuzz {target} failed, see {}:\n{}", log.display(), tail(&text, 30));
                failed.push(target);
            }
        }
    }
    Ok(failed)
}

fn start(
    root: &Path,
    binaries: &Path,
    target: &str,
    seconds: u32,
) -> Result<(std::process::Child, std::path::PathBuf), String> {
    let grown = root.join("target/fuzz/corpus").join(target);
    let artifacts = root.join("target/fuzz/artifacts").join(target);
    for dir in [&grown, &artifacts] {
        std::fs::create_dir_all(dir).map_err(|e| format!("creating {} failed: {e}", dir.display()))?;
    }
    let log = artifacts.join("log");
    let file = std::fs::File::create(&log).map_err(|e| format!("creating {} failed: {e}", log.display()))?;
    let mut command = Command::new(binaries.join(target));
    command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args(["-rss_limit_mb=2048", "-timeout=10", "-max_len=4096"])
        .arg(&grown);
    let seeds = root.join("tests/fuzz/seeds").join(target);
    if seeds.is_dir() {
        command.arg(seeds);
    }
    let child = command
        .stdout(Stdio::null())
        .stderr(file)
        .spawn()
        .map_err(|e| format!("{target} could not be started: {e}"))?;
    Ok((child, log))
}

fn host() -> Result<String, String> {
    let output =
        Command::new("rustc").arg("-vV").output().map_err(|e| format!("rustc could not be started: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|l| l.strip_prefix("host: "));
    line.map(str::to_owned).ok_or_else(|| "rustc -vV names no host".to_owned())
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}
