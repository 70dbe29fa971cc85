//! Benchmarks of the PostgreSQL road: direct, through pgbouncer and through Sluice. Figures of one machine are noisy, so
//! the roads take turns, medians are compared, and what counts is the ratio.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::enclosure::Room;
use crate::stage::Stage;
use crate::world::World;
use crate::{Context, Result};

pub mod kernel;
pub(crate) mod memory;
mod roads;
pub mod ssh;
mod workloads;

use roads::Roads;
use workloads::{Against, Workload};

/// What may be said on the command line.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Write the rows to this file: `{"rows": [{"name", "ratio", "goal"}]}`
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// A short run: shows that everything works, not how fast it is
    #[arg(long)]
    pub quick: bool,
    /// Only rows whose name contains this
    #[arg(long, value_name = "PART")]
    pub only: Option<String>,
    /// Of the kernel: floods of so many connects, of entries and events instead
    #[arg(long, value_name = "CONNECTS", num_args = 0..=1, default_missing_value = "1000000")]
    pub flood: Option<u32>,
    /// Leave Sluice out: what this machine does without it
    #[arg(long, hide = true)]
    pub baseline: bool,
}

/// One line of the table. Figures are medians; more is better in all of them.
#[derive(Debug, Clone, Serialize)]
struct Row {
    name: String,
    /// Of Sluice to what the goal is set against.
    ratio: f64,
    /// None: reported, no goal was set.
    goal: Option<f64>,
    against: &'static str,
    unit: &'static str,
    direct: f64,
    pgbouncer: f64,
    sluice: f64,
}

#[derive(Serialize)]
struct Report {
    rows: Vec<Row>,
    /// Memory of the proxy for an idle session, in kilobytes.
    idle_session_kb: Option<f64>,
}

/// Measures everything, prints the table, and says whether all could be measured.
pub fn run(room: Room, options: &Options) -> Result<bool> {
    let stage = Stage::new(true);
    let mut world = World::start(room, &stage)?;
    if !options.baseline {
        world.guard(&stage)?;
    }
    let wanted = |name: &str| options.only.as_ref().is_none_or(|part| name.contains(part.as_str()));
    let workloads: Vec<Workload> =
        workloads::all(options.quick).into_iter().filter(|w| wanted(&w.name)).collect();
    let mut roads = Roads::open(world, &stage)?;
    workloads::prepare(&roads, &workloads, options.quick, &stage)?;
    let rounds = if options.quick { 1 } else { 3 };
    let mut rows = Vec::new();
    for workload in &workloads {
        rows.push(measure(&mut roads, workload, rounds, &stage)?);
    }
    let idle_session_kb = if wanted("idle session") && !options.baseline {
        Some(memory::idle_session(&mut roads, &stage)?)
    } else {
        None
    };
    print(&rows, idle_session_kb);
    let report = Report { rows, idle_session_kb };
    if let Some(file) = &options.json {
        std::fs::write(file, serde_json::to_string_pretty(&report)?)
            .context(format!("failed to write `{}`", file.display()))?;
    }
    Ok(true)
}

fn measure(roads: &mut Roads, workload: &Workload, rounds: usize, stage: &Stage) -> Result<Row> {
    let mut figures: [Vec<f64>; 3] = Default::default();
    for round in 0..rounds {
        let count = roads.count();
        for turn in 0..count {
            // Who begins changes from round to round.
            let road = (round + turn) % count;
            let text = roads.run(road, &workload.script)?;
            let figure = (workload.read)(&text).context(format!(
                "{} on {}: {text}",
                workload.name,
                roads::NAMES[road]
            ))?;
            figures[road].push(figure);
        }
    }
    let [direct, pgbouncer, sluice] = figures.map(median);
    let against = if workload.against == Against::Pgbouncer { pgbouncer } else { direct };
    let row = Row {
        name: workload.name.clone(),
        ratio: (sluice / against * 1000.0).round() / 1000.0,
        goal: workload.goal,
        against: workload.against.name(),
        unit: workload.unit,
        direct,
        pgbouncer,
        sluice,
    };
    stage.progress(&format!("{}: {:.2} of {}", row.name, row.ratio, row.against));
    Ok(row)
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

fn print(rows: &[Row], idle_session_kb: Option<f64>) {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(10);
    anstream::println!(
        "\n{:width$}  {:>12} {:>12} {:>12}  {:<8} {:>6} {:>6}",
        "",
        "direct",
        "pgbouncer",
        "Sluice",
        "unit",
        "ratio",
        "goal"
    );
    for row in rows {
        let goal = row.goal.map_or_else(|| "-".to_owned(), |goal| format!("{goal:.2}"));
        let mark = match row.goal {
            Some(goal) if row.ratio < goal => "below the goal",
            _ => "",
        };
        anstream::println!(
            "{:width$}  {:>12.1} {:>12.1} {:>12.1}  {:<8} {:>6.2} {:>6}  of {} {mark}",
            row.name,
            row.direct,
            row.pgbouncer,
            row.sluice,
            row.unit,
            row.ratio,
            goal,
            row.against
        );
    }
    if let Some(kilobytes) = idle_session_kb {
        anstream::println!("an idle session costs the proxy {kilobytes:.0} KB (goal: under 50)");
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_does_not_care_for_outliers() {
        assert!((median(vec![3.0, 1000.0, 1.0]) - 3.0).abs() < f64::EPSILON);
        assert!(median(Vec::new()).is_nan());
    }
}
