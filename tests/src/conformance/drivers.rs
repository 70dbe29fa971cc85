//! The suites of drivers, test by test: what comes of each has to be the same directly and through Sluice.
//!
//! asyncpg speaks the extended protocol alone, in binary, with cursors, COPY and pipelines; psycopg2 the simple one.
//! Their tests are those of the sources that PyPI has.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::postgres::Test;
use crate::command::sh;
use crate::world::HOME;
use crate::{Context, Failure, Result};

/// A driver whose tests are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Driver {
    /// Python's asyncpg: the extended protocol
    Asyncpg,
    /// Python's psycopg2: libpq, the simple protocol
    Psycopg2,
}

/// Tests whose outcome differs on purpose, and why.
pub(super) const STATED: &[(&str, &str)] = &[];

/// For both roads: where the server is comes from the environment.
const SCRIPT: &str = r#"#!/bin/sh
# driver.sh [test…]
cd "$(dirname "$0")/driver" || exit 2
export PYTHONPATH="$PWD/lib" PYTHONDONTWRITEBYTECODE=1 PGDATABASE=drivers PGPORT=5432
export PSYCOPG2_TESTDB=drivers PSYCOPG2_TESTDB_HOST="$PGHOST" PSYCOPG2_TESTDB_PORT=5432
export PSYCOPG2_TESTDB_USER="$PGUSER" PSYCOPG2_TESTDB_PASSWORD="$PGPASSWORD"
[ $# -gt 0 ] || set -- tests
exec timeout 1200 /usr/bin/python3 -m pytest -v --tb=short -p no:cacheprovider "$@"
"#;

impl Driver {
    /// Copies library and tests to where the people of the world can read them; returns the script that runs them.
    pub(super) fn unpack(self, from: &Path, place: &Path) -> Result<PathBuf> {
        let name = self.to_possible_value().context("a driver has a name")?.get_name().to_owned();
        fs::create_dir_all(place)?;
        let to = place.join("driver");
        sh("cp", [Path::new("-r"), &from.join(name), &to])
            .context("`cargo xtask conformance postgres --driver` fetches them")?;
        sh("chmod", ["-R".as_ref(), "a+rX".as_ref(), to.as_os_str()])?;
        let script = place.join("driver.sh");
        fs::write(&script, SCRIPT)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        Ok(script)
    }
}

/// Where everything of a run is.
pub(super) fn place() -> PathBuf {
    Path::new(HOME).join("conformance")
}

/// What pytest said of each test: `tests/test_a.py::TestA::test_b PASSED [ 3%]`.
pub(super) fn outcomes(said: &str) -> Result<BTreeMap<String, Test>> {
    let mut tests = BTreeMap::new();
    for line in said.lines().filter(|line| line.contains("::")) {
        let mut words = line.split_whitespace();
        let (Some(name), Some(outcome)) = (words.next(), words.next()) else { continue };
        if ["PASSED", "FAILED", "ERROR", "SKIPPED", "XFAIL", "XPASS"].contains(&outcome) {
            let passed = outcome == "PASSED";
            let name = name.trim_start_matches("tests/").to_owned();
            // one that fails, and fails again when it is torn down, has two
            let test = tests.entry(name).or_insert(Test { passed, output: Vec::new() });
            test.passed &= passed;
            test.output.extend_from_slice(outcome.as_bytes());
        }
    }
    if tests.is_empty() {
        return Err(Failure::new(format!("no test was run:\n{said}")));
    }
    Ok(tests)
}
