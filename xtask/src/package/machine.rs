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

/// One start of the host, whose claims stand in job.py.
struct Boot {
    name: &'static str,
    /// Further arguments of the kernel.
    arguments: &'static [&'static str],
    /// What somebody at the console has to see.
    console: &'static str,
    /// Whether the database can be reached when the host goes down: what shows that the other shutdowns tell something.
    open_at_the_end: bool,
}

const BOOTS: [Boot; 6] = [
    Boot { name: "the first boot", arguments: &[], console: "", open_at_the_end: false },
    Boot { name: "a boot under guard", arguments: &[], console: "", open_at_the_end: false },
    Boot {
        name: "a boot with a configuration that is none",
        arguments: &[],
        console: "",
        open_at_the_end: false,
    },
    Boot {
        name: "a boot with a guard that can't stand, closed",
        arguments: &[],
        console: "The way back in, as root on this console: sluice-loader disarm --reason",
        open_at_the_end: true,
    },
    Boot {
        name: "a boot with a guard that can't stand, open",
        arguments: &[],
        console: "everybody reaches everything directly",
        open_at_the_end: true,
    },
    Boot {
        name: "a boot with a kernel that is locked down",
        arguments: &["lockdown=confidentiality"],
        console: "",
        open_at_the_end: false,
    },
];

/// What tests/fixtures/package/host/late.py has said last: it tried to the very end, also when no loader ran any more.
fn shutdown(lines: &[&str], open: bool) -> Result<String> {
    let last = lines.iter().rev().find_map(|line| line.strip_prefix("late last "));
    let last = last.ok_or("nobody has tried after the last unit had stopped")?;
    let numbers: Vec<u64> = last.split(' ').filter_map(|word| word.split_once('=')?.1.parse().ok()).collect();
    let [real, _proxy, real_alone, nobody_alone] = numbers.as_slice() else {
        return Err(format!("`{last}` is not understood"));
    };
    match (open, real + real_alone) {
        (false, 0) if *nobody_alone > 0 => Ok(last.to_owned()),
        (true, reached) if reached > 0 => Ok(last.to_owned()),
        _ => Err(format!("{last} (with a loader, then without)")),
    }
}

/// Installs, upgrades, downgrades, removes, purges; then boots under guard, and where the guard can't stand.
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
    for boot in BOOTS {
        say(&format!("{}, of Debian 12 with systemd", boot.name));
        let mut command = Command::new("bash");
        command.args(["-c", vm::BOOT, "boot.sh"]).arg(&kernel).arg(&disk).arg(&job);
        command.args(boot.arguments);
        command.env("SNAPSHOT", "off").env("PATIENCE", PATIENCE);
        let console = ask(&mut command);
        let lines: Vec<&str> = console.lines().collect();
        let held = lines.iter().filter(|line| line.starts_with("held ")).count();
        lines.iter().filter_map(|line| line.strip_prefix("seen ")).for_each(|line| say(&format!("  {line}")));
        if !lines.contains(&"VM_RC=0") || held == 0 {
            return Err(format!("{}: not all claims hold:\n{console}", boot.name));
        }
        if !boot.console.is_empty() && !console.contains(boot.console) {
            return Err(format!("{}: the console does not say `{}`:\n{console}", boot.name, boot.console));
        }
        let late = shutdown(&lines, boot.open_at_the_end)
            .map_err(|why| format!("{}, its shutdown: {why}:\n{console}", boot.name))?;
        say(&format!("  {held} claims hold; at shutdown: {late}"));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shutdown_in_which_nobody_tried_shows_nothing() {
        let units = "late units real=0 proxy=4 real=0 nobody=0";
        assert!(shutdown(&[units], false).is_err());
        assert!(shutdown(&[units, "late last real=0 proxy=4 real=0 nobody=0"], false).is_err());
        assert!(shutdown(&["late last real=0 proxy=4 real=0 nobody=9"], false).is_ok());
        assert!(shutdown(&["late last real=0 proxy=4 real=1 nobody=9"], false).is_err());
        assert!(shutdown(&["late last real=0 proxy=4 real=0 nobody=9"], true).is_err());
        assert!(shutdown(&["late last real=0 proxy=0 real=7 nobody=1"], true).is_ok());
    }
}
