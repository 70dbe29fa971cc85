//! `cargo xtask demo`: the tour of the README.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::build;
use crate::prerequisites::{self, Purpose, install};
use crate::shell::{Result, as_root, openly};
use crate::workspace::Workspace;

#[derive(Args)]
pub(crate) struct Options {
    /// Only these chapters, e.g. `--only 2,3`
    #[arg(long, value_name = "CHAPTERS")]
    only: Option<String>,
    /// Leave everything running afterwards, until Ctrl-C, and say what to type
    #[arg(long)]
    keep: bool,
    /// Print the claims alone, not what people type and see
    #[arg(long)]
    quiet: bool,
    /// Write the claims and whether they held to this file, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Builds, then hands over to the harness. Fails when a claim does not hold.
pub(crate) fn run(options: &Options) -> Result<()> {
    let workspace = Workspace::here()?;
    install(&[Purpose::Build, Purpose::Kernel, Purpose::World], &workspace)?;
    let binaries = build::binaries(&workspace, false)?;
    prerequisites::provider(&workspace)?;
    let mut command = world(&binaries, "tour");
    if let Some(only) = &options.only {
        command.args(["--only", only]);
    }
    if options.keep {
        command.arg("--keep");
    }
    if options.quiet {
        command.arg("--quiet");
    }
    if let Some(report) = &options.report {
        command.arg("--report").arg(report);
    }
    openly("the tour", &mut command)
}

/// The harness' own program, as root: it makes namespaces and cgroups.
pub(crate) fn world(binaries: &Path, act: &str) -> Command {
    let mut command = as_root(&binaries.join("sluice-world").to_string_lossy());
    command.arg(act);
    command
}
