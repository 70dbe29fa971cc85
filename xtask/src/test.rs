//! `cargo xtask test`: everything that CI runs, in one command, from a clean checkout.

use std::fs;
use std::path::Path;
use std::process::Command;

use clap::Args;

use crate::prerequisites::{self, Purpose, install};
use crate::shell::{Result, as_root, openly, say};
use crate::workspace::{Workspace, cargo};
use crate::{build, check, fuzz, vm};

#[derive(Args)]
pub(crate) struct Options {
    /// How long each fuzz target runs; 0 leaves them out
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    fuzz: u32,
}

#[derive(Args)]
pub(crate) struct FuzzOptions {
    /// How long each target runs
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    seconds: u32,
    /// Only this target
    target: Option<String>,
    /// Do not run them: put what was found since into the repository (tests/fuzz/corpus)
    #[arg(long, conflicts_with = "seconds")]
    keep: bool,
}

#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
    what: Vec<String>,
}

impl Tally {
    fn step(&mut self, name: &str, outcome: Result<()>) {
        match outcome {
            Ok(()) => self.passed += 1,
            Err(message) => {
                anstream::eprintln!("{message}");
                self.failed += 1;
                self.what.push(name.to_owned());
            }
        }
    }
}

/// Everything. What fails does not keep the rest from running, except what the rest is built from.
pub(crate) fn run(options: &Options) -> Result<()> {
    let workspace = Workspace::here()?;
    install(&Purpose::CI, &workspace)?;
    let mut tally = Tally::default();
    for (name, outcome) in check::steps()? {
        tally.step(name, outcome);
    }
    let binaries = build::binaries(&workspace, false)?;
    tally.step("cost of the kernel programs", costs(&workspace, &binaries));
    prerequisites::provider(&workspace)?;
    prerequisites::drivers(&workspace)?;
    tests(&workspace, &mut tally)?;
    // what no machine of CI lets anybody try on itself: the whole host, and BPF-LSM programs
    tally.step("a whole host in a virtual machine", vm::one(&workspace, &binaries));
    if options.fuzz > 0 {
        fuzzed(&workspace, options.fuzz, None, &mut tally);
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    if tally.failed == 0 { Ok(()) } else { Err(format!("failed: {}", tally.what.join(", "))) }
}

/// What the verifier of this kernel makes of each program; above its bound is a failure.
fn costs(workspace: &Workspace, binaries: &Path) -> Result<()> {
    let mut command = as_root(&binaries.join("sluice-loader").display().to_string());
    command.arg("costs").arg("--bounds").arg(workspace.workspace_root.join(vm::BOUNDS));
    openly("cost of the kernel programs for the verifier", &mut command)
}

/// `cargo xtask fuzz`.
pub(crate) fn fuzz(options: &FuzzOptions) -> Result<()> {
    let workspace = Workspace::here()?;
    install(&[Purpose::Build], &workspace)?;
    if options.keep {
        return fuzz::keep(&workspace.workspace_root, options.target.as_deref());
    }
    let mut tally = Tally::default();
    fuzzed(&workspace, options.seconds, options.target.as_deref(), &mut tally);
    if tally.failed == 0 { Ok(()) } else { Err(format!("failed: {}", tally.what.join(", "))) }
}

fn fuzzed(workspace: &Workspace, seconds: u32, only: Option<&str>, tally: &mut Tally) {
    say(&format!("fuzz targets: {seconds} s each, two at a time"));
    match fuzz::run(&workspace.workspace_root, seconds, only) {
        Ok(failed) => {
            let targets = fuzz::TARGETS.iter().filter(|target| only.is_none_or(|only| only == **target));
            for target in targets {
                let outcome =
                    if failed.contains(target) { Err(format!("fuzz {target} failed")) } else { Ok(()) };
                tally.step(&format!("fuzz {target}"), outcome);
            }
        }
        Err(message) => tally.step("fuzz", Err(message)),
    }
}

/// Unit and property tests as whoever runs us; the end-to-end suites as root. Both of one build: the same packages with
/// the same features, told apart by nextest's filter.
fn tests(workspace: &Workspace, tally: &mut Tally) -> Result<()> {
    for (name, filter, root) in [
        ("unit tests", "not package(sluice-tests)", false),
        ("end-to-end tests", "package(sluice-tests)", true),
    ] {
        say(name);
        let report = workspace.target_directory.join("nextest/default/junit.xml");
        drop(fs::remove_file(&report));
        let mut command = Command::new(cargo());
        command
            .args(["nextest", "run", "--workspace", "--no-fail-fast", "-E", filter])
            .current_dir(&workspace.workspace_root);
        if root && !nix::unistd::geteuid().is_root() {
            command.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", "sudo --preserve-env");
        }
        let outcome = openly(name, &mut command);
        match counts(&report) {
            Some((tests, bad)) => {
                tally.passed += tests.saturating_sub(bad);
                tally.failed += bad;
                if bad > 0 {
                    tally.what.push(name.to_owned());
                }
            }
            // It did not even come to a report.
            None => tally.step(name, outcome),
        }
    }
    Ok(())
}

/// Tests, and those that did not pass, from the root element of nextest's JUnit report.
fn counts(report: &Path) -> Option<(u64, u64)> {
    let text = fs::read_to_string(report).ok()?;
    let root = &text[text.find("<testsuites")?..];
    let root = &root[..root.find('>')?];
    let number = |name: &str| -> Option<u64> {
        let at = root.find(&format!(" {name}=\""))? + name.len() + 3;
        root.get(at..)?.split('"').next()?.parse().ok()
    };
    Some((number("tests")?, number("failures")? + number("errors")?))
}
