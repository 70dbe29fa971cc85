//! `cargo xtask vm --tests`: end-to-end tests as they are, on another kernel.
//!
//! The guest is a Debian 12 with the servers and clients of the tests, which get their binaries and the cache of the demo
//! from the job's disk. It is emulated: everything that waits for a state waits longer (`SLUICE_PATIENCE`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::Found;
use crate::prerequisites::{self, Purpose};
use crate::shell::{Result, ask, quietly, say};
use crate::workspace::{Workspace, cargo};

/// The test programs whose outcome hangs on the kernel.
const PROGRAMS: &[&str] = &["kernel", "roads", "ingress", "life", "lineage"];

const RUN: &str = include_str!("suite.sh");

/// Seconds until the guest is given up.
const PATIENCE: u32 = 14_400;

/// What is run: test programs, and of them the tests whose names have this part.
pub(super) struct Choice<'a> {
    pub(super) program: Option<&'a str>,
    pub(super) part: &'a str,
}

/// Runs the tests on one kernel; each is a row of what was found.
pub(super) fn run(
    workspace: &Workspace,
    binaries: &Path,
    suite: &str,
    arguments: &str,
    choice: &Choice<'_>,
) -> Result<Found> {
    let directory = workspace.target_directory.join("vm");
    let kernel = super::kernel(&directory, suite)?;
    let packages = prerequisites::of_debian(&[Purpose::World, Purpose::Test]);
    // what only other suites use, and is large
    let packages: Vec<_> =
        packages.into_iter().filter(|name| !["default-jdk-headless", "npm", "g++"].contains(name)).collect();
    let image = super::image(&directory, &packages)?;
    let version = super::version(&kernel);
    say(&format!("{suite}: Linux {version}, end-to-end tests, {arguments}"));
    let job = job(workspace, binaries, &directory, &kernel, choice)?;
    let mut boot = Command::new("bash");
    boot.args(["-c", super::BOOT, "boot.sh"]).arg(&kernel).arg(&image).arg(&job);
    boot.args(arguments.split_whitespace());
    boot.env("PATIENCE", PATIENCE.to_string()).env("MEMORY", "4096");
    // it takes long: whoever waits may look
    let log = directory.join(format!("tests-{version}.log"));
    say(&format!("  console: {}", log.display()));
    let console = fs::File::create(&log).map_err(|e| format!("{}: {e}", log.display()))?;
    boot.stdin(Stdio::null()).stderr(Stdio::null()).stdout(console);
    boot.status().map_err(|e| format!("bash could not be started: {e}"))?;
    let console = fs::read(&log).map_err(|e| format!("{}: {e}", log.display()))?;
    let console = String::from_utf8_lossy(&console);
    let rows = super::told(&console, "row\t");
    for (name, outcome) in &rows {
        say(&format!("  {outcome:<7} {name}"));
    }
    let ended = console.lines().any(|line| line.starts_with("VM_RC="));
    let failed = rows.iter().filter(|(_, outcome)| outcome != "passed").count();
    if !ended || rows.is_empty() || failed > 0 {
        return Err(format!(
            "{suite} ({version}): {failed} tests failed of {}: {}",
            rows.len(),
            log.display()
        ));
    }
    Ok(Found { version, rows, costs: Vec::new() })
}

/// A line of `cargo build --message-format json`.
#[derive(Deserialize)]
struct Artifact {
    #[serde(default)]
    executable: Option<PathBuf>,
    #[serde(default)]
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// What the guest runs: test programs where cargo would have put them, as small as they get.
fn job(
    workspace: &Workspace,
    binaries: &Path,
    directory: &Path,
    kernel: &Path,
    choice: &Choice<'_>,
) -> Result<PathBuf> {
    let job = directory.join("tests");
    let fault = |what: &Path, error: std::io::Error| format!("{}: {error}", what.display());
    if job.exists() {
        fs::remove_dir_all(&job).map_err(|e| fault(&job, e))?;
    }
    let deps = job.join("target/debug/deps");
    let cache = job.join("target/demo/cache");
    for made in [&deps, &cache] {
        fs::create_dir_all(made).map_err(|e| fault(made, e))?;
    }
    let strip = |from: &Path, to: &Path| {
        quietly(&format!("strip {}", from.display()), Command::new("strip").arg(from).arg("-o").arg(to))
    };
    for name in ["sluice", "sluiced", "sluice-loader"] {
        strip(&binaries.join(name), &job.join("target/debug").join(name))?;
    }
    let object = binaries.join("sluice-ebpf.o");
    fs::copy(&object, job.join("target/debug/sluice-ebpf.o")).map_err(|e| fault(&object, e))?;
    for (name, program) in programs(workspace, choice.program)? {
        strip(&program, &deps.join(name))?;
    }
    for part in fs::read_dir(workspace.cache()).map_err(|e| fault(&workspace.cache(), e))?.flatten() {
        let name = part.file_name();
        let name = name.to_string_lossy();
        if name == "provider" || name.starts_with("shop-") {
            copy(&part.path(), &cache)?;
        }
    }
    let modules = kernel.join("lib/modules");
    quietly("kernel modules", Command::new("cp").arg("-a").arg(&modules).arg(job.join("lib-modules")))?;
    let run = job.join("run");
    fs::write(&run, RUN.replace("@PART@", choice.part)).map_err(|e| fault(&run, e))?;
    quietly("chmod", Command::new("chmod").arg("755").arg(&run))?;
    Ok(job)
}

fn copy(from: &Path, into: &Path) -> Result<()> {
    quietly(&format!("copy {}", from.display()), Command::new("cp").arg("-a").arg(from).arg(into))
}

/// Builds the test programs; names and where they are.
fn programs(workspace: &Workspace, only: Option<&str>) -> Result<Vec<(String, PathBuf)>> {
    let mut command = Command::new(cargo());
    command.args(["build", "--workspace", "--bins", "--message-format", "json"]);
    let wanted: Vec<&str> =
        PROGRAMS.iter().copied().filter(|name| only.is_none_or(|only| only == *name)).collect();
    for name in &wanted {
        command.args(["--test", name]);
    }
    let told = ask(command.current_dir(&workspace.workspace_root));
    let found: Vec<_> = told
        .lines()
        .filter_map(|line| serde_json::from_str::<Artifact>(line).ok())
        .filter_map(|artifact| {
            let target = artifact.target?;
            target.kind.iter().any(|kind| kind == "test").then_some((target.name, artifact.executable?))
        })
        .collect();
    if found.is_empty() || found.len() < wanted.len() {
        return Err(format!(
            "of the test programs {wanted:?} {} were built: `cargo build --tests` says why",
            found.len()
        ));
    }
    Ok(found)
}
