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
pub(super) const STATED: &[(&str, &str)] = &[
    (
        "test_connect.py::TestConnectionAttributes::test_prefer_standby_picks_master_when_standby_is_down",
        OWN_SERVER,
    ),
    ("test_connect.py::TestConnectionAttributes::test_prefer_standby_when_standby_is_up", OWN_SERVER),
    ("test_connect.py::TestConnectionAttributes::test_target_attribute_not_matched", OWN_SERVER),
    ("test_connect.py::TestConnectionAttributes::test_target_server_attribute_port", OWN_SERVER),
    (
        "test_execute.py::TestExecuteMany::test_executemany_server_failure_during_writes",
        "an error comes back no later, but two more buffers take what the client writes meanwhile",
    ),
    ("test_connection.py::ConnectionTests::test_encoding_name", ENCODING),
    ("test_copy.py::CopyTests::test_copy_bytes", ENCODING),
    ("test_copy.py::CopyTests::test_copy_expert_textiobase", ENCODING),
    ("test_copy.py::CopyTests::test_copy_text", ENCODING),
    ("test_quote.py::QuotingTestCase::test_koi8", ENCODING),
    ("test_quote.py::QuotingTestCase::test_latin1", ENCODING),
    (
        "test_types_extras.py::JsonTestCase::test_scs",
        "standard_conforming_strings is on, since statements are judged by it",
    ),
];

const ENCODING: &str = "client_encoding is UTF8, since statements are judged by it";
const OWN_SERVER: &str = "it starts servers of its own, which it can't as root (directly)";

/// For both roads: where the server is comes from the environment.
const SCRIPT: &str = r#"#!/bin/sh
# driver.sh [test…]
cd "$(dirname "$0")/driver" || exit 2
export PYTHONPATH="$PWD/lib" PYTHONDONTWRITEBYTECODE=1 PGDATABASE=drivers PGPORT=5432
export PSYCOPG2_TESTDB=drivers PSYCOPG2_TESTDB_HOST="$PGHOST" PSYCOPG2_TESTDB_PORT=5432
export PSYCOPG2_TESTDB_USER="$PGUSER" PSYCOPG2_TESTDB_PASSWORD="$PGPASSWORD"
[ $# -gt 0 ] || set -- tests
# makes 1,000 tables of 50 columns, one by one: definitions are read again after each, which takes minutes
large=tests/test_introspection.py::TestIntrospection::test_introspection_on_large_db
exec timeout 1200 /usr/bin/python3 -m pytest -v --tb=short -p no:cacheprovider --deselect "$large" "$@"
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
