//! `cargo xtask fuzz`: builds the targets of tests/fuzz with coverage instrumentation and runs each for a while.
//!
//! libFuzzer comes as source with the crate libfuzzer-sys and is built by the C++ compiler at hand; the
//! instrumentation is LLVM's, switched on by stable code-generation options. No nightly and no cargo-fuzz is needed.

use std::path::{Path, PathBuf};
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

/// Longer inputs find nothing that shorter ones do not.
const MAX_LEN: &str = "-max_len=4096";
const MEMORY: &str = "-rss_limit_mb=2048";

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
    let binaries = build(root)?;
    let mut failed = Vec::new();
    for pair in picked(only)?.chunks(2) {
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

/// Puts what was found since into the repository: of each corpus the inputs that take branches which no other takes.
///
/// # Errors
/// In words, when the targets could not be built or started.
pub(crate) fn keep(root: &Path, only: Option<&str>) -> Result<(), String> {
    let binaries = build(root)?;
    let least = root.join("target/fuzz/least");
    for target in picked(only)? {
        let grown = corpus(root, target)?;
        let kept = least.join(target);
        let _ = std::fs::remove_dir_all(&kept);
        std::fs::create_dir_all(&kept).map_err(|e| format!("creating {} failed: {e}", kept.display()))?;
        let mut merge = Command::new(binaries.join(target));
        merge.args(["-merge=1", MAX_LEN, MEMORY]).args([&kept, &grown]).args(seeds(root, target));
        succeed(merge.stdout(Stdio::null()).stderr(Stdio::null()), &format!("{target} -merge"))?;
        let archive = archive(root, target);
        let mut pack = Command::new("tar");
        pack.args(["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "-czf"]).arg(&archive);
        succeed(pack.arg("-C").arg(&least).arg(target), "tar")?;
        let bytes = std::fs::metadata(&archive).map_or(0, |metadata| metadata.len());
        println!("fuzz {target}: {bytes} bytes kept in {}", archive.display());
    }
    Ok(())
}

fn picked(only: Option<&str>) -> Result<Vec<&'static str>, String> {
    let picked: Vec<_> = TARGETS.iter().copied().filter(|t| only.is_none_or(|o| o == *t)).collect();
    if picked.is_empty() {
        return Err(format!("there is no such target; there are {}", TARGETS.join(", ")));
    }
    Ok(picked)
}

/// The directory with the binaries.
fn build(root: &Path) -> Result<PathBuf, String> {
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
    Ok(out.join(host()?).join("release"))
}

/// What was found so far: what the repository keeps, and everything since.
fn corpus(root: &Path, target: &str) -> Result<PathBuf, String> {
    let all = root.join("target/fuzz/corpus");
    let grown = all.join(target);
    std::fs::create_dir_all(&grown).map_err(|e| format!("creating {} failed: {e}", grown.display()))?;
    let archive = archive(root, target);
    if archive.exists() {
        let mut unpack = Command::new("tar");
        succeed(unpack.arg("-xzf").arg(&archive).arg("-C").arg(&all), "tar")?;
    }
    Ok(grown)
}

fn archive(root: &Path, target: &str) -> PathBuf {
    root.join("tests/fuzz/corpus").join(target).with_extension("tgz")
}

fn seeds(root: &Path, target: &str) -> Option<PathBuf> {
    Some(root.join("tests/fuzz/seeds").join(target)).filter(|seeds| seeds.is_dir())
}

fn succeed(command: &mut Command, what: &str) -> Result<(), String> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{what} failed: {status}")),
        Err(error) => Err(format!("{what} could not be started: {error}")),
    }
}

fn start(
    root: &Path,
    binaries: &Path,
    target: &str,
    seconds: u32,
) -> Result<(std::process::Child, PathBuf), String> {
    let grown = corpus(root, target)?;
    let artifacts = root.join("target/fuzz/artifacts").join(target);
    std::fs::create_dir_all(&artifacts)
        .map_err(|e| format!("creating {} failed: {e}", artifacts.display()))?;
    let log = artifacts.join("log");
    let file = std::fs::File::create(&log).map_err(|e| format!("creating {} failed: {e}", log.display()))?;
    let mut command = Command::new(binaries.join(target));
    command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args([MEMORY, "-timeout=10", MAX_LEN])
        .arg(&grown)
        .args(seeds(root, target));
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
