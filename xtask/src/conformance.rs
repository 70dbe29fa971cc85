//! `cargo xtask conformance ssh`: every client that people use, directly and through Sluice.
//! `cargo xtask conformance postgres`: PostgreSQL's own tests, likewise.

use clap::{Args, Subcommand};

use crate::prerequisites::{self, Purpose, install};
use crate::shell::{Result, as_root, openly, quietly};
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
    /// PostgreSQL's core regression tests, or its isolation tests: some minutes each
    Postgres {
        /// Only these tests, in this order
        #[arg(long, value_name = "TEST,…", value_delimiter = ',')]
        only: Vec<String>,
        /// The isolation tests in the place of the core's
        #[arg(long)]
        isolation: bool,
        /// The tests of a driver of PyPI in the place of the core's: asyncpg, psycopg2
        #[arg(long, value_name = "DRIVER", conflicts_with = "isolation")]
        driver: Option<String>,
        /// Only the direct road: whether the tests themselves pass on this machine
        #[arg(long)]
        direct: bool,
    },
}

/// Fetches a driver's library and tests, once.
const DRIVERS: &str = include_str!("conformance/drivers.sh");

/// Fetches PostgreSQL's sources and builds its tests, once.
const SOURCES: &str = include_str!("conformance/postgres.sh");

/// Optimised binaries, since much is carried; then the harness.
pub(crate) fn run(options: &Options) -> Result<()> {
    let workspace = Workspace::here()?;
    install(&[Purpose::Build, Purpose::Kernel, Purpose::World, Purpose::Conformance], &workspace)?;
    let (only, direct, wide) = match &options.what {
        What::Ssh { only, direct, wide } => (only, direct, wide),
        What::Postgres { only, isolation, driver, direct } => {
            return postgres(&workspace, only, *isolation, driver.as_deref(), *direct);
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

fn postgres(
    workspace: &Workspace,
    only: &[String],
    isolation: bool,
    driver: Option<&str>,
    direct: bool,
) -> Result<()> {
    let place = workspace.target_directory.join("conformance");
    let sources = place.join("postgresql");
    let mut fetch = as_root("sh");
    match driver {
        None => quietly("PostgreSQL's sources", fetch.args(["-c", SOURCES, "postgres.sh"]).arg(&sources))?,
        Some(driver) => {
            let drivers = place.join("drivers");
            quietly(
                "the driver's tests",
                fetch.args(["-c", DRIVERS, "drivers.sh"]).arg(drivers).arg(driver),
            )?;
        }
    }
    let binaries = build::binaries(workspace, true)?;
    prerequisites::provider(workspace)?;
    let mut command = demo::world(&binaries, "conformance");
    command.args(["postgres", "--sources"]).arg(&sources).arg("--out").arg(place.join("differences"));
    if let Some(driver) = driver {
        command.args(["--driver", driver, "--drivers"]).arg(place.join("drivers"));
    }
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
