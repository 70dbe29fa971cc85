//! The package in a booted Debian 12 with systemd, under QEMU: what a container can't do (programs at the root of cgroup
//! v2, a boot) is part of it. What the host claims stands in tests/fixtures/package/job.py.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use crate::prerequisites::{Purpose, install};
use crate::shell::{Result, ask, quietly, say};
use crate::vm;
use crate::workspace::Workspace;

const IMAGE: &str = include_str!("image.sh");
/// What the host runs, and what its image has of ours.
const FIXTURES: &str = "tests/fixtures/package";
/// The kernel of Debian 12.
const SUITE: &str = "bookworm";
/// Seconds that a boot and its claims may take, emulated.
const PATIENCE: &str = "1500";

/// Installs, upgrades, downgrades, removes, purges; then boots once more.
pub(crate) fn test(workspace: &Workspace, older: &Path, newer: &Path, version: &str) -> Result<()> {
    install(&[Purpose::Machine], workspace)?;
    let directory = workspace.target_directory.join("vm");
    fs::create_dir_all(&directory).map_err(|e| format!("creating {}: {e}", directory.display()))?;
    let kernel = vm::kernel(&directory, SUITE)?;
    let fixtures = workspace.workspace_root.join(FIXTURES);
    let image = image(&directory, &fixtures.join("host"))?;
    let job = job(workspace, older, newer, version)?;
    // the disk of this one host, which both boots have
    let disk = directory.join("host-run.ext4");
    let mut copy = Command::new("cp");
    quietly("a disk for the host", copy.arg("--sparse=always").arg(&image).arg(&disk))?;
    for boot in ["the first boot", "the second boot"] {
        say(&format!("{boot}, of Debian 12 with systemd"));
        let mut command = Command::new("bash");
        command.args(["-c", vm::BOOT, "boot.sh"]).arg(&kernel).arg(&disk).arg(&job);
        command.env("SNAPSHOT", "off").env("PATIENCE", PATIENCE);
        let console = ask(&mut command);
        let lines: Vec<&str> = console.lines().collect();
        let held = lines.iter().filter(|line| line.starts_with("held ")).count();
        lines.iter().filter_map(|line| line.strip_prefix("seen ")).for_each(|line| say(&format!("  {line}")));
        if !lines.contains(&"VM_RC=0") || held == 0 {
            return Err(format!("{boot}: not all claims hold:\n{console}"));
        }
        say(&format!("  {held} claims hold"));
    }
    drop(fs::remove_file(&disk));
    Ok(())
}

/// The image; made anew when what goes into it has changed.
fn image(directory: &Path, host: &Path) -> Result<PathBuf> {
    let image = directory.join("host.ext4");
    let changed =
        |path: &Path| fs::metadata(path).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let files = fs::read_dir(host).map_err(|e| format!("{}: {e}", host.display()))?;
    let newest = files.flatten().map(|entry| changed(&entry.path())).max();
    if !image.exists() || newest.is_some_and(|newest| newest > changed(&image)) {
        quietly("a Debian 12 with systemd", vm::script(IMAGE, "image.sh").arg(&image).arg(host))?;
    }
    Ok(image)
}

fn job(workspace: &Workspace, older: &Path, newer: &Path, version: &str) -> Result<PathBuf> {
    let directory = workspace.target_directory.join("vm");
    let fixtures = workspace.workspace_root.join(FIXTURES);
    let job = directory.join("package-job");
    let fault = |e: std::io::Error| format!("{}: {e}", job.display());
    if job.exists() {
        fs::remove_dir_all(&job).map_err(fault)?;
    }
    fs::create_dir_all(&job).map_err(fault)?;
    let docs = workspace.workspace_root.join("docs");
    for (from, to) in [
        (fixtures.join("run"), "run"),
        (fixtures.join("job.py"), "job.py"),
        (docs.join("install.md"), "install.md"),
        (older.to_owned(), "old.deb"),
        (newer.to_owned(), "new.deb"),
    ] {
        fs::copy(&from, job.join(to)).map_err(|e| format!("{}: {e}", from.display()))?;
    }
    fs::write(job.join("version"), version).map_err(fault)?;
    Ok(job)
}
