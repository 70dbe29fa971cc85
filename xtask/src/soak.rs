//! `cargo xtask soak`: load and faults for a long time; `--row` and `--idle N` are two shorter trials of the same kind.

use std::path::PathBuf;

use clap::Args;

use crate::prerequisites::{self, Purpose, install};
use crate::shell::{Result, openly};
use crate::workspace::Workspace;
use crate::{build, demo};

#[derive(Args)]
pub(crate) struct Options {
    /// How long load and faults go on
    #[arg(long, value_name = "MINUTES", default_value_t = 30.0)]
    minutes: f64,
    /// Transactions a second of each of the three loads
    #[arg(long, value_name = "N", default_value_t = 60)]
    rate: u32,
    /// Instead: so many sessions at one time that do nothing, and two more
    #[arg(long, value_name = "SESSIONS", conflicts_with = "row")]
    idle: Option<u32>,
    /// Instead: one value of so many MB by every road; without a number 1023, the most that a row may have
    #[arg(long, value_name = "MB", num_args = 0..=1, default_missing_value = "1023")]
    row: Option<u32>,
    /// Write what was found to this file: `{"rows": [{"name", "seen", "wanted", "held"}]}`
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// With the binaries of a debug build, which are slower and larger
    #[arg(long)]
    debug: bool,
}

/// Builds, then hands over to the harness. Fails when something does not hold.
pub(crate) fn run(options: &Options) -> Result<()> {
    let workspace = Workspace::here()?;
    install(&[Purpose::Build, Purpose::Kernel, Purpose::World, Purpose::Bench], &workspace)?;
    let binaries = build::binaries(&workspace, !options.debug)?;
    prerequisites::provider(&workspace)?;
    let mut command = demo::world(&binaries, "soak");
    command.args(["--minutes", &options.minutes.to_string(), "--rate", &options.rate.to_string()]);
    if let Some(sessions) = options.idle {
        command.args(["--idle", &sessions.to_string()]);
    }
    if let Some(megabytes) = options.row {
        command.args(["--row", &megabytes.to_string()]);
    }
    if let Some(json) = &options.json {
        command.arg("--json").arg(std::path::absolute(json).map_err(|e| format!("{}: {e}", json.display()))?);
    }
    openly("the soak", &mut command)
}
