//! `cargo xtask soak`: pgbench through Sluice for a long time, with faults in turn; afterwards memory and descriptors are
//! what they were, and every statement that the server's own log saw is on record under the name of who asked it.
//!
//! The first stretch has the loader restarted, which takes the proxy with it. The rest is one process, so that its memory
//! can be followed: it is measured when nobody is connected, before and after each round of faults. `--row` and `--idle`
//! are two shorter trials of the same kind: one value as large as the protocol allows, and very many sessions.

mod complete;
mod faults;
mod gauge;
mod idle;
mod load;
mod rows;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use crate::enclosure::Room;
use crate::stage::Stage;
use crate::world::World;
use crate::{Context, Result};

pub use idle::many as many_sessions;
pub use rows::large as large_values;

use gauge::Gauge;
use load::Load;

/// What may be said on the command line.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// How long load and faults go on
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// Transactions a second of each of the three loads
    #[arg(long, default_value_t = 60)]
    rate: u32,
    /// Write what was found to this file: `{"rows": [{"name", "seen", "wanted", "held"}]}`
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Instead: so many sessions at once that do nothing
    #[arg(long, value_name = "SESSIONS")]
    idle: Option<u32>,
    /// Instead: one value of so many MB by every road; 1023 is the most that a row may have
    #[arg(long, value_name = "MB", num_args = 0..=1, default_missing_value = "1023")]
    row: Option<u32>,
}

/// One line of the table to be.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub name: String,
    /// What was found.
    pub seen: String,
    /// What it has to be.
    pub wanted: String,
    /// Whether it is.
    pub held: bool,
}

impl Finding {
    /// A line.
    pub fn new(
        name: impl Into<String>,
        seen: impl Into<String>,
        wanted: impl Into<String>,
        held: bool,
    ) -> Finding {
        Finding { name: name.into(), seen: seen.into(), wanted: wanted.into(), held }
    }
}

/// Runs what was asked for; true when everything held.
pub fn run(room: Room, options: &Options) -> Result<bool> {
    let stage = Stage::new(true);
    let found = match (options.idle, options.row) {
        (Some(sessions), _) => idle::many(room, &stage, sessions)?,
        (None, Some(megabytes)) => rows::large(room, &stage, megabytes)?,
        (None, None) => soak(room, &stage, options)?,
    };
    print(&found);
    if let Some(file) = &options.json {
        fs::write(file, serde_json::to_string_pretty(&serde_json::json!({ "rows": found }))?)
            .context(format!("failed to write `{}`", file.display()))?;
    }
    Ok(!found.is_empty() && found.iter().all(|one| one.held))
}

fn soak(room: Room, stage: &Stage, options: &Options) -> Result<Vec<Finding>> {
    let mut world = World::start(room, stage)?;
    complete::prepare(&world)?;
    world.guard(stage)?;
    let mut load = Load::begin(world, options.rate)?;
    let length = Duration::from_secs_f64(options.minutes.max(0.5) * 60.0);
    let begun = Instant::now();
    let mut suffered: Vec<(&str, Duration)> = Vec::new();

    stage.progress("the loader is restarted, by SIGTERM and by SIGKILL");
    for fault in faults::LOADER {
        suffered.push((fault.name, faults::inject(fault, &mut load, stage)?));
    }
    // A first round with the new proxy warms its caches up.
    let mut round = 0;
    let mut gauge: Option<Gauge> = None;
    while gauge.is_none() || begun.elapsed() < length {
        round += 1;
        stage.progress(&format!("round {round} of faults, {} s", begun.elapsed().as_secs()));
        suffered.extend(faults::round(&mut load, stage)?);
        load.quiet()?;
        match &mut gauge {
            None => gauge = Some(Gauge::begin(&load.world)?),
            Some(gauge) => gauge.rest(&load.world)?,
        }
        load.resume()?;
    }
    load.quiet()?;
    let mut found = faults::table(&suffered);
    found.extend(gauge.context("nothing was measured")?.findings(&load.world)?);
    load.end()?;
    found.extend(complete::findings(&load.world)?);
    Ok(found)
}

fn print(found: &[Finding]) {
    let width =
        |of: fn(&Finding) -> &str| found.iter().map(|one| of(one).chars().count()).max().unwrap_or_default();
    let (first, second) = (width(|one| &one.name), width(|one| &one.seen));
    anstream::println!();
    for one in found {
        let mark = if one.held { "✓" } else { "✗" };
        anstream::println!("{mark} {:first$}  {:second$}  wanted: {}", one.name, one.seen, one.wanted);
    }
}

/// Where the soak keeps its scripts.
fn place() -> PathBuf {
    Path::new(crate::world::HOME).join("soak")
}
