//! `cargo xtask vm`: a whole host under guard, which is done in virtual machines alone, on the kernels that Debian has.
//!
//! Emulated: a job takes some 15 seconds, and needs no KVM. What the guest claims stands in tests/fixtures/vm/job.py.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::build;
use crate::prerequisites::{Purpose, install};
use crate::shell::{Result, as_root, ask, quietly, say};
use crate::workspace::Workspace;

/// The suites whose newest cloud kernels are booted when none is named: Linux 5.10, 6.1 and 6.12.
pub(crate) const SUITES: [&str; 3] = ["bullseye", "bookworm", "bookworm-backports"];

const KERNEL: &str = include_str!("kernel.sh");
const ROOT: &str = include_str!("root.sh");
pub(crate) const BOOT: &str = include_str!("boot.sh");

#[derive(Args)]
pub(crate) struct Options {
    /// Suites of Debian whose newest cloud kernels are booted
    #[arg(value_name = "SUITE", default_values = SUITES)]
    suites: Vec<String>,
    /// Arguments of the kernel, e.g. `lsm=landlock,lockdown,yama,integrity,apparmor,bpf`
    #[arg(long, value_name = "ARGUMENTS", default_value = "")]
    append: String,
}

/// Times that a machine may fail before its first claim: newer kernels sometimes do under emulation, before anything of
/// ours runs.
const BOOTS: u32 = 3;

/// The command: each suite's claims.
pub(crate) fn run(options: &Options) -> Result<()> {
    let workspace = Workspace::here()?;
    let binaries = build::binaries(&workspace, false)?;
    let mut broken = Vec::new();
    for suite in &options.suites {
        if let Err(message) = boot(&workspace, &binaries, suite, &options.append) {
            anstream::eprintln!("{message}");
            broken.push(suite.as_str());
        }
    }
    if broken.is_empty() { Ok(()) } else { Err(format!("not shown to hold: {}", broken.join(", "))) }
}

/// Boots one kernel and says what held. An error has the guest's words.
pub(crate) fn boot(workspace: &Workspace, binaries: &Path, suite: &str, append: &str) -> Result<()> {
    install(&[Purpose::Machine], workspace)?;
    let directory = workspace.target_directory.join("vm");
    fs::create_dir_all(&directory).map_err(|e| format!("creating {}: {e}", directory.display()))?;
    let kernel = kernel(&directory, suite)?;
    let image = image(&directory)?;
    let job = job(workspace, binaries, &directory)?;
    let version = fs::read_dir(kernel.join("lib/modules")).ok().and_then(|mut d| d.next()?.ok());
    let version = version.map(|entry| entry.file_name().to_string_lossy().into_owned()).unwrap_or_default();
    say(&format!("{suite}: Linux {version}, the root of cgroup v2 under guard"));
    let mut console = String::new();
    for again in 1..=BOOTS {
        let mut command = Command::new("bash");
        command
            .args(["-c", BOOT, "boot.sh"])
            .arg(&kernel)
            .arg(&image)
            .arg(&job)
            .args(append.split_whitespace());
        console = ask(&mut command);
        if console.lines().any(is_claim) {
            break;
        }
        say(&format!("  the machine did not get as far as a claim ({again} of {BOOTS})"));
    }
    let lines: Vec<&str> = console.lines().collect();
    let held = lines.iter().filter(|line| line.starts_with("held ")).count();
    if lines.contains(&"VM_RC=0") && held > 0 {
        say(&format!("  {held} claims hold"));
        return Ok(());
    }
    let Some(from) = lines.iter().position(|line| is_claim(line)) else {
        let words = lines.get(lines.len().saturating_sub(40)..).unwrap_or_default().join("\n");
        return Err(format!(
            "{suite} ({version}): nothing is known of the claims, the machine did not come up:\n{words}"
        ));
    };
    let words = lines.get(from..).unwrap_or_default().join("\n");
    Err(format!("{suite} ({version}): not all claims hold:\n{words}"))
}

/// What the guest says of one claim.
fn is_claim(line: &str) -> bool {
    line.starts_with("held ") || line.starts_with("broken ")
}

pub(crate) fn script(text: &str, name: &str) -> Command {
    let mut command = as_root("bash");
    command.args(["-c", text, name]);
    command
}

pub(crate) fn kernel(directory: &Path, suite: &str) -> Result<PathBuf> {
    let kernel = directory.join(suite);
    let done = kernel.join("complete");
    if !done.exists() {
        quietly(&format!("kernel of {suite}"), script(KERNEL, "kernel.sh").arg(&kernel).arg(suite))?;
        fs::write(&done, "").map_err(|e| format!("writing {}: {e}", done.display()))?;
    }
    Ok(kernel)
}

fn image(directory: &Path) -> Result<PathBuf> {
    let image = directory.join("root.ext4");
    if !image.exists() {
        quietly("root file system of the machine", script(ROOT, "root.sh").arg(&image))?;
    }
    Ok(image)
}

/// What the machine runs: the binaries without their debugging information, the configuration, the claims.
fn job(workspace: &Workspace, binaries: &Path, directory: &Path) -> Result<PathBuf> {
    let job = directory.join("job");
    let fixtures = workspace.workspace_root.join("tests/fixtures/vm");
    let fault = |what: &Path| {
        let what = what.to_owned();
        move |error: std::io::Error| format!("{}: {error}", what.display())
    };
    if job.exists() {
        fs::remove_dir_all(&job).map_err(fault(&job))?;
    }
    fs::create_dir_all(job.join("policy")).map_err(fault(&job))?;
    for (from, to) in [
        ("run", "run"),
        ("job.py", "job.py"),
        ("sluice.toml", "sluice.toml"),
        ("policy.cedar", "policy/host.cedar"),
    ] {
        fs::copy(fixtures.join(from), job.join(to)).map_err(fault(&fixtures.join(from)))?;
    }
    for name in ["sluice", "sluiced", "sluice-loader"] {
        let mut strip = Command::new("strip");
        quietly(&format!("strip {name}"), strip.arg(binaries.join(name)).arg("-o").arg(job.join(name)))?;
    }
    let object = binaries.join("sluice-ebpf.o");
    fs::copy(&object, job.join("sluice-ebpf.o")).map_err(fault(&object))?;
    Ok(job)
}
