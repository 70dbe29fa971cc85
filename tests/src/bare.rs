//! A PostgreSQL server without a world around it: for tests that need its catalogue and its own word on a statement.
//!
//! It listens on a unix socket in a directory of its own and nowhere else, and ends with the value.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::command::run;
use crate::{Context, Result};

const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";

/// A running server.
pub struct Bare {
    directory: PathBuf,
}

impl Bare {
    /// Makes a cluster and starts it.
    pub fn start() -> Result<Bare> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock")?.as_nanos();
        let directory = std::env::temp_dir().join(format!("sluice-bare-{}-{now}", std::process::id()));
        fs::create_dir_all(&directory)?;
        crate::world::own(&directory, "postgres")?;
        let bare = Bare { directory };
        let data = bare.directory.join("data");
        run(as_postgres(&format!("{PROGRAMS}/initdb"))
            .arg("-D")
            .arg(&data)
            .args(["-A", "trust", "-E", "UTF8", "-N"]))?;
        let options = format!(
            "-c listen_addresses='' -c unix_socket_directories='{}' -c fsync=off -c max_prepared_transactions=5",
            bare.directory.display()
        );
        let mut start = as_postgres(&format!("{PROGRAMS}/pg_ctl"));
        start.arg("-D").arg(&data).args(["-w", "-s", "-o", &options, "-l"]).arg(bare.directory.join("log"));
        run(start.arg("start")).context("failed to start PostgreSQL")?;
        Ok(bare)
    }

    /// Where its socket is.
    pub fn host(&self) -> &Path {
        &self.directory
    }

    /// Makes a database and runs a script in it.
    pub fn database(&self, name: &str, script: &Path) -> Result<()> {
        let psql = || {
            let mut command = as_postgres("psql");
            command.args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-h"]).arg(&self.directory);
            command
        };
        run(psql().args(["-d", "postgres", "-c", &format!("create database \"{name}\"")]))?;
        let text = fs::read_to_string(script)?;
        run(psql().args(["-d", name, "-c", &text])).map(drop)
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let mut stop = as_postgres(&format!("{PROGRAMS}/pg_ctl"));
        let _ =
            stop.arg("-D").arg(self.directory.join("data")).args(["-m", "immediate", "-s", "stop"]).status();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn as_postgres(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--", program]).current_dir("/");
    command
}
