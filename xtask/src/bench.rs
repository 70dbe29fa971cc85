//! `cargo xtask bench postgres`: direct, through pgbouncer and through Sluice, in alternation.

use std::path::PathBuf;

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
    /// pgbench, connections, COPY and many small rows
    Postgres {
        /// Write the rows to this file: `{"rows": [{"name", "ratio", "goal"}]}`
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// A short run: shows that everything works, not how fast it is
        #[arg(long)]
        quick: bool,
        /// Only rows whose name contains this
        #[arg(long, value_name = "PART")]
        only: Option<String>,
    },
}

/// Release binaries, then the harness.
pub(crate) fn run(options: &Options) -> Result<()> {
    let What::Postgres { json, quick, only } = &options.what;
    let workspace = Workspace::here()?;
    install(&[Purpose::Build, Purpose::Kernel, Purpose::World, Purpose::Bench], &workspace)?;
    let binaries = build::binaries(&workspace, true)?;
    prerequisites::provider(&workspace)?;
    let mut command = demo::world(&binaries, "bench");
    if let Some(json) = json {
        command.arg("--json").arg(json);
    }
    if *quick {
        command.arg("--quick");
    }
    if let Some(only) = only {
        command.args(["--only", only]);
    }
    openly("the benchmarks", &mut command)
}
