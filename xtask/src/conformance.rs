//! `cargo xtask conformance ssh`: every client that people use, directly and through Sluice.

use clap::{Args, Subcommand};

use crate::prerequisites::{self, Purpose, install};
use crate::shell::{Result, openly};
use crate::workspace::Workspace;
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
}

/// Optimised binaries, since much is carried; then the harness.
pub(crate) fn run(options: &Options) -> Result<()> {
    let What::Ssh { only, direct, wide } = &options.what;
    let workspace = Workspace::here()?;
    install(&[Purpose::Build, Purpose::Kernel, Purpose::World, Purpose::Conformance], &workspace)?;
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
