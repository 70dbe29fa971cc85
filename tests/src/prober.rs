//! Somebody who knocks at the database all the time, and notes who opens.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use crate::command::within;
use crate::world::network::SERVER;
use crate::world::{HOME, random_hex};
use crate::{Context, Result};

const PROGRAM: &str = include_str!("../fixtures/prober.py");

/// A running prober.
pub struct Prober {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
    until: PathBuf,
}

/// How often each outcome was seen: `server` (the real one opened), `proxy`, `refused`, `timeout`, `closed`, …
pub type Counts = BTreeMap<String, u64>;

impl Prober {
    /// Starts knocking, as root, from inside `cgroup`; returns after the first attempt.
    pub fn start(cgroup: &Path, fingerprint: &str) -> Result<Prober> {
        let directory = Path::new(HOME).join("prober");
        fs::create_dir_all(&directory)?;
        let program = directory.join("prober.py");
        fs::write(&program, PROGRAM)?;
        let until = directory.join(random_hex(4)?);
        let mut child = within(cgroup, "/usr/bin/python3")
            .arg(&program)
            .args([SERVER, "5432", fingerprint])
            .arg(&until)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("failed to start the prober")?;
        let mut output = BufReader::new(child.stdout.take().context("the prober has no output")?);
        let mut first = String::new();
        output.read_line(&mut first)?;
        Ok(Prober { child, output, until })
    }

    /// Stops it and gives what it saw.
    pub fn finish(mut self) -> Result<Counts> {
        fs::write(&self.until, "")?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        self.child.wait()?;
        serde_json::from_str(&line).context(format!("the prober said `{line}`"))
    }
}
