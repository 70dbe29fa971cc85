//! `cargo xtask bench postgres`: direct, through pgbouncer and through Sluice, in alternation.
//! `cargo xtask bench ssh`: direct, by OpenSSH's own jump and through Sluice, likewise.
//! `cargo xtask bench verdict`: what a verdict, a decision and a mask cost, without a network.
//! `cargo xtask bench kernel`: connects and packets with the kernel programs and with none, in alternation.
//! `cargo xtask bench detect`: the detectors beside Presidio's recognisers, over the same labelled columns.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::{Args, Subcommand};

use crate::prerequisites::{self, Purpose, install};
use crate::shell::{Result, openly, quietly};
use crate::workspace::{Workspace, cargo};
use crate::{build, demo};

#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// pgbench, connections, COPY and many small rows
    Postgres(Roads),
    /// Bulk by exec, sftp and scp, logins, keystrokes, many sessions, memory: direct, by OpenSSH's -J and through Sluice
    Ssh(Roads),
    /// What a verdict, a decision and a mask cost, without a network
    Verdict {
        /// Write the rows to this file: `{"rows": [{"name", "ratio", "goal"}]}`
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// What the kernel programs cost a connect and a packet that go to nothing protected
    Kernel(Roads),
    /// Precision, recall and speed of the detectors on columns from Faker, beside Microsoft Presidio
    Detect {
        /// Write the rows to this file: `{"rows": [{"name", "ratio", "goal"}]}`
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// Values a column
        #[arg(long, value_name = "N", default_value_t = 100)]
        values: u32,
    },
}

/// What both comparisons of roads take.
#[derive(Args)]
struct Roads {
    /// Write the rows to this file: `{"rows": [{"name", "ratio", "goal"}]}`
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A short run: shows that everything works, not how fast it is
    #[arg(long)]
    quick: bool,
    /// Only rows whose name contains this
    #[arg(long, value_name = "PART")]
    only: Option<String>,
    /// Of `kernel`: a million connects (or so many), 100,000 protected entries and an event storm instead
    #[arg(long, value_name = "CONNECTS", num_args = 0..=1, default_missing_value = "1000000")]
    flood: Option<u32>,
}

/// Release binaries, then the harness.
pub(crate) fn run(options: &Options) -> Result<()> {
    let workspace = Workspace::here()?;
    let (act, Roads { json, quick, only, flood }) = match &options.what {
        What::Postgres(roads) => ("bench", roads),
        What::Ssh(roads) => ("bench-ssh", roads),
        What::Verdict { json } => return verdict(&workspace, json.as_deref()),
        What::Kernel(roads) => ("bench-kernel", roads),
        What::Detect { json, values } => return detect(&workspace, json.as_deref(), *values),
    };
    install(&[Purpose::Build, Purpose::Kernel, Purpose::World, Purpose::Bench], &workspace)?;
    let binaries = build::binaries(&workspace, true)?;
    prerequisites::provider(&workspace)?;
    let mut command = demo::world(&binaries, act);
    if let Some(json) = json {
        command.arg("--json").arg(json);
    }
    if *quick {
        command.arg("--quick");
    }
    if let Some(connects) = flood {
        command.arg("--flood").arg(connects.to_string());
    }
    if let Some(only) = only {
        command.args(["--only", only]);
    }
    openly("the benchmarks", &mut command)
}

/// No world is needed for this one, nor root.
fn verdict(workspace: &Workspace, json: Option<&Path>) -> Result<()> {
    install(&[Purpose::Build], workspace)?;
    let mut command = Command::new(cargo());
    command.args(["bench", "--quiet", "--package", "sluice-agent", "--bench", "verdict"]);
    if let Some(json) = json {
        let absolute = std::path::absolute(json).map_err(|why| format!("{}: {why}", json.display()))?;
        command.env("SLUICE_BENCH_JSON", absolute);
    }
    openly("the benchmark of verdicts", command.current_dir(&workspace.workspace_root))
}

/// No world is needed for this one: a program of ours, and Python.
fn detect(workspace: &Workspace, json: Option<&Path>, values: u32) -> Result<()> {
    install(&[Purpose::Build, Purpose::Conformance], workspace)?;
    let python = prerequisites::recognisers(workspace)?;
    let mut build = Command::new(cargo());
    build.args(["build", "--release", "--quiet", "--package", "sluice-tests", "--bin", "sluice-detect"]);
    quietly("cargo build sluice-detect", build.current_dir(&workspace.workspace_root))?;
    let mut command = Command::new(python);
    command
        .arg(workspace.workspace_root.join("tests/detect/compare.py"))
        .arg(workspace.target_directory.join("release/sluice-detect"))
        .args(["--values", &values.to_string()]);
    if let Some(json) = json {
        command.arg("--json").arg(json);
    }
    openly("the comparison of detectors", &mut command)
}
