//! `cargo xtask conformance ssh`: every client that people use, directly and through Sluice.
//! `cargo xtask conformance postgres`: PostgreSQL's own tests, likewise.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::{Args, Subcommand};

use crate::prerequisites::{self, Purpose, install};
use crate::shell::{Result, as_root, openly, quietly};
use crate::workspace::{Workspace, cargo};
use crate::{build, demo};

#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// OpenSSH's clients, rsync, git, ansible, paramiko, asyncssh, dropbear and PuTTY's: half an hour
    Ssh {
        /// Only cases whose name contains this
        #[arg(long, value_name = "PART")]
        only: Option<String>,
        /// Only the direct road: whether the cases themselves work on this machine
        #[arg(long)]
        direct: bool,
        /// All cases under a rule that permits everything, and none under those of the tour
        #[arg(long)]
        wide: bool,
    },
    /// PostgreSQL's core regression tests, or its isolation tests: some minutes each
    Postgres {
        /// Only these tests, in this order
        #[arg(long, value_name = "TEST,…", value_delimiter = ',')]
        only: Vec<String>,
        /// The isolation tests in the place of the core's
        #[arg(long)]
        isolation: bool,
        /// In their place: what our verdict calls read-only of the core's statements, the server takes in a read-only transaction
        #[arg(long, conflicts_with_all = ["only", "isolation", "direct"])]
        verdict: bool,
        /// Only the direct road: whether the tests themselves pass on this machine
        #[arg(long)]
        direct: bool,
    },
}

/// Fetches PostgreSQL's sources and builds its tests, once.
const SOURCES: &str = include_str!("conformance/postgres.sh");

/// Optimised binaries, since much is carried; then the harness.
pub(crate) fn run(options: &Options) -> Result<()> {
    let workspace = Workspace::here()?;
    install(&[Purpose::Build, Purpose::Kernel, Purpose::World, Purpose::Conformance], &workspace)?;
    let (only, direct, wide) = match &options.what {
        What::Ssh { only, direct, wide } => (only, direct, wide),
        What::Postgres { verdict: true, .. } => return verdicts(&workspace),
        What::Postgres { only, isolation, direct, .. } => {
            return postgres(&workspace, only, *isolation, *direct);
        }
    };
    let binaries = build::binaries(&workspace, true)?;
    prerequisites::provider(&workspace)?;
    prerequisites::python(&workspace)?;
    let mut command = demo::world(&binaries, "conformance");
    command.arg("ssh");
    if let Some(only) = only {
        command.args(["--only", only]);
    }
    for (given, option) in [(*direct, "--direct"), (*wide, "--wide")] {
        if given {
            command.arg(option);
        }
    }
    openly("the conformance cases", &mut command)
}

/// The sources, fetched where they are not there yet.
fn sources(place: &Path) -> Result<PathBuf> {
    let sources = place.join("postgresql");
    let mut fetch = as_root("sh");
    quietly("PostgreSQL's sources", fetch.args(["-c", SOURCES, "postgres.sh"]).arg(&sources))?;
    Ok(sources)
}

/// No world is needed for this one: a server, its catalogue, and our verdict. `tests/tests/verdict.rs` has it.
fn verdicts(workspace: &Workspace) -> Result<()> {
    install(&[Purpose::Test], workspace)?;
    let regress = sources(&workspace.target_directory.join("conformance"))?.join("source/src/test/regress");
    let mut command = Command::new(cargo());
    command
        .args(["nextest", "run", "--workspace", "--test", "verdict", "--run-ignored", "only", "--no-capture"])
        .args(["-E", "test(the_regression_suite_agrees)"])
        .env("SLUICE_REGRESS", regress)
        .current_dir(&workspace.workspace_root);
    if !nix::unistd::geteuid().is_root() {
        command.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", "sudo --preserve-env");
    }
    openly("verdicts against PostgreSQL's own statements", &mut command)
}

fn postgres(workspace: &Workspace, only: &[String], isolation: bool, direct: bool) -> Result<()> {
    let place = workspace.target_directory.join("conformance");
    let sources = sources(&place)?;
    let binaries = build::binaries(workspace, true)?;
    prerequisites::provider(workspace)?;
    let mut command = demo::world(&binaries, "conformance");
    command.args(["postgres", "--sources"]).arg(&sources).arg("--out").arg(place.join("differences"));
    if !only.is_empty() {
        command.args(["--only", &only.join(",")]);
    }
    for (given, option) in [(isolation, "--isolation"), (direct, "--direct")] {
        if given {
            command.arg(option);
        }
    }
    openly("PostgreSQL's tests", &mut command)
}
